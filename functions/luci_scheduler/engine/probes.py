"""Probes: each function marks a probe that reaches it, and ``on_task`` checks the services that the functions need."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import field, replace
from functools import partial
from typing import Any

from luci_scheduler.budget import limited
from luci_scheduler.core.commit_hosts import HostKind
from luci_scheduler.core.errors import (
    BadTokenError,
    MalformedError,
    NewerVersionError,
    PermanentError,
    SchedulerError,
)
from luci_scheduler.core.frozen import frozen
from luci_scheduler.core.identifiers import JobId, project_of
from luci_scheduler.core.instants import Instant, format_rfc3339
from luci_scheduler.core.job import Job
from luci_scheduler.core.notification_token import make_token, verify_token
from luci_scheduler.core.probe import INVOCATION, LIFETIME, MAX_LABEL, MAX_MARKS, Finding, Mark, Probe, job_of
from luci_scheduler.core.project_record import ProjectRecord
from luci_scheduler.core.queue_tasks import VERSION, ProbeTask, check_version
from luci_scheduler.core.repo_url import BadRepoUrlError, RepoUrl
from luci_scheduler.core.untrusted import PARSER_ERRORS, storable
from luci_scheduler.engine.probe_builds import BuildServer, dry_runs
from luci_scheduler.engine.runtime import Runtime, logger
from luci_scheduler.managers.environment import Environment
from luci_scheduler.ports import HostQuotas, PutProbe, ServiceError, Versioned

__all__ = ["Prober"]

_CALL_SECONDS = 10.0
"""The limit of one check. A person waits for the result."""

_AT_ONCE = 8
_MAX_REPOSITORIES = 20  # beyond the repositories that hold configs: one of each host
_MAX_JOBS = 2000  # whose buckets are checked
_MAX_PROBLEM = 1000  # characters
_NO_JOB = JobId("@probe/none")
_NO_HASH = "0" * 40
_NO_PERMISSION = frozenset({"PERMISSION_DENIED", "UNAUTHENTICATED", "403", "401"})

_Check = tuple[str, str, Callable[[], object]]
"""Kind and subject of a finding, and the call that must succeed. A text that it returns is the finding's note."""


@frozen
class Prober:
    """Marks and checks of one function."""

    runtime: Runtime
    secrets: Sequence[str] = field(repr=False)
    """The first signs notification tokens; all verify."""
    revision: str
    schema: int
    environment: Environment
    """Holds Buildbucket and Cloud Build."""
    servers: Mapping[str, BuildServer]
    config_repos: Sequence[str]
    """URLs of the repositories that hold configs."""
    quotas: HostQuotas | None = None
    """The quotas of GitHub hosts; None: they are not checked."""

    def mark(self, function: str, probe_id: str, label: str = "") -> None:
        """Record that an authenticated probe has reached a function.

        Does nothing if there is no such probe, if it is older than ten minutes, or if it has this mark. A stranger who
        may publish messages therefore costs a read each. The same holds for a probe of a newer version: a redelivery
        would serve no build, and would end as a dead letter.

        Raises:
            ComeAgainError, TransientError: the store failed; nothing was written.
        """
        name = f"{function} {storable(label[:MAX_LABEL])}".strip()

        def attempt() -> None:
            found, now = self._read(probe_id), self.runtime.clock.now()
            if found is None or not _takes(found.value, name, now):
                logger.info("probe_ignored", function=function)
                return
            marks = {**found.value.marks, name: self._mark(found.value, now)}
            self.runtime.store.commit([PutProbe(replace(found.value, marks=marks), found.version)])
            logger.info("probe_marked", function=function, probe=probe_id)

        self.runtime.retry_conflicts(f"probe {probe_id[:40]}", "mark it", attempt)

    def _read(self, probe_id: str) -> Versioned[Probe] | None:
        try:
            return self.runtime.store.probe(probe_id) if probe_id else None
        except NewerVersionError as error:
            logger.warning("document_newer", document=f"probes/{probe_id[:40]}", reason=str(error))
            return None

    def _mark(self, probe: Probe, now: Instant) -> Mark:
        token = make_token(self.secrets[0], job_of(probe.id), INVOCATION, now)
        unexplained = sorted(name for name, mark in probe.marks.items() if not self._explains(probe, mark, now))
        return Mark(now, self.revision, self.schema, VERSION, token, tuple(unexplained))

    def _explains(self, probe: Probe, mark: Mark, now: Instant) -> bool:
        try:
            return verify_token(self.secrets, mark.token, now)[0] == job_of(probe.id)
        except BadTokenError:
            return False

    def run(self, payload: Mapping[str, Any]) -> None:
        """Handle a probe task: mark the probe, then check the store's queries, commit hosts and services of builds.

        The mark is committed first, so that a slow service does not look like a lost task.

        Raises:
            MalformedError: the payload names no probe.
            NewerVersionError: a newer version wrote the payload.
            ComeAgainError, TransientError: the store failed.
        """
        try:
            check_version(ProbeTask.kind, payload)
            probe_id = ProbeTask.from_payload(payload).probe_id
        except PARSER_ERRORS as error:
            raise MalformedError(f"bad payload of a probe task: {error!r}") from error
        self.mark("on_task", probe_id)
        found = self._pending(probe_id)
        if found is None:
            return
        findings = tuple(self._findings())

        def attempt() -> None:
            if (current := self._pending(probe_id)) is not None:
                self.runtime.store.commit(
                    [PutProbe(replace(current.value, findings=findings, done=True), current.version)]
                )

        self.runtime.retry_conflicts(f"probe {probe_id[:40]}", "record its findings", attempt)

    def _pending(self, probe_id: str) -> Versioned[Probe] | None:
        found = self._read(probe_id)
        is_open = found is not None and not found.value.done and not _is_old(found.value, self.runtime.clock.now())
        return found if is_open else None

    def _findings(self) -> list[Finding]:
        queries = _run(self._queries())
        if any(finding.problem for finding in queries):
            return queries  # without the store there are no jobs and no repositories to check
        projects = self.runtime.store.projects()
        repos, jobs = self._repos(projects), self._jobs(projects)
        hosts, builds = [*self._quota_checks(repos), *self._gitiles_checks(repos)], self._build_checks(jobs)
        return queries + _run([*hosts, *builds, *self._cloud_checks(jobs)])

    def _queries(self) -> Iterator[_Check]:
        """Yield every query that needs an index, as the sweep, the pages and the explanations send it."""
        store, now = self.runtime.store, self.runtime.clock.now()
        yield "index", "invocations by next_due", lambda: store.due_invocations(now, 1)
        yield "index", "jobs by next_due", lambda: store.due_jobs(now, 1)
        yield "index", "deferred by next_due", lambda: store.due_deferred(now, 1)
        yield "index", "deferred by revision", lambda: store.deferred_of_revision(_NO_HASH, 1)
        yield "index", "triggers by revision", lambda: store.triggers_of_revision(_NO_HASH, 1)
        yield "index", "triggers by pending", lambda: store.pending_triggers(_NO_JOB, 1)

    def _repos(self, projects: Sequence[ProjectRecord]) -> Sequence[str]:
        """Return each repository that holds a config, and one watched repository of each host."""
        watched: dict[str, str] = {}
        for record in projects:
            for repo in record.repos:
                watched.setdefault(RepoUrl.read_back(repo).host, repo)
        return list(dict.fromkeys([*self.config_repos, *list(watched.values())[:_MAX_REPOSITORIES]]))

    def _quota_checks(self, repos: Sequence[str]) -> Iterator[_Check]:
        """Yield a request for our quota at each GitHub host, which also proves that the credentials are valid."""
        quotas, hosts = self.quotas, self.runtime.hosts
        if quotas is None:
            return
        parsed = (hosts.parse(repo) for repo in repos if hosts.knows(repo))
        for host in dict.fromkeys(repo.host for repo in parsed if hosts.kind(repo) is HostKind.GITHUB):
            yield "github", host, partial(_quota_text, quotas, host)

    def _gitiles_checks(self, repos: Sequence[str]) -> Iterator[_Check]:
        for repo in repos:
            yield "gitiles", repo, partial(_read_refs, self.runtime, repo)

    def _build_checks(self, jobs: Sequence[Job]) -> Iterator[_Check]:
        """Yield a dry run of a build in each bucket of each server."""
        for item in dry_runs(jobs, self.servers):
            yield "buildbucket", item.subject, partial(item.send, self.environment.buildbucket)

    def _cloud_checks(self, jobs: Sequence[Job]) -> Iterator[_Check]:
        """Yield a check of each place, account and trigger of Cloud Build."""
        from luci_scheduler.engine.probe_cloud_builds import cloud_checks  # noqa: PLC0415 - only probes load it

        for item in cloud_checks(jobs, self.environment.cloud_build_defaults):
            yield "cloud_build", item.subject, partial(item.send, self.environment, _CALL_SECONDS)

    def _jobs(self, projects: Sequence[ProjectRecord]) -> Sequence[Job]:
        names = [name for record in projects for name in record.job_ids]
        return sorted(self.runtime.store.jobs(names[:_MAX_JOBS]), key=lambda job: (project_of(job.id), job.id))


def _takes(probe: Probe, name: str, now: Instant) -> bool:
    return name not in probe.marks and len(probe.marks) < MAX_MARKS and not _is_old(probe, now)


def _is_old(probe: Probe, now: Instant) -> bool:
    return now - probe.created >= LIFETIME


def _run(checks: Iterator[_Check] | Sequence[_Check]) -> list[Finding]:
    """Make the calls in parallel, each within its limit, and return their results in order."""
    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="probe") as pool:
        return list(pool.map(lambda job: job[0].run(_checked, *job[1]), [(copy_context(), check) for check in checks]))


def _checked(kind: str, subject: str, call: Callable[[], object]) -> Finding:
    try:
        with limited(_CALL_SECONDS):
            said = call()
    except ServiceError as error:
        return Finding(kind, subject, _problem(error), is_permission=error.code in _NO_PERMISSION)
    except SchedulerError as error:
        return Finding(kind, subject, _problem(error))
    return Finding(kind, subject, note=said if isinstance(said, str) else "")


def _read_refs(runtime: Runtime, repo: str) -> None:
    try:
        url = runtime.hosts.parse(repo)
    except BadRepoUrlError as error:
        raise PermanentError(f"no commit host is configured for it: {error}") from error
    runtime.gitiles.refs(url, "refs/heads/main")


def _quota_text(quotas: HostQuotas, host: str) -> str:
    """Return how many requests a host still answers.

    Raises:
        PermanentError: it answers none until the next hour.
    """
    found = quotas.quota(host)
    if found is None:
        return f"{host} limits no requests"
    if found.left <= 0:
        raise PermanentError(
            f"all {found.limit} requests of this hour are used up until {format_rfc3339(found.renewed)}"
        )
    return f"{host} answers {found.left} of {found.limit} requests until {format_rfc3339(found.renewed)}"


def _problem(error: Exception) -> str:
    return storable(str(error))[:_MAX_PROBLEM]  # the server chose the text, and a document has at most a MiB
