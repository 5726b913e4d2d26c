"""The composition root: it builds every application, in the cloud or on this machine, from settings and ports."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from luci_scheduler.core.commit_event import CommitEvent
from luci_scheduler.core.frozen import frozen
from luci_scheduler.core.identity import ANONYMOUS, Identity
from luci_scheduler.core.instants import DAY, SECOND
from luci_scheduler.core.queue_tasks import SyncTask
from luci_scheduler.core.topic_names import topic_names
from luci_scheduler.engine.runtime import Limits, Runtime
from luci_scheduler.managers.environment import CloudBuildDefaults, Environment, Polling, Server
from luci_scheduler.managers.registry import launch_time, make_era_of, make_managers
from luci_scheduler.ports import (
    Buildbucket,
    Clock,
    CloudBuild,
    CommitStatuses,
    ConfigSource,
    Entropy,
    Fetch,
    Gitiles,
    Headers,
    HostQuotas,
    Queue,
    QueueTask,
    Store,
    Topic,
    Turns,
)
from luci_scheduler.settings import BuildbucketServer, Settings

if TYPE_CHECKING:
    from luci_scheduler.api.access import Access
    from luci_scheduler.api.context import Context
    from luci_scheduler.api.installation import Installation
    from luci_scheduler.engine.probes import Prober

__all__ = ["App", "Identify", "Ports", "VerifyCaller", "make_app"]


Identify = Callable[[Headers], Identity]
"""Finds out who sent a request to the console; raises ``UnauthenticatedError`` or ``TransientError``."""

VerifyCaller = Callable[[Headers], str]
"""Maps the headers of a task or a push to the caller's e-mail; raises ``UnauthenticatedError`` or
``TransientError``."""


@frozen
class Ports:
    """Everything outside the process that an application works with.

    `cloud_ports.cloud_ports` builds the ports of a deployment, ``emulator.memory.ports.memory_ports`` ports without any
    server. An installation that differs in some of them replaces these with `dataclasses.replace`.
    """

    store: Store
    queue: Queue
    clock: Clock
    entropy: Entropy
    buildbucket: Buildbucket
    gitiles: Gitiles
    fetch: Fetch
    verify_caller: VerifyCaller
    """Accepts or refuses the callers of ``on_task``."""
    verify_push: VerifyCaller
    """Accepts or refuses the callers of ``on_gitiles_commit`` and ``on_build_completion``."""
    identify: Identify = lambda _: ANONYMOUS
    """Identifies the callers of the console."""
    config_sources: Sequence[ConfigSource] = ()
    """The sources of the projects' configs; the first source that has a project wins."""
    statuses: CommitStatuses | None = None
    """Where commits show the statuses of invocations; None: nowhere."""
    topic: Topic | None = None
    """Where invocations are announced; None: nowhere."""
    turns: Turns | None = None
    """The turns of deliveries in this process; None: deliveries do not wait for each other."""
    cloud_build: CloudBuild | None = None
    """The Cloud Build API; None: the installation has no ``cloud_build`` jobs."""
    quotas: HostQuotas | None = None
    """The quotas of GitHub hosts; None: no probe reads them."""


@frozen
class App:
    """An application: everything that the entry points need."""

    settings: Settings
    runtime: Runtime
    verify_caller: VerifyCaller
    verify_push: VerifyCaller
    identify: Identify
    config_sources: Sequence[ConfigSource]
    environment: Environment
    """The ports and values of task managers."""
    quotas: HostQuotas | None

    @property
    def access(self) -> Access:
        """The access policy of the console."""
        from luci_scheduler.api.access import load_access  # noqa: PLC0415 - only the console loads it

        return load_access(self.settings.access)

    @property
    def installation(self) -> Installation:
        """The facts that administrators may read."""
        from luci_scheduler.api.installation import Installation  # noqa: PLC0415 - only the console loads it

        settings = self.settings
        topics = {_topic(settings, server) for server in settings.buildbucket_servers if server.notifications}
        return Installation(
            service=settings.service_name,
            revision=os.environ.get("K_REVISION", ""),
            project=settings.project,
            location=settings.location,
            database=settings.database,
            queue=settings.queue,
            account=settings.task_account,
            topics=tuple(sorted(topics)),
            build_projects=self._build_projects,
            build_accounts=self._build_accounts,
            config_projects=tuple(source.project for source in settings.config_sources if source.project),
        )

    def prober(self, revision: str, schema: int) -> Prober:
        """Return the part that handles probes, for a function's revision and the schema of its documents."""
        from luci_scheduler.engine.probe_builds import BuildServer  # noqa: PLC0415 - only probes load it
        from luci_scheduler.engine.probes import Prober  # noqa: PLC0415

        settings = self.settings
        servers = {
            item.host: BuildServer(item.protocol, _topic(settings, item)) for item in settings.buildbucket_servers
        }
        repos = [source.repo for source in settings.config_sources if source.repo]
        own = (settings.verifying_secrets, revision, schema)
        return Prober(self.runtime, *own, self.environment, servers, repos, self.quotas)

    @property
    def _build_projects(self) -> tuple[str, ...]:
        """The projects with builds of Cloud Build, the default first; none without Cloud Build jobs."""
        defaults = self.environment.cloud_build_defaults
        found = dict.fromkeys([defaults.project, *sorted(defaults.projects)])
        return tuple(found) if self.settings.cloud_build else ()

    @property
    def _build_accounts(self) -> tuple[str, ...]:
        """The e-mails of the accounts that builds of Cloud Build may run as, the default first."""
        defaults = self.environment.cloud_build_defaults
        named = [defaults.account, *sorted(account for own in defaults.projects.values() for account in own)]
        found = dict.fromkeys(account.rpartition("/")[2] for account in named if account)
        return tuple(found) if self.settings.cloud_build else ()

    def context(self, headers: Headers) -> Context:
        """Return the service layer's context for a request to the console.

        Raises:
            UnauthenticatedError: the request carries a token that is not accepted.
            TransientError: the token could not be verified, because the keys or Google did not answer.
        """
        from luci_scheduler.api.context import Context  # noqa: PLC0415 - only the console loads it

        return Context(self.runtime, self.access, self.identify(headers), self.installation)

    def note_config_changes(self, events: Iterable[CommitEvent]) -> None:
        """Enqueue a sync if one of the commits is on a branch that holds a config; safe to repeat.

        Raises:
            TransientError: the queue failed; the delivery must be repeated.
        """
        sources = {
            (str(self.settings.commit_hosts.parse(source.repo)), source.ref)
            for source in self.settings.config_sources
            if source.repo
        }
        if any((event.repo, event.ref) in sources for event in events):
            self.runtime.queue.enqueue(QueueTask.of(SyncTask(), self.runtime.clock.now()))

    def sync(self, key: str) -> None:
        """Read the configs of all sources and activate them."""
        # The config schema is large, and only this task loads it: commits and notifications start without it.
        from luci_scheduler.config.config_rules import ConfigRules  # noqa: PLC0415
        from luci_scheduler.config.sync import sync_sources  # noqa: PLC0415

        rules = ConfigRules(
            lenient_triggers=self.settings.lenient_triggers,
            max_active_invocations=self.settings.project_active_invocations,
            max_pending_triggers=self.settings.project_pending_triggers,
        )
        sync_sources(self.runtime, self.config_sources, key, rules)


def make_app(settings: Settings, ports: Ports) -> App:
    """Build an application from its settings and ports."""
    environment = _environment(settings, ports)
    runtime = Runtime(
        store=ports.store,
        queue=ports.queue,
        clock=ports.clock,
        entropy=ports.entropy,
        gitiles=ports.gitiles,
        managers=make_managers(environment),
        era_of=make_era_of(environment),
        launch_time=launch_time,
        limits=_limits(settings),
        statuses=ports.statuses,
        topic=ports.topic,
        console_url=settings.console_base,
        turns=ports.turns,
        hosts=settings.commit_hosts,
    )
    verifiers = (ports.verify_caller, ports.verify_push)
    return App(settings, runtime, *verifiers, ports.identify, ports.config_sources, environment, ports.quotas)


def _environment(settings: Settings, ports: Ports) -> Environment:
    """Return the part of the settings and ports that task managers use."""
    return Environment(
        buildbucket=ports.buildbucket,
        gitiles=ports.gitiles,
        pollers=ports.store,
        fetch=ports.fetch,
        app_id=settings.app_id,
        hostname=settings.default_hostname,
        token_secrets=settings.token_secrets,
        servers={
            server.host: Server(server.protocol, _topic(settings, server)) for server in settings.buildbucket_servers
        },
        check_interval=settings.check_interval_seconds * SECOND,
        request_deadline=settings.request_deadline_seconds * SECOND,
        polling=Polling(
            era=settings.gitiles_era,
            commits_per_ref=settings.gitiles_commits_per_ref,
            commits_per_poll=settings.gitiles_commits_per_poll,
            backfill=settings.gitiles_backfill,
        ),
        cloud_build=ports.cloud_build if settings.cloud_build else None,
        cloud_build_defaults=CloudBuildDefaults(
            project=settings.cloud_build_project or settings.project,
            location=settings.cloud_build_location,
            account=settings.cloud_build_account,
            projects=settings.cloud_build_projects or {},
            check_interval=settings.cloud_build_check_interval_seconds * SECOND,
            run_deadline=settings.cloud_build_run_seconds * SECOND,
        ),
        hosts=settings.commit_hosts,
    )


def _topic(settings: Settings, server: BuildbucketServer) -> str:
    if not server.notifications:
        return ""
    return server.topic or topic_names(settings.topics_in, "buildbucket", server.publisher).topic


def _limits(settings: Settings) -> Limits:
    """Return the engine's limits; settings count in seconds and days, the engine in nanoseconds."""
    return Limits(
        claim_lease=settings.claim_lease_seconds * SECOND,
        sweep_grace=settings.sweep_grace_seconds * SECOND,
        retention=settings.retention_days * DAY,
        keep_idle=settings.keep_unchanged_polls,
        concurrency=settings.concurrency,
        commit_wait=settings.commit_wait_seconds * SECOND,
        trust_publishers=settings.trust_commit_publishers,
    )
