"""Triage: matches a job's pending triggers with its free slots.

Each event that may start or resolve triggers is one `TriageOp`: arriving triggers, a cron tick, the end of an
invocation, a request of the API or the sweep. An operation has three steps:

1. Prepare: the handler reads the job and, with `list_pending`, its pending triggers.
2. Plan: `commit_triage` decides about the triggers, and collects all writes.
3. Commit: `commit_triage` enqueues the tasks, and then commits all writes at once.

The job's document requests triages with two fields, ``triggers_wait`` and ``triage_due``. `core.triage` owns them;
`core.triage.after_triage` states the invariant that each commit keeps.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field, replace

from luci_scheduler.core import job_changes
from luci_scheduler.core.errors import PermanentError, SchedulerError, StoreConflictError
from luci_scheduler.core.frozen import frozen
from luci_scheduler.core.identifiers import NO_INVOCATION, InvocationId, JobId, make_invocation_id
from luci_scheduler.core.instants import Instant
from luci_scheduler.core.invocation import Invocation
from luci_scheduler.core.job import MAX_PENDING, Job
from luci_scheduler.core.request import Request
from luci_scheduler.core.sizes import check_invocation
from luci_scheduler.core.triage import (
    Triage,
    after_triage,
    end_request,
    first_log,
    fit_requests,
    has_more,
    needs_triage,
    new_invocation,
    select_triggers,
    triage,
    triaged,
    with_pending,
)
from luci_scheduler.core.triage_log import triage_log
from luci_scheduler.core.trigger_record import TriggerRecord
from luci_scheduler.engine.jobs import put_job, rewound
from luci_scheduler.engine.outbox import tick_task, triage_task
from luci_scheduler.engine.runtime import Runtime, logger
from luci_scheduler.ports import (
    CreateInvocation,
    CreateTrigger,
    PutJob,
    QueueTask,
    UpdateTrigger,
    Version,
    Versioned,
    Write,
)
from luci_scheduler.tracing import current_trace

__all__ = [
    "PENDING_READ",
    "TriageOp",
    "commit_triage",
    "list_pending",
    "mark_pending",
    "put_trigger",
    "triage_end",
    "triage_pending",
]

PENDING_READ = MAX_PENDING + 200
"""Pending triggers that one triage reads: enough to see a surplus and discard it. The next triage reads the others."""


@frozen
class TriageOp:
    """One triage: the documents that it is based on, and the writes that share its commit."""

    _: KW_ONLY

    found: Versioned[Job]
    """The job as it was read."""
    job: Job
    """The job as the delivery changed it: without the ended invocation, with the tick taken, or without the request."""
    pending: Sequence[Versioned[TriggerRecord]]
    """The pending triggers that were read."""
    started: Instant
    """When the triage started; the IDs and the start of new invocations derive from it."""
    key: str
    """The delivery's key."""
    new: Sequence[TriggerRecord] = ()
    """Triggers that arrive with this delivery. Each is written, either resolved or pending."""
    markers: Mapping[str, Version] = field(default_factory=dict)
    """Versions of older markers that the new triggers replace, by trigger ID."""
    unmarked: Collection[str] = ()
    """IDs of new triggers that need no marker once they are resolved, as no other delivery can repeat them."""
    ended: Sequence[InvocationId] = ()
    """The invocation whose end is in the same commit, if any."""
    others: Sequence[Write] = ()
    """Further writes of the same commit."""
    rewinds: bool = True
    """Whether the cron machine of an idle job starts to wait for the next tick."""


@frozen
class TriagePlan:
    """The result of a triage, ready for `commit_triage`."""

    invocations: tuple[Invocation, ...]
    writes: tuple[Write, ...]
    """All writes of the commit: first the creations, in the order of ``invocations``; last the job's own."""
    tasks: tuple[QueueTask, ...]
    """Tasks that the committed job records."""
    recheck: Instant | None
    """The job's ``triage_due`` if pending triggers must be queried again after the commit; otherwise None."""


def list_pending(runtime: Runtime, job: Job) -> Sequence[Versioned[TriggerRecord]]:
    """Return a job's pending triggers, at most `PENDING_READ`. Without ``triggers_wait`` this costs no query."""
    return runtime.store.pending_triggers(job.id, PENDING_READ) if job.triggers_wait else ()


def mark_pending(found: Versioned[Job], key: str) -> PutJob:
    """Return the write that marks a job as having pending triggers, for a commit that records a trigger."""
    return put_job(with_pending(found.value), found, key)


def put_trigger(record: TriggerRecord, versions: Mapping[str, Version]) -> Write:
    """Return the write of a trigger: it replaces the document of a known version, and otherwise creates it."""
    version = versions.get(record.trigger.id)
    return CreateTrigger(record) if version is None else UpdateTrigger(record, version)


def commit_triage(runtime: Runtime, op: TriageOp) -> list[Versioned[Invocation]]:
    """Plan and commit a triage; return the new invocations, which the caller must launch.

    If the store refuses the commit for good, the triggers that would have started invocations are discarded with the
    reason. Otherwise an invocation could never end, or a trigger would vanish without a trace.

    Raises:
        StoreConflictError: a document has changed; nothing was written. Read and decide again.
        PermanentError: the store refuses the commit even without the new invocations; nothing was written.
    """
    plan = _plan_triage(runtime, op)
    try:
        created = _commit_plan(runtime, op, plan)
    except PermanentError as error:
        plan = _plan_triage(runtime, op, f"what it starts cannot be stored: {error}")
        created = _commit_plan(runtime, op, plan)
    if plan.recheck is not None:
        created += _recheck_pending(runtime, op.job.id, plan.recheck, op.key)
    return created


def triage_end(
    runtime: Runtime, found: Versioned[Job], ended: InvocationId, others: Sequence[Write], key: str
) -> list[Versioned[Invocation]]:
    """Commit the end of an invocation: ``others`` record the end, the job's slot is freed, and a triage fills it.

    Raises as `commit_triage` does.
    """
    active = tuple(identifier for identifier in found.value.active_invocations if identifier != ended)
    job = replace(found.value, active_invocations=active)
    if not job.triggers_wait:
        # A trigger that is recorded from now on reads the job after its own commit, and finds the free slot.
        job = rewound(runtime, job, runtime.clock.now())
        runtime.store.commit([*others, put_job(job, found, key)])
        return []
    pending = list_pending(runtime, job)
    started = runtime.clock.now()
    op = TriageOp(found=found, job=job, pending=pending, started=started, key=key, ended=(ended,), others=others)
    return commit_triage(runtime, op)


def triage_pending(
    runtime: Runtime, job_id: JobId, key: str, *, is_requested: bool = False
) -> list[Versioned[Invocation]]:
    """Triage a job's pending triggers; return the new invocations, which the caller must launch. Safe to repeat.

    If nothing is pending, the job is read only if ``is_requested`` says that its document may request a triage.

    Raises:
        ComeAgainError: other deliveries changed the job too often.
    """

    def attempt() -> list[Versioned[Invocation]]:
        pending = runtime.store.pending_triggers(job_id, PENDING_READ)
        started = runtime.clock.now()
        # The query comes first: it costs one read where nothing is pending, and the job need not be read.
        found = runtime.store.job(job_id) if pending or is_requested else None
        if found is None or not needs_triage(found.value, has_pending=bool(pending)):
            return []
        job = end_request(found.value)
        return commit_triage(runtime, TriageOp(found=found, job=job, pending=pending, started=started, key=key))

    return runtime.retry_conflicts(f"job {job_id}", "triage it", attempt)


def _recheck_pending(runtime: Runtime, job_id: JobId, requested: Instant, key: str) -> list[Versioned[Invocation]]:
    """Query pending triggers after a commit that freed a slot; return invocations to launch. Safe to repeat.

    That commit set ``triage_due`` to ``requested``. If nothing is pending, only the request is removed: the log of the
    last triage stays. If the query or a commit fails, a task repeats the triage, as the request still stands.
    """
    try:
        if runtime.store.pending_triggers(job_id, 1):
            return triage_pending(runtime, job_id, key, is_requested=True)
        found = runtime.store.job(job_id)
        if found is not None and found.value.triage_due == requested:
            runtime.store.commit([put_job(end_request(found.value), found, key)])
    except SchedulerError as error:
        logger.warning("second_look_failed", job_id=job_id, error=str(error))
        runtime.offer(triage_task(job_id, runtime.clock.now()))
    return []


def _commit_plan(runtime: Runtime, op: TriageOp, plan: TriagePlan) -> list[Versioned[Invocation]]:
    # Tasks come first: a task without its commit is stale and has no effect, but a commit without its task must wait
    # for the sweep.
    for task in plan.tasks:
        runtime.offer(task)
    try:
        versions = runtime.store.commit(plan.writes)
    except StoreConflictError:
        landed = _landed(runtime, op, plan)
        if not landed:
            raise
        return landed
    return [Versioned(*pair) for pair in zip(plan.invocations, versions[: len(plan.invocations)], strict=True)]


def _landed(runtime: Runtime, op: TriageOp, plan: TriagePlan) -> list[Versioned[Invocation]]:
    """Return the new invocations of a commit that landed although the store reported a conflict; else nothing.

    A commit whose answer was lost may be tried again by the store's client; it then conflicts with itself. If the new
    invocations were not launched now, they would wait for the sweep. Their IDs were drawn for this commit, so the first
    of them is proof. Any that has changed since then has been launched by another delivery.

    If new triggers have markers, nothing is read: the caller reads the markers, and finds their invocations by them.
    """
    landed: list[Versioned[Invocation]] = []
    if any(record.trigger.id not in op.unmarked for record in op.new):
        return landed
    for invocation in plan.invocations:
        found = runtime.store.invocation(invocation.job_id, invocation.id)
        if found is None or found.value.last_event != op.key:
            break
        landed.append(found)
    return landed


def _plan_triage(runtime: Runtime, op: TriageOp, refusal: str = "") -> TriagePlan:
    """Decide a triage and collect its writes; nothing is written or enqueued.

    If pending triggers and free slots remain, the job requests another triage.

    Args:
        runtime: the ports and limits.
        op: the triage.
        refusal: why the store rejected the previous plan. If set, nothing is started: the triggers that the previous
            plan consumed are discarded with this reason.
    """
    now = runtime.clock.now()
    decision, available = _decide(runtime, op, now)
    starts = _start(runtime, op, decision, now, refusal)
    job, tasks, recheck = _changed_job(op, starts, now)
    # The store may have rejected the job together with its log, so a second plan omits the log.
    log = "" if refusal else _log(runtime, op, decision, available, job)
    writes = (*starts.creations, *_trigger_writes(runtime, op, starts.resolved, now), *op.others)
    # If nothing started, no end of an invocation would ever make an idle job wait for its next tick.
    if op.rewinds:
        now = runtime.clock.now()
        change = job_changes.rewound(job, now, runtime.entropy.nonce)
        job = change.job
        tasks += () if change.tick is None else (tick_task(job, change.tick, now),)
    return TriagePlan(tuple(starts.invocations), (*writes, put_job(job, op.found, op.key, log)), tasks, recheck)


@dataclass(slots=True)
class _Starts:
    """The invocations that a triage starts, and the resolution of each trigger."""

    invocations: list[Invocation] = field(default_factory=list)
    creations: list[Write] = field(default_factory=list)
    resolved: dict[str, tuple[InvocationId, str]] = field(default_factory=dict)
    """Trigger ID → the invocation that consumes it, or 0 and the reason why it is discarded."""

    def resolve(self, request: Request, invocation_id: InvocationId, reason: str) -> None:
        """Resolve all triggers of a request."""
        self.resolved.update({trigger.id: (invocation_id, reason) for trigger in request.incoming_triggers})


def _decide(runtime: Runtime, op: TriageOp, now: Instant) -> tuple[Triage, int]:
    """Return the decision, and the number of triggers that it is about."""
    job, commit_bytes = op.job, runtime.limits.commit_bytes
    triggers = [*(found.value.trigger for found in op.pending), *(record.trigger for record in op.new)]
    is_all = len(op.pending) < PENDING_READ
    selected, surplus = select_triggers(job, triggers, op.started, commit_bytes, is_all=is_all)
    decision = triage(job, selected, runtime.era_of(job.definition.task), now, surplus, runtime.hosts)
    return fit_requests(job, decision, commit_bytes, op.started), len(selected)


def _start(runtime: Runtime, op: TriageOp, decision: Triage, now: Instant, refusal: str) -> _Starts:
    # An invocation that cannot be stored is never created: its triggers are discarded here, and its slot stays free.
    starts = _Starts(resolved={trigger.id: (NO_INVOCATION, reason) for trigger, reason in decision.discarded})
    taken = set(op.job.active_invocations)
    due = Instant(now + runtime.limits.claim_lease)
    for request in decision.requests:
        identifier = _draw_id(runtime, op.started, taken)
        try:
            invocation = _allocate(op, request, identifier, refusal)
        except PermanentError as error:
            starts.resolve(request, NO_INVOCATION, str(error))
            _log_discarded(op.job, request, str(error))
            continue
        log = first_log(request, now)
        invocation = replace(
            invocation,
            last_event=op.key,
            next_due=due,
            log_size=len(log.encode()),
            last_line=now,
            trace=current_trace(),
        )
        starts.invocations.append(invocation)
        starts.creations.append(CreateInvocation(invocation, log))
        starts.resolve(request, identifier, "")
    return starts


def _allocate(op: TriageOp, request: Request, identifier: InvocationId, refusal: str) -> Invocation:
    invocation = new_invocation(op.job, request, identifier, op.started)
    check_invocation(invocation)
    if refusal:
        raise PermanentError(refusal)
    return invocation


def _draw_id(runtime: Runtime, started: Instant, taken: set[InvocationId]) -> InvocationId:
    # Invocations of one triage share their start, so only the random suffix distinguishes them.
    while True:
        identifier = make_invocation_id(started, runtime.entropy.invocation_suffix())
        if identifier not in taken:
            taken.add(identifier)
            return identifier


def _changed_job(op: TriageOp, starts: _Starts, now: Instant) -> tuple[Job, tuple[QueueTask, ...], Instant | None]:
    """Return the job with its new invocations and flags, the task of the next triage, and when a recheck is due."""
    job = triaged(op.job, [invocation.id for invocation in starts.invocations], now)
    left = len(op.pending) + len(op.new) - len(starts.resolved)
    is_left, has_resolved = left > 0 or len(op.pending) >= PENDING_READ, bool(starts.resolved)
    tasks = (triage_task(job.id, now),) if has_more(job, is_left=is_left, has_resolved=has_resolved) else ()
    job, rechecks = after_triage(
        job, has_read=bool(op.pending), is_left=is_left, has_resolved=has_resolved, is_end=bool(op.ended), now=now
    )
    return job, tasks, job.triage_due if rechecks else None


def _trigger_writes(
    runtime: Runtime, op: TriageOp, resolved: Mapping[str, tuple[InvocationId, str]], now: Instant
) -> Iterable[Write]:
    """Yield the markers of resolved triggers, and then the new triggers that stay pending."""
    versions = {**op.markers, **{found.value.trigger.id: found.version for found in op.pending}}
    records = {record.trigger.id: record for record in (*op.new, *(found.value for found in op.pending))}
    expires = runtime.limits.expiry(now)
    # A marker keeps the ID of a resolved trigger, so that a repeated delivery finds that it was handled.
    for trigger_id, (invocation_id, reason) in resolved.items():
        if trigger_id not in op.unmarked:
            marker = replace(
                records[trigger_id], invocation_id=invocation_id, discarded=reason, resolved=now, expires=expires
            )
            yield put_trigger(marker, versions)
    for record in op.new:
        if record.trigger.id not in resolved:
            yield put_trigger(record, versions)


def _log(runtime: Runtime, op: TriageOp, decision: Triage, available: int, job: Job) -> str:
    return triage_log(
        job,
        decision,
        started=op.started,
        now=runtime.clock.now(),
        pending=len(op.pending) + len(op.new),
        available=available,
        acknowledged=op.ended,
    )


def _log_discarded(job: Job, request: Request, reason: str) -> None:
    for trigger in request.incoming_triggers:
        logger.warning("trigger_discarded", job_id=job.id, trigger_id=trigger.id, reason=reason)
