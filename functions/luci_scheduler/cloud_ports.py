"""The ports of a deployment: clients of Google Cloud, Buildbucket and Gitiles, built from the settings.

This module loads Google's client libraries. The entry points import it with the first request, not at start.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import requests
from google.auth.credentials import Credentials

from luci_scheduler.adapters.http import default_credentials, fetch, sessions
from luci_scheduler.adapters.late import late
from luci_scheduler.adapters.system import SystemClock, SystemEntropy
from luci_scheduler.adapters.turns import ProcessTurns
from luci_scheduler.bootstrap import Identify, Ports, VerifyCaller
from luci_scheduler.config.folder import FolderSource
from luci_scheduler.core.identity import UnauthenticatedError
from luci_scheduler.core.instants import SECOND
from luci_scheduler.core.repo_url import parse_repo_url
from luci_scheduler.ports import Buildbucket, Clock, ConfigSource, Fetch, Gitiles, Headers, Queue, Store, Topic
from luci_scheduler.settings import ConfigSourceSetting, Settings

if TYPE_CHECKING:
    from luci_scheduler.adapters.front_end import FrontEnd

__all__ = [
    "cloud_ports",
    "make_buildbucket",
    "make_config_sources",
    "make_identify",
    "make_verify_caller",
    "make_verify_push",
]

_MakeSession = Callable[[], requests.Session]


def cloud_ports(settings: Settings, *, store: Store | None = None, clock: Clock | None = None) -> Ports:
    """Return the ports of a deployment.

    Args:
        settings: the addresses of the services, and the accounts for calls.
        store: the documents; if None, the configured Firestore database.
        clock: the time; the machine's clock if None.

    Raises:
        TransientError: the service account's credentials cannot be loaded now.
    """
    clock = clock or SystemClock()
    session = sessions(authenticated=not settings.local)
    credentials = None if settings.local else default_credentials()
    return Ports(
        store=store or _make_store(settings, credentials),
        queue=late(lambda: _make_queue(settings, credentials)),
        clock=clock,
        entropy=SystemEntropy(),
        buildbucket=late(lambda: make_buildbucket(settings, session, clock)),
        gitiles=late(lambda: _make_gitiles(settings, session, clock)),
        fetch=late(lambda: _make_fetch(settings)),
        verify_caller=late(lambda: make_verify_caller(settings, clock)),
        verify_push=late(lambda: make_verify_push(settings, clock)),
        identify=late(lambda: make_identify(settings, clock)),
        config_sources=late(lambda: make_config_sources(settings)),
        topic=_make_topic(settings) if settings.events_topic else None,
        turns=ProcessTurns(),
    )


def _make_topic(settings: Settings) -> Topic:
    from luci_scheduler.adapters.pubsub import PUBSUB_SCOPES, PubsubTopic  # noqa: PLC0415 - most have no topic

    session = sessions(authenticated=not settings.local, scopes=PUBSUB_SCOPES)
    return PubsubTopic(settings.events_topic, settings.pubsub_url, session)


def _make_store(settings: Settings, credentials: Credentials | None) -> Store:
    # Firestore's library is the slowest to load, and a local cloud in memory works without it.
    from google.cloud import firestore  # noqa: PLC0415

    from luci_scheduler.adapters.firestore import FirestoreStore  # noqa: PLC0415

    client = firestore.Client(project=settings.project, database=settings.database, credentials=credentials)
    return FirestoreStore(client)


def _make_queue(settings: Settings, credentials: Credentials | None) -> Queue:
    from luci_scheduler.adapters.cloud_tasks import CloudTasksQueue, make_client  # noqa: PLC0415 - see `late`

    client = make_client(settings.cloud_tasks_endpoint, credentials)
    return CloudTasksQueue(
        client, settings.queue_path, settings.task_url, settings.task_account, settings.tasks_audience
    )


def make_verify_caller(settings: Settings, clock: Clock) -> VerifyCaller:
    """Return the function that accepts the callers of ``on_task``: Cloud Tasks and Cloud Scheduler."""
    return _verifier(settings, settings.tasks_audience, {settings.task_account, *settings.task_callers}, clock)


def make_verify_push(settings: Settings, clock: Clock) -> VerifyCaller:
    """Return the function that accepts pushes: Pub/Sub's account, or in the local cloud without one every sender."""
    if settings.push_account:
        return _verifier(settings, settings.push_audience, {settings.push_account}, clock)
    return _accept_push if settings.local else _refuse_push


def _accept_push(_: Headers) -> str:
    return "the local cloud"


def _refuse_push(_: Headers) -> str:
    raise UnauthenticatedError("no push is accepted: SCHEDULER_PUSH_ACCOUNT is not set")


def _verifier(settings: Settings, audience: str, accounts: Collection[str], clock: Clock) -> VerifyCaller:
    from luci_scheduler.adapters.identity import OidcVerifier  # noqa: PLC0415 - see `late`

    front_end = _make_front_end(settings, clock)
    return OidcVerifier(lambda: fetch(settings.oidc_certs_url), audience, accounts, clock, front_end).verify


def _make_front_end(settings: Settings, clock: Clock) -> FrontEnd | None:
    """Return the platform whose word about tokens counts; None if the settings or the machine name none."""
    if not settings.trust_front_end or not settings.service_name:
        return None
    from luci_scheduler.adapters.front_end import POLICY_SCOPES, FrontEnd  # noqa: PLC0415 - see `late`

    session = sessions(authenticated=not settings.local, scopes=POLICY_SCOPES)
    return FrontEnd(session, settings.run_api_url, settings.service_path, clock)


def make_identify(settings: Settings, clock: Clock) -> Identify:
    """Return the function that identifies the callers of the console."""
    from luci_scheduler.adapters.access_tokens import AccessTokens  # noqa: PLC0415 - see `late`
    from luci_scheduler.adapters.fetch import FetchClient  # noqa: PLC0415
    from luci_scheduler.adapters.identity import CallerIdentity  # noqa: PLC0415

    # The operator names the host, so a private address is fine. A redirect is refused, because its answer would come
    # from another host.
    host = urlsplit(settings.tokeninfo_url).hostname or ""
    tokeninfo = FetchClient(allowed_hosts=(host,), plain_http=settings.local, max_redirects=0)
    access_tokens = AccessTokens(tokeninfo, settings.tokeninfo_url, settings.console_oauth_clients, clock)
    return CallerIdentity(
        clock,
        local_user=settings.local_user,
        iap_audience=settings.iap_audience,
        fetch_iap_keys=lambda: fetch(settings.iap_certs_url),
        bearer_audiences=settings.console_audiences,
        fetch_oidc_keys=lambda: fetch(settings.oidc_certs_url),
        access_token_email=access_tokens.email,
        front_end=_make_front_end(settings, clock),
    ).identify


def make_buildbucket(settings: Settings, session: _MakeSession, clock: Clock) -> Buildbucket:
    """Return the client of the configured Buildbucket servers."""
    from luci_scheduler.adapters.buildbucket import BuildbucketClient  # noqa: PLC0415 - see `late`
    from luci_scheduler.managers.buildbucket.builder_id import server_of  # noqa: PLC0415

    servers = {server.host: server for server in settings.buildbucket_servers}

    def base_url(host: str) -> str:
        server = server_of(servers, host)
        return server.url.rstrip("/") if server and server.url else f"https://{host}"

    return BuildbucketClient(base_url, session, clock, settings.request_deadline_seconds * SECOND)


def _make_gitiles(settings: Settings, session: _MakeSession, clock: Clock) -> Gitiles:
    from luci_scheduler.adapters.gitiles import GitilesClient, host_urls  # noqa: PLC0415 - see `late`

    urls = host_urls(settings.gitiles_urls or {})
    deadline = settings.request_deadline_seconds * SECOND
    return GitilesClient(urls, session, deadline, authenticated=not settings.local, clock=clock)


def _make_fetch(settings: Settings) -> Fetch:
    from luci_scheduler.adapters.fetch import FetchClient  # noqa: PLC0415 - see `late`

    return FetchClient(
        allowed_hosts=settings.fetch_allowed_hosts, plain_http=settings.local, only_allowed=settings.local
    )


def make_config_sources(settings: Settings) -> Sequence[ConfigSource]:
    """Return the sources of configs in their order of precedence; nothing is read yet."""
    # Folders come first: the first source that has a project wins, and a folder always lists all its projects.
    named = sorted(settings.config_sources, key=lambda source: source.kind != "folder")
    sources = [_config_source(settings, source) for source in named]
    if settings.config_folder:
        return [FolderSource(Path(settings.config_folder), settings.config_revision), *sources]
    return sources


def _config_source(settings: Settings, source: ConfigSourceSetting) -> ConfigSource:
    from luci_scheduler.adapters.config_sources import STORAGE_SCOPES, BucketSource, GitilesSource  # noqa: PLC0415
    from luci_scheduler.adapters.gitiles import host_urls  # noqa: PLC0415 - see `late`

    match source.kind:
        case "folder":
            return FolderSource(Path(source.path))
        case "gitiles":
            repo = parse_repo_url(source.repo)
            url = host_urls(settings.gitiles_urls or {})(repo.host) or f"https://{repo.host}"
            base_url = url if settings.local else f"{url}/a"  # authenticated requests have their own quota
            session = sessions(authenticated=not settings.local)
            return GitilesSource(source.project, repo, source.ref, source.path, base_url, session)
        case _:  # the settings accept no kind other than "bucket"
            session = sessions(authenticated=not settings.local, scopes=STORAGE_SCOPES)
            return BucketSource(source.project, source.bucket, source.object, settings.storage_url, session)
