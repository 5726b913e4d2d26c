"""The composition root: puts ports, managers and engine together, once per process and only when first needed."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import structlog

from luci_scheduler.api.access import Access, load_access
from luci_scheduler.api.context import Context
from luci_scheduler.config.folder import FolderSource
from luci_scheduler.core.commit_event import CommitEvent
from luci_scheduler.core.errors import TransientError
from luci_scheduler.core.foreign_text import redacted
from luci_scheduler.core.identity import ANONYMOUS, Identity
from luci_scheduler.core.instants import DAY, SECOND
from luci_scheduler.core.repo_url import parse_repo_url
from luci_scheduler.core.topic_names import topic_names
from luci_scheduler.engine.runtime import Limits, Runtime
from luci_scheduler.managers.environment import Environment, Polling, Server
from luci_scheduler.managers.registry import launch_time, make_era_of, make_managers
from luci_scheduler.ports import Buildbucket, Clock, ConfigSource, Entropy, Fetch, Gitiles, Queue, QueueTask, Store
from luci_scheduler.settings import Settings, read_settings

__all__ = [
    "App",
    "Identify",
    "app",
    "configure_logging",
    "have_logging",
    "make_app",
    "make_buildbucket",
    "make_config_sources",
    "make_fetch",
    "make_gitiles",
    "make_identify",
    "use",
]


Identify = Callable[[Any], Identity]
"""Headers of a request to the console (as a mapping that does not mind case) → who calls; raises ``identity.UnauthenticatedError``, ``TransientError``."""


@dataclass(frozen=True, slots=True)
class App:
    """Everything that the entry points need."""

    settings: Settings
    runtime: Runtime
    verify_caller: Any
    """``(authorization header) -> e-mail``; raises ``identity.UnauthenticatedError``."""
    access: Access
    """What callers of the console may do."""
    identify: Identify
    """Who calls the console."""
    config_sources: Sequence[ConfigSource]
    """Where projects' configs are kept."""

    def context(self, headers: Any) -> Context:
        """Return what the service layer works with for a call of the console.

        Raises:
            UnauthenticatedError: the caller brings a token that is not accepted.
            TransientError: what verifies it (keys, or Google's word) could not be had.
        """
        return Context(self.runtime, self.access, self.identify(headers))

    def note_config_changes(self, events: Iterable[CommitEvent]) -> None:
        """Have the configs read at once if a commit is one of a repository that holds some; safe to repeat.

        Raises:
            TransientError: the queue failed; deliver again.
        """
        sources = {
            (str(parse_repo_url(source.repo)), source.ref)
            for source in self.settings.config_sources
            if source.kind == "gitiles"
        }
        if any((event.repo, event.ref) in sources for event in events):
            self.runtime.queue.enqueue(QueueTask("sync", {}, self.runtime.clock.now()))

    def sync(self, key: str) -> None:
        """Put the configs of all sources in force."""
        from luci_scheduler.config.config_rules import ConfigRules  # noqa: PLC0415
        from luci_scheduler.config.sync import sync_sources  # noqa: PLC0415 - the schema loads for this only

        rules = ConfigRules(
            lenient_triggers=self.settings.lenient_triggers,
            max_active_invocations=self.settings.project_active_invocations,
            max_pending_triggers=self.settings.project_pending_triggers,
        )
        sync_sources(self.runtime, self.config_sources, key, rules)


_replaced: list[App] = []


def use(replacement: App | None) -> None:
    """Serve this process with ``replacement`` instead of what the environment says (None: undo); for replay and tests."""
    _replaced[:] = [] if replacement is None else [replacement]


def app() -> App:
    """Return the application of this process; the first call reads the environment and makes the clients.

    Raises:
        SettingsError: the environment is not complete.
        TransientError: the service account's credentials cannot be had just now; the next call tries again.
    """
    return _replaced[0] if _replaced else _from_environment()


_making = threading.Lock()
_MAKING_SECONDS = (
    25.0  # longer than the search for credentials; with one request after it, shorter than a page may take
)


def _from_environment() -> App:
    # The first requests of an instance come side by side, and `cache` lets each of them make one.
    if not _making.acquire(timeout=_MAKING_SECONDS):
        raise TransientError("other requests have been starting the function for too long")
    try:
        return _made_once()
    finally:
        _making.release()


@cache
def _made_once() -> App:
    configure_logging()
    settings = read_settings(os.environ)  # the one place where the environment is handed over
    configure_logging(settings.project)  # again: only now it is known whose traces they are
    return make_app(settings, **_cloud_ports(settings))


def make_app(
    settings: Settings,
    *,
    store: Store,
    queue: Queue,
    clock: Clock,
    entropy: Entropy,
    buildbucket: Buildbucket,
    gitiles: Gitiles,
    fetch: Fetch,
    verify_caller: Any,
    identify: Identify = lambda _: ANONYMOUS,
) -> App:
    """Put an application together from its ports."""
    environment = Environment(
        buildbucket=buildbucket,
        gitiles=gitiles,
        pollers=store,
        fetch=fetch,
        app_id=settings.app_id,
        hostname=settings.default_hostname,
        token_secrets=settings.token_secrets,
        servers={
            server.host: Server(
                server.protocol,
                server.topic or topic_names(settings.topics_in, "buildbucket", server.publisher).topic,
            )
            for server in settings.buildbucket_servers
        },
        check_interval=settings.check_interval_seconds * SECOND,
        request_deadline=settings.request_deadline_seconds * SECOND,
        polling=Polling(
            era=settings.gitiles_era,
            commits_per_ref=settings.gitiles_commits_per_ref,
            commits_per_poll=settings.gitiles_commits_per_poll,
            backfill=settings.gitiles_backfill,
        ),
    )
    limits = Limits(
        claim_lease=settings.claim_lease_seconds * SECOND,
        sweep_grace=settings.sweep_grace_seconds * SECOND,
        retention=settings.retention_days * DAY,
        keep_idle=settings.keep_unchanged_polls,
        concurrency=settings.concurrency,
        commit_wait=settings.commit_wait_seconds * SECOND,
        trust_publishers=settings.trust_commit_publishers,
    )
    runtime = Runtime(
        store=store,
        queue=queue,
        clock=clock,
        entropy=entropy,
        gitiles=gitiles,
        managers=make_managers(environment),
        era_of=make_era_of(environment),
        launch_time=launch_time,
        limits=limits,
    )
    access = load_access(settings.access)
    return App(settings, runtime, verify_caller, access, identify, make_config_sources(settings))


def _cloud_ports(settings: Settings) -> dict[str, Any]:
    from google.cloud import firestore  # noqa: PLC0415 - importing ``main`` must stay cheap

    from luci_scheduler.adapters.cloud_tasks import CloudTasksQueue, make_client  # noqa: PLC0415
    from luci_scheduler.adapters.firestore import FirestoreStore  # noqa: PLC0415
    from luci_scheduler.adapters.http import default_credentials, fetch, sessions  # noqa: PLC0415
    from luci_scheduler.adapters.identity import OidcVerifier  # noqa: PLC0415
    from luci_scheduler.adapters.system import SystemClock, SystemEntropy  # noqa: PLC0415

    clock = SystemClock()
    session = sessions(authenticated=not settings.local)
    audience = settings.task_audience or settings.task_url
    credentials = None if settings.local else default_credentials()
    queue_client = make_client(settings.cloud_tasks_endpoint, credentials)
    queue_path = f"projects/{settings.project}/locations/{settings.location}/queues/{settings.queue}"
    verifier = OidcVerifier(
        lambda: fetch(settings.oidc_certs_url), audience, {settings.task_account, *settings.task_callers}, clock
    )
    return {
        "store": FirestoreStore(
            firestore.Client(project=settings.project, database=settings.database, credentials=credentials)
        ),
        "queue": CloudTasksQueue(queue_client, queue_path, settings.task_url, settings.task_account, audience),
        "clock": clock,
        "entropy": SystemEntropy(),
        "buildbucket": make_buildbucket(settings, session, clock),
        "gitiles": make_gitiles(settings, session, clock),
        "fetch": make_fetch(settings),
        "verify_caller": verifier.verify,
        "identify": make_identify(settings, clock),
    }


def make_identify(settings: Settings, clock: Clock) -> Identify:
    """Return what tells who calls the console, from the headers of a request."""
    from luci_scheduler.adapters.access_tokens import AccessTokens  # noqa: PLC0415
    from luci_scheduler.adapters.fetch import FetchClient  # noqa: PLC0415
    from luci_scheduler.adapters.http import fetch  # noqa: PLC0415
    from luci_scheduler.adapters.identity import CallerIdentity  # noqa: PLC0415

    # The operator names the host, so it may lie in a private network; what it redirects to may not be believed.
    host = urlsplit(settings.tokeninfo_url).hostname or ""
    asks = FetchClient(allowed_hosts=(host,), plain_http=settings.local, max_redirects=0)
    access_tokens = AccessTokens(asks, settings.tokeninfo_url, settings.console_oauth_clients, clock)
    return CallerIdentity(
        clock,
        local_user=settings.local_user,
        iap_audience=settings.iap_audience,
        fetch_iap_keys=lambda: fetch(settings.iap_certs_url),
        bearer_audiences=settings.console_audiences,
        fetch_oidc_keys=lambda: fetch(settings.oidc_certs_url),
        access_token_email=access_tokens.email,
    ).identify


def make_buildbucket(settings: Settings, session: Any, clock: Clock) -> Buildbucket:
    """Return the client of the configured Buildbucket servers."""
    from luci_scheduler.adapters.buildbucket import BuildbucketClient  # noqa: PLC0415

    def base_url(host: str) -> str:
        server = settings.buildbucket(host)
        return server.url.rstrip("/") if server and server.url else f"https://{host}"

    return BuildbucketClient(base_url, session, clock, settings.request_deadline_seconds * SECOND)


def make_config_sources(settings: Settings) -> list[ConfigSource]:
    """Return the configured sources of configs; nothing is read yet."""
    from luci_scheduler.adapters.config_sources import (  # noqa: PLC0415
        STORAGE_SCOPES,
        BucketSource,
        GitilesSource,
    )
    from luci_scheduler.adapters.http import sessions  # noqa: PLC0415

    gitiles = sessions(authenticated=not settings.local)
    storage = sessions(authenticated=not settings.local, scopes=STORAGE_SCOPES)
    sources: list[ConfigSource] = []
    if settings.config_folder:
        sources.append(FolderSource(Path(settings.config_folder), settings.config_revision))
    # Folders come first: of two configs of one project the first counts, and a folder always shows all it has.
    for source in sorted(settings.config_sources, key=lambda source: source.kind != "folder"):
        match source.kind:
            case "folder":
                sources.append(FolderSource(Path(source.path)))
            case "gitiles":
                repo = parse_repo_url(source.repo)
                url = (settings.gitiles_urls or {}).get(repo.host, f"https://{repo.host}").rstrip("/")
                base_url = url if settings.local else f"{url}/a"  # authenticated: a quota of our own
                sources.append(GitilesSource(source.project, repo, source.ref, source.path, base_url, gitiles))
            case "bucket":
                sources.append(
                    BucketSource(source.project, source.bucket, source.object, settings.storage_url, storage)
                )
    return sources


def make_gitiles(settings: Settings, session: Any, clock: Clock) -> Gitiles:
    """Return the client of Gitiles servers."""
    from luci_scheduler.adapters.gitiles import GitilesClient, host_urls  # noqa: PLC0415

    urls = host_urls(settings.gitiles_urls or {})
    deadline = settings.request_deadline_seconds * SECOND
    return GitilesClient(urls, session, deadline, authenticated=not settings.local, clock=clock)


def make_fetch(settings: Settings) -> Fetch:
    """Return the client that fetches URLs for jobs; plain http is for the local cloud only."""
    from luci_scheduler.adapters.fetch import FetchClient  # noqa: PLC0415

    return FetchClient(allowed_hosts=settings.fetch_allowed_hosts, plain_http=settings.local)


_logging = threading.Lock()


def have_logging() -> None:
    """Log as in the cloud unless something else is configured: the framework may refuse a request before the first app is made."""
    if not structlog.is_configured():
        configure_logging()


def configure_logging(project: str = "") -> None:
    """Log one JSON line per event to standard output, as Cloud Logging reads them; traces are those of ``project``."""
    with _logging:
        structlog.configure(
            processors=[
                structlog.contextvars.merge_contextvars,
                structlog.processors.TimeStamper(fmt="iso", key="time"),
                partial(_named_for_the_cloud, project),
                structlog.processors.format_exc_info,
                _without_secrets,
                structlog.processors.JSONRenderer(),
            ],
            logger_factory=structlog.WriteLoggerFactory(file=sys.stdout),
            cache_logger_on_first_use=False,
        )


def _without_secrets(_: Any, __: str, event: Any) -> Mapping[str, Any]:
    """Redact secrets that a text of the event holds by mistake, a traceback included."""
    return {name: redacted(value) if isinstance(value, str) else value for name, value in event.items()}


def _named_for_the_cloud(project: str, _: Any, level: str, event: Any) -> Mapping[str, Any]:
    trace = event.pop("trace_id", "")
    if trace and project:
        event["logging.googleapis.com/trace"] = f"projects/{project}/traces/{trace}"
    event["severity"] = {"exception": "ERROR", "warn": "WARNING"}.get(level, level.upper())
    event["message"] = event.pop("event")
    return dict(event)
