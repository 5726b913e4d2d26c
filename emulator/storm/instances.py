"""Instances of the functions in a world: each with its own application, clock, entropy and caches."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any, cast

import flask

from emulator.cloud_tasks.oidc import TokenIssuer
from emulator.memory.ports import NoFetch
from emulator.storm.choices import Choices
from emulator.storm.faults import Kind
from emulator.storm.kernel import Kernel
from emulator.storm.outside import Outside
from emulator.storm.queue import QueueClient, TaskQueue
from emulator.storm.scripts import PROJECT, V1_HOST, V2_HOST
from emulator.storm.stores import InstanceStore
from emulator.storm.wire import WireSession
from luci_scheduler import entry
from luci_scheduler.adapters.buildbucket import BuildbucketClient
from luci_scheduler.adapters.cloud_tasks import CloudTasksQueue
from luci_scheduler.adapters.config_sources import BucketSource
from luci_scheduler.adapters.gitiles import GitilesClient
from luci_scheduler.adapters.identity import CallerIdentity, OidcVerifier
from luci_scheduler.adapters.pubsub import PubsubTopic
from luci_scheduler.bootstrap import App, Ports, make_app
from luci_scheduler.core.era import Era
from luci_scheduler.core.identifiers import suffixes
from luci_scheduler.core.instants import MILLISECOND, SECOND, Instant, format_rfc3339
from luci_scheduler.settings import BuildbucketServer, Settings

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

__all__ = ["USER", "Event", "HttpCall", "Instance", "Parts", "issuer", "make_settings"]

USER = "dev@example.com"
_TASK_URL = "https://on-task.example"
_CONSOLE = "https://console.example"
_TASKS, _PUSH = "tasks@p.iam.gserviceaccount.com", "push@p.iam.gserviceaccount.com"
_PUSH_AUDIENCE = "https://push.example"
_TOPIC = "projects/p/topics/invocation-events"
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


def make_settings(secrets: Sequence[str]) -> Settings:
    """Return the settings of all functions; ``secrets`` are the previous, the current and the next signing secret."""
    previous, current, following = secrets
    return Settings(
        project=PROJECT,
        task_url=_TASK_URL,
        task_account=_TASKS,
        token_secrets=(current,),
        next_token_secret=following,
        previous_token_secret=previous,
        push_account=_PUSH,
        push_audience=_PUSH_AUDIENCE,
        buildbucket_servers=(
            BuildbucketServer(V2_HOST, "v2@p.iam.gserviceaccount.com", Era.V2),
            BuildbucketServer(V1_HOST, "v1@p.iam.gserviceaccount.com", Era.V1),
        ),
        events_topic=_TOPIC,
        console_url=_CONSOLE,
        console_audiences=(_CONSOLE,),
        access=json.dumps({"version": 1, "admins": [f"user:{USER}"]}),
    )


@dataclass(frozen=True, slots=True)
class Parts:
    """What all instances share."""

    kernel: Kernel
    outside: Outside
    choices: Choices
    queue: TaskQueue
    session: WireSession
    make_store: Callable[[Outside], InstanceStore]
    suffixes: list[tuple[str, Instant, int]]
    """Instance, instant and suffix of each invocation's ID that was drawn."""


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

    def now(self) -> Instant:
        return Instant(self._outside.kernel.now() + self._skew)

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
        """Draw 16 bits; sometimes those that another instance has drawn in the same millisecond."""
        drawn, now = self._parts.suffixes, self._clock.now()
        if drawn:
            other, at, suffix = drawn[-1]
            if other != self._name and at // MILLISECOND == now // MILLISECOND:
                fault = self._parts.choices.fault("platform/suffix")
                if fault is not None:
                    return suffix
        suffix = next(self._suffixes)
        drawn.append((self._name, now, suffix))
        return suffix

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
        parts: what it shares with the others.
        function: its entry point.
        number: tells it from the other instances of the function.
        settings: its environment.
    """

    def __init__(self, parts: Parts, function: str, number: int, settings: Settings) -> None:
        self.name = f"{function}-{number}"
        self.function = function
        self._parts = parts
        fault = parts.choices.fault("platform/instance")
        skew = fault.amount * MILLISECOND if fault is not None and fault.kind is Kind.CLOCK_SKEW else 0
        self._clock = _Clock(parts.outside, skew)
        self.settings = settings
        self.life = 0
        """How often it has started anew."""
        self.open: dict[int, Callable[[], None]] = {}
        """Number of each delivery in progress → the function that tells its sender that the connection broke."""
        self._app = self._make()

    def restart(self, settings: Settings | None = None) -> None:
        """Die with everything in progress, and start anew: with empty caches, and perhaps with other settings."""
        self.settings = settings or self.settings
        self.life += 1
        broken, self.open = self.open, {}
        for tell in broken.values():
            tell()
        self._app = self._make()

    def task(self, call: HttpCall) -> tuple[int, str]:
        """Handle a task; return status code and body."""
        body, code, _ = cast("Any", entry.task(self._app, self._request(call)))
        return code, body

    def page(self, call: HttpCall) -> tuple[int, str]:
        """Handle a call of the console; return status code and body."""
        with _flask().request_context(self._environ(call)):
            body, code, _ = cast("Any", entry.page(self._app, flask.request))
        return code, body.decode() if isinstance(body, bytes) else str(body)

    def event(self, event: Event) -> tuple[int, str]:
        """Handle a push of Pub/Sub; return status code and body."""
        handle = entry.commit if self.function == "on_gitiles_commit" else entry.notification
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

    def _make(self) -> App:
        return make_app(self.settings, self._ports())

    def _ports(self) -> Ports:
        parts, settings, clock = self._parts, self.settings, self._clock
        get_session = cast("Any", lambda: parts.session)
        deadline = settings.request_deadline_seconds * SECOND
        client = QueueClient(parts.queue, parts.outside)
        return Ports(
            store=cast("Any", parts.make_store(parts.outside)),
            queue=CloudTasksQueue(
                client, settings.queue_path, settings.task_url, settings.task_account, settings.tasks_audience
            ),
            clock=clock,
            entropy=_Entropy(parts, self.name, clock),
            buildbucket=BuildbucketClient(lambda host: f"https://{host}", get_session, clock, deadline),
            gitiles=GitilesClient(
                lambda host: f"https://{host}", get_session, deadline, authenticated=True, clock=clock
            ),
            fetch=NoFetch(),
            verify_caller=_remembered(OidcVerifier(_certificates, _TASK_URL, {_TASKS}, clock).verify, _TASK_URL),
            verify_push=_remembered(OidcVerifier(_certificates, _PUSH_AUDIENCE, {_PUSH}, clock).verify, _PUSH_AUDIENCE),
            identify=_remembered(
                CallerIdentity(
                    clock,
                    fetch_iap_keys=_certificates,
                    bearer_audiences=(_CONSOLE,),
                    fetch_oidc_keys=_certificates,
                    access_token_email=_no_access_token,
                ).identify,
                _CONSOLE,
            ),
            config_sources=(BucketSource(PROJECT, "configs", "luci-scheduler.cfg", _STORAGE, get_session),),
            topic=PubsubTopic(_TOPIC, "https://pubsub.googleapis.com", get_session),
        )


_verified: dict[tuple[str, str], Any] = {}
"""Audience and header → the account that the real verifier found: there are few tokens, and each takes 80 us."""


def _remembered(verify: Callable[[Any], Any], audience: str) -> Callable[[Any], Any]:
    """Verify each token once."""

    def remembered(headers: Any) -> Any:
        key = (audience, headers.get("Authorization", ""))
        if key not in _verified:
            _verified[key] = verify(headers)
        return _verified[key]

    return remembered


def _no_access_token(_token: str, _network: str) -> str:
    raise AssertionError("no caller sends an access token")
