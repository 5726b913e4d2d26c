"""What the tests of the command share: the command, run against a console in memory."""

import argparse
import io
import json
from typing import Any

import requests

from luci_scheduler.cli.main import main
from luci_scheduler.cli.session import Session
from tests.unit.api.support import OWNER, Client
from tests.unit.engine.world import World

__all__ = ["Ran", "run"]


class Ran:
    """What a run of the command did."""

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
) -> Ran:
    """Run the command as somebody whom the world knows; the first ``lost`` answers do not arrive."""
    client, out = Client(world), io.StringIO()
    losses = iter(range(lost))

    def post(url: str, data: bytes, headers: dict[str, str], **_: Any) -> requests.Response:
        path = url.removeprefix("http://localhost")
        answer = client.http(path, data, who, **{name.replace("-", "_"): text for name, text in headers.items()})
        if next(losses, None) is not None:
            raise requests.ConnectionError
        response = requests.Response()
        response.status_code = answer.status_code
        response._content = answer.data
        response.headers.update(answer.headers)
        return response

    def session(options: argparse.Namespace) -> Session:
        return Session(options, post, pause or (lambda _: None), out)

    variables = {"LUCI_SCHEDULER_URL": "http://localhost", **(environment or {})}
    return Ran(main(arguments, variables, session), out.getvalue())
