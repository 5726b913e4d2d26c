"""A whole local cloud whose network ends at this machine: commits, builds, pages and fetches, with real git clients."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from emulator.buildbucket.plans import End, Script, Start
from emulator.commit_events import RefWatcher
from emulator.gitiles.testing import GUARD
from emulator.local_cloud import LocalCloud
from emulator.options import Options
from emulator.start import start_local_cloud
from emulator.watching import find_repository_of, watch
from tests.unit.emulator.gitiles.git_client import GitClient
from tests.waiting import until

HOST = "early.googlesource.com"
CONFIG = """
trigger {{ id: "poll" gitiles {{ repo: "https://{host}/app" refs: "refs/heads/main" }} triggers: "build" }}
job {{ id: "build" buildbucket {{ server: "cr-buildbucket.appspot.com" bucket: "ci" builder: "b" }} }}
job {{ id: "fetch" url_fetch {{ url: "https://status.example.com/x" }} }}
"""


@pytest.fixture(name="attempts")
def _attempts(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The attempts of this process to resolve a foreign name or to reach a foreign address; each of them fails."""
    attempts: list[str] = []

    def guard(name: str, host_of: Any) -> None:
        real = getattr(socket.socket if name.startswith("connect") else socket, name)

        def guarded(*arguments: Any, **named: Any) -> Any:
            host = host_of(arguments)
            if not _is_local(host):
                attempts.append(f"{name} {host}")
                raise OSError(f"no way to {host}")
            return real(*arguments, **named)

        monkeypatch.setattr(socket.socket if name.startswith("connect") else socket, name, guarded)

    guard("connect", lambda arguments: _host(arguments[1]))
    guard("connect_ex", lambda arguments: _host(arguments[1]))
    guard("getaddrinfo", lambda arguments: arguments[0])
    guard("gethostbyname", lambda arguments: arguments[0])
    return attempts


def _host(address: Any) -> Any:
    return address[0] if isinstance(address, tuple) else None  # None: a socket in the file system


def _is_local(host: Any) -> bool:
    if host in (None, "", "localhost", b"localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@pytest.fixture(name="cloud")
def _cloud(tmp_path: Path, attempts: list[str]) -> Iterator[LocalCloud]:
    """A local cloud in memory, with the config of one project."""
    _configure(tmp_path, "early", HOST)
    options = Options(folder=tmp_path, store="memory", plan=Script((Start(0), End(0))), sweep_seconds=0, sync_seconds=0)
    with start_local_cloud(options) as cloud:
        yield cloud
    assert attempts == []


def _configure(folder: Path, project: str, host: str) -> None:
    file = folder / "configs" / project / "luci-scheduler.cfg"
    file.parent.mkdir(parents=True)
    file.write_text(CONFIG.format(host=host))


def _ended(cloud: LocalCloud, job: str, count: int = 1) -> list[Any]:
    """Return a job's invocations once so many have ended."""
    until(lambda: sum(bool(item["final"]) for item in cloud.invocations(job)) >= count)
    return cloud.invocations(job)


def _trigger(cloud: LocalCloud, job: str) -> None:
    ref = dict(zip(("project", "job"), job.split("/"), strict=True))
    batch = [{"jobs": [ref], "trigger": {"id": "t1"}}]
    answer = _call(cloud, "scheduler.Scheduler/EmitTriggers", {"batches": batch})
    assert answer.status_code == 200, answer.text


def _call(cloud: LocalCloud, method: str, body: Any) -> requests.Response:
    headers = {"Accept": "application/json"}
    return requests.post(f"{cloud.console_url}/prpc/{method}", json=body, headers=headers, timeout=20)


def test_a_push_runs_a_job_and_nothing_leaves_the_machine(cloud: LocalCloud, tmp_path: Path) -> None:
    """Hosts of later configs are local as well. Pages, their twins and the API link to the local servers."""
    work = GitClient(tmp_path / "work")
    revision = work.commit("Fix the parser")
    gitiles = cloud.gitiles.url
    work.run("push", "--quiet", f"{gitiles}/{HOST}/app", "main")
    (done,) = _ended(cloud, "early/build")
    assert done["status"] == "SUCCEEDED"
    _links_are_local(cloud, done, revision)

    _configure(tmp_path, "later", "later.googlesource.com")
    cloud.sync()
    _trigger(cloud, "later/poll")
    (failed,) = _ended(cloud, "later/poll")
    place = tmp_path / "repositories" / "later.googlesource.com" / "app"
    advice = (
        f"no repository app on later.googlesource.com in the local cloud: put it into {place}, "
        f"or git push {gitiles}/later.googlesource.com/app main"
    )
    assert f"Error fetching state of the world: NOT_FOUND: HTTP 404: {advice}\n" in failed["debug_log"]
    work.run("push", "--quiet", f"{gitiles}/later.googlesource.com/app", "main")
    _ended(cloud, "later/build")

    _trigger(cloud, "early/fetch")
    (refused,) = _ended(cloud, "early/fetch")
    assert "start it with --allow-fetch status.example.com" in refused["debug_log"]
    kinds = [(entry.kind, entry.fields.get("repo")) for entry in cloud.feed.after(0) if "repo" in entry.fields]
    early, later = f"https://{HOST}/app", "https://later.googlesource.com/app"
    assert [kind for kind in kinds if kind[0] in ("push", "commit", "problem")] == [
        ("push", early),
        ("commit", early),
        ("problem", later),
        ("push", later),
        ("commit", later),
    ]


def _links_are_local(cloud: LocalCloud, done: Any, revision: str) -> None:
    build = f"{cloud.buildbucket.url}/build/{done['view_url'].rpartition('/')[2]}"
    commit = f"{cloud.gitiles.url}/{HOST}/app/+/{revision}"
    assert (done["view_url"], done["incoming_triggers"][0]["url"]) == (build, commit)
    for url in (build, commit):
        assert requests.get(url, timeout=20).status_code == 200
    address = f"{cloud.console_url}/jobs/early/build/{done['invocation_id']}"
    # In a deployment, Google knows the owner of the token.
    page = requests.get(address, headers={"Authorization": "Bearer ya29.unknown"}, timeout=20).text
    assert f'href="{build}"' in page
    assert f'href="{commit}"' in page
    assert 'href="https://' not in page
    ref = {"jobRef": {"project": "early", "job": "build"}, "invocationId": done["invocation_id"]}
    found = _call(cloud, "scheduler.Scheduler/GetInvocation", ref)
    assert found.text.startswith(GUARD)
    assert f'"viewUrl":"{build}"' in found.text.replace(": ", ":").replace(" ", "")
    assert "https://cr-buildbucket.appspot.com/build/" in done["debug_log"]
    (entry,) = [entry for entry in cloud.feed.after(0) if entry.kind == "commit"]
    assert requests.get(entry.link, timeout=20).status_code == 200


def test_a_commit_in_a_watched_work_tree_runs_its_job(cloud: LocalCloud, tmp_path: Path) -> None:
    """Without a push, and without a poll."""
    work = GitClient(tmp_path / "own")
    work.commit()
    found = find_repository_of(work.folder)
    assert found is not None
    watch(found, cloud.repositories, cloud.configs, rules=cloud.options.config_rules, is_ours=True)
    cloud.sync()
    with RefWatcher(cloud.repositories, cloud.commit_events, cloud.feed, seconds=0.05):
        revision = work.commit("Second")
        (done,) = _ended(cloud, "own/build")
    assert done["incoming_triggers"][0]["gitiles"]["revision"] == revision
    assert work.run("status", "--short") == ""


def test_the_guard_sees_attempts(attempts: list[str]) -> None:
    """Otherwise the tests above would show nothing."""
    with requests.Session() as session:
        session.trust_env = False
        with pytest.raises(requests.ConnectionError):
            session.get("https://dawn.googlesource.com/", timeout=5)
    with socket.socket() as connection, pytest.raises(OSError, match="no way"):
        connection.connect(("93.184.216.34", 80))
    assert attempts == ["getaddrinfo dawn.googlesource.com", "connect 93.184.216.34"]
