"""Each outside service is down for an hour of virtual time: nothing is lost or doubled, and all goes on afterwards.

The real functions run in the simulator, with builds before, during and after the outage. Deliveries that fail come
again after the pauses of Pub/Sub and Cloud Tasks: 1 s, doubled up to 10 minutes. A message has twenty attempts.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pytest

from emulator.storm import scripts
from emulator.storm.faults import Kind
from emulator.storm.history import Build, Run, Schedule
from emulator.storm.platform import PubSubMessage
from emulator.storm.scripts import PROJECT, V1_HOST, V2_HOST, JobSpec, Script, UserAction
from emulator.storm.world import START, World
from luci_scheduler.core.identifiers import InvocationId, JobId, invocation_created
from luci_scheduler.core.instants import MINUTE, Instant
from luci_scheduler.core.invocation import Invocation, Status
from luci_scheduler.ports import CreateTrigger

BEGIN, END = Instant(START + 20 * MINUTE), Instant(START + 80 * MINUTE)
MINUTES = 100
RECOVERY = 11 * MINUTE
"""The longest pause before a delivery comes again, and the sweep's minute."""
BUILT = ("v2", "v1", "cron")
"""Jobs with builds: of both protocols for commits that are announced, and of commits that a poll finds."""
JOBS = (
    JobSpec("v2", "v2"),
    JobSpec("v1", "v1"),
    JobSpec("cron", "v2", "*/10 * * * *"),
    JobSpec("watch", "gitiles", targets=("v2", "v1")),
    JobSpec("poll", "gitiles", "with 3m interval", targets=("cron",)),
)
PUSHES = tuple((second, True) for second in range(120, MINUTES * 60, 240))
ATTEMPTS = 16
"""The most attempts of a message or task. Pub/Sub makes a message a dead letter after twenty."""


@dataclass(frozen=True)
class Outage:
    """What is down, and the jobs whose builds go on meanwhile."""

    part: str
    """A name of the simulator's parts; ``pubsub`` and ``queue deliveries`` hold back accepted messages and tasks."""
    goes_on: tuple[str, ...] = BUILT


OUTAGES = {
    "Firestore": Outage("store", ()),
    "Cloud Tasks": Outage("queue"),
    "Cloud Tasks delivers nothing": Outage("queue deliveries"),
    "Pub/Sub delivers nothing": Outage("pubsub", ("cron",)),
    "topic of announcements": Outage("topic"),
    "Buildbucket v1": Outage("buildbucket v1", ("v2", "cron")),
    "Buildbucket v2": Outage("buildbucket v2", ("v1",)),
    "Gitiles": Outage("hosts", ("cron",)),
    "config source": Outage("configs"),
}


class _DownWorld(World):
    """A world in which one part is down for an hour."""

    down = ""

    def _start(self) -> None:
        super()._start()
        for host, server in self._servers.items():
            server.part = {V1_HOST: "buildbucket v1", V2_HOST: "buildbucket v2"}.get(host, server.part)
        if self.down == "pubsub":
            self._hold_messages()
        self.kernel.at(BEGIN, self._begin)

    def _begin(self) -> None:
        self.history.outages.append((self.down, BEGIN, END))
        if self.down == "queue deliveries":
            self.platform.queue.paused_until = END
        else:
            self.outside.outages.until[self.down] = END

    def _hold_messages(self) -> None:
        publish = self.platform.publish

        def hold(message: PubSubMessage, point: str, kinds: tuple[Kind, Kind, Kind]) -> None:
            now = self.kernel.now()
            if BEGIN <= now < END:
                self.kernel.at(END, lambda: publish(message, point, kinds))
            else:
                publish(message, point, kinds)

        self.platform.publish = hold  # type: ignore[method-assign]


@pytest.fixture
def play(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Run]:
    """A function that plays an outage of a part, without any other fault."""

    def played(part: str) -> Run:
        actions = (UserAction(40 * 60, Kind.POLICY_CHANGE),) if part == "configs" else ()
        scenario: Mapping[str, Any] = {"outage": lambda _: Script(JOBS, PUSHES, MINUTES, actions)}
        monkeypatch.setattr("emulator.storm.world.SCENARIOS", {**scripts.SCENARIOS, **scenario})
        monkeypatch.setattr(_DownWorld, "down", part)
        return _DownWorld(Schedule(1, faults=(), scenario="outage")).run()

    return played


@pytest.mark.parametrize("outage", OUTAGES.values(), ids=OUTAGES)
def test_an_hour_without_a_service(play: Callable[[str], Run], outage: Outage) -> None:
    """Nothing is lost, doubled or stuck; other work goes on; recovery takes at most the longest pause."""
    run = play(outage.part)
    assert run.is_quiet
    assert _faults(run) == []
    assert _late(run) == []
    history = run.history
    assert {delivery.code for delivery in history.deliveries} <= {200, 409, 500}
    assert history.counts["dead letters"] == 0
    assert max(delivery.attempt for delivery in history.deliveries) < ATTEMPTS
    for name in BUILT:
        times = [build.created for build in history.builds if build.job_id == f"{PROJECT}/{name}"]
        assert any(at < BEGIN for at in times)
        assert any(at >= END for at in times)
        # Builds of the beginning may have been requested before the service failed.
        assert any(BEGIN + 20 * MINUTE <= at < END for at in times) == (name in outage.goes_on), name
    if outage.part == "topic":
        assert all(message.at < BEGIN or message.at >= END for message in history.messages)
    _check_announcements(run)


def _faults(run: Run) -> list[str]:
    """Return each build and each commit with a wrong fate."""
    builds: dict[tuple[str, int], list[Build]] = defaultdict(list)
    for build in run.history.builds:
        builds[build.job_id, build.invocation_id].append(build)
    found = []
    for invocation in _invocations(run):
        own = builds.pop((invocation.job_id, invocation.id), [])
        wanted = Status.SUCCEEDED if own and own[0].status == "SUCCESS" else Status.FAILED
        if len(own) != 1 or own[0].is_live or invocation.status != wanted:
            found.append(f"{invocation.job_id}/{invocation.id} is {invocation.status}, with the builds {own}")
    found += [f"{key} has builds without an invocation" for key in builds]
    return found + _lost(run)


def _lost(run: Run) -> list[str]:
    """Return the commits that a job did not take, or took twice."""
    taken: Counter[tuple[str, str]] = Counter()
    for invocation in _invocations(run):
        revisions = {str(trigger.payload.get("revision")) for trigger in invocation.incoming_triggers}
        taken.update((invocation.job_id, revision) for revision in revisions)
    discarded = {
        (record.job_id, push.revision)
        for push in run.history.pushes
        for record in run.store.triggers_of_revision(push.revision, 100)
        if record.discarded
    }
    wanted = [(f"{PROJECT}/{name}", push.revision) for push in run.history.pushes[1:] for name in BUILT]
    return [f"{key} was taken {taken[key]} times" for key in wanted if taken[key] != 1 and key not in discarded]


def _late(run: Run) -> list[str]:
    """Return the arrivals, requests and ends that come too long after the outage, or after their time."""
    found = []
    for (job_id, revision), at in _arrivals(run).items():
        pushed = next(push.at for push in run.history.pushes if push.revision == revision)
        if at > _possible(pushed) + RECOVERY:
            found.append(f"{job_id}: {revision} of {pushed} arrived at {at}")
    invocations = {(item.job_id, item.id): item for item in _invocations(run)}
    for build in run.history.builds:
        identifier = InvocationId(build.invocation_id)
        created, ended = invocation_created(identifier)[0], build.ended
        finished = invocations[JobId(build.job_id), identifier].finished
        if build.created > _possible(created) + RECOVERY:
            found.append(f"{build} is of an invocation of {created}")
        if ended is None or finished is None or finished > _possible(ended) + RECOVERY:
            found.append(f"{build} was noticed at {finished}")
    return found


def _possible(at: int) -> int:
    """Return when work of an instant was possible: at once, or after the outage."""
    return END if BEGIN <= at < END else at


def _arrivals(run: Run) -> dict[tuple[str, str], int]:
    """Return when each job first stored a commit."""
    found: dict[tuple[str, str], int] = {}
    for commit in run.history.commits:
        for write in commit.writes:
            if isinstance(write, CreateTrigger) and (revision := write.record.trigger.payload.get("revision")):
                found.setdefault((write.record.job_id, str(revision)), commit.at)
    return found


def _check_announcements(run: Run) -> None:
    """Each start and each end of a build was announced, perhaps more than once."""
    events = {dict(message.attributes)["event_id"] for message in run.history.messages}
    names = [event.rpartition("/")[2] for event in events]
    assert names.count("started") == len(run.history.builds)
    assert names.count("ended") >= len(run.history.builds)


def _invocations(run: Run) -> list[Invocation]:
    return [item for name in BUILT for item in run.store.invocations(JobId(f"{PROJECT}/{name}"), 10_000)]
