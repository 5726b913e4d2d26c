"""Reading of the settings from the environment: parsers of the variables, and rules between several of them.

The environment is read once, at the start. All faults are reported together, each with the variable's name and its
remedy.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any, TypeVar

from luci_scheduler.core.commit_hosts import DEFAULT_HOSTS, CommitHosts, ConfiguredHost, HostKind
from luci_scheduler.core.era import Era
from luci_scheduler.core.identifiers import PROJECT_NAME
from luci_scheduler.core.link_map import link_problem
from luci_scheduler.core.repo_url import BadRepoUrlError
from luci_scheduler.settings import (
    PREFIX,
    BuildbucketServer,
    ConfigSourceSetting,
    Settings,
    WebhookSettings,
    variable_of,
)

__all__ = ["SettingsError", "read_settings", "read_webhook_settings"]

T = TypeVar("T")

_EVERY_HOST = "*"
_MIN_RETENTION_DAYS = 8  # Pub/Sub may deliver a message again for 7 days, and markers recognize it
_MIN_WEBHOOK_SECRET_BYTES = 12
"""The least length of a webhook's secret, which a person types into GitHub: 96 bits, if each byte is random."""
_MIN_SECRET_BYTES = 16
"""The least length of a signing secret: 128 bits, if each byte is random. Terraform makes 48 letters and digits."""


class SettingsError(ValueError):
    """The environment lacks settings or has invalid ones; the message lists all of them."""


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
