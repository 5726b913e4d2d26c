"""Shared by the tests of the API: a console in memory, called as clients call it."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import flask
from werkzeug.test import TestResponse

from luci_scheduler import entry, guards
from luci_scheduler.api.context import Context
from luci_scheduler.bootstrap import Identify
from luci_scheduler.core.identity import ANONYMOUS, Identity, user
from luci_scheduler.core.job import Job
from luci_scheduler.ports import PutJob
from tests.unit.engine.world import World

__all__ = ["ADMIN", "OWNER", "READER", "STRANGER", "TRIGGERER", "Client", "context", "put_job", "sample", "world_for"]

ADMIN, OWNER, TRIGGERER, READER = (f"{name}@example.com" for name in ("admin", "owner", "triggerer", "reader"))
STRANGER = "stranger@example.org"
POLICY = {
    "version": 1,
    "admins": [f"user:{ADMIN}"],
    "grants": [
        {"project": project, "role": role, "to": [f"user:{name}"]}
        for project in ("proj", "tint")
        for role, name in (("OWNER", OWNER), ("TRIGGERER", TRIGGERER), ("READER", READER))
    ],
}
_SAMPLES = Path("tests/samples")


def world_for(*args: Any, **settings: Any) -> World:
    """Return a world with an access policy."""
    return World(*args, **{"access": json.dumps(POLICY), **settings})


def context(world: World, email: str = OWNER) -> Context:
    """Return the context of a user's calls of the service layer."""
    return Context(world.runtime, world.app.access, user(email))


def put_job(world: World, job: Job) -> None:
    """Write a job's document; replace the existing one."""
    found = world.store.job(job.id)
    world.store.commit([PutJob(job, found.version if found else None)])


def sample(name: str) -> dict[str, Any]:
    """Return a recorded call."""
    document: dict[str, Any] = json.loads((_SAMPLES / f"scheduler-api-{name}.http.json").read_text(encoding="utf-8"))
    return document


_APP = "tests.app"
"""The member of a request's environment with the application that answers it."""


def _answer(**_: str) -> flask.typing.ResponseReturnValue:
    return entry.page(flask.request.environ[_APP], flask.request)


@cache
def _server() -> flask.Flask:
    """Return the server of all consoles. To compile the rules of a new one takes longer than a call."""
    server = flask.Flask("console")
    methods = ["GET", "POST", "PUT", "OPTIONS"]
    for rule in ("/", "/<path:_>"):
        server.add_url_rule(rule, "console", _answer, methods=methods, provide_automatic_options=False)
    guards.log_refusals(server)
    guards.refuse_other_sites(server, lambda: flask.request.environ[_APP].settings.local)
    return server


class Client:
    """Calls the console of a world over HTTP as ``who``, unless ``identify`` is given."""

    def __init__(self, world: World, identify: Identify | None = None) -> None:
        by_name: Identify = lambda headers: Identity(headers.get("X-Test-Identity", ANONYMOUS))  # noqa: E731
        self._app = replace(world.app, identify=identify or by_name)
        self._client = _server().test_client()

    def http(self, path: str, body: bytes = b"", who: str = "", method: str = "POST", **headers: str) -> TestResponse:
        """Send a request; underscores in the names of ``headers`` become hyphens."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        if who:
            named["X-Test-Identity"] = user(who)
        return self._client.open(path, method=method, data=body, headers=named, environ_overrides={_APP: self._app})

    def post(self, method: str, message: Any, who: str = OWNER, service: str = "scheduler.Scheduler") -> TestResponse:
        """Call a method in JSON."""
        body = json.dumps(message).encode()
        json_type = "application/json"
        return self.http(f"/prpc/{service}/{method}", body, who, Content_Type=json_type, Accept=json_type)

    def call(self, method: str, message: Any, who: str = OWNER, service: str = "scheduler.Scheduler") -> Any:
        """Call a method that must succeed, and return its reply."""
        answer = self.post(method, message, who, service)
        assert answer.status_code == 200, answer.data
        return json.loads(answer.data.removeprefix(b")]}'\n"))
