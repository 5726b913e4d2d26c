"""Causes that alerts must report, planted in a running site, and incidents that they must bear in silence."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from emulator.memory.gitiles import MemoryGitiles
from luci_scheduler.core.errors import TransientError
from luci_scheduler.core.identity import UnauthenticatedError
from luci_scheduler.core.instants import DAY, SECOND
from luci_scheduler.engine.abort import abort_invocation
from luci_scheduler.ports import BuildbucketError, ConfigFile, GitilesError, QueueTask, UpdateInvocation
from tests.terraform.site import Site
from tests.unit.engine.world import JOB, REPO, World, config
from tests.unit.managers.cloud_build.cloud import DENIED, CloudWorld

__all__ = ["CAUSES", "HARMLESS", "Cause"]

_REFUSED = BuildbucketError("PERMISSION_DENIED", "no access to the bucket", transient=False)
_SILENT = BuildbucketError("UNAVAILABLE", "no answer", transient=True)
_POLLER = (
    'trigger {{ id: "{name}" schedule: "with {pause} interval" gitiles {{ repo: "{repo}" refs: "refs/heads/main" }} }}'
)


@dataclass(frozen=True)
class Cause:
    """A planted cause."""

    alert: str
    condition: str
    plant: Callable[[Site], object]
    world: Callable[[], World] = World
    also: frozenset[str] = field(default_factory=frozenset)
    """Other alerts that the cause may raise."""


def _gauge(alert: str, site: Site) -> None:
    site.run(10)
    site.undelivered[alert] = 1
    site.run(5)


def _silent_for_a_week(site: Site) -> None:
    """Let Buildbucket be silent until a running invocation fails."""
    site.run(1)
    site.world.clock.advance(7 * DAY)
    site.since = site.now
    site.world.buildbucket.faults = [_SILENT] * 20
    site.run(10, lambda _: None)


def _cleanup_refused(site: Site) -> None:
    """Abort while Buildbucket is silent; it answers later, but refuses the cancellation."""
    site.run(1)
    site.world.clock.advance(SECOND)
    site.world.buildbucket.faults = [_SILENT]
    (invocation,) = site.world.invocations()
    abort_invocation(site.world.runtime, JOB, invocation.id, "user:a@example.com", "k")
    site.world.buildbucket.faults = [_SILENT] * 100
    site.run(15, lambda _: None)
    site.world.buildbucket.faults = [_REFUSED] * 100
    site.run(15, lambda _: None)


def _two_builds(site: Site) -> None:
    """Two answers are lost, and the search shows neither build until the third attempt."""
    buildbucket = site.world.buildbucket
    search, buildbucket.forgets = buildbucket._SearchBuilds, True
    buildbucket._SearchBuilds = lambda _: {}  # type: ignore[method-assign]
    for _ in range(2):
        buildbucket.lose_reply = True
        site.run(1)
    buildbucket._SearchBuilds = search  # type: ignore[method-assign]
    site.run(3, lambda _: None)


def _hang(site: Site) -> None:
    """Write a document that no version of the functions writes."""
    site.run(1)
    (invocation,) = site.world.invocations()
    found = site.world.store.invocation(JOB, invocation.id)
    assert found is not None
    hanging = replace(found.value, pending_timers=(), next_due=found.value.started)
    site.world.store.commit([UpdateInvocation(hanging, found.version)])
    site.world.queue.purge()
    site.run(5, lambda _: None)


def _lose_tasks(site: Site) -> None:
    """Lose all tasks of two jobs' builds, again and again."""
    site.run(1)
    site.run(40, lambda _: site.world.queue.purge())


def _polling(pause: str, *names: str, repo: str = REPO) -> Callable[[], World]:
    def world() -> World:
        gitiles = MemoryGitiles()
        gitiles.push("refs/heads/main")
        return World("\n".join(_POLLER.format(name=name, pause=pause, repo=repo) for name in names), gitiles)

    return world


def _break_gitiles(site: Site, code: str = "PERMISSION_DENIED") -> None:
    def fail(_: str) -> None:
        raise GitilesError(code, "no access to the repository", transient=False)

    gitiles = site.world.ports.gitiles
    assert isinstance(gitiles, MemoryGitiles)
    gitiles.before_call = fail


def _polls_fail(minutes: int, site: Site, code: str = "PERMISSION_DENIED") -> None:
    site.run(15, lambda _: None)
    _break_gitiles(site, code)
    site.run(minutes, lambda _: None)


def _lost_commit(site: Site) -> None:
    site.commit(late_seconds=120)
    site.run(2, lambda _: None)


def _store_fails(error: Exception, minutes: int, site: Site) -> None:
    site.run(15)

    def fail(_: object) -> None:
        raise error

    for _ in range(minutes):
        site.world.store.before_commit = fail
        site.commit()
        site.world.store.before_commit = None
        site.run(1, lambda _: None)


def _messages_are_late(site: Site) -> None:
    site.run(5)
    site.oldest_seconds = 601
    site.run(10)


def _tasks_are_late(site: Site) -> None:
    site.run(5)
    site.delay_ms = 61_000
    site.run(20)


def _never_swept(site: Site) -> None:
    site.sweeps = False
    site.run(15)


def _sweeps_end(site: Site) -> None:
    site.run(15)
    site.sweeps = False
    site.run(30)


def _launches_fail(error: BuildbucketError, site: Site) -> None:
    site.run(15)
    site.finish()
    site.world.buildbucket.faults = [error] * 30
    for _ in range(4):
        site.commit()
        site.run(3, lambda _: None)


def _cloud(site: Site) -> CloudWorld:
    assert isinstance(site.world, CloudWorld)
    return site.world


def _cloud_build_refuses(site: Site) -> None:
    _cloud(site).cloud.faults["create"] = [DENIED] * 4
    for _ in range(4):
        site.commit()
        site.run(3, lambda _: None)


def _cloud_build_works(site: Site) -> None:
    """Let a build begin every half hour, and end ten minutes later."""

    def one(minute: int) -> None:
        if minute % 30 == 0:
            site.commit()
        elif minute % 30 == 10:
            _cloud(site).cloud.finish()

    site.run(420, one)


def _rare_launches_fail(site: Site) -> None:
    """One build in an hour or two is refused, which no half hour shows."""
    for _ in range(3):
        site.world.buildbucket.faults = [_REFUSED]
        site.commit()
        site.run(75, lambda _: None)


def _hung_build(hours: int, site: Site) -> None:
    """Let one build fill the job's only slot, while commits arrive."""
    site.run(1)
    site.run(hours * 60, lambda minute: site.commit() if minute % 60 == 30 else None)


def _late_builds(site: Site) -> None:
    site.run(15)
    site.finish()
    for _ in range(4):
        site.commit(late_seconds=600)
        site.run(5, lambda _: site.finish())


def _some_late_builds(site: Site) -> None:
    """One build of four is late, two in each hour."""

    def one(minute: int) -> None:
        if minute % 8 == 0:
            site.commit(late_seconds=600 if minute % 32 == 0 else 1)
        elif minute % 8 == 4:
            site.finish()

    site.run(300, one)


def _bad_config(minutes: int, site: Site) -> None:
    site.run(5)
    site.run(minutes, lambda _: site.sync(ConfigFile("proj", "job {", "bad")))
    site.run(10)


def _unreadable_config(site: Site) -> None:
    site.run(25, lambda _: site.sync(ConfigFile("proj", "", "bad", error="the repository does not answer")))


def _schedule_failure(site: Site, job: str) -> dict[str, Any]:
    """Return an entry of Cloud Scheduler about a failed call."""
    prefix = site.monitoring.service("on_task").removesuffix("on-task")
    return {
        "logName": "projects/p/logs/cloudscheduler.googleapis.com%2Fexecutions",
        "resource": {"type": "cloud_scheduler_job", "labels": {"job_id": f"{prefix}{job}", "location": "us-central1"}},
        "severity": "ERROR",
        "httpRequest": {"status": 401},
        "jsonPayload": {
            "@type": "type.googleapis.com/google.cloud.scheduler.logging.AttemptFinished",
            "status": "UNAUTHENTICATED",
        },
    }


def _sync_fails(site: Site) -> None:
    site.run(25, lambda _: site.log(_schedule_failure(site, "sync")))


def _policy_is_broken(site: Site) -> None:
    site.run(2)
    site.page()
    site.run(2)


def _turned_away(number: int, site: Site) -> None:
    def refuse(_: str) -> str:
        raise UnauthenticatedError("the token's audience is not accepted")

    site.run(5)
    strict = replace(site.world.app, verify_caller=refuse)
    for _ in range(number):
        assert site.task(QueueTask("sweep", {}, site.world.clock.now()), strict) == 401
    site.run(5)


def _request(site: Site, function: str, status: int) -> dict[str, Any]:
    """Return an entry of Cloud Run about a request that did not reach an instance."""
    return {
        "logName": "projects/p/logs/run.googleapis.com%2Frequests",
        "resource": {"type": "cloud_run_revision", "labels": {"service_name": site.monitoring.service(function)}},
        "severity": "WARNING",
        "httpRequest": {"status": status, "requestMethod": "POST"},
    }


def _platform_refuses(number: int, function: str, site: Site) -> None:
    site.run(5)
    for _ in range(number):
        site.log(_request(site, function, 403))
    site.run(5)


def _no_instance(minutes: int, site: Site) -> None:
    site.run(5)
    site.run(minutes, lambda _: site.log(_request(site, "on_task", 429)))
    site.run(10)


def _webhook_answers(status: int, each_minute: int, minutes: int, site: Site) -> None:
    """Let the webhook answer some requests in each minute."""
    site.run(5)
    site.run(minutes, lambda _: [site.answer("on_github_push", status) for _ in range(each_minute)])
    site.run(5)


def _lost_world() -> World:
    return World(gitiles=MemoryGitiles(), commit_wait_seconds=60)


def _two_jobs() -> World:
    return World(config(("job", "b")))


_LATENESS = frozenset({"commit-latency", "commit-latency-slow"})
_ERRORS = frozenset({"error-rate"})
_DOWN = TransientError("the store is down")

CAUSES: Mapping[str, Cause] = {
    "a message in the dead letters": Cause("dead-letters", "there are dead letters", partial(_gauge, "dead-letters")),
    "six days of silence": Cause("stuck-invocations", "a build may run unwatched", _silent_for_a_week),
    "a refused cleanup": Cause(
        "stuck-invocations", "a build may run unwatched", _cleanup_refused, also=frozenset({"error-rate"})
    ),
    "two builds": Cause("stuck-invocations", "an invocation had two builds", _two_builds),
    "a document without a step": Cause("stuck-invocations", "an invocation hangs", _hang),
    "lost tasks": Cause("stuck-invocations", "the sweep keeps finding overdue work", _lose_tasks, _two_jobs),
    "Gitiles refuses": Cause("poll-failures", "polls fail", partial(_polls_fail, 25), _polling("30s", "a", "b")),
    "a single poller fails": Cause(
        "poll-failures", "the polls of a job keep failing", partial(_polls_fail, 60), _polling("10m", "a")
    ),
    "an expired token for GitHub": Cause(
        "poll-failures",
        "polls fail",
        partial(_polls_fail, 25, code="UNAUTHENTICATED"),
        _polling("30s", "a", "b", repo="https://github.com/example-org/widget"),
    ),
    "a commit that nobody serves": Cause("lost-commits", "acknowledged work was dropped", _lost_commit, _lost_world),
    "the store is down": Cause(
        "error-rate", "more than 5 % of the answers are server errors", partial(_store_fails, _DOWN, 20)
    ),
    "a defect": Cause("error-rate", "a function has a defect", partial(_store_fails, RuntimeError("a fault"), 1)),
    "an old message": Cause("lateness", "the oldest message is ten minutes old", _messages_are_late),
    "late tasks": Cause("lateness", "one task in twenty is a minute late", _tasks_are_late),
    "a reminder": Cause("key-due", "Secret Manager requests a rotation", partial(_gauge, "key-due")),
    "the sweep never ran": Cause("no-sweep", "no sweep finishes", _never_swept),
    "the sweep ends": Cause("no-sweep", "no sweep finishes", _sweeps_end),
    "a missing role in Buildbucket": Cause(
        "builds-do-not-start", "many requests for builds fail", partial(_launches_fail, _REFUSED), also=_LATENESS
    ),
    "a missing role in Cloud Build": Cause(
        "builds-do-not-start",
        "many requests for builds fail",
        _cloud_build_refuses,
        CloudWorld,
        also=_LATENESS | frozenset({"no-builds"}),
    ),
    "Buildbucket is down": Cause(
        "builds-do-not-start", "many requests for builds fail", partial(_launches_fail, _SILENT), also=_LATENESS
    ),
    "rare builds are refused": Cause(
        "builds-do-not-start", "many requests for builds fail", _rare_launches_fail, also=frozenset({"no-builds"})
    ),
    "a hung build": Cause("no-builds", "triggers arrive, and no build is requested", partial(_hung_build, 7)),
    "commits come late": Cause("commit-latency", "half of an hour's builds are late", _late_builds, also=_LATENESS),
    "several commits come late": Cause(
        "commit-latency", "three builds of an hour are late", _late_builds, also=_LATENESS
    ),
    "some commits come late": Cause(
        "commit-latency-slow", "one in seven of six hours' builds is late", _some_late_builds
    ),
    "several of many commits come late": Cause(
        "commit-latency-slow", "six builds of six hours are late", _some_late_builds
    ),
    "an invalid config": Cause(
        "config-refused", "a config is refused for longer than a few syncs", partial(_bad_config, 25)
    ),
    "an unreadable config": Cause(
        "config-refused", "a config is refused for longer than a few syncs", _unreadable_config
    ),
    "a sync that fails": Cause("config-refused", "the config sync fails", _sync_fails),
    "a broken access policy": Cause(
        "access-denied", "the access policy is unusable", _policy_is_broken, partial(World, access="{")
    ),
    "calls without a valid token": Cause("calls-refused", "functions refuse their callers", partial(_turned_away, 3)),
    "a missing invoker": Cause("calls-refused", "Cloud Run refuses callers", partial(_platform_refuses, 3, "on_task")),
    "strangers at the webhook": Cause(
        "webhook", "more than ten requests a minute are refused", partial(_webhook_answers, 401, 11, 8)
    ),
    "commits that the webhook cannot publish": Cause(
        "webhook", "deliveries fail", partial(_webhook_answers, 503, 1, 3)
    ),
    "too few instances": Cause("no-instance", "calls find no instance", partial(_no_instance, 25)),
}
"""By a description: at least one for each condition."""


def _poll_recovers(site: Site) -> None:
    site.run(15, lambda _: None)
    gitiles = site.world.ports.gitiles
    assert isinstance(gitiles, MemoryGitiles)
    healthy = gitiles.before_call
    for _ in range(3):  # four failures, and then a success
        _break_gitiles(site)
        site.run(4, lambda _: None)
        gitiles.before_call = healthy
        site.run(4, lambda _: None)


def _one_refused_launch(site: Site) -> None:
    site.run(40)
    site.finish()
    site.world.buildbucket.faults = [_REFUSED]
    site.commit()
    site.run(30)


def _one_late_build(site: Site) -> None:
    site.run(35)
    site.finish()
    site.commit(late_seconds=600)
    site.run(30)


def _another_installation(site: Site) -> None:
    for _ in range(5):
        entry = _request(site, "on_task", 403)
        entry["resource"]["labels"]["service_name"] = "another-service"
        site.log(entry)
    site.run(5)


def _short_pause_of_the_sweep(site: Site) -> None:
    site.run(15)
    site.sweeps = False
    site.run(8)
    site.sweeps = True
    site.run(15)


def _a_deployment(site: Site) -> None:
    """Lose the tasks of one moment: the sweep enqueues them once."""
    site.run(1)
    site.world.queue.purge()
    site.run(15, lambda _: None)


def _late_for_a_moment(site: Site) -> None:
    site.run(5)
    site.oldest_seconds, site.delay_ms = 599, 59_000
    site.run(20)


HARMLESS: Mapping[str, tuple[Callable[[Site], object], Callable[[], World]]] = {
    "two healthy hours": (lambda site: site.run(120), World),
    "seven hours with Cloud Build": (_cloud_build_works, CloudWorld),
    "polls that recover": (_poll_recovers, _polling("30s", "a")),
    "one refused launch": (_one_refused_launch, World),
    "one late build": (_one_late_build, World),
    "a config that is mended within ten minutes": (partial(_bad_config, 10), World),
    "two calls without a valid token": (partial(_turned_away, 2), World),
    "people without access to the console": (partial(_platform_refuses, 9, "console"), World),
    "a few strangers at the webhook": (partial(_webhook_answers, 401, 10, 30), World),
    "a short burst of strangers at the webhook": (partial(_webhook_answers, 401, 500, 3), World),
    "calls of another installation": (_another_installation, World),
    "a burst without instances": (partial(_no_instance, 5), World),
    "a short pause of the sweep": (_short_pause_of_the_sweep, World),
    "tasks that a deployment loses": (_a_deployment, World),
    "messages and tasks just in time": (_late_for_a_moment, World),
    "a build of five hours": (partial(_hung_build, 5), World),
    "one failed commit": (partial(_store_fails, _DOWN, 1), World),
}
"""By a description: incidents below each threshold."""
