"""Requests, samples and a service for tests of the Cloud Build server."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from emulator.buildbucket.testing import MemoryPublisher, ScriptedEntropy
from emulator.clock import SteppedClock
from emulator.cloud_build.builds import Place
from emulator.cloud_build.memory import MemoryCloudBuild
from emulator.cloud_build.service import Service
from luci_scheduler.core.foreign_text import sanitized
from luci_scheduler.core.instants import parse_rfc3339
from luci_scheduler.ports import CloudBuildError

SAMPLES = Path(__file__).parents[3] / "samples" / "cloud-build"
START = parse_rfc3339("2026-03-17T14:05:11.482913207Z")
PLACE = Place("example-project", "us-central1")
BASE = "/v1/projects/example-project/locations/us-central1"
INVOCATION = "8852505479846020432"
REVISION = "2f22765d04931a078909145ca628d2264c852d7d"


def sample(name: str) -> Any:
    """Return a sample as JSON."""
    return json.loads((SAMPLES / name).read_text(encoding="utf-8"))


def request(**changes: Any) -> dict[str, Any]:
    """Return a request for a build with changed members; None removes a member."""
    merged = {**sample("create-request.json"), **changes}
    return {name: value for name, value in merged.items() if value is not None}


def is_refusal(error: CloudBuildError, name: str) -> bool:
    """Return whether an error is the answer of a sample, for good."""
    wanted = sample(name)["response"]["body"]["error"]
    said = sanitized(f"{wanted['status']}: {wanted['message']}")
    return (error.code, str(error), error.transient) == (wanted["status"], said, False)


class Bench:
    """A service on a clock that stands still, and its port in memory."""

    def __init__(self) -> None:
        self.clock = SteppedClock(START)
        self.publisher = MemoryPublisher()
        self.service = Service(self.clock, ScriptedEntropy(), self.publisher)
        self.port = MemoryCloudBuild(self.service)

    def call(self, http_method: str, path: str, body: Any = None, **query: str) -> dict[str, Any]:
        """Call the API in memory; ``path`` begins after the place."""
        return self.port.call(http_method, BASE + path, body, list(query.items()), seconds=10)

    def create(self, **changes: Any) -> dict[str, Any]:
        """Create a build and return it."""
        made: dict[str, Any] = self.call("POST", "/builds", request(**changes))["metadata"]["build"]
        return made

    def get(self, build_id: str) -> dict[str, Any]:
        """Return a build."""
        return self.call("GET", f"/builds/{build_id}")

    def advance(self, seconds: float) -> None:
        """Move the clock and run the due work, in steps, so that changes happen at their time."""
        self.clock.advance(round(seconds * 1e9))
        self.service.timeline.run_due()

    def announced(self) -> list[str]:
        """Return the statuses of the messages so far."""
        return [message.attributes["status"] for message in self.publisher.messages]
