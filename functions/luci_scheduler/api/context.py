"""The context of a service call: the caller, the access policy, and the audit trail."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import field
from typing import Any

from luci_scheduler.api.access import Access, Permission
from luci_scheduler.api.errors import ApiError, Code, forbidden, invalid, no_such_invocation, no_such_job
from luci_scheduler.api.installation import Installation
from luci_scheduler.core.frozen import frozen
from luci_scheduler.core.identifiers import InvocationId, JobId, project_of
from luci_scheduler.core.identity import Identity
from luci_scheduler.core.instants import format_rfc3339
from luci_scheduler.core.invocation import Invocation
from luci_scheduler.core.job import Job
from luci_scheduler.engine.runtime import Runtime, logger

__all__ = ["Context", "request_key"]

_MAX_REQUEST_ID = 128  # characters; a UUID has 36


@frozen
class Context:
    """One caller's view of the scheduler; cheap, made once for each call.

    A job that the caller may not see and a job that does not exist give the same error with the same text.
    """

    runtime: Runtime
    access: Access
    caller: Identity
    installation: Installation = field(default_factory=Installation)

    def may(self, permission: Permission, job: Job) -> bool:
        """Return whether the caller has a permission on a job; a caller who may not see the job has none."""
        project, realm = project_of(job.id), job.definition.realm
        allowed = self.access.allows(self.caller, permission, project, realm)
        return allowed and self.access.allows(self.caller, Permission.GET, project, realm)

    def sees_some(self, project: str = "") -> bool:
        """Return whether the policy lets the caller see any job of a project, or of any project.

        If not, no document needs to be read.
        """
        return self.access.allows_somewhere(self.caller, Permission.GET, project)

    def sees_all(self, project: str) -> bool:
        """Return whether the caller sees every job that a project has or will have."""
        return self.access.allows_everywhere(self.caller, Permission.GET, project)

    def realms(self, project: str) -> tuple[str, ...] | None:
        """Return the realms of a project whose jobs the caller sees, sorted; None if the caller sees all jobs."""
        return self.access.realms(self.caller, Permission.GET, project)

    def require_visible_project(self, job_ids: Sequence[JobId]) -> None:
        """Refuse a caller whom the policy grants nothing in any project of these jobs; do nothing without jobs.

        Raises:
            NoSuchJobError: the caller sees none of the projects; the text names all jobs.
        """
        if job_ids and not any(self.sees_some(project) for project in _projects(job_ids)):
            raise no_such_job(", ".join(sorted(set(job_ids))))

    def visible_job(self, job_id: JobId) -> Job:
        """Return an enabled job that the caller may see.

        Costs one read, or none if the policy grants the caller nothing in the project.

        Raises:
            NoSuchJobError: the job does not exist, is disabled, or is not visible.
        """
        job = self.known_job(job_id)
        if not job.enabled:
            raise no_such_job()
        return job

    def known_job(self, job_id: JobId) -> Job:
        """Return a job that the caller may see, even if no config defines it any more; costs the same reads.

        The realm of its last definition decides.

        Raises:
            NoSuchJobError: the job does not exist or is not visible.
        """
        found = self.runtime.store.job(job_id) if self.sees_some(project_of(job_id)) else None
        if found is None or not self.may(Permission.GET, found.value):
            raise no_such_job()
        return found.value

    def job_to(self, permission: Permission, job_id: JobId) -> Job:
        """Return a job on which the caller has a permission; costs one read.

        Raises:
            NoSuchJobError: as `visible_job` does.
            ApiError: PERMISSION_DENIED.
        """
        job = self.visible_job(job_id)
        self._require(permission, job)
        return job

    def jobs_to(self, permission: Permission, job_ids: Sequence[JobId]) -> dict[JobId, Job]:
        """Return jobs on which the caller has a permission: all of them or none.

        Costs one call, and one read for each job of a project in which the policy grants the caller anything.

        Raises:
            NoSuchJobError: the text names all jobs that do not exist or are not visible.
            ApiError: PERMISSION_DENIED.
        """
        wanted = sorted(set(job_ids))
        visible = {job.id: job for job in self._read_jobs(wanted) if self._sees(job)}
        if missing := [name for name in wanted if name not in visible]:
            raise no_such_job(", ".join(missing))
        for job in visible.values():
            self._require(permission, job)
        return visible

    def _read_jobs(self, job_ids: Sequence[JobId]) -> Sequence[Job]:
        """Read jobs, except those of projects in which the caller sees nothing."""
        granted = {project for project in _projects(job_ids) if self.sees_some(project)}
        readable = [name for name in job_ids if project_of(name) in granted]
        return list(self.runtime.store.jobs(readable)) if readable else []

    def _sees(self, job: Job) -> bool:
        return job.enabled and self.may(Permission.GET, job)

    def _require(self, permission: Permission, job: Job) -> None:
        if not self.may(permission, job):
            self.audit_denied(permission, job.id)
            raise forbidden()

    def invocation(self, job_id: JobId, invocation_id: InvocationId) -> Invocation:
        """Return an invocation of a job that is known to be visible; costs one read.

        Raises:
            NoSuchInvocationError: it does not exist.
        """
        found = self.runtime.store.invocation(job_id, invocation_id)
        if found is None:
            raise no_such_invocation()
        return found.value

    def fresh_key(self) -> str:
        """Return an idempotency key for a request that no client will repeat."""
        return f"api-{self.runtime.entropy.nonce():016x}"

    def audit(self, action: str, **about: Any) -> None:
        """Write an audit line: who took an action, when, and why."""
        logger.info("audit", action=action, who=self.caller, when=self._now(), **about)

    def audit_denied(self, permission: Permission, job_id: JobId) -> None:
        """Write an audit line: an action was refused."""
        logger.warning("audit_denied", action=permission, who=self.caller, when=self._now(), job_id=job_id)

    def require_admin(self) -> None:
        """Refuse callers who are not administrators.

        Raises:
            ApiError: PERMISSION_DENIED.
        """
        if not self.access.is_admin(self.caller):
            raise ApiError(Code.PERMISSION_DENIED, "not an administrator")

    def _now(self) -> str:
        return format_rfc3339(self.runtime.clock.now())


def _projects(job_ids: Iterable[JobId]) -> set[str]:
    return {project_of(name) for name in job_ids}


def request_key(caller: Identity, request_id: str) -> str:
    """Return the idempotency key for a caller's own request ID; two callers never share one.

    Raises:
        ApiError: INVALID_ARGUMENT: the request ID is empty, longer than 128 characters, or not printable ASCII.
    """
    if not 0 < len(request_id) <= _MAX_REQUEST_ID or not request_id.isascii() or not request_id.isprintable():
        raise invalid(
            f"request_id must have 1 to {_MAX_REQUEST_ID} printable ASCII characters: "
            "the same ID again has no second effect"
        )
    return hashlib.sha256(f"{caller}\0{request_id}".encode()).hexdigest()[:16]
