"""Settings: everything that the functions read from their environment.

The environment is read once, at the start. All faults are reported together, each with the variable's name and its
remedy.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import Field, field, fields, replace
from typing import Any, TypeVar

from luci_scheduler.core.commit_hosts import DEFAULT_HOSTS, CommitHosts, ConfiguredHost, HostKind
from luci_scheduler.core.era import Era
from luci_scheduler.core.frozen import frozen
from luci_scheduler.core.identifiers import PROJECT_NAME
from luci_scheduler.core.link_map import link_problem
from luci_scheduler.core.repo_url import BadRepoUrlError

__all__ = [
    "BuildbucketServer",
    "ConfigSourceSetting",
    "Settings",
    "SettingsError",
    "WebhookSettings",
    "read_settings",
    "read_webhook_settings",
    "variable_of",
]

T = TypeVar("T")

PREFIX = "SCHEDULER_"
_EVERY_HOST = "*"
_MIN_RETENTION_DAYS = 8  # Pub/Sub may deliver a message again for 7 days, and markers recognize it
_MIN_WEBHOOK_SECRET_BYTES = 12
"""The least length of a webhook's secret, which a person types into GitHub: 96 bits, if each byte is random."""
_MIN_SECRET_BYTES = 16
"""The least length of a signing secret: 128 bits, if each byte is random. Terraform makes 48 letters and digits."""


class SettingsError(ValueError):
    """The environment lacks settings or has invalid ones; the message lists all of them."""


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


def read_settings(environment: Mapping[str, str]) -> Settings:
    """Read the settings from ``environment``.

    Raises:
        SettingsError: variables are missing, unknown or invalid; the message lists all of them.
    """
    values, faults = _read(Settings, _REQUIRED, environment)
    faults += _local_faults(values, environment)
    faults += _claim_faults(values)
    faults += _github_faults(values)
    faults += _status_faults(values)
    faults += _source_faults(values)
    return _made(Settings, values, faults)


def read_webhook_settings(environment: Mapping[str, str]) -> WebhookSettings:
    """Read the settings of ``on_github_push`` from ``environment``; those of the other functions may be there too.

    Raises:
        SettingsError: as of `read_settings`.
    """
    values, faults = _read(WebhookSettings, _REQUIRED_BY_WEBHOOK, environment)
    return _made(WebhookSettings, values, faults + _local_faults(values, environment))


def _read(kind: type[Any], required: Sequence[str], environment: Mapping[str, str]) -> tuple[dict[str, Any], list[str]]:
    """Return the values of the fields of ``kind``, and the faults of the environment."""
    every = {variable_of(setting) for each in (Settings, WebhookSettings) for setting in fields(each)}
    strangers = sorted(name for name in environment if name.startswith(PREFIX) and name not in every)
    faults = [f"{name}: no such setting" for name in strangers]
    values: dict[str, Any] = {}
    for setting in fields(kind):
        name = variable_of(setting)
        text = environment.get(name, "")
        if not text:
            if setting.name in required:
                faults.append(f"{name}: is required")
            continue
        try:
            values[setting.name] = _PARSERS.get(setting.name, str)(text)
        except (ValueError, TypeError, KeyError) as error:
            faults.append(f"{name}: {error}")
    return values, faults


def _made(kind: type[T], values: Mapping[str, Any], faults: Sequence[str]) -> T:
    if faults:
        raise SettingsError("bad settings in the environment:\n  " + "\n  ".join(faults))
    return kind(**values)


def _claim_faults(values: Mapping[str, Any]) -> list[str]:
    defaults = {field.name: field.default for field in fields(Settings)}
    deadline, lease = ({**defaults, **values}[name] for name in ("request_deadline_seconds", "claim_lease_seconds"))
    if lease > deadline:
        return []
    fault = (
        f"{PREFIX}CLAIM_LEASE_SECONDS: {lease} must be more than {PREFIX}REQUEST_DEADLINE_SECONDS, "
        f"which is {deadline}, or two launches could request the same build at once: raise the lease"
    )
    return [fault]


_APP = ("github_app_id", "github_installation_id", "github_private_key")


def _github_faults(values: Mapping[str, Any]) -> list[str]:
    """Refuse credentials for GitHub that are incomplete, or for which no host or several hosts come into question."""
    given, token = [name for name in _APP if values.get(name)], values.get("github_token")
    if not given and not token:
        return []
    missing = set(_APP) - set(given) if given else set()
    faults = [f"{PREFIX}{name.upper()}: is required for a GitHub App" for name in sorted(missing)]
    if given and token:
        faults.append(f"{PREFIX}GITHUB_TOKEN: is not used beside a GitHub App: remove one of the two")
    hosts = values.get("commit_hosts", DEFAULT_HOSTS).configured.values()
    if sum(host.credentials for host in hosts) != 1:
        faults.append(f'{PREFIX}COMMIT_HOSTS: give one host "credentials": true; the GitHub credentials go to it alone')
    return faults


def _status_faults(values: Mapping[str, Any]) -> list[str]:
    """Refuse commit statuses without credentials: GitHub takes them from no anonymous caller."""
    has_credentials = any(values.get(name) for name in ("github_token", *_APP))
    if not values.get("github_statuses") or has_credentials or values.get("local"):
        return []
    return [f"{PREFIX}GITHUB_STATUSES: needs {PREFIX}GITHUB_TOKEN or a GitHub App with the permission statuses: write"]


def _source_faults(values: Mapping[str, Any]) -> list[str]:
    """Check the repositories of config sources, once the commit hosts are known."""
    hosts = values.get("commit_hosts", DEFAULT_HOSTS)
    problems = [_source_problem(source, hosts) for source in values.get("config_sources", ()) if source.repo]
    return [f"{PREFIX}CONFIG_SOURCES: {problem}" for problem in problems if problem]


def _source_problem(source: ConfigSourceSetting, hosts: CommitHosts) -> str:
    try:
        kind = hosts.kind(hosts.parse(source.repo))
    except BadRepoUrlError as error:
        return f"{source.repo}: {error}"
    return "" if kind == source.kind else f"{source.repo} is a repository of the kind {kind}, not {source.kind}"


def _local_faults(values: Mapping[str, Any], environment: Mapping[str, str]) -> list[str]:
    """Refuse, on Cloud Run, the settings of a developer's machine, which switch off the checks of callers."""
    faults = [
        f"{PREFIX}{name.upper()}: is for the local cloud only, where {PREFIX}LOCAL is true"
        for name in ("local_user", "local_service")
        if name in values and not values.get("local")
    ]
    faults += [] if values.get("local") else _every_host_faults(values)
    if environment.get("K_SERVICE"):
        given = [name for name in ("local", "local_user", "local_service") if values.get(name)]
        faults += [
            f"{PREFIX}{name.upper()}: is for the local cloud only, "
            "and K_SERVICE shows that this is Cloud Run: remove it"
            for name in given
        ]
    return faults


def _every_host_faults(values: Mapping[str, Any]) -> list[str]:
    """Refuse a server for every host: a config could name any host, and it would get the service account's token."""
    hosts = {
        "gitiles_urls": values.get("gitiles_urls") or (),
        "buildbucket_servers": [server.host for server in values.get("buildbucket_servers", ())],
    }
    return [
        f'{PREFIX}{name.upper()}: the host "*" is for the local cloud only: name each host'
        for name, given in hosts.items()
        if _EVERY_HOST in given
    ]


def _secrets(text: str) -> tuple[str, ...]:
    secrets = tuple(line.strip() for line in text.splitlines() if line.strip())
    if not secrets:
        raise ValueError("has only blank lines: write one secret in each line, the signing secret first")
    short = [place for place, secret in enumerate(secrets, 1) if len(secret.encode()) < _MIN_SECRET_BYTES]
    if short:
        lines = ", ".join(map(str, short))
        raise ValueError(
            f"a secret has at least {_MIN_SECRET_BYTES} bytes, or it can be guessed; too short is number {lines}: "
            "make one with `openssl rand -hex 32`"
        )
    return secrets


def _one_secret(text: str) -> str:
    secrets = _secrets(text)
    if len(secrets) > 1:
        raise ValueError(f"holds one secret, got {len(secrets)} lines")
    return secrets[0]


def _urls(text: str) -> Mapping[str, str]:
    urls = json.loads(text)
    if not isinstance(urls, dict) or not all(isinstance(url, str) for url in urls.values()):
        raise ValueError("must be a JSON object of texts, the base URL of each host")
    return urls


_HOST_NAME = re.compile(r"[a-z0-9-]+(\.[a-z0-9-]+)*")
_API = re.compile(r"https://[^/?#@\s]+(/[^?#@\s]*)?|http://(localhost|127\.0\.0\.1|\[::1\])(:[0-9]+)?(/[^?#@\s]*)?")


def _commit_hosts(text: str) -> CommitHosts:
    hosts = json.loads(text)
    if not isinstance(hosts, dict):
        raise ValueError('must be a JSON object, {"github.com": {"kind": "github"}}')  # noqa: TRY004 - as the others
    made = {name: _commit_host(name, members) for name, members in hosts.items()}
    if len(made) == 1:
        made = {name: replace(host, credentials=True) for name, host in made.items()}
    return CommitHosts(made)


def _commit_host(name: str, members: Any) -> ConfiguredHost:
    if not _HOST_NAME.fullmatch(name) or name.endswith(".googlesource.com"):
        raise ValueError(f"{name!r} is not a host's name in lower case outside googlesource.com")
    if not isinstance(members, dict) or members.get("kind") != HostKind.GITHUB:
        raise ValueError(f'{name} must be {{"kind": "github"}}, perhaps with "api" and "credentials"')
    if unknown := sorted(set(members) - {"kind", "api", "credentials"}):
        raise ValueError(f"{name} has no {unknown[0]}")
    api = members.get("api", DEFAULT_HOSTS.configured[name].api if name in DEFAULT_HOSTS.configured else "")
    api = api or f"https://{name}/api/v3"
    if not isinstance(api, str) or not _API.fullmatch(api):
        raise ValueError(f"the API of {name} must be an https URL, because requests carry a token, not {api!r}")
    return ConfiguredHost(HostKind.GITHUB, api.rstrip("/"), credentials=members.get("credentials") is True)


def _links(text: str) -> Mapping[str, str]:
    links = json.loads(text)
    if not isinstance(links, dict) or not all(isinstance(target, str) for target in links.values()):
        raise ValueError("must be a JSON object of texts, the new address of each prefix")
    for prefix, target in links.items():
        if problem := link_problem(prefix, target):
            raise ValueError(problem)
    return links


def _stripped(text: str) -> str:
    """Return a text without blanks around it: a secret that a person wrote with ``echo`` ends with a line break."""
    stripped = text.strip()
    if not stripped:
        raise ValueError("has only blanks")
    return stripped


def _commas(text: str) -> tuple[str, ...]:
    return tuple(item.strip() for item in text.split(",") if item.strip())


def _webhook_secrets(text: str) -> tuple[str, ...]:
    secrets = _commas(text.replace("\n", ","))  # GitHub takes no secret of two lines
    short = sum(len(secret.encode()) < _MIN_WEBHOOK_SECRET_BYTES for secret in secrets)
    if short or not secrets:
        raise ValueError(
            f"needs secrets of at least {_MIN_WEBHOOK_SECRET_BYTES} bytes, separated by commas, and {short} of "
            f"{len(secrets)} are shorter: make one with `openssl rand -hex 32`"
        )
    return secrets


_OAUTH_CLIENT = re.compile(r"[A-Za-z0-9._-]+\.apps\.googleusercontent\.com|[0-9]+|service-accounts")


def _oauth_clients(text: str) -> tuple[str, ...]:
    clients = _commas(text)
    for client in clients:
        if not _OAUTH_CLIENT.fullmatch(client):
            raise ValueError(
                f"{client!r} is neither a client's ID (NUMBER-NAME.apps.googleusercontent.com), nor a service "
                "account's (a number), nor service-accounts"
            )
    return clients


def _positive(text: str) -> int:
    number = int(text)
    if number <= 0:
        raise ValueError(f"must be positive, got {number}")
    return number


def _not_negative(text: str) -> int:
    number = int(text)
    if number < 0:
        raise ValueError(f"must not be negative, got {number}")
    return number


def _retention(text: str) -> int:
    days = int(text)
    if days < _MIN_RETENTION_DAYS:
        raise ValueError(
            f"must be at least {_MIN_RETENTION_DAYS}, got {days}: a message may be delivered again for 7 days"
        )
    return days


def _boolean(text: str) -> bool:
    if text not in ("true", "false"):
        raise ValueError(f"must be true or false, got {text!r}")
    return text == "true"


def _servers(text: str) -> tuple[BuildbucketServer, ...]:
    return tuple(_server(item) for item in json.loads(text))


def _server(item: dict[str, Any]) -> BuildbucketServer:
    for name, value in item.items():
        if name != "notifications" and not isinstance(value, str):
            raise TypeError(f"{name} of a server must be a text, not {value!r}")
    if not isinstance(item.get("notifications", True), bool):
        raise TypeError(f"notifications of a server must be true or false, not {item['notifications']!r}")
    return BuildbucketServer(
        host=item["host"],
        publisher=item["publisher"],
        protocol=Era(item.get("protocol", Era.V2)),
        url=item.get("url", ""),
        topic=item.get("topic", ""),
        notifications=item.get("notifications", True),
    )


_TOPIC = re.compile(r"projects/[^/\s]+/topics/[^/\s]+")


def _topic(text: str) -> str:
    if not _TOPIC.fullmatch(text):
        raise ValueError(f"must be a full name like projects/PROJECT/topics/NAME, got {text!r}")
    return text


_MAX_RUN_SECONDS = 180  # Cloud Build's own limit of the request, and the claim of a launch is made for it


def _run_seconds(text: str) -> int:
    seconds = _positive(text)
    if seconds > _MAX_RUN_SECONDS:
        raise ValueError(f"must be at most {_MAX_RUN_SECONDS}, the limit of Cloud Build itself, got {seconds}")
    return seconds


def _accounts(text: str) -> Mapping[str, tuple[str, ...]]:
    projects = json.loads(text)
    if not isinstance(projects, dict) or not all(_is_list_of_texts(accounts) for accounts in projects.values()):
        raise ValueError("must be a JSON object of lists of texts, the service accounts of each project")
    return {project: tuple(accounts) for project, accounts in projects.items()}


def _is_list_of_texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


_SOURCE_KEYS: dict[str, tuple[set[str], set[str]]] = {
    "folder": ({"path"}, set()),
    "gitiles": ({"project", "repo"}, {"ref", "path"}),
    "github": ({"project", "repo"}, {"ref", "path"}),
    "bucket": ({"project", "bucket", "object"}, set()),
}
"""Kind → required members, optional members."""


def _sources(text: str) -> tuple[ConfigSourceSetting, ...]:
    sources = tuple(_source(item) for item in json.loads(text))
    projects = [source.project for source in sources if source.project]
    twice = sorted({project for project in projects if projects.count(project) > 1})
    if twice:
        raise ValueError(f"more than one source holds the config of {', '.join(twice)}")
    return sources


def _source(item: dict[str, str]) -> ConfigSourceSetting:
    _check_source_members(item)
    source = ConfigSourceSetting(**item)
    if source.project and not PROJECT_NAME.fullmatch(source.project):
        raise ValueError(f"{source.project!r} is not a valid project name")
    return source


def _check_source_members(item: dict[str, str]) -> None:
    kind = item["kind"]
    if kind not in _SOURCE_KEYS:
        raise ValueError(f"the kind of a source is one of {', '.join(_SOURCE_KEYS)}, not {kind!r}")
    required, optional = _SOURCE_KEYS[kind]
    missing, unknown = required - set(item), set(item) - required - optional - {"kind"}
    if missing or unknown:
        faults = [f"lacks {name}" for name in sorted(missing)] + [f"has no {name}" for name in sorted(unknown)]
        raise ValueError(f"a source of kind {kind} {', '.join(faults)}")
    empty = sorted(name for name, value in item.items() if not isinstance(value, str) or not value)
    if empty:
        raise ValueError(f"{', '.join(empty)} of a source of kind {kind} must be a text and not empty")


_REQUIRED = ("project", "task_url", "task_account", "token_secrets")
_REQUIRED_BY_WEBHOOK = ("github_webhook_secrets", "commit_topic")
_PARSERS: dict[str, Any] = {
    "token_secrets": _secrets,
    "next_token_secret": _one_secret,
    "previous_token_secret": _one_secret,
    "task_callers": _commas,
    "fetch_allowed_hosts": _commas,
    "console_audiences": _commas,
    "console_oauth_clients": _oauth_clients,
    "buildbucket_servers": _servers,
    "cloud_build": _boolean,
    "cloud_build_projects": _accounts,
    "cloud_build_check_interval_seconds": _not_negative,
    "cloud_build_run_seconds": _run_seconds,
    "gitiles_urls": _urls,
    "links": _links,
    "commit_hosts": _commit_hosts,
    "gitiles_era": Era,
    "gitiles_commits_per_ref": _positive,
    "gitiles_commits_per_poll": _positive,
    "gitiles_backfill": _boolean,
    "commit_wait_seconds": _not_negative,
    "trust_commit_publishers": _boolean,
    "trust_front_end": _boolean,
    "config_sources": _sources,
    "lenient_triggers": _boolean,
    "project_active_invocations": _positive,
    "project_pending_triggers": _positive,
    "check_interval_seconds": _not_negative,
    "request_deadline_seconds": _positive,
    "claim_lease_seconds": _positive,
    "sweep_grace_seconds": _positive,
    "retention_days": _retention,
    "keep_unchanged_polls": _boolean,
    "concurrency": _positive,
    "local": _boolean,
    "events_topic": _topic,
    "github_token": _stripped,
    "github_app_id": _stripped,
    "github_installation_id": _stripped,
    "github_private_key": _stripped,
    "github_webhook_secrets": _webhook_secrets,
    "commit_topic": _topic,
    "github_statuses": _boolean,
}
