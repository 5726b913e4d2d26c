"""The ports of a deployment, and the application that is made of them."""

import inspect
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from emulator.clock import SteppedClock
from emulator.memory.ports import memory_ports
from emulator.memory.store import MemoryStore
from luci_scheduler import cloud_ports as cloud_ports_module
from luci_scheduler.adapters import access_tokens, fetch, github_api, http
from luci_scheduler.adapters.cloud_tasks import CloudTasksQueue
from luci_scheduler.adapters.config_sources import BucketSource, GitilesSource
from luci_scheduler.adapters.github import GitHubClient
from luci_scheduler.adapters.github_api import GitHubApi, NoCredentials
from luci_scheduler.adapters.github_credentials import AppCredentials, TokenCredentials
from luci_scheduler.adapters.github_source import GitHubSource
from luci_scheduler.adapters.system import SystemClock
from luci_scheduler.bootstrap import Ports, make_app
from luci_scheduler.cloud_ports import cloud_ports, make_config_sources, make_identify
from luci_scheduler.config.folder import FolderSource
from luci_scheduler.core.commit_hosts import CommitHosts, ConfiguredHost, HostKind
from luci_scheduler.core.instants import DAY, SECOND, Instant
from luci_scheduler.core.repo_url import RepoUrl
from luci_scheduler.ports import GitilesError
from luci_scheduler.settings import BuildbucketServer, ConfigSourceSetting, Settings


def _settings(**changes: Any) -> Settings:
    values: dict[str, Any] = {
        "project": "p",
        "task_url": "https://t.invalid",
        "task_account": "a@b",
        "token_secrets": ("s",),
        "local": True,
        "cloud_tasks_endpoint": "127.0.0.1:1",
    }
    return Settings(**{**values, **changes})


def test_the_clients_of_a_deployment_have_the_documented_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """The page docs/reference/timeouts.md lists the limits. The tests of the limits use shorter limits."""
    monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", "127.0.0.1:1")
    sources = (
        ConfigSourceSetting("gitiles", "p", repo="https://r.googlesource.com/x"),
        ConfigSourceSetting("bucket", "q", bucket="b", object="o"),
    )
    ports: Any = cloud_ports(_settings(console_oauth_clients=("service-accounts",), config_sources=sources))
    assert ports.store._limit == 20
    assert ports.queue._limit == 10
    assert ports.buildbucket._limit == 60
    assert ports.gitiles._gitiles._deadline == 60 * SECOND
    assert inspect.signature(GitHubApi).parameters["deadline"].default == github_api.CALL_LIMIT == 15 * SECOND
    assert inspect.signature(GitHubClient).parameters["limit"].default == 60
    assert [source._limit for source in ports.config_sources] == [20, 20]
    assert inspect.signature(http.fetch).parameters["limit"].default == http.KEYS_LIMIT == 10
    assert inspect.signature(http.default_credentials).parameters["limit"].default == http.CREDENTIALS_LIMIT == 20
    assert access_tokens._TIMEOUT == 5 * SECOND
    ports.store._client.close()


def test_first_requests_side_by_side_share_one_check_of_callers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two checks would have two sets of keys, and two counts of the lookups of access tokens."""
    made: list[None] = []

    def make(*_: Any) -> Any:
        made.append(None)
        time.sleep(0.05)  # a slow start, during which the other first requests arrive
        return str

    monkeypatch.setattr(cloud_ports_module, "make_identify", make)
    identify, barrier = cloud_ports(_settings(), store=MemoryStore()).identify, threading.Barrier(8)

    def first(_: int) -> Any:
        barrier.wait(30)
        return identify({})

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(first, range(8))) == ["{}"] * 8
    assert len(made) == 1


def _github(**changes: Any) -> Any:
    return cloud_ports_module.make_github_api(_settings(**changes), SteppedClock(Instant(0)))


def test_all_repositories_on_github_share_one_client(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has the limits of the hosts, and is made for the first repository there: one on Gitiles needs none."""
    made: list[None] = []
    make = cloud_ports_module.make_github_api
    monkeypatch.setattr(cloud_ports_module, "make_github_api", lambda *args: made.append(None) or make(*args))  # type: ignore[func-returns-value]
    hosts = CommitHosts({"h": ConfiguredHost(HostKind.GITHUB, "http://127.0.0.1:1")})
    urls = {"r.googlesource.com": "http://127.0.0.1:1"}
    ports = cloud_ports(_settings(commit_hosts=hosts, gitiles_urls=urls), store=MemoryStore())
    calls = 0
    for repo in (RepoUrl("r.googlesource.com", "x"), RepoUrl("h", "a/b"), RepoUrl("h", "a/c")):
        with pytest.raises(GitilesError, match="UNKNOWN: no answer"):
            ports.gitiles.refs(repo, "refs/heads")
        calls += repo.host == "h"
        assert len(made) == min(calls, 1)


def test_credentials_of_github(capsys: pytest.CaptureFixture[str]) -> None:
    """A token, an App, or none, which is logged; the local cloud needs none."""
    assert isinstance(_github(github_token="t")._credentials, TokenCredentials)
    app = {"github_app_id": "1", "github_installation_id": "2", "github_private_key": "k"}
    assert isinstance(_github(**app)._credentials, AppCredentials)
    with capture_logs() as logs:
        assert isinstance(_github()._credentials, NoCredentials)
        assert isinstance(_github(local=False)._credentials, NoCredentials)
    assert [entry["event"] for entry in logs] == ["github_anonymous"]


def test_a_source_on_github_shares_the_client() -> None:
    """Its requests count against the same limits."""
    source = ConfigSourceSetting("github", "p", repo="https://github.com/Org/Configs")
    ports: Any = cloud_ports(_settings(config_sources=(source,)), store=MemoryStore())
    (made,) = ports.config_sources
    assert made._api is ports.gitiles._github._api
    assert str(made._repo) == "https://github.com/org/configs"
    (alone,) = make_config_sources(_settings(config_sources=(source,)))
    assert isinstance(alone, GitHubSource)


def test_a_store_and_a_clock_can_be_given() -> None:
    """A given store and clock replace Firestore and the machine's clock. The other ports are those of a deployment."""
    store, clock = MemoryStore(), SteppedClock(5 * SECOND)
    ports = cloud_ports(_settings(), store=store, clock=clock)
    assert ports.store is store
    assert ports.clock is clock
    queue: Any = ports.queue
    assert isinstance(queue._object(), CloudTasksQueue)
    assert ports.identify({"Authorization": ""}) == "anonymous:anonymous"


def test_every_port_is_the_application_s() -> None:
    """An application works with the ports that it was given, and with no others."""
    ports = memory_ports()
    app = make_app(_settings(), ports)
    for field in fields(Ports):
        if hasattr(app.runtime, field.name):
            assert getattr(app.runtime, field.name) is getattr(ports, field.name), field.name
        elif hasattr(app, field.name):
            assert getattr(app, field.name) is getattr(ports, field.name), field.name
        else:
            assert field.name in ("buildbucket", "cloud_build", "fetch"), (
                f"{field.name} reaches no part of the application"
            )


def test_ports_in_memory_reach_no_server() -> None:
    """Calls of Buildbucket and fetches fail at once, with the errors that the ports document."""
    ports = memory_ports()
    for call in (lambda: ports.buildbucket.v1("s", "GET", "p"), lambda: ports.buildbucket.v2("s", "GetBuild", {})):
        with pytest.raises(Exception, match="UNAVAILABLE: there is no server s here"):
            call()
    with pytest.raises(Exception, match="no URL can be fetched here"):
        ports.fetch.get("https://example.com", SECOND, 1)


def test_limits_of_the_engine_come_from_the_settings() -> None:
    """The engine's limits are nanoseconds, although settings count in seconds and days."""
    settings = _settings(
        claim_lease_seconds=80,
        sweep_grace_seconds=90,
        retention_days=10,
        keep_unchanged_polls=True,
        concurrency=3,
        commit_wait_seconds=7,
        trust_commit_publishers=True,
    )
    limits = make_app(settings, memory_ports()).runtime.limits
    assert (limits.claim_lease, limits.sweep_grace, limits.commit_wait) == (80 * SECOND, 90 * SECOND, 7 * SECOND)
    assert (limits.retention, limits.concurrency) == (10 * DAY, 3)
    assert limits.keep_idle
    assert limits.trust_publishers


def test_folders_are_the_first_sources(tmp_path: Path) -> None:
    """The first source that has a project wins; among sources of one kind the order of the setting counts."""
    sources = (
        ConfigSourceSetting("bucket", "q", bucket="b", object="o"),
        ConfigSourceSetting("gitiles", "p", repo="https://r.googlesource.com/x"),
        ConfigSourceSetting("folder", path=str(tmp_path / "named")),
    )
    made = make_config_sources(_settings(config_folder=str(tmp_path), config_sources=sources))
    assert [type(source) for source in made] == [FolderSource, FolderSource, BucketSource, GitilesSource]
    assert made[0]._folder == tmp_path  # type: ignore[attr-defined]


@pytest.mark.parametrize("local", [False, True])
def test_configs_are_read_with_credentials_in_a_deployment(monkeypatch: pytest.MonkeyPatch, *, local: bool) -> None:
    """A local cloud has no account. Authenticated requests to Gitiles have another path."""
    made: list[bool] = []
    monkeypatch.setattr(cloud_ports_module, "sessions", lambda **options: made.append(options["authenticated"]))
    sources = (
        ConfigSourceSetting("bucket", "q", bucket="b", object="o"),
        ConfigSourceSetting("gitiles", "p", repo="https://r.googlesource.com/x"),
    )
    _, gitiles = make_config_sources(_settings(local=local, config_sources=sources))
    assert made == [not local, not local]
    base_url = "https://r.googlesource.com" if local else "https://r.googlesource.com/a"
    assert gitiles._url == f"{base_url}/x"  # type: ignore[attr-defined]


def test_a_local_cloud_reads_configs_from_its_own_server() -> None:
    """The address for every Gitiles host holds for configs as well."""
    sources = (ConfigSourceSetting("gitiles", "p", repo="https://r.googlesource.com/x"),)
    urls = {"*": "http://127.0.0.1:1/h"}
    (gitiles,) = make_config_sources(_settings(config_sources=sources, gitiles_urls=urls))
    assert gitiles._url == "http://127.0.0.1:1/h/r.googlesource.com/x"  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("hosts", "host", "base"),
    [
        (["a.example.com", "*"], "a.example.com", "http://a.example.com.local"),
        (["a.example.com", "*"], "new.example.com", "http://*.local"),
        (["a.example.com"], "new.example.com", "https://new.example.com"),
    ],
)
def test_the_address_of_a_buildbucket_server(hosts: list[str], host: str, base: str) -> None:
    """A local cloud serves every host, even if a config names it later."""
    servers = tuple(BuildbucketServer(name, "p@x", url=f"http://{name}.local/") for name in hosts)
    client: Any = cloud_ports(_settings(buildbucket_servers=servers), store=MemoryStore()).buildbucket
    assert client._base_url(host) == base


@pytest.mark.parametrize("local", [False, True])
def test_access_tokens_are_checked_at_the_named_host_alone(monkeypatch: pytest.MonkeyPatch, *, local: bool) -> None:
    """A redirect would let another host say whose token it is. Plain HTTP is for a local cloud."""
    made: list[dict[str, Any]] = []
    monkeypatch.setattr(fetch, "FetchClient", lambda **options: made.append(options))
    make_identify(_settings(local=local, tokeninfo_url="https://tokens.example.com/info"), SystemClock())
    assert made == [{"allowed_hosts": ("tokens.example.com",), "plain_http": local, "max_redirects": 0}]


def test_a_commit_to_a_branch_with_a_config_triggers_a_sync() -> None:
    """A commit enqueues one ``sync`` task. Other branches and repositories enqueue none."""
    from luci_scheduler.core.commit_event import CommitEvent

    sources = (ConfigSourceSetting("gitiles", "p", repo="https://r.googlesource.com/x", ref="refs/heads/main"),)
    ports = memory_ports()
    app = make_app(_settings(config_sources=sources), ports)
    queue: Any = ports.queue
    others = [("https://r.googlesource.com/x", "refs/heads/other"), ("https://r.googlesource.com/y", "refs/heads/main")]
    app.note_config_changes([CommitEvent(repo, ref, "a" * 40) for repo, ref in others])
    assert queue.tasks == []
    app.note_config_changes([CommitEvent("https://r.googlesource.com/x", "refs/heads/main", "a" * 40)])
    assert [task.kind for task in queue.tasks] == ["sync"]


def test_servers_get_the_topic_of_their_publisher_or_their_own() -> None:
    """The topic of a server without one is derived from its publisher's e-mail."""
    servers = (
        BuildbucketServer("a.example.com", "pub@example.com"),
        BuildbucketServer("b.example.com", "pub@example.com", topic="projects/x/topics/own"),
    )
    from luci_scheduler import bootstrap

    environment = bootstrap._environment(_settings(buildbucket_servers=servers, topic_project="t"), memory_ports())
    topics = {host: server.topic for host, server in environment.servers.items()}
    assert topics["b.example.com"] == "projects/x/topics/own"
    assert topics["a.example.com"].startswith("projects/t/topics/")


def test_a_port_can_be_replaced() -> None:
    """An installation that differs in one port is one `replace` away."""
    store = MemoryStore()
    assert make_app(_settings(), replace(memory_ports(), store=store)).runtime.store is store
