"""Config sync: the jobs in the store follow the configs, each project as a whole or not at all."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import structlog

from luci_scheduler.config.reader import ConfigError, ProjectConfig, read_config
from luci_scheduler.core.errors import ComeAgainError, StoreConflictError
from luci_scheduler.core.identifiers import JobId
from luci_scheduler.core.job import Job, JobDefinition
from luci_scheduler.ports import Found, ProjectRecord, PutJob, PutProject, PutWatchers, Store, Write

__all__ = ["ConfigFile", "read_folder", "sync_project"]

_FILE = "luci-scheduler.cfg"
_RACES = 5

_logger = structlog.stdlib.get_logger("luci_scheduler")


@dataclass(frozen=True, slots=True)
class ConfigFile:
    """A project's config as its source holds it."""

    project: str
    text: str
    revision: str
    revision_url: str = ""


def read_folder(folder: Path, revision: str = "") -> list[ConfigFile]:
    """Return the configs ``<folder>/<project>/luci-scheduler.cfg``; without ``revision``, a hash of each stands for it."""
    files = []
    for path in sorted(folder.glob(f"*/{_FILE}")):
        text = path.read_text(encoding="utf-8")
        files.append(
            ConfigFile(
                path.parent.name, text, revision or hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()
            )
        )
    return files


def sync_project(store: Store, file: ConfigFile, key: str) -> int:
    """Put a project's config in force and return how many jobs changed; one that is in force already costs one read.

    A config with problems changes no job: the last good one stays in force, and the project's record tells what is wrong.

    Raises:
        ComeAgainError: the project's documents change too fast.
        TransientError: the store failed; nothing was written.
    """
    for _ in range(_RACES):
        found = store.project(file.project)
        record = found.value if found else ProjectRecord(file.project)
        if found and record.revision == file.revision and not record.problems:
            return 0
        version = found.version if found else None
        try:
            config = read_config(file.project, file.text, file.revision, file.revision_url)
        except ConfigError as error:
            _logger.warning("config_invalid", project=file.project, revision=file.revision, problems=error.problems)
            if record.problems == tuple(error.problems):
                return 0
            broken = replace(record, problems=tuple(error.problems), mutations=record.mutations + 1)
            writes: list[Write] = [PutProject(broken, version)]
        else:
            writes = list(_writes(store, record, version, config, file, key))
        try:
            store.commit(writes)
        except StoreConflictError:
            continue
        changed = sum(isinstance(write, PutJob) for write in writes)
        _logger.info("config_synced", project=file.project, revision=file.revision, jobs_changed=changed)
        return changed
    raise ComeAgainError(f"the documents of project {file.project} change too fast to put a config in force")


def _writes(
    store: Store, record: ProjectRecord, version: object | None, config: ProjectConfig, file: ConfigFile, key: str
) -> Iterable[Write]:
    for job_id, definition in config.jobs.items():
        found = store.job(job_id)
        job = _changed(found, job_id, definition)
        if job is not None:
            yield PutJob(replace(job, mutations=job.mutations + 1, last_event=key), found.version if found else None)
    for job_id in sorted(set(record.job_ids) - set(config.jobs)):
        found = store.job(job_id)
        if found and found.value.enabled:
            job = replace(found.value, enabled=False, mutations=found.value.mutations + 1, last_event=key)
            yield PutJob(job, found.version)
    for repo in sorted({*record.repos, *config.watchers}):
        yield PutWatchers(repo, file.project, config.watchers.get(repo, ()))
    in_force = ProjectRecord(
        id=file.project,
        revision=file.revision,
        revision_url=file.revision_url,
        job_ids=tuple(sorted(config.jobs)),
        repos=tuple(sorted(config.watchers)),
        mutations=record.mutations + 1,
    )
    yield PutProject(in_force, version)


def _changed(found: Found[Job] | None, job_id: JobId, definition: JobDefinition) -> Job | None:
    """Return the job as it must become, or None; a new revision alone is no change, as in the original."""
    if found is None:
        return Job(job_id, definition)
    job = found.value
    same = replace(job.definition, revision=definition.revision, revision_url=definition.revision_url) == definition
    return None if same and job.enabled else replace(job, definition=definition, enabled=True)
