"""The four functions, served by the functions framework over a memory store, called without a socket."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import functions_framework
import structlog

from emulator.cloud_tasks.oidc import TokenIssuer
from emulator.supervisor import SOURCE
from luci_scheduler import process
from luci_scheduler.adapters.identity import CallerIdentity, OidcVerifier
from luci_scheduler.core.identity import UnauthenticatedError
from tests.unit.api.support import world_for
from tests.unit.engine.world import World

__all__ = ["ACCOUNT", "CONSOLE", "ON_TASK", "Answer", "Site", "site"]

ACCOUNT = "tasks@cloud-project.iam.gserviceaccount.com"
ON_TASK, CONSOLE = "https://on-task.invalid", "https://console.invalid"
_SIGNATURES = {
    "on_gitiles_commit": "cloudevent",
    "on_build_completion": "cloudevent",
    "on_cloud_build": "cloudevent",
    "on_task": "http",
    "console": "http",
}
_BROKEN = {"unexpected_error", "api_fault", "page_fault", "document_unreadable", "trigger_set_aside"}


@cache
def _issuer() -> TokenIssuer:
    return TokenIssuer()


@cache
def _app(function: str) -> Any:
    return functions_framework.create_app(function, str(SOURCE), _SIGNATURES[function])


@dataclass(frozen=True)
class Answer:
    """An answer, with all effects of the request."""

    code: int
    body: bytes
    headers: Mapping[str, str]
    lines: tuple[Mapping[str, Any], ...]
    """The log lines."""
    writes: int
    """Documents written and tasks enqueued."""

    @property
    def events(self) -> list[str]:
        """The names of the log lines."""
        return [str(line["event"]) for line in self.lines]

    @property
    def is_fault(self) -> bool:
        """Whether the request has hit a defect.

        A bad cursor is answered with 500, as in the original, and so is a notification that no known key signed.
        """
        is_cursor = self.events == ["api_error"] and "bad cursor" in str(self.lines[0]["error"])
        is_expected = is_cursor or self.events == ["key_unknown"] or self.code == 501
        return bool(_BROKEN & set(self.events)) or (self.code >= 500 and not is_expected)


class Site:
    """The functions and the world behind them."""

    def __init__(self, world: World, issuer: TokenIssuer, lines: list[Any]) -> None:
        self.world = world
        self.issuer = issuer
        self._lines = lines

    def call(
        self, function: str, path: str = "/", body: bytes = b"", headers: Mapping[str, str] | None = None, **about: str
    ) -> Answer:
        """Send a request; ``about`` sets members of the WSGI environment, such as the method."""
        environ: dict[str, Any] = {
            "REQUEST_METHOD": "POST",
            "PATH_INFO": path,
            "SCRIPT_NAME": "",
            "QUERY_STRING": "",
            "SERVER_NAME": "localhost",
            "SERVER_PORT": "80",
            "SERVER_PROTOCOL": "HTTP/1.1",
            "CONTENT_LENGTH": str(len(body)),
            "wsgi.input": io.BytesIO(body),
            "wsgi.url_scheme": "http",
            "wsgi.errors": io.StringIO(),
            "wsgi.version": (1, 0),
            "wsgi.multithread": True,
            "wsgi.multiprocess": False,
            "wsgi.run_once": False,
            "wsgi.input_terminated": True,
        } | about
        for name, value in (headers or {}).items():
            key = name.upper().replace("-", "_")
            environ[key if key in ("CONTENT_TYPE", "CONTENT_LENGTH") else f"HTTP_{key}"] = value
        started: list[Any] = []
        self._lines.clear()
        before = self._written()
        parts = _app(function)(environ, lambda status, named, _=None: started.append((status, named)))
        answer = b"".join(parts)
        status, named = started[0]
        return Answer(int(status[:3]), answer, dict(named), tuple(self._lines), self._written() - before)

    def token(self, audience: str = ON_TASK, account: str = ACCOUNT) -> str:
        """Return a good bearer token's header."""
        return f"Bearer {self.issuer.issue(account, audience, self.world.clock.now())}"

    def _written(self) -> int:
        return self.world.store.counts["W"] + len(self.world.queue._tasks)


@contextmanager
def site(world: World | None = None) -> Iterator[Site]:
    """Serve a world with an access policy and the real verifiers of tokens. Nothing is logged to the console."""
    lines: list[Any] = []

    def note(_: Any, method: str, event: Any) -> Any:
        lines.append({**event, "level": method})
        raise structlog.DropEvent

    issuer = _issuer()
    keys = json.dumps(issuer.certificates()).encode()
    world = world or world_for()
    verifier = OidcVerifier(lambda: keys, ON_TASK, {ACCOUNT}, world.clock)

    def no_access_tokens(_: str, _sender: str) -> str:
        raise UnauthenticatedError("access tokens are not accepted")

    identity = CallerIdentity(
        world.clock,
        iap_audience="/projects/1/global/backendServices/2",
        fetch_iap_keys=lambda: b"{}",
        bearer_audiences=(CONSOLE,),
        fetch_oidc_keys=lambda: keys,
        access_token_email=no_access_tokens,
    )
    world.app = replace(world.app, verify_caller=verifier.verify, identify=identity.identify)
    structlog.configure(processors=[structlog.contextvars.merge_contextvars, note])
    process.use(world.app)
    try:
        yield Site(world, issuer, lines)
    finally:
        process.use(None)
        structlog.reset_defaults()
