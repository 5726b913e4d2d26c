"""Jobs that an older release stored: their documents get the fields that lists query, and their latest results."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import replace

import structlog

from luci_scheduler.core.errors import ComeAgainError, StoreConflictError
from luci_scheduler.core.identifiers import JobId
from luci_scheduler.core.invocation import result_of
from luci_scheduler.core.job import MAX_RECENT, Job
from luci_scheduler.core.project_record import JOB_LAYOUT, ProjectRecord
from luci_scheduler.engine.jobs import put_job
from luci_scheduler.engine.runtime import Runtime
from luci_scheduler.ports import PutProject, Versioned

__all__ = ["prepare_job_lists"]

_logger = structlog.stdlib.get_logger("luci_scheduler")


def prepare_job_lists(runtime: Runtime, record: ProjectRecord, key: str) -> ProjectRecord:
    """Write the documents of a project's jobs again if an older release wrote them; return the project's record.

    Happens once after an upgrade, whether or not the project's config is valid. If it stops in the middle, the next
    sync begins again, without harm. Costs one write and up to 11 reads for each job, in parallel; nothing after that.

    Raises:
        ComeAgainError: the documents change too fast.
        TransientError: the store failed; some jobs are prepared.
    """
    if record.job_layout == JOB_LAYOUT:
        return record
    with ThreadPoolExecutor(runtime.limits.concurrency, thread_name_prefix="job-list") as pool:
        # The copied context carries the time budget into the threads.
        futures = [pool.submit(copy_context().run, _prepare, runtime, job_id, key) for job_id in record.job_ids]
    for future in futures:
        future.result()
    _logger.info("job_lists_prepared", project=record.id, jobs=len(record.job_ids))
    return _mark(runtime, record)


def _prepare(runtime: Runtime, job_id: JobId, key: str) -> None:
    def attempt(found: Versioned[Job] | None) -> None:
        if found is not None:
            runtime.store.commit([put_job(_with_results(runtime, found.value), found, key)])

    runtime.update_job(job_id, "prepare it for lists", attempt)


def _with_results(runtime: Runtime, job: Job) -> Job:
    """Return a job with the results of its latest invocations, unless it has results already."""
    if job.recent:
        return job
    ended = [item for item in runtime.store.invocations(job.id, MAX_RECENT) if item.status.is_final]
    latest = sorted(map(result_of, ended), key=lambda item: item.finished, reverse=True)
    return replace(job, recent=tuple(latest))


def _mark(runtime: Runtime, record: ProjectRecord) -> ProjectRecord:
    """Record that the jobs are prepared, unless another sync has changed the project meanwhile."""
    found = runtime.store.project(record.id)
    marked = replace(record, job_layout=JOB_LAYOUT, commits=record.commits + 1)
    try:
        if found is not None and found.value.commits == record.commits:
            runtime.store.commit([PutProject(marked, found.version)])
            return marked
    except StoreConflictError:
        pass
    raise ComeAgainError(f"another sync has changed project {record.id} in the meantime")
