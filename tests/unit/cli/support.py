"""Shared by the tests of the command: runs of the command against a console in memory, or a scripted one."""

import argparse
import io
import json
from collections.abc import Callable, Mapping
from typing import Any

import requests

from luci_scheduler.cli.main import main
from luci_scheduler.cli.session import Session
from tests.unit.api.support import OWNER, Client
from tests.unit.engine.world import World

__all__ = ["Console", "Ran", "in_turn", "run", "run_on", "says"]


class Ran:
    """The result of a run of the command."""

    def __init__(self, code: int, out: str) -> None:
        self.code, self.out = code, out

    @property
    def document(self) -> Any:
        return json.loads(self.out)


def run(
    world: World,
    *arguments: str,
    who: str = OWNER,
    environment: dict[str, str] | None = None,
    pause: Any = None,
    lost: int = 0,
    answered: int = 0,
) -> Ran:
    """Run the command as a user of the world; after ``answered`` responses the next ``lost`` ones do not arrive."""
    client, out = Client(world), io.StringIO()
    losses = iter([False] * answered + [True] * lost)

    def post(url: str, data: bytes, headers: dict[str, str], **_: Any) -> requests.Response:
        path = url.removeprefix("http://localhost")
        answer = client.http(path, data, who, **{name.replace("-", "_"): text for name, text in headers.items()})
        if next(losses, False):
            raise requests.ConnectionError
        response = requests.Response()
        response.status_code = answer.status_code
        response._content, response._content_consumed = answer.data, True
        response.headers.update(answer.headers)
        return response

    def session(options: argparse.Namespace) -> Session:
        return Session(options, post, pause or (lambda _: None), out)

    variables = {"LUCI_SCHEDULER_URL": "http://localhost", **(environment or {})}
    return Ran(main(arguments, variables, session), out.getvalue())


class Console:
    """A console with one reply, which records its requests."""

    def __init__(self, status: int = 200, text: str = ")]}'\n{}", **headers: str) -> None:
        self.sent: dict[str, str] = {}
        self._answer = requests.Response()
        self._answer.status_code = status
        self._answer._content, self._answer._content_consumed = text.encode(), True
        self._answer.headers.update({name.replace("_", "-"): value for name, value in headers.items()})

    def __call__(self, _url: str, headers: Mapping[str, str] | None = None, **_: Any) -> requests.Response:
        self.sent = dict(headers or {})
        return self._answer


def says(reply: Any) -> Console:
    """Return a console that gives one reply."""
    return Console(text=json.dumps(reply), X_Prpc_Grpc_Code="0")


def in_turn(*consoles: Console) -> Callable[..., requests.Response]:
    """A console that gives these replies, one after another."""
    left = iter(consoles)

    def post(url: str, **sent: Any) -> requests.Response:
        return next(left)(url, **sent)

    return post


def run_on(console: Any, *arguments: str, **environment: str) -> int:
    """Run the command against such a console and return its exit code."""
    return main(arguments, environment, lambda options: Session(options, console, lambda _: None))
