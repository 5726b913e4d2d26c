"""Instances of the functions in a world: each with its own application, clock, entropy and caches."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cache
from typing import TYPE_CHECKING, Any, cast

import flask

from emulator.cloud_tasks.oidc import TokenIssuer
from emulator.memory.ports import NoFetch
from emulator.storm.choices import Choices
from emulator.storm.code import Code
from emulator.storm.faults import Kind
from emulator.storm.github import TOKEN
from emulator.storm.kernel import Kernel
from emulator.storm.outside import Outside
from emulator.storm.queue import QueueClient, TaskQueue
from emulator.storm.release import Release
from emulator.storm.scripts import CLOUD_HOST, PROJECT, V1_HOST, V2_HOST
from emulator.storm.stores import InstanceStore
from emulator.storm.wire import WireSession
from luci_scheduler.adapters.cloud_build import CloudBuildClient
from luci_scheduler.adapters.github import GitHubClient
from luci_scheduler.adapters.github_api import GitHubApi
from luci_scheduler.adapters.github_credentials import TokenCredentials
from luci_scheduler.adapters.github_statuses import GitHubStatuses
from luci_scheduler.adapters.identity import CallerIdentity, OidcVerifier
from luci_scheduler.adapters.pubsub import PubsubTopic
from luci_scheduler.core.commit_hosts import DEFAULT_HOSTS
from luci_scheduler.core.identifiers import suffixes
from luci_scheduler.core.instants import MILLISECOND, SECOND, Instant, format_rfc3339

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

__all__ = ["USER", "Event", "HttpCall", "Instance", "Parts", "issuer", "make_settings"]

USER = "dev@example.com"
_TASK_URL = "https://on-task.example"
_CONSOLE = "https://console.example"
_TASKS, _PUSH = "tasks@p.iam.gserviceaccount.com", "push@p.iam.gserviceaccount.com"
_PUSH_AUDIENCE = "https://push.example"
_TOPIC = "projects/p/topics/invocation-events"
_DRIFT = 5 * SECOND
_EVENTS = {"on_gitiles_commit": "commit", "on_build_completion": "notification", "on_cloud_build": "cloud_build"}
"""Function → the name of its part of ``entry``."""
_SHARED = ("on_gitiles_commit", "on_build_completion", "on_task")
"""The functions that other releases run as well. A console is replaced as a whole."""
_STORAGE = "https://storage.googleapis.com"


@cache
def issuer() -> TokenIssuer:
    """Return the issuer of the tokens of this process. Its key is random, and no run depends on it."""
    return TokenIssuer()


@cache
def _certificates() -> bytes:
    return json.dumps(issuer().certificates()).encode()


@cache
def _flask() -> flask.Flask:
    return flask.Flask("storm")


def make_settings(secrets: Sequence[str], code: Code) -> Any:
    """Return the settings of a release; ``secrets`` are the previous, the current and the next signing secret."""
    settings = code.module("settings")
    known = _known(settings.Settings, _members(secrets, settings.BuildbucketServer, code.module("core.era").Era))
    return settings.Settings(**known)


def _known(record: Any, members: Mapping[str, Any]) -> dict[str, Any]:
    """Return the members that a class of a release has."""
    names = {field.name for field in fields(record)}
    return {name: value for name, value in members.items() if name in names}


def _members(secrets: Sequence[str], server: Any, era: Any) -> dict[str, Any]:
    previous, current, following = secrets
    return {
        "project": PROJECT,
        "task_url": _TASK_URL,
        "task_account": _TASKS,
        "token_secrets": (current,),
        "next_token_secret": following,
        "previous_token_secret": previous,
        "push_account": _PUSH,
        "push_audience": _PUSH_AUDIENCE,
        "buildbucket_servers": (
            server(V2_HOST, "v2@p.iam.gserviceaccount.com", era.V2),
            server(V1_HOST, "v1@p.iam.gserviceaccount.com", era.V1),
        ),
        "cloud_build": True,
        "events_topic": _TOPIC,
        "console_url": _CONSOLE,
        "console_audiences": (_CONSOLE,),
        "access": json.dumps({"version": 1, "admins": [f"user:{USER}"]}),
    }


@dataclass(frozen=True, slots=True)
class Parts:
    """What all instances share."""

    kernel: Kernel
    outside: Outside
    choices: Choices
    queue: TaskQueue
    session: WireSession
    make_store: Callable[[Code], InstanceStore]
    release: Release | None
    """The functions of instances that have the fault of an old version."""
    is_github: bool
    """Whether the repository is on GitHub."""
    suffixes: list[tuple[str, Instant, int]]
    """Instance, millisecond and suffix of the ID of each invocation that was created."""


@dataclass(frozen=True, slots=True)
class HttpCall:
    """A request of a task, a schedule or a user."""

    path: str
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)
    account: str = _TASKS
    audience: str = _TASK_URL

    @classmethod
    def of_user(cls, path: str, document: object) -> HttpCall:
        """Return a call of the API in plain JSON."""
        return cls(path, json.dumps(document).encode(), account=USER, audience=_CONSOLE)


@dataclass(frozen=True, slots=True)
class Event:
    """A push of Pub/Sub as the framework hands it over."""

    id: str
    data: Mapping[str, Any]
    time: str

    def __getitem__(self, name: str) -> str:
        """Return a context attribute."""
        return str(getattr(self, name))

    @classmethod
    def of(cls, identifier: str, data: bytes, attributes: Mapping[str, str], published: Instant) -> Event:
        """Return the push of a message."""
        time = format_rfc3339(published)
        message = {
            "data": base64.b64encode(data).decode(),
            "attributes": dict(attributes),
            "messageId": identifier,
            "publishTime": time,
        }
        return cls(identifier, {"message": message, "subscription": "s"}, time)


class _Clock:
    """The clock of an instance, which may be wrong."""

    def __init__(self, outside: Outside, skew: int) -> None:
        self._outside = outside
        self._skew = skew
        self.stopped: dict[int, tuple[Instant, int]] = {}
        """Number of a delivery → the instant that its clock shows, and the suffix that it draws next."""

    def now(self) -> Instant:
        now = self._outside.kernel.now()
        stop = self.stopped.get(self._outside.running.delivery.number) if self.stopped else None
        # A clock that stands still for longer would be another fault, for a delivery that creates nothing.
        return stop[0] if stop and now - stop[0] < _DRIFT else Instant(now + self._skew)

    def sleep(self, nanoseconds: int) -> None:
        self._outside.sleep(nanoseconds)


class _Entropy:
    """The randomness of an instance."""

    def __init__(self, parts: Parts, name: str, clock: _Clock) -> None:
        self._parts = parts
        self._name = name
        self._clock = clock
        draw = parts.choices.draw(f"entropy/{name}")
        self._suffixes = suffixes(draw.first & 0xFFFF, draw.second & 0xFFFF)

    def invocation_suffix(self) -> int:
        """Draw 16 bits."""
        stop = self._clock.stopped.pop(self._parts.outside.running.delivery.number, None)
        if stop is not None:
            return stop[1]
        return next(self._suffixes)

    def check_delay_seconds(self, low: int, high: int) -> int:
        """Draw whole seconds from [low, high)."""
        return low + self._parts.choices.draw(f"entropy/{self._name}").below(high - low)

    def nonce(self) -> int:
        """Draw 63 bits, not all zero."""
        draw = self._parts.choices.draw(f"entropy/{self._name}")
        return (draw.first << 31 | draw.second >> 1) or 1


class Instance:
    """One instance of a function.

    Args:
        parts: the services that all instances share.
        function: its entry point.
        number: distinguishes it from the other instances of the function.
        secrets: the previous, the current and the next signing secret.
    """

    def __init__(self, parts: Parts, function: str, number: int, secrets: Sequence[str]) -> None:
        self.name = f"{function}-{number}"
        self.function = function
        self._parts = parts
        fault = parts.choices.fault("platform/instance")
        skew = fault.amount * MILLISECOND if fault is not None and fault.kind is Kind.CLOCK_SKEW else 0
        self._clock = _Clock(parts.outside, skew)
        is_old = fault is not None and fault.kind is Kind.OLD_VERSION and function in _SHARED
        self.code = Code(parts.release if is_old else None)
        self._entry = self.code.module("entry")
        self._secrets = secrets
        self.life = 0
        """How often it has started anew."""
        self.open: dict[int, Callable[[], None]] = {}
        """Number of each delivery in progress → the function that reports a broken connection to its sender."""
        self._app = self._make()

    def restart(self, secrets: Sequence[str] = ()) -> None:
        """Die with everything in progress, and start anew: with empty caches, and perhaps with other secrets."""
        self._secrets = secrets or self._secrets
        self.life += 1
        broken, self.open = self.open, {}
        for tell in broken.values():
            tell()
        self._app = self._make()

    def _coincide(self) -> None:
        """Sometimes let a delivery create its invocation in a millisecond, and with a suffix, of another instance.

        Clocks differ by seconds, so another instance may show the same millisecond a little later.
        """
        drawn, now = self._parts.suffixes, self._parts.kernel.now()
        if not drawn or drawn[-1][0] == self.name or abs(drawn[-1][1] - now) > _DRIFT:
            return
        if self._parts.choices.fault("platform/suffix") is not None:
            self._clock.stopped[self._parts.outside.running.delivery.number] = drawn[-1][1:]

    def task(self, call: HttpCall) -> tuple[int, str]:
        """Handle a task; return status code and body."""
        self._coincide()
        body, code, _ = cast("Any", self._entry.task(self._app, self._request(call)))
        return code, body

    def page(self, call: HttpCall) -> tuple[int, str]:
        """Handle a call of the console; return status code and body."""
        with _flask().request_context(self._environ(call)):
            body, code, _ = cast("Any", self._entry.page(self._app, flask.request))
        return code, body.decode() if isinstance(body, bytes) else str(body)

    def event(self, event: Event) -> tuple[int, str]:
        """Handle a push of Pub/Sub; return status code and body."""
        self._coincide()
        handle = getattr(self._entry, _EVENTS[self.function])
        call = HttpCall("/", b"", account=_PUSH, audience=_PUSH_AUDIENCE)
        with _flask().request_context(self._environ(call)):
            body, code = handle(self._app, event)
        return code, body

    def _request(self, call: HttpCall) -> flask.Request:
        return flask.Request(self._environ(call))

    def _environ(self, call: HttpCall) -> WSGIEnvironment:
        # A token is valid for an hour, and signing one takes a millisecond.
        issued = self._parts.kernel.now() // (1800 * SECOND) * 1800 * SECOND
        headers = {"HTTP_" + name.upper().replace("-", "_"): value for name, value in call.headers.items()}
        return {
            "REQUEST_METHOD": "POST",
            "PATH_INFO": call.path,
            "QUERY_STRING": "",
            "SERVER_NAME": "console.example",
            "SERVER_PORT": "443",
            "SERVER_PROTOCOL": "HTTP/1.1",
            "wsgi.url_scheme": "https",
            "wsgi.input": io.BytesIO(call.body),
            "CONTENT_TYPE": "application/json",
            "CONTENT_LENGTH": str(len(call.body)),
            "HTTP_AUTHORIZATION": f"Bearer {issuer().issue(call.account, call.audience, issued)}",
            **headers,
        }

    def _make(self) -> Any:
        bootstrap = self.code.module("bootstrap")
        settings = make_settings(self._secrets, self.code)
        ports = {**self._services(settings), **self._callers()}
        return bootstrap.make_app(settings, bootstrap.Ports(**_known(bootstrap.Ports, ports)))

    def _services(self, settings: Any) -> dict[str, Any]:
        parts, clock, module = self._parts, self._clock, self.code.module
        deadline = settings.request_deadline_seconds * SECOND
        client = QueueClient(parts.queue, parts.outside)
        ports: dict[str, Any] = {
            "store": parts.make_store(self.code),
            "queue": module("adapters.cloud_tasks").CloudTasksQueue(
                client, settings.queue_path, settings.task_url, settings.task_account, settings.tasks_audience
            ),
            "clock": clock,
            "entropy": _Entropy(parts, self.name, clock),
            "buildbucket": module("adapters.buildbucket").BuildbucketClient(_url, self._session, clock, deadline),
            **self._repositories(deadline),
            "fetch": NoFetch(),
            "config_sources": (
                module("adapters.config_sources").BucketSource(
                    PROJECT, "configs", "luci-scheduler.cfg", _STORAGE, self._session
                ),
            ),
        }
        if self.code.release is None:
            ports["cloud_build"] = CloudBuildClient(f"https://{CLOUD_HOST}", cast("Any", self._session), clock)
            ports["topic"] = PubsubTopic(_TOPIC, "https://pubsub.googleapis.com", cast("Any", self._session))
        return ports

    def _callers(self) -> dict[str, Any]:
        tasks = OidcVerifier(_certificates, _TASK_URL, {_TASKS}, self._clock)
        push = OidcVerifier(_certificates, _PUSH_AUDIENCE, {_PUSH}, self._clock)
        people = CallerIdentity(
            self._clock,
            fetch_iap_keys=_certificates,
            bearer_audiences=(_CONSOLE,),
            fetch_oidc_keys=_certificates,
            access_token_email=_no_access_token,
        )
        return {
            "verify_caller": _remembered(tasks.verify, _TASK_URL),
            "verify_push": _remembered(push.verify, _PUSH_AUDIENCE),
            "identify": _remembered(people.identify, _CONSOLE),
        }

    def _repositories(self, deadline: int) -> dict[str, Any]:
        if self._parts.is_github:
            api = GitHubApi(DEFAULT_HOSTS, cast("Any", self._session), TokenCredentials(TOKEN), self._clock)
            return {"gitiles": GitHubClient(api), "statuses": GitHubStatuses(DEFAULT_HOSTS, api)}
        gitiles = self.code.module("adapters.gitiles").GitilesClient
        return {"gitiles": gitiles(_url, self._session, deadline, authenticated=True, clock=self._clock)}

    def _session(self) -> WireSession:
        return self._parts.session


def _url(host: str) -> str:
    return f"https://{host}"


_verified: dict[tuple[str, str], Any] = {}
"""Audience and header → the account that the real verifier found: there are few tokens, and each takes 80 us."""


def _remembered(verify: Callable[[Any], Any], audience: str) -> Callable[[Any], Any]:
    """Verify each token once."""

    def remembered(headers: Any) -> Any:
        # The release 0.1 passes the header alone.
        header = headers if isinstance(headers, str) else headers.get("Authorization", "")
        key = (audience, header)
        if key not in _verified:
            _verified[key] = verify({"Authorization": header})
        return _verified[key]

    return remembered


def _no_access_token(_token: str, _network: str) -> str:
    raise AssertionError("no caller sends an access token")
