"""Settings: everything that the functions read from their environment. `settings_reader` reads it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import Field, field
from typing import Any

from luci_scheduler.core.commit_hosts import DEFAULT_HOSTS, CommitHosts
from luci_scheduler.core.era import Era
from luci_scheduler.core.frozen import frozen

__all__ = ["PREFIX", "BuildbucketServer", "ConfigSourceSetting", "Settings", "WebhookSettings", "variable_of"]

PREFIX = "SCHEDULER_"
"""The beginning of each variable's name."""


@frozen
class BuildbucketServer:
    """How to reach one Buildbucket host (``SCHEDULER_BUILDBUCKET_SERVERS``, a JSON list of such objects)."""

    host: str
    """The name in the ``server`` fields of configs, e.g. ``cr-buildbucket.appspot.com``; ``*``, which only the local
    cloud may have, for all hosts that no other server has."""
    publisher: str
    """E-mail of the account that publishes its notifications; names the topic."""
    protocol: Era = Era.V2
    url: str = ""
    """Base URL if it is not ``https://<host>`` (the local cloud)."""
    topic: str = ""
    """Full name of the topic that it notifies, if it differs from the default for ``publisher``."""
    notifications: bool = True
    """Whether builds are requested with notifications. Without them, status checks alone find the ends of builds."""


@frozen
class ConfigSourceSetting:
    """One source of configs (``SCHEDULER_CONFIG_SOURCES``, a JSON list of such objects)."""

    kind: str
    """``folder``, ``gitiles``, ``github`` or ``bucket``."""
    project: str = ""
    """The LUCI project of the config. A folder has none: the name of each subfolder is a project."""
    path: str = "luci-scheduler.cfg"
    """The path of the folder, or of the file in the repository."""
    repo: str = ""
    """Repository URL, ``https://<host>.googlesource.com/<repository>`` or ``https://github.com/<owner>/<name>``."""
    ref: str = "refs/heads/main"
    bucket: str = ""
    object: str = ""


@frozen
class Settings:
    """The environment; each field is the variable ``SCHEDULER_<FIELD>`` in upper case, except `service`."""

    project: str
    """Cloud project that holds the database, the queue and the topics."""
    task_url: str
    """Base URL of the function ``on_task``; the path of a task follows it."""
    task_account: str
    """Service account whose OIDC token Cloud Tasks attaches to tasks."""
    token_secrets: tuple[str, ...] = field(repr=False)
    """Secrets that sign notification tokens: the first signs, all verify; one per line."""
    next_token_secret: str = field(default="", repr=False)
    """The secret that signs after the next rotation. It verifies already, because functions change one by one."""
    previous_token_secret: str = field(default="", repr=False)
    """The secret that signed before the last rotation. It verifies the tokens of builds that still run."""
    location: str = "us-central1"
    """Region of the queue."""
    database: str = "(default)"
    """Firestore database."""
    queue: str = "luci-scheduler"
    """Short name of the Cloud Tasks queue."""
    app_id: str = "luci-scheduler"
    """Names the scheduler in ``user_agent`` tags and in topic names."""
    topic_project: str = ""
    """Project in which the notification topics live; ``project`` if empty."""
    hostname: str = ""
    """Host of the console in the requests for builds; ``<app_id>.appspot.com`` if empty, as in LUCI."""
    task_callers: tuple[str, ...] = ()
    """Further accounts that may call ``on_task`` (that of Cloud Scheduler); comma-separated."""
    task_audience: str = ""
    """Audience that tasks' OIDC tokens must have; ``task_url`` if empty."""
    push_account: str = ""
    """Service account whose OIDC token Pub/Sub attaches to pushes; empty: the event functions refuse every push, except
    in the local cloud, whose Pub/Sub emulator attaches none."""
    push_audience: str = ""
    """Audience that pushes' OIDC tokens must have: the address of the function."""
    trust_front_end: bool = False
    """Whether the platform's front end verifies callers' tokens and removes their signatures: a token without signature
    is then accepted under the conditions of docs/reference/access.md."""
    run_api_url: str = "https://run.googleapis.com"
    """Base URL of the Cloud Run Admin API, which returns the service's own invoker policy."""
    service: str = field(default="", metadata={"variable": "K_SERVICE"})
    """Name of the Cloud Run service, which Cloud Run sets; empty elsewhere."""
    oidc_certs_url: str = "https://www.googleapis.com/oauth2/v1/certs"
    """Where the keys that sign OIDC tokens are published."""
    buildbucket_servers: tuple[BuildbucketServer, ...] = ()
    """JSON list of ``{"host", "publisher", "protocol": "v1" or "v2", "url", "topic", "notifications"}``: the servers
    that jobs may name. The host ``*``, which only a local cloud may have, stands for all others."""
    cloud_build: bool = False
    """Whether jobs may have ``cloud_build`` tasks; false: their launches are refused."""
    cloud_build_project: str = ""
    """Project of the builds whose definition names none; ``project`` if empty."""
    cloud_build_location: str = "global"
    """Location of the builds whose definition names none."""
    cloud_build_account: str = ""
    """Service account of the builds whose definition names none; the project's default account if empty."""
    cloud_build_projects: Mapping[str, tuple[str, ...]] | None = None
    """Project → the service accounts that definitions may name there; a JSON object of lists. Empty: definitions may
    name only the default project and account."""
    cloud_build_check_interval_seconds: int = 0
    """Seconds between status checks of a build; 0: at random 60-600."""
    cloud_build_run_seconds: int = 120
    """Deadline of a request to run a trigger, at most 180: Cloud Build resolves the trigger's source meanwhile."""
    cloud_build_url: str = "https://cloudbuild.googleapis.com"
    """Base URL of the Cloud Build API."""
    gitiles_urls: Mapping[str, str] | None = None
    """Gitiles host → base URL, for the local cloud; a JSON object. Other hosts are called only below
    ``googlesource.com``. The host ``*``, which only a local cloud may have, stands for all of those: their base URL is
    its own, a slash and the host."""
    commit_hosts: CommitHosts = DEFAULT_HOSTS
    """Commit hosts beside Gitiles, a JSON object: host → ``{"kind": "github", "api", "credentials"}``. ``api`` is the
    base URL of the REST API. If several hosts are named, the one with ``"credentials": true`` gets the GitHub
    credentials."""
    github_token: str = field(default="", repr=False)
    """A personal access token for GitHub, with the right to read contents."""
    github_app_id: str = ""
    """Client ID or number of a GitHub App, whose installation's tokens are used instead of a personal token."""
    github_installation_id: str = ""
    """Number of the App's installation."""
    github_private_key: str = field(default="", repr=False)
    """The App's private key, in PEM."""
    gitiles_era: Era = Era.V2
    """The rules of polls: ``v2`` today's, ``v1`` those of 2021 (tags trigger, and the newest commit needs no path
    match)."""
    gitiles_commits_per_ref: int = 50
    """The largest number of new commits of one ref that one poll handles (50 in LUCI)."""
    gitiles_commits_per_poll: int = 100
    """Commits for which one poll emits triggers; the next poll handles the remaining refs (100 in LUCI)."""
    gitiles_backfill: bool = False
    """Whether later polls handle the commits beyond these limits, oldest first; false: the oldest are skipped."""
    commit_wait_seconds: int = 86_400
    """How long a commit event waits until the repository's host serves its commit on the named ref; 0: events are
    trusted, and no host is called."""
    trust_commit_publishers: bool = False
    """Whether to trust publishers of commit events, and callers who emit triggers, that a commit is on the named
    ref."""
    config_sources: tuple[ConfigSourceSetting, ...] = ()
    """JSON list of where configs are: ``{"kind": "folder", "path"}``, ``{"kind": "gitiles", "project", "repo", "ref",
    "path"}`` (``ref`` and ``path`` may be left out), the same with the kind ``github``, and ``{"kind": "bucket",
    "project", "bucket", "object"}``."""
    storage_url: str = "https://storage.googleapis.com"
    """Base URL of Cloud Storage's JSON API, for sources of kind ``bucket``."""
    config_folder: str = ""
    """Folder with ``<project>/luci-scheduler.cfg`` files."""
    config_revision: str = ""
    """Revision shown for the configs of ``config_folder``; empty: a hash of each file."""
    lenient_triggers: bool = False
    """Whether an undefined job in ``triggers`` is only a warning, as in LUCI, and is left out; false: it is an
    error."""
    project_active_invocations: int = 20_000
    """Running invocations of one project: the limit for the sum of ``max_concurrent_invocations`` in a config."""
    project_pending_triggers: int = 5_000_000
    """Pending triggers of one project: each job gets an equal share, at most 1,000 as in LUCI."""
    check_interval_seconds: int = 0
    """Seconds between status checks; 0: the era's default (v1 60, v2 at random 60-600)."""
    request_deadline_seconds: int = 60
    """Deadline of one call to Buildbucket or Gitiles, to its last byte (one minute in LUCI). The look-up and the
    request of a launch attempt share one."""
    claim_lease_seconds: int = 75
    """How long a launch is claimed: the request's deadline and the time for the launch's commits, so that no two
    attempts call Buildbucket at once."""
    sweep_grace_seconds: int = 120
    """How overdue an invocation, job or deferred task must be before the sweep enqueues its task again."""
    retention_days: int = 90
    """Days for which finished invocations and markers of triggers are kept; at least 8, longer than any redelivery."""
    keep_unchanged_polls: bool = False
    """Whether a poll that finds nothing new is kept as an invocation, as in LUCI."""
    concurrency: int = 16
    """Jobs that one delivery handles in parallel."""
    fetch_allowed_hosts: tuple[str, ...] = ()
    """Hosts with private or loopback addresses that ``url_fetch`` jobs may call; comma-separated. In the local cloud
    they may call no others."""
    events_topic: str = ""
    """Full name of the Pub/Sub topic that announces starts and ends of invocations,
    ``projects/<project>/topics/<name>``; empty: nothing is announced."""
    pubsub_url: str = "https://pubsub.googleapis.com"
    """Base URL of Pub/Sub's API, for announcements."""
    console_url: str = ""
    """Base URL of the console in announcements; ``https://`` and the console's host if empty."""
    github_statuses: bool = False
    """Whether commits of GitHub repositories get a status for each invocation that builds them."""
    access: str = ""
    """The access policy, a JSON document (see docs/reference/access.md); empty: access is denied."""
    iap_audience: str = ""
    """Audience of the assertions of the identity-aware proxy in front of the console; empty: assertions are ignored."""
    iap_certs_url: str = "https://www.gstatic.com/iap/verify/public_key"
    """Where the keys that sign those assertions are published."""
    console_audiences: tuple[str, ...] = ()
    """Accepted audiences of the OIDC tokens of the console's callers; comma-separated."""
    console_oauth_clients: tuple[str, ...] = ()
    """IDs of the OAuth clients whose access tokens the console accepts; ``service-accounts`` means all service
    accounts. Comma-separated; empty: no access token is accepted."""
    tokeninfo_url: str = "https://oauth2.googleapis.com/tokeninfo"
    """The endpoint that returns the owner of an access token."""
    local_user: str = ""
    """E-mail of the developer. In the local cloud, every caller acts as the developer."""
    cloud_tasks_endpoint: str = ""
    """``host:port`` of a Cloud Tasks server without TLS (the local cloud)."""
    local: bool = False
    """Whether this is the local cloud: it calls Buildbucket and Gitiles without OAuth, ``url_fetch`` accepts plain
    http, and requests to hosts other than loopback hosts, or from pages of other sites, are answered 403."""
    links: Mapping[str, str] | None = None
    """Prefix of an address → the address that pages and answers of the API show in its place; a JSON object. A ``*``
    stands for a host's name. Log lines and documents keep the real addresses."""
    local_service: str = ""
    """Name of the service, behind the front end of the local cloud. It counts as ``K_SERVICE`` there."""

    @property
    def verifying_secrets(self) -> tuple[str, ...]:
        """All secrets that verify tokens. The first one signs."""
        others = (self.next_token_secret, self.previous_token_secret)
        return (*self.token_secrets, *(secret for secret in others if secret))

    @property
    def queue_path(self) -> str:
        """Full name of the Cloud Tasks queue."""
        return f"projects/{self.project}/locations/{self.location}/queues/{self.queue}"

    @property
    def service_path(self) -> str:
        """Full name of the Cloud Run service that this process is a part of; its region is the queue's."""
        return f"projects/{self.project}/locations/{self.location}/services/{self.service_name}"

    @property
    def service_name(self) -> str:
        """Name of the service, on Cloud Run or behind the front end of the local cloud; empty elsewhere."""
        return self.service or self.local_service

    @property
    def tasks_audience(self) -> str:
        """Audience of the OIDC tokens that Cloud Tasks attaches to tasks."""
        return self.task_audience or self.task_url

    @property
    def topics_in(self) -> str:
        """Project in which the notification topics live."""
        return self.topic_project or self.project

    @property
    def default_hostname(self) -> str:
        """The host in the requests for builds."""
        return self.hostname or f"{self.app_id}.appspot.com"

    @property
    def console_base(self) -> str:
        """Base URL of the console's pages."""
        return self.console_url or f"https://{self.default_hostname}"


@frozen
class WebhookSettings:
    """The environment of ``on_github_push``, which reads no other variable."""

    github_webhook_secrets: tuple[str, ...] = field(repr=False)
    """Secrets of the webhooks, each of at least 12 bytes; comma-separated. A delivery may have the signature of any of
    them: the present secret, and during a rotation the one before."""
    commit_topic: str
    """Full name of the topic of commits, ``projects/<project>/topics/gitiles-commit``."""
    commit_hosts: CommitHosts = DEFAULT_HOSTS
    """The hosts whose pushes count; see `Settings`."""
    pubsub_url: str = "https://pubsub.googleapis.com"
    """Base URL of Pub/Sub's API."""
    project: str = ""
    """Cloud project, to which the traces of log lines belong."""
    local: bool = False
    """Whether this is the local cloud: Pub/Sub is called without OAuth, and requests of other sites get 403."""


def variable_of(setting: Field[Any]) -> str:
    """Return the environment variable of a field of `Settings` or `WebhookSettings`."""
    return str(setting.metadata.get("variable", PREFIX + setting.name.upper()))
