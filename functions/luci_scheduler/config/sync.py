"""Config sync: makes the jobs in the store match the configs, one whole project at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial

import structlog

from luci_scheduler.config.config_rules import ConfigRules
from luci_scheduler.config.job_lists import prepare_job_lists
from luci_scheduler.config.problems import Problem
from luci_scheduler.config.reader import ConfigError, ProjectConfig, read_config
from luci_scheduler.core.errors import (
    ComeAgainError,
    PermanentError,
    SchedulerError,
    TransientError,
)
from luci_scheduler.core.identifiers import JobId
from luci_scheduler.core.instants import Instant
from luci_scheduler.core.job import Job
from luci_scheduler.core.job_changes import JobChange, defined, removed
from luci_scheduler.core.project_record import JOB_LAYOUT, LAYOUT, ProjectRecord
from luci_scheduler.engine.jobs import pause_marks, put_job
from luci_scheduler.engine.outbox import tick_task, triage_task
from luci_scheduler.engine.runtime import Runtime
from luci_scheduler.ports import (
    ConfigFile,
    ConfigSource,
    PutPaused,
    PutProject,
    PutWatchers,
    Version,
    Versioned,
    Write,
)

__all__ = ["ConfigFile", "sync_project", "sync_sources"]

_DEFAULT_RULES = ConfigRules()
_ROUNDS = 3  # each round reads the sources again; the next sync is a minute away
_RACES = 20  # a project with many busy jobs changes several times a second; a try takes up to half a second
_MAX_PROBLEMS = 50  # of each severity in a project's record; a reader of a thoroughly broken config needs no more
_MAX_PROBLEM = 500  # characters; at most 100 KB of each severity, because the record also holds the names of all jobs

_logger = structlog.stdlib.get_logger("luci_scheduler")


def sync_sources(
    runtime: Runtime, sources: Sequence[ConfigSource], key: str, rules: ConfigRules = _DEFAULT_RULES
) -> None:
    """Activate the configs of all sources. An error in one project does not stop the others.

    If several sources have a config for a project, the first source wins. A project that disappears from all sources
    loses its jobs, as in the original. That requires that every source could be read and that some source has a config:
    an empty folder is more likely a folder that is not mounted.

    A config becomes active only if the project's record has not changed since before the sources were read. If another
    sync was faster, its config may be newer, so the sources are read again.

    Costs one read for each project while nothing changes.

    Raises:
        SchedulerError: the error of a project, preferably a retryable error. All other projects are done.
    """
    for _ in range(_ROUNDS):
        errors = _sync_round(runtime, sources, key, rules)
        if not any(isinstance(error, _OvertakenError) for error in errors):
            break
    if errors:
        # Prefer a retryable error: a permanent one would be acknowledged and never retried.
        raise next((error for error in errors if isinstance(error, TransientError)), errors[0])


def _sync_round(
    runtime: Runtime, sources: Iterable[ConfigSource], key: str, rules: ConfigRules
) -> list[SchedulerError]:
    errors: list[SchedulerError] = []
    records = {record.id: _with_job_lists(runtime, record, key, errors) for record in runtime.store.projects()}
    present, files = _read(sources, records, errors)
    for file in files:
        _sync_or_record(_Sync(runtime, file, key, rules, _seen(records.get(file.project))), errors)
    gone = [record for record in records.values() if record.id not in present and _has_content(record)]
    for record in gone if present and not errors else ():
        _logger.warning("config_gone", project=record.id, jobs=len(record.job_ids))
        _sync_or_record(_Sync(runtime, ConfigFile(record.id, "", ""), key, rules, _seen(record)), errors)
    return errors


def _with_job_lists(runtime: Runtime, record: ProjectRecord, key: str, errors: list[SchedulerError]) -> ProjectRecord:
    """Prepare the jobs that an older release stored for lists; return the project's record after that."""
    try:
        return prepare_job_lists(runtime, record, key)
    except SchedulerError as error:
        _logger.warning("job_lists_not_prepared", project=record.id, reason=str(error))
        errors.append(error)
        return record


def _has_content(record: ProjectRecord) -> bool:
    return bool(record.job_ids or record.repos or record.problems)


def _seen(record: ProjectRecord | None) -> int:
    return record.commits if record else 0


def _read(
    sources: Iterable[ConfigSource], records: Mapping[str, ProjectRecord], errors: list[SchedulerError]
) -> tuple[set[str], list[ConfigFile]]:
    """Return the projects that the sources have, and the configs that may have changed. Collect errors."""
    present: set[str] = set()
    files: dict[str, ConfigFile] = {}

    def active_revision(project: str) -> str:
        present.add(project)
        record = records.get(project)
        return record.revision if record and _is_settled(record) else ""

    for source in sources:
        earlier = present | files.keys()
        try:
            found = source.configs(active_revision)
        except SchedulerError as error:
            _logger.warning("config_source_unreadable", reason=str(error))
            errors.append(error)
            continue
        for file in found:
            if file.project in earlier:
                _logger.warning("config_twice", project=file.project, revision=file.revision)
            else:
                files[file.project] = file
    changed = [file for file in files.values() if file.error or file.revision != active_revision(file.project)]
    return present | files.keys(), changed


def _is_settled(record: ProjectRecord) -> bool:
    """Whether a project needs no work as long as its config keeps its revision."""
    return not record.problems and record.layout == LAYOUT


def _sync_or_record(sync: _Sync, errors: list[SchedulerError]) -> None:
    about = {"project": sync.file.project, "revision": sync.file.revision}
    try:
        _sync_in_turns(sync)
    except SchedulerError as error:
        _logger.warning("config_not_synced", **about, reason=str(error))
        errors.append(error)
    except Exception as error:  # a bug that one project's config triggers must not stop the others
        _logger.exception("config_sync_defect", **about)
        errors.append(TransientError(f"internal error in the sync of project {sync.file.project}: {error!r}"))


def sync_project(runtime: Runtime, file: ConfigFile, key: str) -> int:
    """Activate a project's config under the default rules, and return how many jobs changed.

    A config that is already active costs one read.

    An invalid or unreadable config changes no job: the last good config stays active, and the project's record gets the
    reasons. A good config always replaces the active config: the caller knows that ``file`` is newer.

    Raises:
        ComeAgainError: the project's documents change too fast.
        TransientError: the store failed; nothing was written.
    """
    return _sync_in_turns(_Sync(runtime, file, key, _DEFAULT_RULES, None))


def _sync_in_turns(sync: _Sync) -> int:
    return sync.runtime.retry_conflicts(
        f"project {sync.file.project}", "activate its config", lambda: _sync_once(sync), races=_RACES
    )


class _OvertakenError(ComeAgainError):
    """Another sync has changed the project since this sync read its record. Our config may be older."""


class _Sync:
    """The activation of one config, over all tries.

    Slow work happens once, so that a try ends before the jobs change again.
    """

    def __init__(self, runtime: Runtime, file: ConfigFile, key: str, rules: ConfigRules, seen: int | None) -> None:
        """Make an activation.

        Args:
            runtime: the ports.
            file: the config.
            key: names the commits.
            rules: the rules of the installation; its commit hosts are those of the runtime.
            seen: the commit counter of the project's record before the config was read; None: do not compare it.
        """
        self.runtime, self.file, self.key, self.seen = runtime, file, key, seen
        self.rules = replace(rules, hosts=runtime.hosts)
        self._config: ProjectConfig | None = None
        self._nonces: dict[JobId, int] = {}
        self._queued: set[tuple[JobId, int, int]] = set()

    def config(self) -> ProjectConfig:
        """Return the content of the config.

        Raises:
            ConfigError: the config has errors.
        """
        if self._config is None:
            file, now = self.file, self.runtime.clock.now()
            self._config = read_config(
                file.project, file.text, file.revision, file.revision_url, rules=self.rules, now=now
            )
        return self._config

    def draw_nonce(self, job_id: JobId) -> int:
        """Return the nonce of a job's tick, the same in each try."""
        if job_id not in self._nonces:
            self._nonces[job_id] = self.runtime.entropy.nonce()
        return self._nonces[job_id]

    def with_tick(self, change: JobChange, now: Instant) -> Job:
        """Enqueue the tick of a changed job, unless an earlier try did. Return the job for the commit.

        The tick of an earlier try may arrive slightly early, which the job's cron machine handles.
        """
        job, tick = change.job, change.tick
        if tick is not None and (queued := (job.id, job.cron.generation, tick.nonce)) not in self._queued:
            self.runtime.queue.enqueue(tick_task(job, tick, now))
            self._queued.add(queued)
        return job


def _sync_once(sync: _Sync) -> int:
    runtime, file = sync.runtime, sync.file
    found = runtime.store.project(file.project)
    record, version = (found.value, found.version) if found else (ProjectRecord(file.project), None)
    if sync.seen is not None and record.commits != sync.seen:
        raise _OvertakenError(f"another sync has changed project {file.project} in the meantime")
    if found and _is_active(record, file):
        return 0
    if file.error:
        _refuse(sync, (_cut(file.error),), record, version)
        return 0
    try:
        return _activate(sync, record, version)
    except ConfigError as error:
        problems = _texts(error.problems)
    except PermanentError as error:
        problems = (_cut(f"the config is valid but cannot be stored: {error}"),)
    _refuse(sync, problems, record, version)
    return 0


def _is_active(record: ProjectRecord, file: ConfigFile) -> bool:
    return record.revision == file.revision and _is_settled(record) and not file.error


def _refuse(sync: _Sync, problems: tuple[str, ...], record: ProjectRecord, version: Version | None) -> None:
    """Keep the active config, and store why the new config was refused, unless the record has these reasons."""
    file = sync.file
    event = "config_unreadable" if file.error else "config_invalid"
    _logger.warning(event, project=file.project, revision=file.revision, problems=problems)
    if problems != record.problems:
        refused = replace(record, problems=problems, commits=record.commits + 1)
        sync.runtime.store.commit([PutProject(refused, version)])


def _activate(sync: _Sync, record: ProjectRecord, version: Version | None) -> int:
    runtime, file, config = sync.runtime, sync.file, sync.config()
    job_ids = sorted({*config.jobs, *record.job_ids})
    # One call reads all jobs. If any of them changes before the commit, the store refuses the whole commit.
    found = {item.value.id: item for item in runtime.store.found_jobs(job_ids)}
    changed = _changed_jobs(sync, config, job_ids, found, runtime.clock.now())
    runtime.store.commit(list(_writes(sync, config, record, version, found, changed)))
    for job in changed:
        if job.triage_due is not None:  # if the queue loses the task, the sweep enqueues it again
            runtime.queue.enqueue(triage_task(job.id, runtime.clock.now()))
    _logger.info(
        "config_synced",
        project=file.project,
        revision=file.revision,
        jobs=len(config.jobs),
        jobs_changed=len(changed),
        warnings=len(config.warnings),
        first_warning=str(config.warnings[0]) if config.warnings else "",
    )
    return len(changed)


def _changed_jobs(
    sync: _Sync, config: ProjectConfig, job_ids: Sequence[JobId], found: Mapping[JobId, Versioned[Job]], now: Instant
) -> list[Job]:
    """Return the jobs that the config changes or removes. Their ticks are on the queue when this returns."""
    changed = []
    for job_id in job_ids:
        job = found[job_id].value if job_id in found else None
        if definition := config.jobs.get(job_id):
            change = defined(job, job_id, definition, now, partial(sync.draw_nonce, job_id))
        else:
            change = removed(job, now) if job else None
        if change is not None:
            changed.append(sync.with_tick(change, now))
    return changed


def _texts(problems: Sequence[Problem]) -> tuple[str, ...]:
    texts = [_cut(str(problem)) for problem in problems[:_MAX_PROBLEMS]]
    more = len(problems) - _MAX_PROBLEMS
    return (*texts, *([f"and {more} more"] if more > 0 else []))


def _cut(text: str) -> str:
    return text if len(text) <= _MAX_PROBLEM else f"{text[:_MAX_PROBLEM]}..."


def _writes(
    sync: _Sync,
    config: ProjectConfig,
    record: ProjectRecord,
    version: Version | None,
    found: Mapping[JobId, Versioned[Job]],
    changed: Sequence[Job],
) -> Iterable[Write]:
    """Yield all writes of a commit that activates a config."""
    for job in changed:
        before = found.get(job.id)
        yield put_job(job, before, sync.key)
        yield from pause_marks(before.value if before else None, job, sync.runtime.hosts)
    if record.layout != LAYOUT:
        jobs = {job_id: item.value for job_id, item in found.items()} | {job.id: job for job in changed}
        yield from _moved_marks(sync.runtime, record, jobs)
    for repo in sorted({*record.repos, *config.watchers}):
        yield PutWatchers(repo, sync.file.project, config.watchers.get(repo, ()))
    yield PutProject(_active_record(sync.file, config, record), version)


def _active_record(file: ConfigFile, config: ProjectConfig, before: ProjectRecord) -> ProjectRecord:
    return ProjectRecord(
        id=file.project,
        revision=file.revision,
        revision_url=file.revision_url,
        job_ids=tuple(sorted(config.jobs)),
        repos=tuple(sorted(config.watchers)),
        warnings=_texts(config.warnings),
        warning_count=len(config.warnings),
        commits=before.commits + 1,
        layout=LAYOUT,
        job_layout=before.job_layout if before.job_ids else JOB_LAYOUT,
    )


def _moved_marks(runtime: Runtime, record: ProjectRecord, jobs: Mapping[JobId, Job]) -> Iterator[Write]:
    """Yield the pause marks that functions with an older document layout stored elsewhere, or did not store."""
    for job in jobs.values():
        yield from pause_marks(None, job, runtime.hosts)
    for repo in record.repos:
        marked = {watcher.trigger_job_id for watcher in runtime.store.watchers(repo) if watcher.paused}
        for job_id in sorted(marked & jobs.keys()):
            if not jobs[job_id].paused:  # resumed by functions that do not know the marks
                yield PutPaused(repo, job_id, paused=False)
