"""What a call of the service layer works with: who calls, what they may do, and the trail that they leave."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from luci_scheduler.api.access import Access, Permission
from luci_scheduler.api.errors import ApiError, Code, forbidden, invalid, no_such_invocation, no_such_job
from luci_scheduler.core.identifiers import InvocationId, JobId, project_of
from luci_scheduler.core.identity import Identity
from luci_scheduler.core.instants import format_rfc3339
from luci_scheduler.core.invocation import Invocation
from luci_scheduler.core.job import Job
from luci_scheduler.engine.runtime import Runtime, logger

__all__ = ["Context", "request_hash"]

_MAX_REQUEST_ID = 128


@dataclass(frozen=True, slots=True)
class Context:
    """One caller's view of the scheduler; cheap to make, one for each call.

    What a caller may not see and what does not exist are told apart nowhere: same error, same text.
    """

    runtime: Runtime
    access: Access
    caller: Identity

    def may(self, permission: Permission, job: Job) -> bool:
        """Whether the caller may do something to a job; without being allowed to see it, nothing."""
        project, realm = project_of(job.id), job.definition.realm
        allowed = self.access.allows(self.caller, permission, project, realm)
        return allowed and self.access.allows(self.caller, Permission.GET, project, realm)

    def sees_some(self, project: str = "") -> bool:
        """Whether the policy lets the caller see any job of a project, or of any; where it does not, nothing need be read."""
        return self.access.allows_somewhere(self.caller, Permission.GET, project)

    def sees_all(self, project: str) -> bool:
        """Whether the caller sees every job that a project has or will have."""
        return self.access.allows_everywhere(self.caller, Permission.GET, project)

    def require_visible_project(self, job_ids: Sequence[JobId]) -> None:
        """Refuse a caller to whom the policy grants nothing in any project of these jobs; without jobs do nothing.

        Raises:
            ApiError: NOT_FOUND with all jobs.
        """
        if job_ids and not any(self.sees_some(project) for project in {project_of(name) for name in job_ids}):
            raise no_such_job(", ".join(sorted(set(job_ids))))

    def visible_job(self, job_id: JobId) -> Job:
        """Return an enabled job that the caller may see: one read, none where the policy grants nothing in the project.

        Raises:
            ApiError: NOT_FOUND.
        """
        found = self.runtime.store.job(job_id) if self.sees_some(project_of(job_id)) else None
        if found is None or not found.value.enabled or not self.may(Permission.GET, found.value):
            raise no_such_job()
        return found.value

    def job_to(self, permission: Permission, job_id: JobId) -> Job:
        """Return a job that the caller may act on: one read.

        Raises:
            ApiError: NOT_FOUND, PERMISSION_DENIED.
        """
        job = self.visible_job(job_id)
        if not self.may(permission, job):
            self.denied(permission, job_id)
            raise forbidden()
        return job

    def jobs_to(self, permission: Permission, job_ids: Sequence[JobId]) -> dict[JobId, Job]:
        """Return jobs that the caller may act on, all of them or none.

        Costs one call, and a read for each job of a project in which the policy grants the caller anything.

        Raises:
            ApiError: NOT_FOUND with all jobs that are not there or not visible, PERMISSION_DENIED.
        """
        wanted = sorted(set(job_ids))
        granted = {project for project in {project_of(name) for name in wanted} if self.sees_some(project)}
        read = [name for name in wanted if project_of(name) in granted]
        jobs = {job.id: job for job in (self.runtime.store.jobs(read) if read else ())}
        visible = {name: job for name, job in jobs.items() if job.enabled and self.may(Permission.GET, job)}
        if missing := [name for name in wanted if name not in visible]:
            raise no_such_job(", ".join(missing))
        for name, job in visible.items():
            if not self.may(permission, job):
                self.denied(permission, name)
                raise forbidden()
        return visible

    def invocation(self, job_id: JobId, invocation_id: InvocationId) -> Invocation:
        """Return an invocation of a job that was found visible: one read.

        Raises:
            ApiError: NOT_FOUND.
        """
        found = self.runtime.store.invocation(job_id, invocation_id)
        if found is None:
            raise no_such_invocation()
        return found.value

    def delivery(self) -> str:
        """Return the key of a delivery that nobody will repeat."""
        return f"api-{self.runtime.entropy.nonce():016x}"

    def audit(self, action: str, **about: Any) -> None:
        """Leave a line of the audit trail: an action was taken, by whom, when and why."""
        logger.info("audit", action=action, who=self.caller, when=self._now(), **about)

    def denied(self, permission: Permission, job_id: JobId) -> None:
        """Leave a line of the audit trail: an action was refused."""
        logger.warning("audit_denied", action=permission, who=self.caller, when=self._now(), job_id=job_id)

    def require_admin(self) -> None:
        """Refuse everybody but administrators.

        Raises:
            ApiError: PERMISSION_DENIED.
        """
        if not self.access.is_admin(self.caller):
            raise ApiError(Code.PERMISSION_DENIED, "not an administrator")

    def _now(self) -> str:
        return format_rfc3339(self.runtime.clock.now())


def request_hash(caller: Identity, request_id: str) -> str:
    """Return what stands in trigger IDs for a caller's own key: the same key of two callers is not the same.

    Raises:
        ApiError: INVALID_ARGUMENT: there is no key, or a bad one.
    """
    if not 0 < len(request_id) <= _MAX_REQUEST_ID or not request_id.isascii() or not request_id.isprintable():
        raise invalid(
            f"request_id must have 1 to {_MAX_REQUEST_ID} printable ASCII characters: the same ID again has no second effect"
        )
    return hashlib.sha256(f"{caller}\0{request_id}".encode()).hexdigest()[:16]
