"""Config sync: the jobs in the store follow the configs, each project as a whole or not at all."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import structlog

from luci_scheduler.config.reader import ConfigError, ProjectConfig, read_config
from luci_scheduler.core.errors import ComeAgainError, StoreConflictError
from luci_scheduler.core.job_changes import defined, removed
from luci_scheduler.engine.jobs import put_job, with_tick
from luci_scheduler.engine.outbox import triage_task
from luci_scheduler.engine.runtime import Runtime
from luci_scheduler.ports import ProjectRecord, PutJob, PutProject, PutWatchers, Write

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


def sync_project(runtime: Runtime, file: ConfigFile, key: str) -> int:
    """Put a project's config in force and return how many jobs changed; one that is in force already costs one read.

    A config with problems changes no job: the last good one stays in force, and the project's record tells what is wrong.

    Raises:
        ComeAgainError: the project's documents change too fast.
        TransientError: the store failed; nothing was written.
    """
    for _ in range(_RACES):
        found = runtime.store.project(file.project)
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
            writes = list(_writes(runtime, record, version, config, file, key))
        try:
            runtime.store.commit(writes)
        except StoreConflictError:
            continue
        jobs = [write.job for write in writes if isinstance(write, PutJob)]
        for job in jobs:
            if job.triage_due is not None:  # if one is lost the sweep asks again
                runtime.queue.enqueue(triage_task(job.id, runtime.clock.now()))
        changed = len(jobs)
        _logger.info("config_synced", project=file.project, revision=file.revision, jobs_changed=changed)
        return changed
    raise ComeAgainError(f"the documents of project {file.project} change too fast to put a config in force")


def _writes(
    runtime: Runtime, record: ProjectRecord, version: object | None, config: ProjectConfig, file: ConfigFile, key: str
) -> Iterable[Write]:
    now = runtime.clock.now()
    for job_id in sorted({*config.jobs, *record.job_ids}):
        found, definition = runtime.store.job(job_id), config.jobs.get(job_id)
        job = found.value if found else None
        if definition is not None:
            change = defined(job, job_id, definition, now, runtime.chance.nonce)
        else:
            change = removed(job, now) if job else None
        if change is not None:
            yield put_job(with_tick(runtime, change, now), found, key)
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
