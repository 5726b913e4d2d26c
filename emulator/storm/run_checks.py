"""The invariants of a whole run: lives of builds, waiting times, and the state at the end. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from emulator.storm.faults import Fault, Kind
from emulator.storm.history import Build, Commit, Delivery, Run
from emulator.storm.invariants import Invariant, Violation
from emulator.storm.ledger import Change, Key, Ledger, may_triage
from emulator.storm.scripts import CLOUD_HOST
from luci_scheduler.core.instants import MINUTE, SECOND, Instant

__all__ = ["BUILDING", "PATIENCE", "SKEW", "Film", "by_invocation", "check_run"]

BUILDING = ("buildbucket", "cloud_build")
"""The kinds of tasks that make builds."""
PATIENCE = 75 * MINUTE
"""The longest documented wait of overdue work: the sweep enqueues its task after two minutes, after ten and then each
hour, and runs it itself after an hour. A document's own pauses (`next_due`) are at most an hour."""
SKEW = 11 * SECOND
"""How much sooner than it should a delivery may come: two clocks are wrong by five seconds each, and a task comes a
second early."""
_ORPHANED = 3 * MINUTE
"""How long a build may run unwatched: its cancellation is tried before the commit that ends its invocation, and the
sweep finds an invocation without an attempt within three minutes."""


@dataclass(frozen=True, slots=True)
class Version:
    """A version of a document, in force from ``at`` until the next one."""

    at: Instant
    record: Any
    commit: Commit


@dataclass(slots=True)
class Film:
    """The versions of each document over a run, and the periods in which a job could start its pending triggers."""

    run: Run
    ledger: Ledger = field(default_factory=Ledger)
    versions: dict[Key, list[Version]] = field(default_factory=lambda: defaultdict(list))
    idle: list[tuple[str, Instant, Instant]] = field(default_factory=list)
    """Job, beginning and end of each period with a pending trigger beside a free slot."""
    _since: dict[str, Instant] = field(default_factory=dict)

    def add(self, commit: Commit, changes: Sequence[Change]) -> None:
        """Add a commit after the ledger has applied it."""
        for change in changes:
            self.versions[change.key].append(Version(commit.at, change.after, commit))
        for job_id in {c.key[1]: None for c in changes if c.kind in ("job", "trigger")}:
            self._note_idle(job_id, commit.at)

    def close(self) -> None:
        """End the open periods with the run."""
        self.idle += [(job_id, since, self.run.ended) for job_id, since in self._since.items()]

    def spans(self, key: Key) -> Iterator[tuple[Version, Instant]]:
        """Yield the versions of a document, each with its end."""
        versions = self.versions.get(key, [])
        yield from ((one, other.at) for one, other in pairwise(versions))
        yield from ((version, self.run.ended) for version in versions[-1:])

    def waited(self, since: int, until: int) -> int:
        """Return the time between two instants without the outages in it."""
        down = sum(max(0, min(end, until) - max(start, since)) for _, start, end in self.run.history.outages)
        return until - since - down

    def _note_idle(self, job_id: str, at: Instant) -> None:
        job = self.ledger.job(job_id)
        if job is not None and self.ledger.pending[job_id] and may_triage(job):
            self._since.setdefault(job_id, at)
        elif (since := self._since.pop(job_id, None)) is not None:
            self.idle.append((job_id, since, at))


def check_run(film: Film) -> Iterator[Violation]:
    """Yield the violations that only the whole run shows."""
    yield from _doubles(film)
    yield from _orphans(film)
    yield from _ends(film)
    yield from _idle_slots(film)
    yield from _overdue(film)
    yield from _rest(film)
    yield from _lost_work(film)
    yield from _discards(film)
    yield from _configs(film)
    yield from _surprises(film)


def by_invocation(run: Run) -> Mapping[Key, list[Build]]:
    """Return the builds of each invocation, in the order of their creation."""
    found: dict[Key, list[Build]] = defaultdict(list)
    for build in run.history.builds:
        if build.invocation_id:
            found["invocation", build.job_id, build.invocation_id].append(build)
    return found


def _name(key: Key) -> str:
    return " ".join(map(str, key))


def _doubles(film: Film) -> Iterator[Violation]:
    for key, builds in by_invocation(film.run).items():
        for place, build in enumerate(builds if builds[0].server != CLOUD_HOST else ()):
            live = [other for other in builds[:place] if other.ended is None or other.ended > build.created]
            if live:
                text = f"build {build.id} was created while build {live[0].id} was live"
                yield Violation(Invariant.ONE_BUILD, build.created, _name(key), text)


def _orphans(film: Film) -> Iterator[Violation]:
    excused = _denied(film)
    for key, builds in by_invocation(film.run).items():
        if key not in excused:
            for build in builds:
                if not _is_second(film, key, build):
                    yield from _unwatched(film, key, build)


def _is_second(film: Film, key: Key, build: Build) -> bool:
    """Whether a build of Cloud Build is another one than the recorded build: `cloud_checks` is about those."""
    if build.server != CLOUD_HOST or key not in film.versions:
        return False
    return str(film.versions[key][-1].record.task_data.get("build_id", "")) not in ("", build.id)


def _unwatched(film: Film, key: Key, build: Build) -> Iterator[Violation]:
    """A build is watched while its invocation is being launched, runs with it, or holds its cleanup."""
    alone, since = 0, build.created
    for version, until in film.spans(key):
        start, end = max(version.at, build.created), min(until, build.ended or film.run.ended)
        if end <= start:
            continue
        if _watches(version.record, build):
            alone, since = 0, end
        else:
            alone += film.waited(start, end)
        if alone > _ORPHANED:
            text = f"build {build.id} ran unwatched for more than {alone // SECOND} s"
            yield Violation(Invariant.ORPHAN, since, _name(key), text)
            return


def _watches(invocation: Any, build: Build) -> bool:
    if invocation.cleanup is not None or invocation.status.is_initial:
        return True
    return not invocation.status.is_final and str(invocation.task_data.get("build_id")) == build.id


def _touched(film: Film, deliveries: Collection[int]) -> Collection[Key]:
    """Return the invocations that a delivery changed."""
    return {
        key
        for key, versions in film.versions.items()
        if key[0] == "invocation" and any(version.commit.delivery in deliveries for version in versions)
    }


def _denied(film: Film) -> Collection[Key]:
    """Return the invocations in whose delivery a build service itself refused for good, or named no ID of a new build.

    Its word ends an invocation, and no client can watch or cancel a build against its will.
    """
    run = film.run
    denied = {(fault.point, fault.nth) for fault in run.faults if _is_word(fault)}
    if not denied:
        return ()
    deliveries = {
        call.delivery
        for call in run.history.calls
        if (f"{call.point}/before", call.before) in denied or (f"{call.point}/after", call.after) in denied
    }
    return _touched(film, deliveries)


def _is_word(fault: Fault) -> bool:
    is_launch = fault.point.endswith(("buildbucket.ScheduleBuild/after", "buildbucket.v1.put/after"))
    return fault.kind is Kind.BUILD_DENIED or (fault.kind is Kind.BUILD_ANSWER_BROKEN and is_launch)


def _ends(film: Film) -> Iterator[Violation]:
    builds = {(build.server, build.id): build for build in film.run.history.builds}
    excused = _denied(film)
    for key, invocation in film.ledger.of_kind("invocation"):
        if not invocation.status.is_final:
            text = f"it is still {invocation.status}, {invocation.attempts} attempts after its start"
            yield Violation(Invariant.END, film.run.ended, _name(key), text)
        elif key not in excused and invocation.task.kind in BUILDING:
            server = invocation.task.fields.get("server", CLOUD_HOST)
            build = builds.get((server, str(invocation.task_data.get("build_id"))))
            for text in _wrong_end(key, invocation, build):
                yield Violation(Invariant.END, invocation.finished or film.run.ended, _name(key), text)


def _wrong_end(key: Key, invocation: Any, build: Build | None) -> Iterator[str]:
    status = str(invocation.status)
    if build is not None and ("invocation", build.job_id, build.invocation_id) != key:
        yield f"its build {build.id} is of invocation {build.invocation_id} of {build.job_id}"
    if status == "ABORTED":
        # The notification of a canceled build can be ahead of the commit that records the request.
        if not invocation.abort_requested_by and (build is None or build.status != "CANCELED"):
            yield "it is ABORTED, and nobody requested that"
        return
    if build is None:
        if status == "SUCCEEDED" or invocation.attempts <= _ATTEMPTS:
            yield f"it is {status} after {invocation.attempts} attempts without a build"
        return
    wanted = "SUCCEEDED" if build.status == "SUCCESS" else "FAILED"
    if status != wanted:
        yield f"it is {status}, and its build {build.id} is {build.status}"


_ATTEMPTS = 50


def _idle_slots(film: Film) -> Iterator[Violation]:
    for job_id, since, until in film.idle:
        waited = film.waited(since, until)
        if waited > PATIENCE or until == film.run.ended:
            text = f"a trigger was pending beside a free slot for {waited // SECOND} s"
            yield Violation(Invariant.FREE_SLOT, since, f"job {job_id}", text)


def _overdue(film: Film) -> Iterator[Violation]:
    for key in film.versions:
        if key[0] not in ("invocation", "job", "deferred"):
            continue
        for version, until in film.spans(key):
            due = None if version.record is None else version.record.next_due
            late = 0 if due is None else film.waited(max(due, version.at), until)
            if late > PATIENCE:
                text = f"it was overdue for {late // SECOND} s"
                yield Violation(Invariant.RECOVERY, due or version.at, _name(key), text)


def _rest(film: Film) -> Iterator[Violation]:
    run = film.run
    if not run.is_quiet:
        waited = (run.ended - run.storm_ended) // SECOND
        yield Violation(Invariant.REST, run.ended, "run", f"something was in flight {waited} s after the last fault")
    for key, record in film.ledger.documents.items():
        if key[0] == "deferred" and record.revision not in run.history.lost:
            text = f"{record.kind} is still deferred after {record.tries} tries: {record.reason}"
            yield Violation(Invariant.REST, run.ended, _name(key), text)
        if key[0] == "invocation" and record.status.is_final and record.next_due is not None:
            yield Violation(Invariant.REST, run.ended, _name(key), "it ended, and its document is still due")
        if key[0] == "job" and record.triage_due is not None:
            yield Violation(Invariant.REST, run.ended, _name(key), "a triage is still requested")


def _lost_work(film: Film) -> Iterator[Violation]:
    """Deferred triggers, emitted triggers and announced commits each left a record in their job."""
    for key, versions in film.versions.items():
        if key[0] == "deferred":
            first = versions[0].record
            wanted = [(first.payload["job"], item["id"]) for item in first.payload.get("triggers", ())]
            yield from _missing(film, versions[0].at, wanted, f"of the {first.kind} {key[1]}")
        if key[0] == "invocation" and (last := versions[-1].record).status.is_final:
            wanted = [(job, trigger.id) for job in last.triggered_jobs for trigger in last.outgoing_triggers]
            yield from _missing(film, versions[-1].at, wanted, f"of invocation {key[2]}")


def _missing(film: Film, at: Instant, wanted: Collection[tuple[str, str]], source: str) -> Iterator[Violation]:
    for job_id, trigger_id in wanted:
        is_known = ("trigger", job_id, trigger_id) in film.ledger.documents
        if not is_known and film.ledger.job(job_id) is not None:
            text = f"it was accepted and left no record, {source}"
            yield Violation(Invariant.TRIGGER_ONCE, at, f"trigger {job_id} {trigger_id}", text)


_PAUSED, _DISABLED = "the job is paused", "the job is disabled"


def _discards(film: Film) -> Iterator[Violation]:
    """A job that discarded a trigger because it was inactive was inactive at some time of that delivery."""
    began = {delivery.number: delivery.began for delivery in film.run.history.deliveries}
    for key, versions in film.versions.items():
        if key[0] != "trigger":
            continue
        for version in versions:
            reason = version.record.discarded
            if reason not in (_PAUSED, _DISABLED):
                continue
            since = began.get(version.commit.delivery, version.at)
            if not _was_inactive(film, key[1], since, version.at, reason):
                yield Violation(Invariant.TRIGGER_ONCE, version.at, _name(key), f"it was discarded: {reason}, untruly")


def _was_inactive(film: Film, job_id: str, since: Instant, until: Instant, reason: str) -> bool:
    return any(
        (version.record.paused if reason == _PAUSED else not version.record.enabled)
        for version, end in film.spans(("job", job_id))
        if version.at <= until and end >= since
    )


def _configs(film: Film) -> Iterator[Violation]:
    """A revision that was replaced never comes back."""
    for key, versions in film.versions.items():
        if key[0] != "project":
            continue
        seen: list[str] = []
        for version in versions:
            revision = version.record.revision
            if revision in seen[:-1]:
                text = f"revision {revision} replaced the newer {seen[-1]}"
                yield Violation(Invariant.CONFIG, version.at, _name(key), text)
            if revision not in seen[-1:]:
                seen.append(revision)


_FAILURES = frozenset({"unexpected_error", "invocation_hangs", "deferred_dropped", "task_dropped"})


def _surprises(film: Film) -> Iterator[Violation]:
    for line in film.run.history.log:
        if line["message"] in _FAILURES:
            yield Violation(Invariant.SURPRISE, line["at"], line["message"], str(line)[:500])
    for delivery in film.run.history.deliveries:
        if delivery.code not in _codes(delivery):
            text = f"it answered {delivery.code}: {delivery.body[:200]}"
            yield Violation(Invariant.SURPRISE, delivery.began, delivery.handler, text)


def _codes(delivery: Delivery) -> Collection[int | None]:
    if delivery.handler.startswith("console"):
        return (None, *range(200, 501), 503, 504)
    return None, 200, 409, 500, 504  # the platform answers 504 when a delivery takes longer than its limit
