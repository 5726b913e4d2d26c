"""The ports of a deployment: clients of Google Cloud, Buildbucket and Gitiles, built from the settings.

This module loads Google's client libraries. The entry points import it with the first request, not at start.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import requests
import structlog
from google.auth.credentials import Credentials

from luci_scheduler.adapters.http import default_credentials, fetch, sessions
from luci_scheduler.adapters.late import late
from luci_scheduler.adapters.system import SystemClock, SystemEntropy
from luci_scheduler.adapters.turns import ProcessTurns
from luci_scheduler.bootstrap import Identify, Ports, VerifyCaller
from luci_scheduler.config.folder import FolderSource
from luci_scheduler.core.commit_hosts import CommitHosts, HostKind
from luci_scheduler.core.identity import UnauthenticatedError
from luci_scheduler.core.instants import SECOND
from luci_scheduler.core.repo_url import RepoUrl
from luci_scheduler.ports import (
    Buildbucket,
    Clock,
    CloudBuild,
    CommitStatuses,
    ConfigSource,
    Fetch,
    Gitiles,
    Headers,
    HostQuotas,
    LogPage,
    Queue,
    Store,
    Topic,
)
from luci_scheduler.settings import ConfigSourceSetting, Settings

if TYPE_CHECKING:
    from google.auth.credentials import Credentials

    from luci_scheduler.adapters.front_end import FrontEnd
    from luci_scheduler.adapters.github_api import GitHubApi, TokenSource

__all__ = [
    "cloud_ports",
    "make_buildbucket",
    "make_cloud_build",
    "make_config_sources",
    "make_github_api",
    "make_identify",
    "make_verify_caller",
    "make_verify_push",
]

_logger = structlog.stdlib.get_logger("luci_scheduler")
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
    github = late(lambda: make_github_api(settings, clock))
    return Ports(
        store=store or _make_store(settings, credentials),
        queue=late(lambda: _make_queue(settings, credentials)),
        clock=clock,
        entropy=SystemEntropy(),
        buildbucket=late(lambda: make_buildbucket(settings, session, clock)),
        gitiles=late(lambda: _make_gitiles(settings, session, clock, github)),
        fetch=late(lambda: _make_fetch(settings)),
        verify_caller=late(lambda: make_verify_caller(settings, clock)),
        verify_push=late(lambda: make_verify_push(settings, clock)),
        identify=late(lambda: make_identify(settings, clock)),
        config_sources=late(lambda: make_config_sources(settings, github)),
        statuses=_make_statuses(settings, github) if settings.github_statuses else None,
        quotas=late(lambda: _make_quotas(github)),
        topic=_make_topic(settings) if settings.events_topic else None,
        turns=ProcessTurns(),
        cloud_build=late(lambda: make_cloud_build(settings, clock)) if settings.cloud_build else None,
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


def make_cloud_build(settings: Settings, clock: Clock) -> CloudBuild:
    """Return the client of the Cloud Build API."""
    from luci_scheduler.adapters.cloud_build import CLOUD_BUILD_SCOPES, CloudBuildClient  # noqa: PLC0415 - see `late`

    session = sessions(authenticated=not settings.local, scopes=CLOUD_BUILD_SCOPES)
    return CloudBuildClient(settings.cloud_build_url, session, clock)


def _make_gitiles(settings: Settings, session: _MakeSession, clock: Clock, github: GitHubApi) -> Gitiles:
    from luci_scheduler.adapters.gitiles import GitilesClient, host_urls  # noqa: PLC0415 - see `late`

    def make_github() -> Gitiles:
        from luci_scheduler.adapters.github import GitHubClient  # noqa: PLC0415 - most installations need one kind

        return GitHubClient(github)

    urls = host_urls(settings.gitiles_urls or {})
    deadline = settings.request_deadline_seconds * SECOND
    gitiles = GitilesClient(urls, session, deadline, authenticated=not settings.local, clock=clock)
    return _ByHost(settings.commit_hosts, gitiles, late(make_github))


class _ByHost:
    """``ports.Gitiles`` for all commit hosts. The client of GitHub is made for the first repository there."""

    def __init__(self, hosts: CommitHosts, gitiles: Gitiles, github: Gitiles) -> None:
        self._hosts = hosts
        self._gitiles = gitiles
        self._github = github

    def refs(self, repo: RepoUrl, prefix: str) -> Mapping[str, str]:
        return self._of(repo).refs(repo, prefix)

    def resolve(self, repo: RepoUrl, expression: str) -> str:
        return self._of(repo).resolve(repo, expression)

    def log(
        self, repo: RepoUrl, revision: str, *, limit: int, exclude: str = "", start: str = "", diffs: bool = False
    ) -> LogPage:
        return self._of(repo).log(repo, revision, limit=limit, exclude=exclude, start=start, diffs=diffs)

    def _of(self, repo: RepoUrl) -> Gitiles:
        return self._github if self._hosts.kind(repo) is HostKind.GITHUB else self._gitiles


def make_github_api(settings: Settings, clock: Clock) -> GitHubApi:
    """Return the client of GitHub's REST API. Requests share the limits of a host, so a process needs only one."""
    from luci_scheduler.adapters.github_api import GitHubApi  # noqa: PLC0415 - see `_ByHost`

    return GitHubApi(settings.commit_hosts, sessions(authenticated=False), _github_credentials(settings, clock), clock)


def _make_statuses(settings: Settings, github: GitHubApi) -> CommitStatuses:
    from luci_scheduler.adapters.github_statuses import GitHubStatuses  # noqa: PLC0415 - most report no status

    return GitHubStatuses(settings.commit_hosts, github)


def _make_quotas(github: GitHubApi) -> HostQuotas:
    from luci_scheduler.adapters.github_quotas import GitHubQuotas  # noqa: PLC0415 - only probes read quotas

    return GitHubQuotas(github)


def _github_credentials(settings: Settings, clock: Clock) -> TokenSource:
    from luci_scheduler.adapters.github_api import NoCredentials  # noqa: PLC0415 - see `_ByHost`
    from luci_scheduler.adapters.github_credentials import AppCredentials, TokenCredentials  # noqa: PLC0415

    if settings.github_token:
        return TokenCredentials(settings.github_token)
    if settings.github_app_id:
        app = (settings.github_app_id, settings.github_installation_id, settings.github_private_key)
        statuses = {"statuses": "write"} if settings.github_statuses else {}
        return AppCredentials(*app, clock, {"contents": "read", **statuses})
    if not settings.local:
        _logger.warning("github_anonymous", reason="no credentials are set, and GitHub answers 60 requests an hour")
    return NoCredentials()


def _make_fetch(settings: Settings) -> Fetch:
    from luci_scheduler.adapters.fetch import FetchClient  # noqa: PLC0415 - see `late`

    return FetchClient(
        allowed_hosts=settings.fetch_allowed_hosts, plain_http=settings.local, only_allowed=settings.local
    )


def make_config_sources(settings: Settings, github: GitHubApi | None = None) -> Sequence[ConfigSource]:
    """Return the sources of configs in their order of precedence; nothing is read yet.

    ``github`` is the client of GitHub's REST API; None: a new one is made if a source needs it.
    """
    github = github or late(lambda: make_github_api(settings, SystemClock()))
    # Folders come first: the first source that has a project wins, and a folder always lists all its projects.
    named = sorted(settings.config_sources, key=lambda source: source.kind != "folder")
    sources = [_config_source(settings, source, github) for source in named]
    if settings.config_folder:
        return [FolderSource(Path(settings.config_folder), settings.config_revision), *sources]
    return sources


def _config_source(settings: Settings, source: ConfigSourceSetting, github: GitHubApi) -> ConfigSource:
    from luci_scheduler.adapters.config_sources import STORAGE_SCOPES, BucketSource, GitilesSource  # noqa: PLC0415
    from luci_scheduler.adapters.gitiles import host_urls  # noqa: PLC0415 - see `late`

    match source.kind:
        case "folder":
            return FolderSource(Path(source.path))
        case "gitiles":
            repo = settings.commit_hosts.parse(source.repo)
            url = host_urls(settings.gitiles_urls or {})(repo.host) or f"https://{repo.host}"
            base_url = url if settings.local else f"{url}/a"  # authenticated requests have their own quota
            session = sessions(authenticated=not settings.local)
            return GitilesSource(source.project, repo, source.ref, source.path, base_url, session)
        case "github":
            from luci_scheduler.adapters.github_source import GitHubSource  # noqa: PLC0415 - see `_ByHost`

            repo = settings.commit_hosts.parse(source.repo)
            return GitHubSource(source.project, repo, source.ref, source.path, github)
        case _:  # the settings accept no kind other than "bucket"
            session = sessions(authenticated=not settings.local, scopes=STORAGE_SCOPES)
            return BucketSource(source.project, source.bucket, source.object, settings.storage_url, session)
