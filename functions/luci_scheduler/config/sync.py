"""Config sync: the jobs in the store follow the configs, each project as a whole or not at all."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial

import structlog

from luci_scheduler.config.config_rules import ConfigRules
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
from luci_scheduler.core.project_record import LAYOUT, ProjectRecord
from luci_scheduler.engine.jobs import pause_marks, put_job
from luci_scheduler.engine.outbox import tick_task, triage_task
from luci_scheduler.engine.runtime import Runtime
from luci_scheduler.ports import ConfigFile, ConfigSource, PutJob, PutPaused, PutProject, PutWatchers, Version, Write

__all__ = ["ConfigFile", "sync_project", "sync_sources"]

_DEFAULT_RULES = ConfigRules()
_ROUNDS = 3  # each reads the sources anew; the next sync is a minute away
_RACES = 20  # a project of many busy jobs changes several times a second; a try is over within half a one
_MAX_PROBLEMS = 50  # of a kind in a project's record: of a config that is wrong throughout nobody reads more
_MAX_PROBLEM = 500  # characters: 100 KB of each kind at most; the record needs its megabyte for the jobs' names

_logger = structlog.stdlib.get_logger("luci_scheduler")


def sync_sources(
    runtime: Runtime, sources: Sequence[ConfigSource], key: str, rules: ConfigRules = _DEFAULT_RULES
) -> None:
    """Put the configs of all sources in force; what goes wrong with one project does not keep the others.

    Of a project that several sources hold the first one's config counts. One that no source holds any more has no jobs, as in
    the original. Nothing is concluded where a source could not be read, or where none holds anything: a folder that is
    empty is rather one that is not mounted.

    A config goes in force only over the project's record that was read before the sources were. If another sync was quicker, its
    config may be newer: the sources are read again.

    Costs one read for each project while nothing changes.

    Raises:
        SchedulerError: one that some project met, one that may pass first; all others were dealt with. Try again.
    """
    for _ in range(_ROUNDS):
        troubles = _sync_round(runtime, sources, key, rules)
        if not any(isinstance(error, _OvertakenError) for error in troubles):
            break
    if troubles:
        # A transient error goes first: behind a refusal the sync would not be tried again.
        raise next((error for error in troubles if isinstance(error, TransientError)), troubles[0])


def _sync_round(
    runtime: Runtime, sources: Iterable[ConfigSource], key: str, rules: ConfigRules
) -> list[SchedulerError]:
    records = {record.id: record for record in runtime.store.projects()}
    troubles: list[SchedulerError] = []
    held, files = _read(sources, records, troubles)
    syncs = [_Sync(runtime, file, key, rules, _seen(records.get(file.project))) for file in files]
    for sync in syncs:
        _sync_or_note(sync, troubles)
    if held and not troubles:
        for record in records.values():
            if record.id not in held and (record.job_ids or record.repos or record.problems):
                _logger.warning("config_gone", project=record.id, jobs=len(record.job_ids))
                _sync_or_note(_Sync(runtime, ConfigFile(record.id, "", ""), key, rules, _seen(record)), troubles)
    return troubles


def _seen(record: ProjectRecord | None) -> int:
    return record.mutations if record else 0


def _read(
    sources: Iterable[ConfigSource], records: Mapping[str, ProjectRecord], troubles: list[SchedulerError]
) -> tuple[set[str], list[ConfigFile]]:
    """Return the projects that the sources hold, and the configs that may have changed; note what cannot be read."""
    held: set[str] = set()
    files: dict[str, ConfigFile] = {}

    def in_force(project: str) -> str:
        held.add(project)
        record = records.get(project)
        return record.revision if record and _is_settled(record) else ""

    for source in sources:
        earlier = held | files.keys()
        try:
            found = source.configs(in_force)
        except SchedulerError as error:
            _logger.warning("config_source_unreadable", reason=str(error))
            troubles.append(error)
            continue
        for file in found:
            if file.project in earlier:
                _logger.warning("config_twice", project=file.project, revision=file.revision)
            else:
                files[file.project] = file
    changed = [file for file in files.values() if file.trouble or file.revision != in_force(file.project)]
    return held | files.keys(), changed


def _is_settled(record: ProjectRecord) -> bool:
    """Whether there is nothing to do for a project while its config keeps its revision."""
    return not record.problems and record.layout == LAYOUT


def _sync_or_note(sync: _Sync, troubles: list[SchedulerError]) -> None:
    about = {"project": sync.file.project, "revision": sync.file.revision}
    try:
        _sync_in_turns(sync)
    except SchedulerError as error:
        _logger.warning("config_not_synced", **about, reason=str(error))
        troubles.append(error)
    except Exception as error:  # a defect that one project's config meets is not to stop the others
        _logger.exception("config_sync_defect", **about)
        troubles.append(TransientError(f"the config of project {sync.file.project} met a defect: {error!r}"))


def sync_project(runtime: Runtime, file: ConfigFile, key: str, rules: ConfigRules = _DEFAULT_RULES) -> int:
    """Put a project's config in force and return how many jobs changed; one that is in force already costs one read.

    A config with problems, or one that could not be read, changes no job: the last good one stays in force, and the project's
    record has the reasons. A good config always replaces the one in force: the caller knows that ``file`` is newer.

    Raises:
        ComeAgainError: the project's documents change too fast.
        TransientError: the store failed; nothing was written.
    """
    return _sync_in_turns(_Sync(runtime, file, key, rules, None))


def _sync_in_turns(sync: _Sync) -> int:
    return sync.runtime.retry_conflicts(
        f"project {sync.file.project}", "activate its config", lambda: _sync_once(sync), races=_RACES
    )


class _OvertakenError(ComeAgainError):
    """Another sync has changed the project since this one read its record: this one's config may be the older one."""


class _Sync:
    """One config on its way into force, over all tries: what takes long is done once, so that a try is over before jobs change."""

    def __init__(self, runtime: Runtime, file: ConfigFile, key: str, rules: ConfigRules, seen: int | None) -> None:
        """Make one.

        Args:
            runtime: the ports.
            file: the config.
            key: names the commits.
            rules: the rules of the installation.
            seen: the mutations of the project's record when it was read, before the config was; None: they do not matter.
        """
        self.runtime, self.file, self.key, self.rules, self.seen = runtime, file, key, rules, seen
        self._config: ProjectConfig | None = None
        self._nonces: dict[JobId, int] = {}
        self._queued: set[tuple[JobId, int, int]] = set()

    def config(self) -> ProjectConfig:
        """Return what the config says.

        Raises:
            ConfigError: it has problems.
        """
        if self._config is None:
            file, now = self.file, self.runtime.clock.now()
            self._config = read_config(
                file.project, file.text, file.revision, file.revision_url, rules=self.rules, now=now
            )
        return self._config

    def draw_nonce(self, job_id: JobId) -> int:
        """Return the nonce of a job's tick, the same one in each try."""
        if job_id not in self._nonces:
            self._nonces[job_id] = self.runtime.entropy.nonce()
        return self._nonces[job_id]

    def with_tick(self, change: JobChange, now: Instant) -> Job:
        """Put the tick of a changed job on the queue, unless an earlier try has; return the job as it is to be committed.

        The earlier one may come some moments early: the job's machine sees to that.
        """
        job, tick = change.job, change.tick
        if tick is not None and (told := (job.id, job.cron.generation, tick.nonce)) not in self._queued:
            self.runtime.queue.enqueue(tick_task(job, tick, now))
            self._queued.add(told)
        return job


def _sync_once(sync: _Sync) -> int:
    runtime, file = sync.runtime, sync.file
    found = runtime.store.project(file.project)
    record = found.value if found else ProjectRecord(file.project)
    version = found.version if found else None
    if sync.seen is not None and record.mutations != sync.seen:
        raise _OvertakenError(f"another sync has changed project {file.project} meanwhile")
    if found and record.revision == file.revision and _is_settled(record) and not file.trouble:
        return 0
    problems: tuple[str, ...] = (_cut(file.trouble),)
    if not file.trouble:
        try:
            return _put_in_force(sync, record, version)
        except ConfigError as error:
            problems = _told(error.problems)
        except PermanentError as error:
            problems = (_cut(f"the config is valid but cannot be stored: {error}"),)
    event = "config_unreadable" if file.trouble else "config_invalid"
    _logger.warning(event, project=file.project, revision=file.revision, problems=problems)
    if problems != record.problems:
        runtime.store.commit([PutProject(replace(record, problems=problems, mutations=record.mutations + 1), version)])
    return 0


def _put_in_force(sync: _Sync, record: ProjectRecord, version: Version | None) -> int:
    runtime, file, config = sync.runtime, sync.file, sync.config()
    writes = list(_writes(sync, config, record, version))
    runtime.store.commit(writes)
    jobs = [write.job for write in writes if isinstance(write, PutJob)]
    for job in jobs:
        if job.triage_due is not None:  # if one is lost the sweep asks again
            runtime.queue.enqueue(triage_task(job.id, runtime.clock.now()))
    _logger.info(
        "config_synced",
        project=file.project,
        revision=file.revision,
        jobs_changed=len(jobs),
        warnings=len(config.warnings),
    )
    return len(jobs)


def _told(problems: Sequence[Problem]) -> tuple[str, ...]:
    texts = [_cut(str(problem)) for problem in problems[:_MAX_PROBLEMS]]
    more = len(problems) - _MAX_PROBLEMS
    return (*texts, *([f"and {more} more"] if more > 0 else []))


def _cut(text: str) -> str:
    return text if len(text) <= _MAX_PROBLEM else f"{text[:_MAX_PROBLEM]}..."


def _writes(sync: _Sync, config: ProjectConfig, record: ProjectRecord, version: Version | None) -> Iterable[Write]:
    runtime, file = sync.runtime, sync.file
    job_ids = sorted({*config.jobs, *record.job_ids})
    # One call for all: a change of any of them between this and the commit refuses the whole.
    read = {found.value.id: found for found in runtime.store.found_jobs(job_ids)}
    now = runtime.clock.now()
    jobs = {job_id: found.value for job_id, found in read.items()}
    for job_id in job_ids:
        found, definition = read.get(job_id), config.jobs.get(job_id)
        job = found.value if found else None
        if definition is not None:
            change = defined(job, job_id, definition, now, partial(sync.draw_nonce, job_id))
        else:
            change = removed(job, now) if job else None
        if change is not None:
            yield put_job(sync.with_tick(change, now), found, sync.key)
            yield from pause_marks(job, change.job)
            jobs[job_id] = change.job
    if record.layout != LAYOUT:
        yield from _moved_marks(runtime, record, jobs)
    for repo in sorted({*record.repos, *config.watchers}):
        yield PutWatchers(repo, file.project, config.watchers.get(repo, ()))
    in_force = ProjectRecord(
        id=file.project,
        revision=file.revision,
        revision_url=file.revision_url,
        job_ids=tuple(sorted(config.jobs)),
        repos=tuple(sorted(config.watchers)),
        warnings=_told(config.warnings),
        warning_count=len(config.warnings),
        mutations=record.mutations + 1,
        layout=LAYOUT,
    )
    yield PutProject(in_force, version)


def _moved_marks(runtime: Runtime, record: ProjectRecord, jobs: Mapping[JobId, Job]) -> Iterator[Write]:
    """Yield the marks of paused triggers that functions with an older layout kept, or left as they were, in other documents."""
    for job in jobs.values():
        yield from pause_marks(None, job)
    for repo in record.repos:
        marked = {watcher.trigger_job_id for watcher in runtime.store.watchers(repo) if watcher.paused}
        for job_id in sorted(marked & jobs.keys()):
            if not jobs[job_id].paused:  # resumed by functions that do not know the mark
                yield PutPaused(repo, job_id, paused=False)
