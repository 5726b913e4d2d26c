"""Why a commit did or did not run: what became of it in every job that watches its repository."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from luci_scheduler.api.access import Permission
from luci_scheduler.api.context import Context
from luci_scheduler.api.errors import invalid
from luci_scheduler.api.waiting import WaitingCommits, waiting_sentence
from luci_scheduler.core import discards
from luci_scheduler.core.commit_event import CommitEvent, gitiles_trigger
from luci_scheduler.core.commit_filters import CommitFilters, has_path_filter
from luci_scheduler.core.deferred import Deferred
from luci_scheduler.core.go_text import format_duration
from luci_scheduler.core.identifiers import InvocationId, JobId, project_of
from luci_scheduler.core.instants import DAY, SECOND, Instant, format_rfc3339
from luci_scheduler.core.invocation import Invocation
from luci_scheduler.core.job import Job
from luci_scheduler.core.ref_validation import REGEXP
from luci_scheduler.core.repo_url import BadRepoUrlError, RepoUrl, parse_repo_url
from luci_scheduler.core.triage import has_free_slot
from luci_scheduler.core.trigger import Trigger
from luci_scheduler.core.trigger_record import NO_INVOCATION, TriggerRecord
from luci_scheduler.core.watcher import Watcher
from luci_scheduler.managers.registry import kind_of
from luci_scheduler.ports import GitCommit, GitilesError

__all__ = ["MAX_AGAIN", "MAX_JOBS", "MAX_TRIGGERS", "Explanation", "Origin", "Reason", "explain_commit"]

MAX_JOBS = 500
"""Jobs that one call explains; the first ones by ID of those that the caller may see."""

MAX_AGAIN = 10
"""Triggers that somebody asked for besides, of one job: the newest."""

MAX_TRIGGERS = 4 * MAX_JOBS
"""Triggers of one commit that are looked through for those that somebody asked for besides."""

_MAX_REFS = 20
"""Refs named literally that a commit's own trigger is looked up by, for one job."""

_REVISION = re.compile(r"[0-9a-f]{40}")


class Reason(StrEnum):
    """What became of a commit in a job."""

    INVOCATION = "INVOCATION"
    BATCHED = "BATCHED"
    PENDING = "PENDING"
    WAITING_FOR_INVOCATION = "WAITING_FOR_INVOCATION"
    SLOT_LIMIT = "SLOT_LIMIT"
    DISCARDED_BY_AGE = "DISCARDED_BY_AGE"
    DISCARDED_AS_SURPLUS = "DISCARDED_AS_SURPLUS"
    DISCARDED = "DISCARDED"
    JOB_PAUSED = "JOB_PAUSED"
    JOB_DISABLED = "JOB_DISABLED"
    PATH_FILTERED = "PATH_FILTERED"
    PATTERNS_TOO_COSTLY = "PATTERNS_TOO_COSTLY"
    REF_NOT_WATCHED = "REF_NOT_WATCHED"
    TRIGGER_PAUSED = "TRIGGER_PAUSED"
    WAITING_FOR_COMMIT = "WAITING_FOR_COMMIT"
    NOT_SERVED = "NOT_SERVED"
    NOT_ON_REF = "NOT_ON_REF"
    NEVER_ARRIVED = "NEVER_ARRIVED"


class Origin(StrEnum):
    """Where the trigger comes from that an explanation is about."""

    COMMIT = ""
    """The commit itself: its event, or a poll that found it."""
    RERUN = "RERUN"
    """Somebody ran an invocation once more."""
    BACKFILL = "BACKFILL"
    """Somebody ran a range of commits."""
    EMITTED = "EMITTED"
    """Somebody emitted it over the API, under an ID of their own."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """What became of a commit in one job, or of one trigger that somebody asked for besides."""

    job_id: JobId
    reason: Reason
    sentence: str
    """The reason in words, one sentence."""
    ref: str = ""
    """The ref whose trigger was found; empty if none was."""
    trigger_id: str = ""
    invocation_id: InvocationId = NO_INVOCATION
    """The invocation that took the trigger; 0 if none did."""
    status: str = ""
    """That invocation's; empty if it is no longer stored."""
    since: Instant | None = None
    """When the trigger came, while it is pending; when it was discarded, if it was."""
    waiting_for: tuple[InvocationId, ...] = ()
    """The invocations that keep the job's slots."""
    origin: Origin = Origin.COMMIT
    asked_by: str = ""
    """Who asked for it, e.g. ``user:<e-mail>``; empty of the commit itself."""


@dataclass(frozen=True, slots=True)
class _Watched:
    """A job and all the ways in which it watches the repository."""

    job: Job
    watchers: tuple[Watcher, ...]


@dataclass(frozen=True, slots=True)
class _Question:
    repo: RepoUrl
    revision: str
    ref: str


def explain_commit(context: Context, repo: str, revision: str, ref: str = "") -> list[Explanation]:
    """Return what became of a commit in every visible job that watches its repository, sorted by job.

    For each job there is one explanation of the commit itself; then, the oldest first, one for each time that somebody asked
    for it besides, by a rerun, a backfill or an emitted trigger (the newest ten).

    The commit's own trigger is looked up by its ID, which nobody can push out: on ``ref``, or on each ref that the job names
    literally. What else tells of the commit is found by its hash, up to `MAX_TRIGGERS` in all jobs; where that is not all of
    them, every sentence that may miss one says so.

    Costs, however long the history: one read for who watches; for each job one read, one for each ref that is tried, one for
    each trigger and one for its invocation; if a job has no trigger, one query for deferred tasks that wait for the commit,
    and one call to Gitiles if that job filters by path. For a caller who may see nothing there only the watchers are read.

    Args:
        context: who asks.
        repo: the repository, in any spelling.
        revision: the commit's hash.
        ref: the ref on which it landed; empty: whichever.

    Raises:
        ApiError: INVALID_ARGUMENT.
    """
    question = _question(repo, revision, ref)
    watched = _watched(context, question)
    if not watched:
        return []
    found, is_cut = _found(context, question, watched)
    taken = {
        (record.job_id, record.invocation_id)
        for of_job in found.values()
        for record in of_job.records
        if record.invocation_id
    }
    invocations = {(item.job_id, item.id): item for item in context.runtime.store.invocations_by_id(sorted(taken))}
    absent = _Absent(context, question)
    answers = []
    for item in watched:
        of_job = found[item.job.id]
        own = [absent.explain(item)] if of_job.own is None else []
        for record in of_job.records:
            invocation = invocations.get((record.job_id, record.invocation_id))
            own.append(_asked_for(record, _of_record(context, item.job, record, invocation)))
        if is_cut:
            own[0] = _incomplete(own[0], own_may_miss=of_job.own is None and not _refs(question, item)[1])
        answers += own
    return answers


def _incomplete(explanation: Explanation, *, own_may_miss: bool) -> Explanation:
    """Say that not all that tells of the commit was looked through, and what may be missing for it."""
    missing = (
        "its own may be among the rest: name the ref on which it landed"
        if own_may_miss
        else "reruns, backfills and emitted triggers of it may be missing here"
    )
    also = f" More than {MAX_TRIGGERS - 1} triggers tell of this commit, not all were looked through; {missing}."
    return replace(explanation, sentence=explanation.sentence + also)


def _question(repo: str, revision: str, ref: str) -> _Question:
    if not _REVISION.fullmatch(revision):
        raise invalid("revision must be 40 lower-case hexadecimal digits")
    if ref and not ref.startswith("refs/"):
        raise invalid("ref must be a full ref name (refs/...), or empty")
    try:
        return _Question(parse_repo_url(repo), revision, ref)
    except BadRepoUrlError as error:
        raise invalid(f"repo: {error}") from error


def _watched(context: Context, question: _Question) -> list[_Watched]:
    if not context.sees_some():
        return []
    by_job: dict[JobId, list[Watcher]] = {}
    for watcher in context.runtime.store.watchers(str(question.repo)):
        by_job.setdefault(watcher.job_id, []).append(watcher)
    # What others have is left out before the cut, so that it takes nobody's place. The watchers of a project are one document, which bounds them.
    wanted = [job_id for job_id in sorted(by_job) if context.sees_some(project_of(job_id))]
    jobs = context.runtime.store.jobs(wanted) if wanted else []
    visible = sorted((job for job in jobs if context.may(Permission.GET, job)), key=lambda job: job.id)
    return [_Watched(job, tuple(by_job[job.id])) for job in visible[:MAX_JOBS]]


@dataclass(frozen=True, slots=True)
class _Found:
    """The triggers of the commit in one job."""

    own: TriggerRecord | None = None
    """The one that the commit itself is; the one that got furthest, where it came by several refs."""
    again: tuple[TriggerRecord, ...] = ()
    """Those that somebody asked for besides, the oldest first."""

    @property
    def records(self) -> tuple[TriggerRecord, ...]:
        return (self.own, *self.again) if self.own else self.again


def _found(context: Context, question: _Question, watched: Sequence[_Watched]) -> tuple[Mapping[JobId, _Found], bool]:
    """Return the triggers of the commit by job, and whether there may be more than those that were looked through.

    Those of other repositories that have the commit, too, are left out.
    """
    store, revision = context.runtime.store, question.revision
    keys = [
        (item.job.id, gitiles_trigger(repo, ref, revision, Instant(0)).id)
        for item in watched
        for repo, ref in _refs(question, item)[0]
    ]
    known = store.triggers(keys) if keys else []
    listed = store.triggers_of_revision(revision, MAX_TRIGGERS)
    by_job: dict[JobId, dict[str, TriggerRecord]] = {item.job.id: {} for item in watched}
    for record in (*listed, *known):
        if record.job_id in by_job and _is_asked_about(question, record.trigger):
            by_job[record.job_id][record.trigger.id] = record
    is_cut = len(listed) >= MAX_TRIGGERS
    return {job_id: _sorted_out(list(records.values())) for job_id, records in by_job.items()}, is_cut


def _refs(question: _Question, item: _Watched) -> tuple[list[tuple[str, str]], bool]:
    """Return by which names the commit's own trigger is looked up, as repository (in the config's spelling) and ref.

    The second value says whether these are all that it can have, as the job watches the repository now.
    """
    entries = [
        (watcher.repo, ref) for watcher in item.watchers for ref in ((question.ref,) if question.ref else watcher.refs)
    ]
    literal = list(dict.fromkeys(entry for entry in entries if not entry[1].startswith(REGEXP)))
    return literal[:_MAX_REFS], len(literal) <= _MAX_REFS and all(not ref.startswith(REGEXP) for _, ref in entries)


def _is_asked_about(question: _Question, trigger: Trigger) -> bool:
    try:
        repo = parse_repo_url(str(trigger.payload.get("repo", "")))
    except BadRepoUrlError:  # what somebody emitted may say anything
        return False
    return repo == question.repo and question.ref in ("", trigger.payload.get("ref"))


def _sorted_out(records: Sequence[TriggerRecord]) -> _Found:
    own = [record for record in records if _origin(record.trigger) is Origin.COMMIT]
    again = sorted(
        (record for record in records if _origin(record.trigger) is not Origin.COMMIT),
        key=lambda record: (record.trigger.created, record.trigger.id),
    )
    return _Found(max(own, key=_progress, default=None), tuple(again[-MAX_AGAIN:]))


def _origin(trigger: Trigger) -> Origin:
    own = f"{trigger.payload.get('repo')}/+/{trigger.payload.get('ref')}@{trigger.payload.get('revision')}"
    if trigger.id == own:
        return Origin.COMMIT
    if trigger.id.startswith(f"{own}#backfill:"):
        return Origin.BACKFILL
    return Origin.RERUN if trigger.id.startswith("rerun:") else Origin.EMITTED


_ASKED = {Origin.RERUN: "Run again", Origin.BACKFILL: "Backfilled", Origin.EMITTED: "Emitted"}


def _asked_for(record: TriggerRecord, explanation: Explanation) -> Explanation:
    """Say of a trigger that is not the commit itself how it came about."""
    origin, who = _origin(record.trigger), record.trigger.emitted_by_user
    if origin is Origin.COMMIT:
        return explanation
    by = f" by {who.removeprefix('user:')}" if who else ""
    sentence = f"{_ASKED[origin]}{by}: {explanation.sentence[:1].lower()}{explanation.sentence[1:]}"
    return replace(explanation, sentence=sentence, origin=origin, asked_by=who)


def _progress(record: TriggerRecord) -> tuple[bool, bool]:
    return bool(record.invocation_id), record.is_pending


def _of_record(context: Context, job: Job, record: TriggerRecord, invocation: Invocation | None) -> Explanation:
    base = Explanation(
        job.id,
        Reason.INVOCATION,
        "",
        ref=str(record.trigger.payload.get("ref", "")),
        trigger_id=record.trigger.id,
    )
    if record.invocation_id:
        return _taken(base, record, invocation)
    if record.is_pending:
        return _pending(context, base, job, record)
    return _discarded(base, job, record)


def _taken(base: Explanation, record: TriggerRecord, invocation: Invocation | None) -> Explanation:
    base = replace(base, invocation_id=record.invocation_id)
    if invocation is None:
        sentence = f"It ran in invocation {record.invocation_id}, which is no longer stored."
        return replace(base, sentence=sentence)
    base = replace(base, status=str(invocation.status))
    newest = invocation.incoming_triggers[-1]
    if newest.id == record.trigger.id:
        with_it = len(invocation.incoming_triggers) - 1
        also = f", which stands for {with_it} older trigger{'s' if with_it > 1 else ''}, too" if with_it else ""
        past, present = kind_of(invocation.task).verbs
        verb = past if invocation.status.is_final else present
        return replace(base, sentence=f"It {verb} in invocation {invocation.id}{also}: {invocation.status}.")
    sentence = (
        f"It was batched into invocation {invocation.id} ({invocation.status}), which runs the newest of "
        f"{len(invocation.incoming_triggers)} triggers, {newest.title or newest.id}."
    )
    return replace(base, reason=Reason.BATCHED, sentence=sentence)


def _pending(context: Context, base: Explanation, job: Job, record: TriggerRecord) -> Explanation:
    waited = format_duration((context.runtime.clock.now() - record.trigger.created) // SECOND * SECOND)
    since = format_rfc3339(Instant(record.trigger.created // SECOND * SECOND))
    base = replace(base, since=record.trigger.created, waiting_for=job.active_invocations)
    limit = job.definition.policy.max_concurrent_invocations
    if has_free_slot(job) or not job.active_invocations:
        return replace(
            base,
            reason=Reason.PENDING,
            sentence=f"It has been pending since {since} ({waited}): the job's next triage decides.",
        )
    names = ", ".join(str(item) for item in job.active_invocations)
    if limit == 1:
        sentence = f"It has been pending since {since} ({waited}): it waits for the running invocation {names}."
        return replace(base, reason=Reason.WAITING_FOR_INVOCATION, sentence=sentence)
    sentence = (
        f"It has been pending since {since} ({waited}): the policy allows {limit} invocations at a time, "
        f"and that many are running ({names})."
    )
    return replace(base, reason=Reason.SLOT_LIMIT, sentence=sentence)


def _discarded(base: Explanation, job: Job, record: TriggerRecord) -> Explanation:
    base = replace(base, since=record.resolved)
    match record.discarded:
        case text if discards.is_too_many(text):
            reason = Reason.DISCARDED_AS_SURPLUS
            sentence = f"It was discarded because {text}: the oldest of them are dropped."
        case discards.JOB_PAUSED:
            reason, sentence = (
                Reason.JOB_PAUSED,
                f"It was discarded because the job was paused{_paused_by(job, record.resolved)}.",
            )
        case discards.JOB_DISABLED:
            reason, sentence = (
                Reason.JOB_DISABLED,
                "It was discarded because the config had removed or disabled the job.",
            )
        case text if discards.is_by_age(text):
            reason, sentence = Reason.DISCARDED_BY_AGE, f"It was discarded: {text}."
        case text if text.startswith(discards.NOT_SERVED):
            reason, sentence = Reason.NOT_SERVED, f"It was discarded because {text}."
        case discards.TOO_COSTLY:
            reason, sentence = Reason.PATTERNS_TOO_COSTLY, f"It was discarded because {discards.TOO_COSTLY}."
        case text if text.startswith(discards.NOT_ON_REF):
            reason, sentence = Reason.NOT_ON_REF, f"It was discarded because {text}."
        case text:
            reason, sentence = Reason.DISCARDED, f"It was discarded: {text}."
    return replace(base, reason=reason, sentence=sentence)


def _paused_by(job: Job, at: Instant | None = None) -> str:
    """Return who has paused a job and why, if it still is paused and was ``at`` that time: of earlier pauses nothing is kept."""
    began = job.changed_when
    if not job.paused or not job.changed_by or (at is not None and began is not None and began > at):
        return ""
    return f" by {job.changed_by.removeprefix('user:')} ({job.change_reason})"


class _Absent:
    """Explains why a job has no trigger for the commit; Gitiles is asked once at most."""

    def __init__(self, context: Context, question: _Question) -> None:
        self._context = context
        self._question = question
        self._waiting = WaitingCommits(context.runtime.store, str(question.repo), question.revision)
        self._fetched: GitCommit | GitilesError | None = None
        self._filters = CommitFilters()

    def explain(self, item: _Watched) -> Explanation:
        """Return why."""
        job, ref = item.job, self._question.ref
        if not job.enabled:
            return Explanation(job.id, Reason.JOB_DISABLED, "The config has removed or disabled the job.")
        watching = self._filters.by_ref(item.watchers, ref) if ref else list(item.watchers)
        if project_of(job.id) in self._filters.too_costly:
            return _too_costly(job)
        if not watching:
            return Explanation(job.id, Reason.REF_NOT_WATCHED, f"The job does not watch {ref} of the repository.")
        paused = [watcher.trigger_job_id for watcher in watching if watcher.paused]
        watching = [watcher for watcher in watching if not watcher.paused]
        if not watching:
            return Explanation(job.id, Reason.TRIGGER_PAUSED, self._paused(paused))
        waits = self._waiting.of_job(job.id, ref)
        if waits and self._filters.by_ref(watching, waits[1].ref):
            return _waits(job.id, *waits)
        if all(has_path_filter(watcher) for watcher in watching) and (kept := self._by_paths(job, watching)):
            return kept
        days = self._context.runtime.limits.retention // DAY
        sentence = (
            "No trigger for it has reached the job: it was not announced and no poll took it up, it landed before the job "
            f"watched the ref, or it did more than {days} days ago."
        )
        return Explanation(job.id, Reason.NEVER_ARRIVED, sentence)

    def _by_paths(self, job: Job, watching: Sequence[Watcher]) -> Explanation | None:
        """Return why the path filters of a job keep the commit from it; None if they do not."""
        commit = self._commit()
        if isinstance(commit, GitilesError) and commit.transient:
            sentence = f"No trigger for it has reached the job; its host could not be asked why just now: {commit}."
            return Explanation(job.id, Reason.NEVER_ARRIVED, sentence)
        if isinstance(commit, GitilesError):
            sentence = f"The repository's host does not serve the commit: {commit}."
            return Explanation(job.id, Reason.NOT_SERVED, sentence)
        passed, undecided = self._filters.quick_by_paths(watching, commit.diff)
        if undecided:
            return _too_costly(job)
        if not passed:
            sentence = "No file that it changed passes the job's path filter."
            return Explanation(job.id, Reason.PATH_FILTERED, sentence)
        return None

    def _paused(self, trigger_job_ids: Sequence[JobId]) -> str:
        """Return the sentence about paused triggers, with the names of those that the caller may see."""
        jobs = self._context.runtime.store.jobs(sorted(set(trigger_job_ids)))
        visible = sorted((job for job in jobs if self._context.may(Permission.GET, job)), key=lambda job: job.id)
        named = "; ".join(f"{job.id} was paused{_paused_by(job)}" for job in visible)
        about = f": {named}" if named else ""
        return f"What triggers the job is paused and lets no commits through, a poll takes them up when it is resumed{about}."

    def _commit(self) -> GitCommit | GitilesError:
        if self._fetched is None:
            try:
                page = self._context.runtime.gitiles.log(
                    self._question.repo, self._question.revision, limit=1, diffs=True
                )
                self._fetched = page.commits[0] if page.commits else GitilesError("NOT_FOUND", "", transient=False)
            except GitilesError as error:
                self._fetched = error
        return self._fetched


def _too_costly(job: Job) -> Explanation:
    sentence = (
        "No trigger for it has reached the job; the project's patterns of refs and paths cost too much to say here whether the "
        "commit passes them: simplify them in luci-scheduler.cfg."
    )
    return Explanation(job.id, Reason.PATTERNS_TOO_COSTLY, sentence)


def _waits(job_id: JobId, work: Deferred, event: CommitEvent) -> Explanation:
    sentence = waiting_sentence(work)
    return Explanation(job_id, Reason.WAITING_FOR_COMMIT, sentence, ref=event.ref, since=work.created)
