"""The headers of a request to Buildbucket."""

from __future__ import annotations

from typing import Any

import pytest
import requests

from emulator.clock import SteppedClock
from luci_scheduler.adapters.buildbucket import BuildbucketClient
from luci_scheduler.core.instants import SECOND, Instant
from luci_scheduler.ports import BuildbucketError

NOW = Instant(100 * SECOND)


class _Unreachable(requests.Session):
    """A session that keeps the headers of its requests and reaches no server."""

    def __init__(self) -> None:
        super().__init__()
        self.sent: list[dict[str, str]] = []

    def request(self, *_: object, **options: Any) -> requests.Response:
        """Fail like the library."""
        self.sent.append(options["headers"])
        raise requests.ConnectionError


@pytest.mark.parametrize(("until", "timeout"), [(None, "60000m"), (Instant(NOW + 7 * SECOND + SECOND // 2), "7500m")])
def test_server_learns_how_long_the_scheduler_waits(until: Instant | None, timeout: str) -> None:
    """In milliseconds, up to the end of the attempt: a server that works longer builds in vain."""
    session = _Unreachable()
    client = BuildbucketClient(lambda _: "http://127.0.0.1:1", lambda: session, SteppedClock(NOW), 60 * SECOND)
    with pytest.raises(BuildbucketError, match="no answer"):
        client.v2("host", "ScheduleBuild", {}, until=until)
    (headers,) = session.sent
    assert headers["X-Prpc-Grpc-Timeout"] == timeout
    assert headers["Accept"] == headers["Content-Type"] == "application/json"
