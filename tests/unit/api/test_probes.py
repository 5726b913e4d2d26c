"""Probes: administrators make and read them, functions mark them once, and nothing secret is returned."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from typing import Any
from unittest import mock

import pytest

from luci_scheduler import entry
from luci_scheduler.api.errors import ApiError
from luci_scheduler.api.inspection import get_probe, inspect, start_probe
from luci_scheduler.core.era import Era
from luci_scheduler.core.errors import MalformedError, NewerVersionError, PermanentError, TransientError
from luci_scheduler.core.instants import HOUR, MINUTE, SECOND, Instant
from luci_scheduler.core.notification_token import verify_token
from luci_scheduler.core.probe import LIFETIME, MAX_LABEL, MAX_MARKS, Probe
from luci_scheduler.engine.probe_builds import BuildServer
from luci_scheduler.engine.probes import Prober
from luci_scheduler.engine.progress import on_notification
from luci_scheduler.ports import BuildbucketError, GitilesError, HostQuota, PutProbe
from luci_scheduler.settings import ConfigSourceSetting
from tests.unit.api.support import ADMIN, OWNER, STRANGER, Client, context, world_for
from tests.unit.engine.world import HOST, REPO, World, config
from tests.unit.managers.cloud_build.cloud import STEPS, TRIGGER, CloudWorld

OPERATOR = "scheduler.Operator"


class Wire:
    """Buildbucket that records calls, and fails them if a test wants that."""

    def __init__(self) -> None:
        self.calls: list[Any] = []
        self.error: BuildbucketError | None = None
        self.reply: dict[str, Any] = {}

    def v1(self, server: str, http_method: str, path: str, **named: Any) -> dict[str, Any]:
        self.calls.append((server, http_method, path, named["query"]))
        return self.reply

    def v2(self, server: str, method: str, request: Any) -> dict[str, Any]:
        self.calls.append((server, method, request))
        if self.error is not None:
            raise self.error
        return {}


def _prober(world: World, *, buildbucket: Any = None, cloud_build: Any = None, **changes: Any) -> Prober:
    ports = {"buildbucket": buildbucket or Wire(), "cloud_build": cloud_build}
    return replace(world.app.prober("r1", 1), environment=replace(world.app.environment, **ports), **changes)


def _probe(world: World) -> Probe:
    started = Client(world).call("StartProbe", {}, ADMIN, OPERATOR)
    return _stored(world, started["probeId"])


def _stored(world: World, probe_id: str) -> Probe:
    found = world.store.probe(probe_id)
    assert found is not None
    return found.value


def test_only_administrators_see_the_inside() -> None:
    """The owner of every project does not; a stranger costs no read."""
    world = world_for()
    client = Client(world)
    for method, message in (("StartProbe", {}), ("GetProbe", {"probeId": "x"}), ("Inspect", {})):
        for who in (OWNER, STRANGER, ""):
            world.store.counts.clear()
            assert client.post(method, message, who, OPERATOR).status_code == 403
            assert world.counted() == "0R/0W/0c"
    assert client.post("GetProbe", {"probeId": "x"}, ADMIN, OPERATOR).status_code == 404
    assert client.post("GetProbe", {}, ADMIN, OPERATOR).status_code == 404


def test_the_service_layer_refuses_others_itself() -> None:
    """The transport's own check is a second lock."""
    world = world_for()
    probe = _probe(world)
    for call in (inspect, start_probe, lambda context: get_probe(context, probe.id)):
        with pytest.raises(ApiError, match="not an administrator"):
            call(context(world, OWNER))


def test_the_state_of_the_configs() -> None:
    """The reply names the parts and the projects, and no secret."""
    world = world_for()
    found = Client(world).call("Inspect", {}, ADMIN, OPERATOR)
    assert [(item["project"], item["jobs"]) for item in found["projects"]] == [("proj", 2)]
    assert (found["cloudProject"], found["queue"], found["taskVersion"]) == (
        world.app.settings.project,
        "luci-scheduler",
        1,
    )
    assert all(secret not in json.dumps(found) for secret in world.app.settings.token_secrets)


def test_a_project_without_a_config_is_listed() -> None:
    """The settings name it, and no sync has read it."""
    world = world_for()
    client = Client(world)
    sources = tuple(ConfigSourceSetting("bucket", project=name, bucket="configs") for name in ("new", "proj"))
    client._app = replace(client._app, settings=replace(client._app.settings, config_sources=sources))
    found = client.call("Inspect", {}, ADMIN, OPERATOR)
    assert [(item["project"], item.get("revision", "")) for item in found["projects"]] == [
        ("new", ""),
        ("proj", "rev1"),
    ]


@pytest.mark.parametrize("access", ["", "{"])
def test_a_caller_is_named_even_without_a_policy(access: str) -> None:
    """The reason is that of every other call; it does not quote the policy."""
    world = world_for(access=access)
    found = Client(world).call("WhoAmI", {}, ADMIN, OPERATOR)
    assert found == {"identity": f"user:{ADMIN}", "policyProblem": world.app.access.problem}


def test_who_a_caller_is() -> None:
    """Costs no read."""
    world = world_for()
    client = Client(world)
    world.store.counts.clear()
    assert client.call("WhoAmI", {}, ADMIN, OPERATOR) == {
        "identity": f"user:{ADMIN}",
        "isAdmin": True,
        "seesSome": True,
    }
    assert client.call("WhoAmI", {}, OWNER, OPERATOR) == {"identity": f"user:{OWNER}", "seesSome": True}
    assert client.call("WhoAmI", {}, "", OPERATOR) == {"identity": "anonymous:anonymous"}
    assert world.counted() == "0R/0W/0c"


def test_a_task_marks_its_probe_and_records_findings() -> None:
    """The task comes from the console. The reply has no token."""
    world = world_for()
    probe = _probe(world)
    (task,) = [task for task in world.queue.tasks if task.kind == "probe"]
    wire = Wire()
    _prober(world, buildbucket=wire).run(task.payload)
    stored = _stored(world, probe.id)
    assert stored.done
    assert stored.marks["on_task"].revision == "r1"
    assert {finding.check for finding in stored.findings} == {"index", "gitiles", "buildbucket"}
    assert [finding for finding in stored.findings if finding.problem] == []
    answer = Client(world).post("GetProbe", {"probeId": probe.id}, ADMIN, OPERATOR)
    assert stored.marks["on_task"].token
    assert stored.marks["on_task"].token not in answer.data.decode()
    assert stored.marks["on_task"].token not in repr(stored)
    topic = world.app.settings.topics_in
    (call,) = wire.calls
    assert call[:2] == (HOST, "ScheduleBuild")
    assert call[2]["dryRun"] is True
    assert call[2]["builder"] == {"project": "proj", "bucket": "ci", "builder": "job"}
    assert call[2]["notify"]["pubsubTopic"].startswith(f"projects/{topic}/topics/")


def test_a_repeated_task_checks_nothing_again() -> None:
    """A finished probe stays as it is."""
    world = world_for()
    probe, wire = _probe(world), Wire()
    prober = _prober(world, buildbucket=wire)
    prober.run({"probe": probe.id})
    stored = _stored(world, probe.id)
    prober.run({"probe": probe.id})
    assert _stored(world, probe.id) == stored
    assert len(wire.calls) == 1


@pytest.mark.parametrize(("probe_id", "cost"), [("", "0R/0W/0c"), ("unknown", "1R/0W/0c")])
def test_a_probe_that_does_not_exist_costs_a_read(probe_id: str, cost: str) -> None:
    """A stranger who may publish can do no more."""
    world = world_for()
    world.store.counts.clear()
    _prober(world).mark("on_gitiles_commit", probe_id, "t")
    assert world.counted() == cost


def test_an_old_probe_is_ignored() -> None:
    """Ten minutes after its creation; a moment before, it is marked."""
    world = world_for()
    probe = _probe(world)
    prober = _prober(world)
    world.clock.advance(LIFETIME - SECOND)
    prober.mark("on_task", probe.id)
    world.clock.advance(SECOND)
    prober.mark("on_build_completion", probe.id, "t")
    prober.run({"probe": probe.id})
    assert set(_stored(world, probe.id).marks) == {"on_task"}
    assert not _stored(world, probe.id).done


def test_marks_are_bounded() -> None:
    """Their number and the length of a label; a repeated mark writes nothing."""
    world = world_for()
    probe, prober = _probe(world), _prober(world)
    for number in range(MAX_MARKS + 5):
        prober.mark("on_gitiles_commit", probe.id, f"{number}" + "x" * 2 * MAX_LABEL)
    marks = _stored(world, probe.id).marks
    assert len(marks) == MAX_MARKS
    assert max(map(len, marks)) <= len("on_gitiles_commit ") + MAX_LABEL
    world.store.counts.clear()
    prober.mark("on_gitiles_commit", probe.id, "0" + "x" * 2 * MAX_LABEL)
    assert world.counted() == "1R/0W/0c"


def test_a_mark_shows_whose_keys_are_unknown() -> None:
    """A key that the function knows explains a token. An unknown key does not, nor does a token of another probe."""
    world = world_for()
    secrets = world.app.settings.token_secrets
    probe, other = _probe(world), _probe(world)
    _prober(world).mark("on_task", probe.id)
    _prober(world, secrets=("a secret of the next generation", *secrets)).mark("on_build_completion", probe.id, "next")
    _prober(world, secrets=("a secret of another one",)).mark("on_build_completion", probe.id, "other")
    marks = _stored(world, probe.id).marks
    assert marks["on_build_completion next"].unexplained == ()
    assert marks["on_build_completion other"].unexplained == ("on_build_completion next", "on_task")
    found = world.store.probe(other.id)
    assert found is not None
    world.store.commit([PutProbe(replace(found.value, marks={"on_task": marks["on_task"]}), found.version)])
    _prober(world).mark("on_build_completion", other.id)
    assert _stored(world, other.id).marks["on_build_completion"].unexplained == ("on_task",)


def test_the_token_of_a_mark_opens_nothing() -> None:
    """It is valid, and names an invocation that cannot exist."""
    world = world_for()
    probe = _probe(world)
    _prober(world).mark("on_task", probe.id)
    token = _stored(world, probe.id).marks["on_task"].token
    job_id, invocation_id = verify_token(world.app.settings.token_secrets, token, world.clock.now())
    with pytest.raises(PermanentError, match="doesn't exist"):
        on_notification(world.runtime, job_id, invocation_id, "m")


@pytest.mark.parametrize(
    ("payload", "error"),
    [({}, MalformedError), ({"v": "x", "probe": "y"}, MalformedError), ({"v": 9, "probe": "y"}, NewerVersionError)],
)
def test_payloads_that_cannot_be_read(payload: dict[str, Any], error: type[Exception]) -> None:
    """As of every other task."""
    with pytest.raises(error):
        _prober(world_for()).run(payload)


def _event(attributes: dict[str, str], data: bytes = b"probe") -> Any:
    message = {
        "attributes": attributes,
        "data": base64.b64encode(data).decode(),
        "messageId": "1",
        "publishTime": "2026-03-01T12:00:00Z",
    }
    return type("Event", (dict,), {"data": {"message": message}})({"id": "1", "time": ""})


def test_messages_mark_a_probe_and_do_nothing_else() -> None:
    """Even a valid commit in the message starts no build."""
    world = world_for()
    probe = _probe(world)
    commit = json.dumps({"repo": REPO, "ref": "refs/heads/main", "revision": "a" * 40}).encode()
    assert entry.commit(world.app, _event({"probe": probe.id, "probe-label": "c"}, commit))[1] == 200
    assert entry.notification(world.app, _event({"probe": probe.id, "probe-label": "b"}))[1] == 200
    assert set(_stored(world, probe.id).marks) == {"on_gitiles_commit c", "on_build_completion b"}
    assert world.buildbucket.calls == []
    assert world.invocations() == []


def test_findings_name_the_failed_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    """A refusal of our account is marked as such; after a failed query nothing else is called."""
    world = world_for()
    probe, wire = _probe(world), Wire()
    wire.error = BuildbucketError("PERMISSION_DENIED", "no right", transient=False)
    gitiles: Any = world.runtime.gitiles
    error = GitilesError("NOT_FOUND", "HTTP 404", transient=False)
    monkeypatch.setattr(gitiles, "refs", lambda *_: (_ for _ in ()).throw(error), raising=False)
    _prober(world, buildbucket=wire).run({"probe": probe.id})
    bad = {item.check: item for item in _stored(world, probe.id).findings if item.problem}
    assert set(bad) == {"gitiles", "buildbucket"}
    assert (bad["gitiles"].subject, bad["gitiles"].is_permission) == (REPO, False)
    assert (bad["buildbucket"].subject, bad["buildbucket"].is_permission) == (f"proj:ci on {HOST}", True)
    second, calls = _probe(world), len(wire.calls)
    monkeypatch.setattr(world.store, "due_jobs", lambda *_: (_ for _ in ()).throw(TransientError("Firestore: down")))
    _prober(world, buildbucket=wire).run({"probe": second.id})
    findings = _stored(world, second.id).findings
    assert {item.check for item in findings} == {"index"}
    assert [item.problem for item in findings if item.problem] == ["Firestore: down"]
    assert len(wire.calls) == calls


def test_a_probe_reads_the_projects_once() -> None:
    """The checks of repositories and of buckets share the records."""
    world = world_for()
    probe, projects = _probe(world), world.store.projects()
    with mock.patch.object(world.store, "projects", return_value=projects) as read:
        _prober(world).run({"probe": probe.id})
    assert {item.check for item in _stored(world, probe.id).findings} == {"index", "gitiles", "buildbucket"}
    assert read.call_count == 1


def test_a_server_of_2021_gets_a_search() -> None:
    """v1 has no dry run. Its own error object is a failure."""
    world = world_for()
    probe, wire = _probe(world), Wire()
    servers = {HOST: BuildServer(Era.V1, "")}
    _prober(world, buildbucket=wire, servers=servers).run({"probe": probe.id})
    assert wire.calls == [(HOST, "GET", "search", [("bucket", "ci"), ("max_builds", "1")])]
    second = _probe(world)
    wire.reply = {"error": {"reason": "CANNOT_LEASE_BUILD", "message": "x"}}
    _prober(world, buildbucket=wire, servers=servers).run({"probe": second.id})
    assert [item.problem for item in _stored(world, second.id).findings if item.problem] == ["CANNOT_LEASE_BUILD: x"]


def test_a_dry_run_names_no_topic_if_the_server_publishes_none() -> None:
    """An empty topic would be a refused request."""
    world = world_for()
    probe, wire = _probe(world), Wire()
    _prober(world, buildbucket=wire, servers={HOST: BuildServer(Era.V2, "")}).run({"probe": probe.id})
    ((_, _, request),) = wire.calls
    assert set(request) == {"builder", "dryRun"}


def test_a_probe_expires() -> None:
    """Its document has the time after which Firestore deletes it."""
    world = world_for()
    probe = _probe(world)
    document = world.store._documents["probes", probe.id].document
    assert document["expire_at"].timestamp() * 1e9 > probe.created + LIFETIME
    assert Instant(int(document["expire_at"].timestamp()) * SECOND) < probe.created + 120 * MINUTE


def test_findings_fit_their_document() -> None:
    """A server chooses the text of its error, and forty such texts share a document of a MiB."""
    world = world_for()
    probe, wire = _probe(world), Wire()
    wire.reply = {"error": {"reason": "X", "message": "y" * 1_500_000}}
    _prober(world, buildbucket=wire, servers={HOST: BuildServer(Era.V1, "")}).run({"probe": probe.id})
    assert [len(item.problem) for item in _stored(world, probe.id).findings if item.problem] == [1000]


_REMOTE, _ONE = "https://github.com/team/app", "1970-01-01T01:00:00Z"


class Quotas:
    """``ports.HostQuotas`` with one answer."""

    def __init__(self, answer: HostQuota | GitilesError | None) -> None:
        self.hosts: list[str] = []
        self._answer = answer

    def quota(self, host: str) -> HostQuota | None:
        self.hosts.append(host)
        if isinstance(self._answer, GitilesError):
            raise self._answer
        return self._answer


def _findings(world: World, prober: Prober, check: str) -> list[tuple[str, str, str]]:
    probe = _probe(world)
    prober.run({"probe": probe.id})
    found = [item for item in _stored(world, probe.id).findings if item.check == check]
    return [(item.subject, item.problem, item.note) for item in found]


@pytest.mark.parametrize(
    ("answer", "problem", "note"),
    [
        (HostQuota(5000, 4990, Instant(HOUR)), "", f"github.com answers 4990 of 5000 requests until {_ONE}"),
        (HostQuota(60, 0, Instant(HOUR)), f"all 60 requests of this hour are used up until {_ONE}", ""),
        (None, "", "github.com limits no requests"),
        (GitilesError("UNAUTHENTICATED", "Bad credentials", transient=False), "UNAUTHENTICATED: Bad credentials", ""),
    ],
)
def test_the_quota_of_each_github_host_is_checked(answer: Any, problem: str, note: str) -> None:
    """Once for all its repositories; a repository of Gitiles has none."""
    world, quotas = world_for(config().replace(REPO, _REMOTE)), Quotas(answer)
    prober = _prober(world, quotas=quotas, config_repos=(f"{_REMOTE}-config", REPO))
    assert _findings(world, prober, "github") == [("github.com", problem, note)]
    assert quotas.hosts == ["github.com"]


def test_a_repository_of_an_unknown_host_is_a_finding() -> None:
    """A host may leave the settings while a config still watches its repository. The other checks are made."""
    world, quotas = world_for(), Quotas(None)
    prober = _prober(world, quotas=quotas, config_repos=("https://git.example.com/a/b", _REMOTE))
    found = {subject: problem for subject, problem, _ in _findings(world, prober, "gitiles")}
    assert found["https://git.example.com/a/b"].startswith("no commit host is configured for it: ")
    assert (found[_REMOTE], found[REPO], quotas.hosts) == ("", "", ["github.com"])


def test_an_installation_without_github_asks_for_no_quota() -> None:
    """Nothing of GitHub's client is made."""
    quotas = Quotas(None)
    world = world_for()
    assert _findings(world, _prober(world, quotas=quotas), "github") == []
    assert quotas.hosts == []


@pytest.mark.parametrize(
    ("block", "settings", "subject", "path"),
    [
        (
            STEPS,
            {"cloud_build_account": "steps@p.iam.gserviceaccount.com"},
            "builds in p, us-central1 as steps@p.iam.gserviceaccount.com",
            "/v1/projects/p/locations/us-central1/builds",
        ),
        (TRIGGER, {}, "trigger widget-ci in p, us-central1", "/v1/projects/p/locations/us-central1/triggers/widget-ci"),
    ],
)
def test_cloud_build_is_asked_without_a_build(block: str, settings: Any, subject: str, path: str) -> None:
    """A list of one build, or the trigger itself, proves the API, the location and the right to read."""
    world = CloudWorld(block, cloud_build_project="p", **settings)
    world.cloud.answers["get"] = [{"id": "1"}]
    world.cloud.builds["widget-ci"] = world.cloud.make("p", "elsewhere", {})
    before = len(world.cloud.builds)
    prober = _prober(world, cloud_build=world.cloud)
    assert _findings(world, prober, "cloud_build") == [(subject, "", "")]
    assert (world.cloud.paths, len(world.cloud.builds)) == ([path], before)


def test_cloud_build_refuses() -> None:
    """The service's words are the finding. A job that the settings do not permit is one as well, without a call."""
    world = CloudWorld(TRIGGER, cloud_build_project="p")
    ((_, problem, _),) = _findings(world, _prober(world, cloud_build=world.cloud), "cloud_build")
    assert problem.startswith("NOT_FOUND: ")
    other = CloudWorld('project: "other-project" steps { name: "bash" script: "true" }', cloud_build_project="p")
    ((subject, problem, _),) = _findings(other, _prober(other, cloud_build=other.cloud), "cloud_build")
    assert subject == "builds in other-project, global"
    assert "add it to SCHEDULER_CLOUD_BUILD_PROJECTS" in problem
    ((_, problem, _),) = _findings(other, _prober(other, cloud_build=None), "cloud_build")
    assert "set SCHEDULER_CLOUD_BUILD to true" in problem
    assert other.cloud.calls == []


def test_the_projects_and_accounts_of_builds() -> None:
    """The defaults come first, each name once, without the path of an account's resource."""
    named = {"p": ("projects/p/serviceAccounts/a@p.iam", "b@p.iam"), "old": ("c@old.iam",)}
    world = CloudWorld(cloud_build_project="p", cloud_build_account="a@p.iam", cloud_build_projects=named)
    found = Client(world).call("Inspect", {}, ADMIN, OPERATOR)
    assert found["buildProjects"] == ["p", "old"]
    assert found["buildAccounts"] == ["a@p.iam", "b@p.iam", "c@old.iam"]
    without = Client(world_for(cloud_build_account="a@p.iam")).call("Inspect", {}, ADMIN, OPERATOR)
    assert {"buildProjects", "buildAccounts"} & set(without) == set()
