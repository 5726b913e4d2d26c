"""The client of GitHub's REST API and the adapter above it, against the local GitHub server over real repositories.

Git itself says which commits a first-parent line has.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from structlog.testing import capture_logs

from emulator.clock import SteppedClock
from emulator.github import GitHubFault, GitHubServer
from emulator.gitiles.git import git
from emulator.gitiles.repository import Repository
from emulator.memory.queue import MemoryQueue
from emulator.memory.system import SeededEntropy
from luci_scheduler.adapters.github import MAX_FILES, GitHubClient
from luci_scheduler.adapters.github_api import GitHubApi, TokenSource
from luci_scheduler.adapters.github_credentials import AppCredentials, TokenCredentials
from luci_scheduler.adapters.github_quotas import GitHubQuotas
from luci_scheduler.adapters.github_source import GitHubSource
from luci_scheduler.adapters.http import sessions
from luci_scheduler.core.commit_hosts import CommitHosts, ConfiguredHost, HostKind
from luci_scheduler.core.identifiers import InvocationId, JobId
from luci_scheduler.core.instants import HOUR, MINUTE, SECOND
from luci_scheduler.core.invocation import Invocation
from luci_scheduler.core.job import TaskDefinition
from luci_scheduler.core.poller_record import PollerRecord
from luci_scheduler.core.repo_url import RepoUrl
from luci_scheduler.managers.controller import CallCache, Controller
from luci_scheduler.managers.environment import Environment, Polling
from luci_scheduler.managers.gitiles.manager import GitilesManager
from luci_scheduler.ports import GitilesError, Versioned
from tests.unit.emulator.github.support import OWNER, WIDGET, Stream, World, build, stepped

HOST = "github.com"
REPO = RepoUrl(HOST, WIDGET)
JOB = JobId("proj/poller")
NO_COMMIT = "f" * 40


class Site:
    """The server, and clients that a process would make."""

    def __init__(self, world: World, server: GitHubServer, clock: SteppedClock) -> None:
        self.world = world
        self.server = server
        self.clock = clock

    def api(self, credentials: TokenSource | None = None, deadline: int = 60 * SECOND) -> GitHubApi:
        """Return a client of the API; a fresh one knows nothing."""
        hosts = CommitHosts({HOST: ConfiguredHost(HostKind.GITHUB, self.server.url, credentials=True)})
        source = credentials or TokenCredentials("secret")
        return GitHubApi(hosts, sessions(authenticated=False), source, self.clock, deadline)

    def client(self, **named: Any) -> GitHubClient:
        """Return an adapter."""
        return GitHubClient(self.api(**named))

    def repository(self, name: str) -> Repository:
        """Make another repository."""
        return Repository.create(self.world.root / HOST / OWNER / name)

    def counted(self) -> int:
        """Return the requests that counted against the quota."""
        return sum(request.is_counted for request in self.server.requests)


@pytest.fixture(name="running", scope="module")
def _running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    world, clock = build(tmp_path_factory.mktemp("github")), stepped()
    server = GitHubServer(world.root, clock=clock)
    server.start()
    yield Site(world, server, clock)
    server.stop()


@pytest.fixture(name="site")
def _site(running: Site) -> Site:
    """The one server of all tests, without faults, usage and records."""
    running.server.faults.clear()
    running.server.meter.reset()
    running.server.clear_requests()
    return running


def _line(world: World, head: str, base: str = "") -> list[str]:
    """Return git's own first-parent line."""
    ends = [head, f"^{base}"] if base else [head]
    return git(world.repository.path, "rev-list", "--first-parent", *ends).decode().split()


def _ids(page: Any) -> list[str]:
    return [commit.id for commit in page.commits]


def _refused(call: Callable[[], object]) -> GitilesError:
    with pytest.raises(GitilesError) as caught:
        call()
    return caught.value


# Refs -----------------------------------------------------------------------------------------------------------------


def test_an_unchanged_folder_costs_nothing(site: Site) -> None:
    """The second list is one conditional request, which does not count."""
    client = site.client()
    first = client.refs(REPO, "refs/heads")
    assert site.counted() == 1
    assert client.refs(REPO, "refs/heads") == first
    assert (len(site.server.requests), site.server.requests[-1].status, site.counted()) == (2, 304, 1)
    site.server.faults.add(GitHubFault("no_304"))
    assert client.refs(REPO, "refs/heads") == first
    assert site.counted() == 2
    assert first["refs/heads/main"] == site.world["c3"]


def test_a_folder_has_no_refs_that_only_begin_alike(site: Site) -> None:
    """GitHub matches a text; a folder without refs is empty, and so is an empty repository."""
    client = site.client()
    assert client.refs(REPO, "refs/heads/release") == {"refs/heads/release/1.0": site.world["c1"]}
    assert client.refs(REPO, "refs/heads/none") == {}
    site.repository("empty")
    assert client.refs(RepoUrl(HOST, f"{OWNER}/empty"), "refs/heads") == {}
    tags = client.refs(REPO, "refs/tags")
    assert tags == {"refs/tags/v1.0": site.world["tag"], "refs/tags/v1.1": site.world["c3"]}


def test_pages_of_refs_are_followed(site: Site) -> None:
    """The whole list comes, also the second time."""
    client = site.client()
    whole = client.refs(REPO, "refs/heads")
    state = site.server.service.state
    state.refs_per_page = 2
    try:
        for paged in (client, site.client()):
            assert [paged.refs(REPO, "refs/heads") for _ in range(2)] == [whole, whole]
    finally:
        state.refs_per_page = 0


def test_a_moved_branch_and_a_deleted_one_are_seen(site: Site) -> None:
    """The ETag of the old list does not hold any more."""
    repository, client = site.repository("moving"), site.client()
    repo = RepoUrl(HOST, f"{OWNER}/moving")
    first = repository.commit("First", {"a": "1"})
    assert client.refs(repo, "refs/heads") == {"refs/heads/main": first}
    second = repository.commit("Second", {"a": "2"}, "topic")
    assert client.refs(repo, "refs/heads") == {"refs/heads/main": first, "refs/heads/topic": second}
    repository.delete_ref("main")
    assert client.refs(repo, "refs/heads") == {"refs/heads/topic": second}


# Logs -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("base", "head"),
    [
        ("c1", "c3"),
        ("c1", "merge"),
        ("f2", "merge"),
        ("c3", "x2"),
        ("c3", "c1"),
        ("c3", "c3"),
        ("alone", "c3"),
        ("c1", "big"),
    ],
)
def test_a_range_is_gits_first_parent_line(site: Site, base: str, head: str) -> None:
    """The pairs cover merges, force pushes, rewinds and unrelated histories."""
    world = site.world
    wanted = _line(world, world[head], world[base])
    assert _ids(site.client().log(REPO, world[head], limit=500, exclude=world[base])) == wanted


def test_a_range_of_more_than_a_page(site: Site) -> None:
    """The newest commits come first; a limit names the next one, from which the log continues."""
    world, client = site.world, site.client()
    wanted = world.long[::-1]
    whole = client.log(REPO, wanted[0], limit=500, exclude=world["c1"])
    assert (_ids(whole), whole.next) == (wanted, "")
    assert len(site.server.requests) == 2
    page = client.log(REPO, wanted[0], limit=10, exclude=world["c1"])
    assert (_ids(page), page.next) == (wanted[:10], wanted[10])
    more = client.log(REPO, wanted[0], limit=500, exclude=world["c1"], start=page.next)
    assert _ids(more) == wanted[10:]
    assert len(site.server.requests) == 2


def test_a_line_without_an_end(site: Site) -> None:
    """One commit is one request; more are read from the list."""
    world, client = site.world, site.client()
    single = client.log(REPO, world["merge"], limit=1)
    assert (_ids(single), single.next) == ([world["merge"]], world["c1"])
    assert _ids(client.log(REPO, world.long[-1], limit=500)) == _line(world, world.long[-1])
    assert _ids(client.log(REPO, world["merge"], limit=2)) == [world["merge"], world["c1"]]
    commit = single.commits[0]
    assert (commit.author, commit.subject) == ("Ana", "Merge feature")
    assert commit.committed == 1_773_756_006 * SECOND


def test_changes_are_those_against_the_first_parent(site: Site) -> None:
    """Each status has its pair of paths, and a merge has all its changes."""
    world, client = site.world, site.client()
    page = client.log(REPO, world["c3"], limit=1, exclude=world["c2"], diffs=True)
    found = {new: old for old, new in page.commits[0].diff if new}
    assert found == {
        "docs/new.md": "",
        "lib/b.py": "lib/a.py",
        "lib/copy.py": "lib/a.py",
        "run.sh": "run.sh",
        "src/core.py": "src/core.py",
    }
    assert ("old.txt", "") in page.commits[0].diff
    merge = client.log(REPO, world["merge"], limit=1, exclude=world["c1"], diffs=True)
    assert merge.commits[0].diff == (("", "src/feature.py"),)
    first = client.log(REPO, world["alone"], limit=1, diffs=True)
    assert first.commits[0].diff == (("", "y"),)


def test_a_commit_with_too_many_files_says_so(site: Site) -> None:
    """3,000 are known, the next one is not; a second call costs nothing."""
    world, client = site.world, site.client()
    for _ in range(2):
        (commit,) = client.log(REPO, world["big"], limit=1, exclude=world["c3"], diffs=True).commits
        assert (len(commit.diff), commit.diff_cut, commit.known_diff) == (MAX_FILES, True, None)
    assert len(site.server.requests) == 1 + MAX_FILES // 100


def test_tags_lead_to_their_commits(site: Site) -> None:
    """An annotated tag, a tag of a tag, and a tag of a folder, which has no log. A moved tag is a range."""
    repository, client = site.repository("tags"), site.client()
    repo = RepoUrl(HOST, f"{OWNER}/tags")
    stream = Stream()
    first = stream.commit("refs/heads/main", "First", {"a": "1"})
    second = stream.commit("refs/heads/main", "Second", {"a": "2"}, [first])
    stream.tag("v1", first)
    stream.tag("v2", second)
    _, one, two = stream.write(repository)
    v1, v2, tree = (repository.resolve(name) for name in ("v1", "v2", "main^{tree}"))
    made = {}
    for kind, name, target in (("tag", "outer", v2), ("tree", "folder", tree)):
        text = f"object {target}\ntype {kind}\ntag {name}\ntagger A <a@example.com> 0 +0000\n\nText\n"
        made[name] = git(repository.path, "mktag", stdin=text.encode()).decode().strip()
        repository.force_push(f"refs/tags/{name}", made[name])
    tags = client.refs(repo, "refs/tags")
    assert tags == {f"refs/tags/{name}": sha for name, sha in {"v1": v1, "v2": v2, **made}.items()}
    assert _ids(client.log(repo, v1, limit=1)) == [one]
    assert _ids(client.log(repo, made["outer"], limit=1)) == [two]
    assert client.log(repo, made["folder"], limit=1).commits == ()
    assert _ids(client.log(repo, v2, limit=9, exclude=v1)) == [two]
    restarted = site.client()
    assert _ids(restarted.log(repo, two, limit=9, exclude=v1)) == [two]


def test_names_lead_to_commits(site: Site) -> None:
    """Branches, tags, short hashes, ancestors and parents, as git reads them."""
    world, client = site.world, site.client()
    wanted = {
        "main": world["c3"],
        "refs/heads/main": world["c3"],
        "v1.0": world["c3"],
        "HEAD": world["c3"],
        world["c2"][:10]: world["c2"],
        "main~2": world["c1"],
        "merged^2": world["f2"],
        "merged^2~1": world["f1"],
        "main^0": world["c3"],
    }
    assert {name: client.resolve(REPO, name) for name in wanted} == wanted
    for name in ("none", NO_COMMIT, "main~9", "main^2"):
        assert _refused(lambda name=name: client.resolve(REPO, name)).code == "NOT_FOUND"


# Faults ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [500, 502, 503, 504])
def test_a_comparison_that_is_too_dear_is_read_from_the_list(site: Site, status: int) -> None:
    """The same line comes from the list; a line that does not lead to the end stays unavailable."""
    world, client = site.world, site.client()
    site.server.faults.add(GitHubFault("error", "*/compare/*", None, status))
    for base, head in (("c1", world["c3"]), ("c1", world["merge"]), ("c1", world.long[-1])):
        found = client.log(REPO, head, limit=500, exclude=world[base])
        assert _ids(found) == _line(world, head, world[base])
    failed = _refused(lambda: client.log(REPO, world["x2"], limit=9, exclude=world["c3"]))
    assert (failed.code, failed.transient) == ("UNAVAILABLE", True)


@pytest.mark.parametrize(
    ("fault", "code", "transient"),
    [
        (GitHubFault("error", status=400), "INVALID_ARGUMENT", False),
        (GitHubFault("error", status=401), "UNAUTHENTICATED", False),
        (GitHubFault("error", status=403), "PERMISSION_DENIED", False),
        (GitHubFault("error", status=404), "NOT_FOUND", False),
        (GitHubFault("error", status=409, message="Conflict"), "ABORTED", None),
        (GitHubFault("error", status=422), "INVALID_ARGUMENT", False),
        (GitHubFault("error", status=451), "PERMISSION_DENIED", False),
        (GitHubFault("error", status=500), "UNAVAILABLE", True),
        (GitHubFault("html", status=503), "UNAVAILABLE", True),
        (GitHubFault("cut"), "UNKNOWN", True),
        (GitHubFault("cut_body"), "INTERNAL", True),
    ],
)
def test_a_failed_request_has_its_code(site: Site, fault: GitHubFault, code: str, transient: bool | None) -> None:
    """The next request succeeds, so nothing was remembered that is wrong."""
    client = site.client()
    site.server.faults.add(fault)
    failed = _refused(lambda: client.refs(REPO, "refs/heads"))
    assert failed.code == code, failed
    assert transient is None or failed.transient == transient
    assert "secret" not in str(failed)
    assert client.refs(REPO, "refs/heads")["refs/heads/main"] == site.world["c3"]


def test_a_missing_permission_is_named(site: Site) -> None:
    """The operator reads what the token needs."""
    site.server.faults.add(GitHubFault("error", status=403))
    assert "contents=read" in str(_refused(lambda: site.client().refs(REPO, "refs/heads")))


def test_a_slow_answer_ends_at_the_deadline(site: Site) -> None:
    """The call's own limit counts. The server is another one, because it may see the request late."""
    server = GitHubServer(site.world.root, clock=site.clock)
    server.start()
    server.faults.add(GitHubFault("slow", times=None, seconds=600))
    client = Site(site.world, server, site.clock).client(deadline=SECOND // 5)
    failed = _refused(lambda: client.refs(REPO, "refs/heads"))
    server.stop()
    assert (failed.code, failed.transient) == ("DEADLINE_EXCEEDED", True)


@pytest.mark.parametrize(
    ("fault", "pause"),
    [
        (GitHubFault("rate_limit"), HOUR),
        (GitHubFault("secondary_limit", status=403, seconds=90), 90 * SECOND),
        (GitHubFault("secondary_limit", status=429), MINUTE),
    ],
)
def test_a_refusing_host_is_left_alone(site: Site, fault: GitHubFault, pause: int) -> None:
    """No request is sent before the time that the refusal names; then all is well."""
    client = site.client()
    site.server.faults.add(fault)
    for _ in range(3):
        failed = _refused(lambda: client.refs(REPO, "refs/heads"))
        assert (failed.code, failed.transient, failed.throttled) == ("RESOURCE_EXHAUSTED", True, True)
    assert len(site.server.requests) == 1
    site.clock.advance(pause - 2 * SECOND)
    _refused(lambda: client.refs(REPO, "refs/heads"))
    assert len(site.server.requests) == 1
    site.clock.advance(3 * SECOND)
    assert client.refs(REPO, "refs/heads")


def test_the_real_quota_ends_as_the_fault_does(site: Site) -> None:
    """Counted requests use it up, unchanged polls do not."""
    client, limits = site.client(), site.server.meter.limits
    most, limits.requests = limits.requests, 2
    try:
        for _ in range(5):
            client.refs(REPO, "refs/heads")
        client.refs(REPO, "refs/tags")
        assert _refused(lambda: client.refs(REPO, "refs/heads/release")).code == "RESOURCE_EXHAUSTED"
    finally:
        limits.requests = most


def test_the_quota_is_read_for_nothing(site: Site) -> None:
    """Also when it is used up: GitHub answers this request then as well."""
    limits, quotas = site.server.meter.limits, GitHubQuotas(site.api())
    site.client().refs(REPO, "refs/heads")
    found = [quotas.quota(HOST) for _ in range(2)]
    assert [(item.limit, item.left) for item in found if item] == [(5000, 4999)] * 2
    assert site.counted() == 1
    most, limits.requests = limits.requests, 1
    try:
        used_up = quotas.quota(HOST)
    finally:
        limits.requests = most
    assert used_up is not None
    assert (used_up.left, used_up.renewed > site.clock.now()) == (0, True)


def test_a_listed_head_that_is_not_found_yet(site: Site) -> None:
    """The range and the commit are NOT_FOUND until GitHub knows the commit everywhere; so is a lost end."""
    world, client = site.world, site.client()
    site.server.faults.hide(world["c3"], times=2)
    assert client.refs(REPO, "refs/heads")["refs/heads/main"] == world["c3"]
    calls = [lambda: client.log(REPO, world["c3"], limit=9, exclude=world["c1"])]
    calls += [lambda: client.log(REPO, world["c3"], limit=1)]
    assert [_refused(call).code for call in calls] == ["NOT_FOUND", "NOT_FOUND"]
    assert [len(call().commits) for call in calls] == [2, 1]
    assert _refused(lambda: client.log(REPO, world["c3"], limit=9, exclude=NO_COMMIT)).code == "NOT_FOUND"


def test_refs_may_lag_behind(site: Site) -> None:
    """The old head comes once more, then the new one, and the range between is whole."""
    repository, client = site.repository("lagging"), site.client()
    repo = RepoUrl(HOST, f"{OWNER}/lagging")
    first = repository.commit("First", {"a": "1"})
    site.server.hold_refs(f"{OWNER}/lagging", times=1)
    second = repository.commit("Second", {"a": "2"})
    assert client.refs(repo, "refs/heads") == {"refs/heads/main": first}
    assert client.refs(repo, "refs/heads") == {"refs/heads/main": second}
    assert _ids(client.log(repo, second, limit=9, exclude=first)) == [second]


def test_a_renamed_repository_is_followed_and_reported_once_an_hour(site: Site) -> None:
    """Refs and ranges come from the new place; a status is not sent after it."""
    repository, client = site.repository("gadget"), site.client()
    old, new = RepoUrl(HOST, f"{OWNER}/gadget"), f"{OWNER}/gizmo"
    first = repository.commit("First", {"a": "1"})
    site.server.rename(old.project, new)
    with capture_logs() as logs:
        for _ in range(3):
            assert client.refs(old, "refs/heads") == {"refs/heads/main": first}
        assert _ids(client.log(old, first, limit=1)) == [first]
        site.clock.advance(HOUR)
        client.refs(old, "refs/heads")
    moved = [entry for entry in logs if entry["event"] == "repository_moved"]
    assert [entry["repo"] for entry in moved] == [str(old)] * 2
    assert moved[0]["moved_to"] == f"{site.server.url}/repos/{new}"
    failed = _refused(lambda: site.api().post(HOST, f"/repos/{old.project}/statuses/{first}", {"state": "success"}))
    assert failed.code == "NOT_FOUND"


def test_a_name_in_another_case_is_the_same_repository(site: Site) -> None:
    """The adapter's names are in lower case, and folders may be spelled otherwise."""
    repository = Repository.create(site.world.root / HOST / "Example-Org" / "Mixed")
    first = repository.commit("First", {"a": "1"})
    repo = CommitHosts().parse("https://github.com/Example-Org/Mixed.git")
    assert site.client().refs(repo, "refs/heads") == {"refs/heads/main": first}


# Credentials, statuses, configs ---------------------------------------------------------------------------------------


@pytest.fixture(name="key", scope="module")
def _key() -> str:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = serialization.Encoding.PEM
    return key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()).decode()


def test_an_app_gets_a_token_and_a_new_one_when_it_is_refused(site: Site, key: str) -> None:
    """One token serves for an hour; a revoked one costs one more request, and a renewal comes before its end."""
    credentials = AppCredentials("app", "4711", key, site.clock, {"contents": "read", "statuses": "write"})
    client = site.client(credentials=credentials)
    client.refs(REPO, "refs/heads")
    client.refs(REPO, "refs/heads")
    site.server.service.state.tokens.revoke()
    assert client.refs(REPO, "refs/heads")["refs/heads/main"] == site.world["c3"]
    site.clock.advance(56 * MINUTE)
    client.refs(REPO, "refs/heads")
    posts = [request for request in site.server.requests if request.method == "POST"]
    assert [request.path for request in posts] == ["/app/installations/4711/access_tokens"] * 3
    callers = {request.caller for request in site.server.requests if request.path.endswith("/heads")}
    assert callers == {"installation ID 4711", "127.0.0.1"}  # the refused token has no name
    assert all(request.answer == "" for request in posts)


def test_a_token_without_a_permission_is_refused(site: Site, key: str) -> None:
    """The error names the permission."""
    api = site.api(AppCredentials("app", "4711", key, site.clock, {"contents": "read"}))
    path = f"/repos/{WIDGET}/statuses/{site.world['c3']}"
    failed = _refused(lambda: api.post(HOST, path, {"state": "success"}))
    assert (failed.code, "statuses=write" in str(failed)) == ("PERMISSION_DENIED", True)


def test_a_status_is_created(site: Site) -> None:
    """The server keeps it, and shows it on the commit's page."""
    body = {"state": "success", "context": "scheduler/proj/job", "description": "Done", "target_url": "https://x.test/"}
    answer = site.api().post(HOST, f"/repos/{WIDGET}/statuses/{site.world['c2']}", body)
    assert (answer.status, answer.document["context"]) == (201, body["context"])
    (status,) = site.server.statuses.of(WIDGET, site.world["c2"])
    assert {name: getattr(status, name) for name in body} == body


def test_a_config_is_read_from_a_repository(site: Site) -> None:
    """An active revision costs one request, which is free the second time; a large file comes as well."""
    repository = site.repository("configs")
    repo = RepoUrl(HOST, f"{OWNER}/configs")
    first = repository.commit("First", {"luci.cfg": "a: 1\n"})
    repository.commit("Second", {"other": "2"})
    source = GitHubSource("proj", repo, "refs/heads/main", "luci.cfg", site.api())
    (file,) = source.configs(lambda _: "")
    assert (file.error, file.text, file.revision) == ("", b"a: 1\n", first)
    before = site.counted()
    assert source.configs(lambda _: first) == []
    assert site.counted() == before
    large = repository.commit("Third", {"luci.cfg": "x" * (3 << 19)})
    (file,) = source.configs(lambda _: first)
    assert (file.error, len(file.text), file.revision) == ("", 3 << 19, large)
    gone = repository.commit("Fourth", {"luci.cfg": None})
    (file,) = source.configs(lambda _: large)
    assert (file.error, file.text, file.revision) == ("", b"", gone)


def test_a_tag_cannot_pass_for_the_branch_of_a_config(site: Site) -> None:
    """Many people may push tags who may not push to a protected branch."""
    repository = site.repository("shadowed")
    ours = repository.commit("Ours", {"luci.cfg": "ours"})
    theirs = repository.commit("Theirs", {"luci.cfg": "theirs"}, branch="topic")
    repository.tag("main", theirs)
    api = site.api()
    listed = api.get(HOST, f"/repos/{OWNER}/shadowed/commits", [("sha", "main")]).document
    assert listed[0]["sha"] == theirs, "the short name is ambiguous, and the server prefers the tag as git does"
    (file,) = GitHubSource("proj", RepoUrl(HOST, f"{OWNER}/shadowed"), "refs/heads/main", "luci.cfg", api).configs(
        lambda _: ""
    )
    assert (file.error, file.text, file.revision) == ("", b"ours", ours)


# Polls ----------------------------------------------------------------------------------------------------------------


class _Poller:
    """A gitiles job, polled with a real adapter; it keeps its record."""

    def __init__(self, site: Site, repo: RepoUrl, client: GitHubClient) -> None:
        self._clock = site.clock
        self._record = PollerRecord(JOB, str(repo), {}, ("regexp:refs/heads/.*",))
        self._repo = repo
        self._environment = Environment(
            buildbucket=None,  # type: ignore[arg-type] # no build is made
            fetch=None,  # type: ignore[arg-type] # no URL is fetched
            gitiles=client,
            pollers=self,
            app_id="app",
            hostname="app.example.com",
            token_secrets=("secret",),
            polling=Polling(),
        )

    def poller(self, job_id: JobId) -> Versioned[PollerRecord]:
        """Return the record; implements the port ``Pollers``."""
        assert job_id == JOB
        return Versioned(self._record, 1)

    def poll(self) -> list[str]:
        """Poll once, and return the revisions of the triggers."""
        task = TaskDefinition("gitiles", {"repo": str(self._repo), "refs": ["regexp:refs/heads/.*"]})
        invocation = Invocation(InvocationId(7), JOB, self._clock.now(), task)
        controller = Controller(invocation, self._clock, SeededEntropy(), MemoryQueue(), CallCache())
        GitilesManager(self._environment).launch(controller)
        assert str(controller.invocation.status) == "SUCCEEDED", controller.log_text
        if controller.poller:
            self._record = controller.poller.record
        return [str(item.payload["revision"]) for item in controller.result().outgoing_triggers]


def test_a_repository_is_polled_for_a_day(site: Site) -> None:
    """First heads, a commit, a merged branch as one trigger, a force push, a rewind; an unchanged poll is free."""
    repository = site.repository("polled")
    repo = RepoUrl(HOST, f"{OWNER}/polled")
    poller = _Poller(site, repo, site.client())
    first = repository.commit("First", {"a": "1"})
    assert poller.poll() == [first]
    second, third = repository.commit("Second", {"a": "2"}), repository.commit("Third", {"a": "3"})
    assert poller.poll() == [second, third]
    repository.commit("Inner 1", {"b": "1"}, "refs/pull/1/head", parents=[third])
    inner = repository.commit("Inner 2", {"b": "2"}, "refs/pull/1/head")
    merge = repository.commit("Merge", {}, parents=[third, inner])
    assert poller.poll() == [merge]
    site.server.clear_requests()
    assert poller.poll() == []
    assert ([request.status for request in site.server.requests], site.counted()) == ([304], 0)
    forced = repository.commit("Forced", {"a": "4"}, parents=[second])
    assert poller.poll() == [forced]
    repository.force_push("main", second)
    assert poller.poll() == []
    alone = repository.commit("Alone", {"z": "1"}, "orphan", parents=[])
    assert poller.poll() == [alone]
