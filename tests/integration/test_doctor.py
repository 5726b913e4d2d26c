"""``luci-scheduler doctor`` on a local cloud in memory: every check passes, and fails when its part is broken."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest
from google.cloud import tasks_v2

from emulator.buildbucket.faults import Fault
from emulator.cloud_build.faults import Fault as CloudFault
from emulator.github import GitHubFault
from emulator.gitiles.faults import GitilesFault
from emulator.local_cloud import LocalCloud
from emulator.local_control_plane import LocalControlPlane
from emulator.memory_pubsub import Message
from emulator.options import Options
from emulator.sample import make_sample
from emulator.settings import queue_path
from emulator.start import start_local_cloud
from luci_scheduler import entry, process
from luci_scheduler.adapters.cloud_tasks import CloudTasksQueue
from luci_scheduler.bootstrap import App
from luci_scheduler.cli.doctor import command
from luci_scheduler.cli.doctor import inside as inside_module
from luci_scheduler.cli.doctor.control_plane import INDEXES
from luci_scheduler.cli.main import main
from luci_scheduler.core.errors import PermanentError
from luci_scheduler.core.instants import HOUR, Instant
from luci_scheduler.ports import HostQuota
from tests.waiting import until

pytestmark = pytest.mark.timeout(120)

CHECKS = (
    "console", "caller", "access-policy", "inside", "clock", "config", "revisions", "queue", "schedules",
    "index-states", "dead-letters", "key-rotation", "alerts", "webhook", "build-projects", "task", "commit-message",
    "build-messages", "cloud-messages", "signing-keys", "versions", "indexes", "github", "gitiles", "buildbucket",
    "cloud-build",
)  # fmt: skip
LOSABLE = ("task", "commit-message", "build-messages", "cloud-messages")
"""Checks whose fault is a probe that never arrives."""
BUILD_ACCOUNT = "steps@builds.iam.gserviceaccount.com"
APP = "https://github.com/Team/App"
MORE_JOBS = f"""
trigger {{
  id: "app-poller"
  schedule: "triggered"
  gitiles {{ repo: "{APP}" refs: "refs/heads/main" }}
  triggers: "app-tests"
}}
job {{ id: "app-tests" cloud_build {{ steps {{ name: "bash" script: "true" }} }} }}
job {{ id: "app-release" cloud_build {{ trigger: "release" }} }}
"""
PATIENCE = 60.0
"""Far longer than a busy machine takes for a probe that arrives."""


def _fields(**states: str) -> dict[str, Any]:
    """Return the database's fields with their indexes; ``states`` replaces the state of some collections' indexes."""
    group = "projects/p/databases/d/collectionGroups"
    indexed = [
        {
            "name": f"{group}/{collection}/fields/{field}",
            "indexConfig": {"indexes": [{"state": states.get(collection, "READY")}]},
        }
        for collection, field in sorted(INDEXES)
    ]
    expiring = [{"name": f"{group}/probes/fields/expire_at", "ttlConfig": {"state": "ACTIVE"}, "indexConfig": {}}]
    return {"fields": [*indexed, *expiring]}


def _ago(days: float) -> str:
    moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(time.time() - days * 86400))
    return f"{moment}.123456789Z"


def _alerts(**changes: Any) -> dict[str, Any]:
    policy = {"displayName": "luci-scheduler: no-sweep", "enabled": True, "notificationChannels": ["c"], **changes}
    return {"alertPolicies": [policy]}


def _deliveries(**counts: int) -> dict[str, Any]:
    """Return the answers of the webhook, by class, as Cloud Monitoring counts them."""
    series = [
        {"metric": {"labels": {"response_code_class": name}}, "points": [{"value": {"int64Value": str(count)}}]}
        for name, count in counts.items()
    ]
    return {"timeSeries": series}


class Installation:
    """A local cloud with Google's APIs in front, which parts are scripted in a test."""

    def __init__(self, cloud: LocalCloud) -> None:
        self.cloud = cloud
        self.url = cloud.console_url
        self.answers: dict[str, tuple[int, Mapping[str, Any]]] = {}
        self.google_apis = ""
        self.reset()

    def reset(self) -> None:
        """Script the healthy control plane of the parts that the local cloud does not have."""
        self.answers = {
            "firestore.googleapis.com": (200, _fields()),
            "alertPolicies": (200, _alerts()),
            "timeSeries": (200, _deliveries(**{"2xx": 3, "4xx": 1})),
            "serviceusage.googleapis.com": (200, {"state": "ENABLED"}),
            "iam.googleapis.com": (200, {"email": BUILD_ACCOUNT}),
            "/versions": (200, {"versions": [{"createTime": _ago(1)}, {"createTime": _ago(91)}]}),
            "secretmanager.googleapis.com": (200, {"rotation": {"rotationPeriod": f"{90 * 86400}s"}}),
        }

    def scripted(self, path: str) -> tuple[int, Mapping[str, Any]] | None:
        return next((answer for part, answer in self.answers.items() if part in path), None)


@pytest.fixture(name="installation", scope="module")
def _installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    folder = tmp_path_factory.mktemp("cloud")
    file = make_sample(folder / "configs")
    file.write_text(file.read_text(encoding="utf-8") + MORE_JOBS, encoding="utf-8")
    (folder / "triggers.toml").write_text("[triggers.release]\n", encoding="utf-8")
    options = Options(
        folder=folder,
        store="memory",
        sweep_seconds=1,
        sync_seconds=1,
        cloud_build=True,
        github=True,
        settings={"SCHEDULER_CLOUD_BUILD_ACCOUNT": BUILD_ACCOUNT},
    )
    with start_local_cloud(options) as cloud:
        cloud.repository("https://sample.googlesource.com/engine")
        cloud.repository(APP)
        until(lambda: all(schedule.last for schedule in cloud.schedules.values()), "the schedules run")
        installation = Installation(cloud)
        with LocalControlPlane(cloud, installation.scripted) as apis:
            installation.google_apis = apis.url
            yield installation


Plant = Callable[[Installation], AbstractContextManager[Any]]
"""Breaks one part of an installation, or changes it, and mends it at the end."""


class Doctor:
    """Runs the command, and keeps its report."""

    def __init__(self, installation: Installation, capsys: pytest.CaptureFixture[str]) -> None:
        self._installation = installation
        self._capsys = capsys

    def run(self, *arguments: str, impatient: str = "") -> tuple[int, dict[str, dict[str, str]]]:
        """Return exit code and checks by name. The check ``impatient`` gives up soon, because its probe is lost."""
        patience = lambda check: 0.5 if check == impatient else PATIENCE  # noqa: E731
        where = ["--url", self._installation.url, "--google-apis", self._installation.google_apis]
        with mock.patch.object(command, "_patience", patience), mock.patch.object(inside_module, "_POLL", 0.02):
            code = main(["doctor", *where, "--json", *arguments], {})
        report = json.loads(self._capsys.readouterr().out)
        assert report["ok"] == (code == 0)
        return code, {item["name"]: item for item in report["checks"]}


@pytest.fixture(name="doctor")
def _doctor(installation: Installation, capsys: pytest.CaptureFixture[str]) -> Doctor:
    return Doctor(installation, capsys)


def test_a_healthy_installation_passes_every_check(doctor: Doctor) -> None:
    """All checks run and succeed, and the report has their findings."""
    code, checks = doctor.run("--strict")
    assert {name: item["text"] for name, item in checks.items() if item["outcome"] != "ok"} == {}
    assert (code, tuple(checks)) == (0, CHECKS)
    assert "dev@localhost, an administrator" in checks["caller"]["text"]
    assert "sample at " in checks["config"]["text"]
    assert "https://sample.googlesource.com/engine" in checks["gitiles"]["text"]
    assert "sample:ci on cr-buildbucket.appspot.com" in checks["buildbucket"]["text"]
    assert re.fullmatch(r"github\.com answers [0-9]+ of 5000 requests until .+Z", checks["github"]["text"])
    assert "trigger release in " in checks["cloud-build"]["text"]
    assert f"builds run as {BUILD_ACCOUNT}" in checks["build-projects"]["text"]
    assert "on_cloud_build: on-cloud-build-local-1 100 %" in checks["revisions"]["text"]
    assert "on_github_push: on-github-push-local-1 100 %" in checks["revisions"]["text"]
    assert checks["webhook"]["text"] == "deliveries of GitHub in 30 days: 3 taken, 1 refused, 0 failed"
    assert checks["indexes"]["text"] == "6 queries have their indexes"


def test_a_second_run_uses_a_new_probe(installation: Installation, doctor: Doctor) -> None:
    """The dry runs of both start no build."""
    assert doctor.run()[0] == doctor.run()[0] == 0
    assert installation.cloud.invocations("sample/linux-tests") == []
    assert list(installation.cloud.buildbucket.builds.newest_first()) == []


def test_a_canary_passes_and_shows_its_shares(installation: Installation, doctor: Doctor) -> None:
    """Two shares of one revision, named and newest, are one share."""
    shares = [{"revision": "r1", "percent": 60}, {"revision": "r2", "percent": 30}, {"percent": 10}, {"tag": "x"}]
    canary = {**READY, "trafficStatuses": shares}
    with _scripted({"services/luci-scheduler-on-task": (200, canary)})(installation):
        code, checks = doctor.run()
    assert code == 0
    assert "on_task: r1 60 %, r2 40 %" in checks["revisions"]["text"]


def test_a_task_for_later_is_not_late(installation: Installation, doctor: Doctor) -> None:
    """A queue with only tasks of the future, such as the next check of a build, has no wait."""
    later = {"tasks": [{"scheduleTime": _ago(-0.01)}, {"scheduleTime": _ago(-3)}]}
    with _scripted({"/tasks": (200, later)})(installation):
        _, checks = doctor.run()
    assert checks["queue"]["text"].endswith("the oldest due task waits for 0 s")


def test_text_for_people(installation: Installation, capsys: pytest.CaptureFixture[str]) -> None:
    """Each check has a line, and a fault has its remedy on the next line."""
    where = ["--url", installation.url, "--google-apis", installation.google_apis]
    plant = _scripted({"alertPolicies": (200, {})})
    with plant(installation), mock.patch.object(inside_module, "_POLL", 0.02):
        assert main(["doctor", *where], {}) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[:2] == ["ok", "console"]
    place = next(number for number, line in enumerate(lines) if line.startswith("failed"))
    assert lines[place].split()[:2] == ["failed", "alerts"]
    assert "-> set monitoring.enabled" in lines[place + 1]
    assert lines[-1] == "26 checks: 25 ok, 1 failed"


# Plants: each breaks one part, and mends it at the end ----------------------------------------------------------------


def _scripted(answers: Mapping[str, tuple[int, Mapping[str, Any]]]) -> Plant:
    @contextmanager
    def plant(installation: Installation) -> Iterator[None]:
        installation.answers = {**answers, **{k: v for k, v in installation.answers.items() if k not in answers}}
        try:
            yield
        finally:
            installation.reset()

    return plant


def _changed_app(change: Callable[[App, LocalCloud], App]) -> Plant:
    @contextmanager
    def plant(installation: Installation) -> Iterator[None]:
        app = process.app()
        process.use(change(app, installation.cloud))
        try:
            yield
        finally:
            process.use(app)

    return plant


def _with_access(policy: str) -> Plant:
    return _changed_app(lambda app, _: replace(app, settings=replace(app.settings, access=policy)))


def _with_queue(**changes: str) -> Plant:
    def change(app: App, cloud: LocalCloud) -> App:
        names = {"account": app.settings.task_account, "audience": app.settings.tasks_audience, **changes}
        queue = CloudTasksQueue(cloud.tasks_client, queue_path(cloud.project), app.settings.task_url, **names)
        return replace(app, runtime=replace(app.runtime, queue=queue))

    return _changed_app(change)


@contextmanager
def _paused(installation: Installation) -> Iterator[None]:
    client: tasks_v2.CloudTasksClient = installation.cloud.tasks_client
    client.pause_queue(name=queue_path(installation.cloud.project))
    try:
        yield
    finally:
        client.resume_queue(name=queue_path(installation.cloud.project))


def _entry(name: str, handle: Callable[..., Any]) -> Plant:
    return lambda _: mock.patch.object(entry, name, handle)


_commit, _notification, _prober = entry.commit, entry.notification, entry._prober


def _with_another_key(app: App, event: Any) -> Any:
    settings = replace(app.settings, token_secrets=("a key of another generation",))
    return _notification(replace(app, settings=settings), event)


def _newer_commit(app: App, event: Any) -> Any:
    with mock.patch.object(entry, "_prober", lambda app: replace(_prober(app), schema=2)):
        return _commit(app, event)


@contextmanager
def _down(installation: Installation) -> Iterator[None]:
    function = installation.cloud.functions["on_build_completion"]
    function.stop()
    try:
        yield
    finally:
        function.start()


@contextmanager
def _bad_config(installation: Installation) -> Iterator[None]:
    file = installation.cloud.configs / "sample" / "luci-scheduler.cfg"
    good = file.read_text(encoding="utf-8")
    file.write_text(good + "\njob { }\n", encoding="utf-8")
    installation.cloud.sync()
    try:
        yield
    finally:
        file.write_text(good, encoding="utf-8")
        installation.cloud.sync()


@contextmanager
def _no_index(_: Installation) -> Iterator[None]:
    store: Any = process.app().runtime.store
    error = PermanentError("Firestore refused the request: The query requires an index")
    with mock.patch.object(store, "triggers_of_revision", side_effect=error):
        yield


def _gitiles(fault: GitilesFault) -> Plant:
    @contextmanager
    def plant(installation: Installation) -> Iterator[None]:
        installation.cloud.gitiles.faults.add(fault)
        try:
            yield
        finally:
            installation.cloud.gitiles.faults.clear()

    return plant


def _github(fault: GitHubFault) -> Plant:
    @contextmanager
    def plant(installation: Installation) -> Iterator[None]:
        installation.cloud.github.faults.add(fault)
        try:
            yield
        finally:
            installation.cloud.github.faults.clear()

    return plant


def _quota(limit: int) -> Plant:
    used_up = HostQuota(limit, 0, Instant(HOUR))
    return _changed_app(lambda app, _: replace(app, quotas=SimpleNamespace(quota=lambda _: used_up)))


def _cloud_build(fault: CloudFault) -> Plant:
    @contextmanager
    def plant(installation: Installation) -> Iterator[None]:
        installation.cloud.cloud_build.faults.add(fault)
        try:
            yield
        finally:
            installation.cloud.cloud_build.faults.clear()

    return plant


def _buildbucket(code: int, message: str) -> Plant:
    @contextmanager
    def plant(installation: Installation) -> Iterator[None]:
        fault = Fault("error", "ScheduleBuild", code=code, times=None, message=message)
        installation.cloud.buildbucket.faults.add(fault)
        try:
            yield
        finally:
            installation.cloud.buildbucket.faults.clear()

    return plant


def _dead_letter(place: int) -> Plant:
    @contextmanager
    def plant(installation: Installation) -> Iterator[None]:
        pubsub: Any = installation.cloud.pubsub
        letters = pubsub._inner._dead_letters[installation.cloud.subscriptions[place].topic]
        letters.append(Message("1", b"x", {}, 1))
        try:
            yield
        finally:
            letters.clear()

    return plant


def _schedule(kind: str, schedule: Any) -> Plant:
    def plant(installation: Installation) -> AbstractContextManager[Any]:
        schedules = {**installation.cloud.schedules, kind: schedule}
        return mock.patch.dict(installation.cloud.schedules, {k: v for k, v in schedules.items() if v}, clear=True)

    return plant


@contextmanager
def _wrong_clock(_: Installation) -> Iterator[None]:
    ahead = SimpleNamespace(time=lambda: time.time() + 90, monotonic=time.monotonic)
    with mock.patch.object(inside_module, "time", ahead):
        yield


@contextmanager
def _nothing_there(installation: Installation) -> Iterator[None]:
    url, installation.url = installation.url, "http://127.0.0.1:9"
    try:
        yield
    finally:
        installation.url = url


def _refuse(_app: App, _event: Any) -> tuple[str, int]:
    return "Unauthenticated\n", 401


def _sweep_refused(installation: Installation) -> AbstractContextManager[Any]:
    job = {"state": "ENABLED", "status": {"code": 16}, "lastAttemptTime": _ago(0)}
    return _scripted({"jobs/luci-scheduler-sweep": (200, job)})(installation)


def _old_task() -> dict[str, Any]:
    return {"tasks": [{"scheduleTime": _ago(0), "firstAttempt": {"scheduleTime": _ago(1)}}]}


READER = json.dumps({"version": 1, "grants": [{"project": "*", "role": "READER", "to": ["user:dev@localhost"]}]})
READY = {
    "terminalCondition": {"state": "CONDITION_SUCCEEDED"},
    "latestCreatedRevision": "p/r2",
    "latestReadyRevision": "p/r2",
}
NOT_READY = {
    "terminalCondition": {"state": "CONDITION_FAILED", "message": "Image not found"},
    "latestCreatedRevision": "r2",
    "latestReadyRevision": "r1",
}
PLANTS: dict[str, tuple[str, Plant, str, str]] = {
    "no console": ("console", _nothing_there, "there is no connection", "terraform output -raw console_url"),
    "not an administrator": (
        "caller",
        _with_access(READER),
        "no administrator",
        "add user:dev@localhost to console.admins",
    ),
    "broken policy": ("access-policy", _with_access("{"), "is not valid", "mend console.access"),
    "no policy": ("access-policy", _with_access(""), "no access policy is set", "mend console.access"),
    "wrong clock": ("clock", _wrong_clock, "differ by 9", "set the clock"),
    "invalid config": ("config", _bad_config, "config of sample is refused", "luci-scheduler config validate"),
    "function down": (
        "revisions",
        _down,
        "accepts no connection",
        "gcloud run services describe luci-scheduler-on-build",
    ),
    "revision not ready": (
        "revisions",
        _scripted({"services/luci-scheduler-on-task": (200, NOT_READY)}),
        "Image not found",
        "gcloud run services describe luci-scheduler-on-task",
    ),
    "no service": (
        "revisions",
        _scripted({"services/luci-scheduler-console": (404, {})}),
        "no service",
        "terraform apply",
    ),
    "queue paused": ("queue", _paused, "is PAUSED", "gcloud tasks queues resume luci-scheduler"),
    "old task": ("queue", _scripted({"/tasks": (200, _old_task())}), "has been due for", "gcloud tasks list"),
    "sweep paused": ("schedules", _schedule("sweep", None), "sweep is PAUSED", "gcloud scheduler jobs resume"),
    "sweep late": (
        "schedules",
        _schedule("sweep", SimpleNamespace(last=time.time() - 600)),
        "the sweep last ran at",
        "gcloud scheduler jobs run luci-scheduler-sweep",
    ),
    "sync never ran": ("schedules", _schedule("sync", SimpleNamespace(last=None)), "never run", "wait a minute"),
    "sweep refused": (
        "schedules",
        _sweep_refused,
        "ended with status 16",
        "read on_task's log",
    ),
    "index building": (
        "index-states",
        _scripted({"firestore.googleapis.com": (200, _fields(triggers="CREATING"))}),
        "triggers.pending is CREATING",
        "gcloud firestore indexes fields list",
    ),
    "index gone": (
        "index-states",
        _scripted({"firestore.googleapis.com": (200, {"fields": _fields()["fields"][1:]})}),
        "no index of deferred.next_due",
        "terraform apply",
    ),
    "query without index": ("indexes", _no_index, "requires an index", "gcloud firestore indexes fields list"),
    "dead letter": ("dead-letters", _dead_letter(1), "refused too often", "luci-scheduler dead-letters list"),
    "dead letter of Cloud Build": (
        "dead-letters",
        _dead_letter(2),
        "cloud-builds-dead-letter holds messages",
        "luci-scheduler dead-letters list",
    ),
    "key overdue": (
        "key-rotation",
        _scripted({"/versions": (200, {"versions": [{"createTime": _ago(91)}]})}),
        "91 days old, and was due after 90",
        "raise signing_key_generation",
    ),
    "no key": ("key-rotation", _scripted({"/versions": (200, {})}), "no enabled version", "terraform apply"),
    "no alerts": (
        "alerts",
        _scripted({"alertPolicies": (200, {})}),
        "no alert policy",
        "monitoring.enabled",
    ),
    "silent alerts": (
        "alerts",
        _scripted({"alertPolicies": (200, _alerts(notificationChannels=[]))}),
        "no-sweep notifies no channel",
        "monitoring.emails",
    ),
    "disabled alerts": (
        "alerts",
        _scripted({"alertPolicies": (200, _alerts(enabled=False))}),
        "no-sweep is disabled",
        "terraform apply",
    ),
    "no delivery of GitHub": (
        "webhook",
        _scripted({"timeSeries": (200, _deliveries())}),
        "on_github_push has taken no delivery in 30 days",
        "terraform output -raw github_webhook",
    ),
    "no request of anyone": (
        "webhook",
        _scripted({"timeSeries": (404, {})}),
        "on_github_push has taken no delivery in 30 days",
        "redeliver the ping",
    ),
    "wrong secret of the webhook": (
        "webhook",
        _scripted({"timeSeries": (200, _deliveries(**{"4xx": 7}))}),
        "refused all 7 requests",
        "as a new version of github.webhook.secret",
    ),
    "webhook not ready": (
        "revisions",
        _scripted({"services/luci-scheduler-on-github-push": (200, NOT_READY)}),
        "luci-scheduler-on-github-push: Image not found",
        "gcloud run services describe luci-scheduler-on-github-push",
    ),
    "Cloud Build switched off": (
        "build-projects",
        _scripted({"serviceusage.googleapis.com": (200, {"state": "DISABLED"})}),
        "the Cloud Build API is not enabled in local-",
        "gcloud services enable cloudbuild.googleapis.com --project=local-",
    ),
    "no account for builds": (
        "build-projects",
        _scripted({"projects/builds/serviceAccounts": (404, {})}),
        f"there is no account {BUILD_ACCOUNT}",
        "name another account in cloud_build.account",
    ),
    "disabled account of builds": (
        "build-projects",
        _scripted({"iam.googleapis.com": (200, {"disabled": True})}),
        f"{BUILD_ACCOUNT}, which builds run as, is disabled",
        f"gcloud iam service-accounts enable {BUILD_ACCOUNT} --project=builds",
    ),
    "wrong audience of tasks": (
        "task",
        _with_queue(audience="https://x.invalid"),
        "reached on_task",
        "audience of tasks",
    ),
    "wrong account of tasks": ("task", _with_queue(account="x@y.iam"), "reached on_task", "audience of tasks"),
    "commit push refused": ("commit-message", _entry("commit", _refuse), "reached on_gitiles_commit", "push account"),
    "build push refused": (
        "build-messages",
        _entry("notification", _refuse),
        "reached on_build_completion",
        "push account",
    ),
    "push of Cloud Build refused": (
        "cloud-messages",
        _entry("cloud_build", _refuse),
        "reached on_cloud_build",
        "push account",
    ),
    "no topic of Cloud Build": (
        "cloud-messages",
        _scripted({"cloud-builds:publish": (404, {})}),
        "/topics/cloud-builds",
        "terraform apply",
    ),
    "no commit topic": (
        "commit-message",
        _scripted({"gitiles-commit:publish": (404, {})}),
        "there is no topic",
        "terraform apply",
    ),
    "unknown key": (
        "signing-keys",
        _entry("notification", _with_another_key),
        "does not know the key",
        "finish the rollout",
    ),
    "newer revision": ("versions", _entry("commit", _newer_commit), "documents 2", "finish the rollout"),
    "Gitiles refuses": (
        "gitiles",
        _gitiles(GitilesFault("error", status=403, times=None)),
        "HTTP 403",
        "terraform output -raw grant_in_luci",
    ),
    "GitHub refuses the credentials": (
        "github",
        _github(GitHubFault("error", "*/rate_limit", times=None, status=401)),
        "UNAUTHENTICATED: HTTP 401",
        "renew the token, or install the GitHub App again",
    ),
    "GitHub's requests are used up": ("github", _quota(5000), "all 5000 requests", "poll less often"),
    "GitHub's anonymous requests are used up": ("github", _quota(60), "all 60 requests", "set github.token"),
    "GitHub hides a repository": (
        "gitiles",
        _github(GitHubFault("error", "*/git/matching-refs/*", times=None, status=404)),
        "HTTP 404",
        "give the GitHub App or the token the right to read",
    ),
    "Cloud Build refuses our account": (
        "cloud-build",
        _cloud_build(CloudFault("error", "list", times=None, code="PERMISSION_DENIED", message="no right")),
        f"as {BUILD_ACCOUNT}: PERMISSION_DENIED: no right",
        "terraform apply",
    ),
    "a trigger is gone": (
        "cloud-build",
        _cloud_build(CloudFault("error", "trigger", times=None, code="NOT_FOUND", message="no such trigger")),
        "trigger release in ",
        "make the trigger in Cloud Build",
    ),
    "Cloud Build is down": (
        "cloud-build",
        _cloud_build(CloudFault("error", times=None)),
        "UNAVAILABLE",
        "run the command again",
    ),
    "Buildbucket refuses": (
        "buildbucket",
        _buildbucket(7, "no permission"),
        "no permission",
        "role/buildbucket.triggerer and role/buildbucket.reader in sample:ci",
    ),
    "Buildbucket cannot publish": (
        "buildbucket",
        _buildbucket(3, "bad request: notify: no permission"),
        "notify",
        "roles/pubsub.publisher",
    ),
}


@pytest.mark.parametrize("place", ["next_token_secret", "previous_token_secret"])
def test_a_key_of_the_neighboring_generation_is_known(doctor: Doctor, installation: Installation, place: str) -> None:
    """While an apply replaces the functions, one of them signs with a key that another only verifies."""

    def handle(app: App, event: Any) -> Any:
        other = {"token_secrets": ("another generation's key",), place: app.settings.token_secrets[0]}
        return _notification(replace(app, settings=replace(app.settings, **other)), event)

    with _entry("notification", handle)(installation):
        code, checks = doctor.run()
    assert (code, checks["signing-keys"]["outcome"]) == (0, "ok")
    assert checks["signing-keys"]["text"].startswith("on_build_completion accepts")


def test_servers_without_notifications(doctor: Doctor, installation: Installation) -> None:
    """There is no topic to probe, and the report claims nothing about `on_build_completion` and its keys."""

    def change(app: App, _: LocalCloud) -> App:
        servers = tuple(replace(item, notifications=False) for item in app.settings.buildbucket_servers)
        silent = replace(app.settings, buildbucket_servers=servers)
        return replace(app, settings=silent)

    with _changed_app(change)(installation):
        code, checks = doctor.run()
    assert {name: item["text"] for name, item in checks.items() if item["outcome"] != "ok"} == {}
    assert code == 0
    assert checks["build-messages"]["text"] == "no server has a topic"
    assert checks["signing-keys"]["text"] == "no server sends notifications, so no function verifies their tokens"
    assert checks["dead-letters"]["text"] == "subscriptions without a message: 2"


def test_an_installation_of_luci_alone(doctor: Doctor, installation: Installation) -> None:
    """Without Cloud Build and a webhook, each of their checks says that the part is not there."""

    def change(app: App, _: LocalCloud) -> App:
        return replace(app, settings=replace(app.settings, cloud_build=False))

    nothing = {"services/luci-scheduler-on-github-push": (404, {})}
    with _changed_app(change)(installation), _scripted(nothing)(installation):
        code, checks = doctor.run("--strict")
    assert {name: item["text"] for name, item in checks.items() if item["outcome"] != "ok"} == {}
    assert code == 0
    assert checks["webhook"]["text"] == "there is no webhook: polls and published events deliver commits"
    assert checks["build-projects"]["text"] == checks["cloud-messages"]["text"] == "no job builds with Cloud Build"
    assert checks["dead-letters"]["text"] == "subscriptions without a message: 2"
    assert "on_cloud_build" not in checks["revisions"]["text"] + checks["versions"]["text"]


@pytest.mark.parametrize("name", PLANTS)
def test_a_broken_part_fails_its_check(installation: Installation, doctor: Doctor, name: str) -> None:
    """Exactly its check fails, with its remedy. Checks that need the part are not run, and say why."""
    check, plant, text, remedy = PLANTS[name]
    with ExitStack() as stack:
        stack.enter_context(plant(installation))
        code, checks = doctor.run(impatient=check if check in LOSABLE else "")
    assert code == 1
    failed = [item for item in checks.values() if item["outcome"] == "failed"]
    assert [item["name"] for item in failed] == [check], failed
    assert text in failed[0]["text"]
    assert remedy in failed[0]["remedy"]
    for item in checks.values():
        if item["outcome"] == "not run":
            assert item["text"].startswith("not run, because ")


def test_every_check_has_a_plant() -> None:
    """``inside`` fails only if the console breaks between two calls."""
    assert {check for check, *_ in PLANTS.values()} == set(CHECKS) - {"inside"}


def test_checks_without_credentials_are_not_failures(
    installation: Installation, doctor: Doctor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without application default credentials, the checks through the console still run; ``--strict`` fails."""
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "none.json"))
    monkeypatch.setattr(installation, "google_apis", "")
    code, checks = doctor.run()
    skipped = {name for name, item in checks.items() if item["outcome"] == "not checked"}
    assert code == 0
    assert skipped == {
        "revisions", "queue", "schedules", "index-states", "dead-letters", "key-rotation", "alerts", "webhook",
        "build-projects", "commit-message", "build-messages", "cloud-messages",
    }  # fmt: skip
    assert checks["alerts"]["remedy"] == "run `gcloud auth application-default login`"
    assert checks["task"]["outcome"] == "ok"
    assert doctor.run("--strict")[0] == 1


def test_a_part_that_may_not_be_read_is_not_checked(installation: Installation, doctor: Doctor) -> None:
    """The remedy names the role."""
    refusal = {"error": {"message": "Permission denied"}}
    with _scripted({"alertPolicies": (403, refusal)})(installation):
        code, checks = doctor.run()
    assert (code, checks["alerts"]["outcome"]) == (0, "not checked")
    assert "roles/viewer" in checks["alerts"]["remedy"]
