"""The doors of the functions: each way in which a request reaches the engine, the pages or the API."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlencode

import structlog
from google.auth import jwt

from luci_scheduler import process
from luci_scheduler.adapters.identity import OidcVerifier
from luci_scheduler.core.instants import SECOND
from luci_scheduler.core.notification_token import make_token
from luci_scheduler.web.tokens import form_token
from tests.fuzz.site import ACCOUNT, CONSOLE, ON_TASK, Answer, Site, site
from tests.unit.api.support import OWNER
from tests.unit.engine.world import JOB, REPO, World

__all__ = ["DOORS", "ON_EVENT", "PUSH_ACCOUNT", "REVISION", "Door", "claims", "guarded", "push", "signed"]

ON_EVENT = "https://on-event.invalid"
PUSH_ACCOUNT = "push@cloud-project.iam.gserviceaccount.com"
REVISION = "c" * 40


@dataclass(frozen=True)
class Door:
    """A request that changes or reads something if its sender proves an identity."""

    function: str
    path: str
    body: bytes = b""
    kind: str = "application/json"
    method: str = "POST"
    audience: str = CONSOLE
    account: str = OWNER

    def knock(self, served: Site, headers: Mapping[str, str]) -> Answer:
        """Send the request with further headers."""
        named = {"Content-Type": self.kind, "Accept": "application/json", **headers}
        return served.call(self.function, self.path, self.body, named, REQUEST_METHOD=self.method)


def push(data: bytes, message: str = "m1", attributes: Mapping[str, str] | None = None) -> bytes:
    """Return the body of a push."""
    body = {
        "messageId": message,
        "publishTime": "2026-03-01T12:00:00Z",
        "data": base64.b64encode(data).decode(),
        "attributes": attributes or {},
    }
    return json.dumps({"message": body, "subscription": "projects/p/subscriptions/s"}).encode()


def _doors(world: World) -> Mapping[str, Door]:
    (invocation,) = world.invocations()
    event = json.dumps({"repo": REPO, "ref": "refs/heads/main", "revision": REVISION}).encode()
    token = make_token("secret", JOB, invocation.id, world.clock.now())
    form = {"token": form_token("secret", f"user:{OWNER}", world.clock.now()), "key": "k"}
    pushed: Any = {"path": "/projects/p/topics/t", "audience": ON_EVENT, "account": PUSH_ACCOUNT}
    tasked: Any = {"function": "on_task", "audience": ON_TASK, "account": ACCOUNT}
    job = b'{"project":"proj","job":"job"}'
    return {
        "commit": Door("on_gitiles_commit", body=push(event), **pushed),
        "notification": Door("on_build_completion", body=push(b"{}", attributes={"auth_token": token}), **pushed),
        "cloud build": Door("on_cloud_build", body=push(_built(invocation.id)), **pushed),
        "sweep": Door(path="/sweep", body=b"{}", **tasked),
        "trigger": Door(path="/trigger", body=json.dumps(_trigger_task(world)).encode(), **tasked),
        "sync": Door(path="/sync", **tasked),
        "page": Door("console", f"/jobs/{JOB}", method="GET"),
        "form": Door(
            "console", f"/actions/triggerJob/{JOB}", urlencode(form).encode(), "application/x-www-form-urlencoded"
        ),
        "pRPC": Door("console", "/prpc/scheduler.Scheduler/PauseJob", job),
        "plain JSON": Door("console", "/api/v1/scheduler.Scheduler/PauseJob", job),
    }


DOORS = ("commit", "notification", "cloud build", "sweep", "trigger", "sync", "page", "form", "pRPC", "plain JSON")


def _built(invocation_id: int) -> bytes:
    """Return a message about a build whose substitutions name an invocation."""
    named = {"APP": "luci-scheduler", "JOB": JOB, "INVOCATION": str(invocation_id)}
    return json.dumps(
        {"id": "b", "substitutions": {f"_SCHEDULER_{name}": text for name, text in named.items()}}
    ).encode()


def _trigger_task(world: World) -> dict[str, Any]:
    trigger = {"id": "t", "created": world.clock.now(), "kind": "noop", "payload": {}}
    return {"job": JOB, "delivery": "d", "triggers": [trigger]}


@contextmanager
def guarded(world: World | None = None) -> Iterator[tuple[Site, Mapping[str, Door]]]:
    """Serve a world with a running invocation, in which pushes need a token too; yield it with its doors by name."""
    with site(world) as served:
        keys = json.dumps(served.issuer.certificates()).encode()
        verifier = OidcVerifier(lambda: keys, ON_EVENT, {PUSH_ACCOUNT}, served.world.clock)
        served.world.app = replace(served.world.app, verify_push=verifier.verify)
        process.use(served.world.app)
        served.world.commit()
        served.world.buildbucket.builds["9000"]["status"] = "STARTED"
        structlog.contextvars.clear_contextvars()
        yield served, _doors(served.world)


def claims(served: Site, door: Door, **changes: Any) -> dict[str, Any]:
    """Return the claims that open a door, with changes; a claim changed to None is left out."""
    now = served.world.clock.now() // SECOND
    good = {
        "iss": "https://accounts.google.com",
        "aud": door.audience,
        "email": door.account,
        "email_verified": True,
        "iat": now,
        "exp": now + 3600,
        **changes,
    }
    return {name: value for name, value in good.items() if value is not None}


def signed(served: Site, made: Mapping[str, Any]) -> str:
    """Return a token with these claims, signed by a published key."""
    return bytes(jwt.encode(served.issuer._signer, made)).decode()
