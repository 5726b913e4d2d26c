"""The summary of an invocation: why it failed, or how its build ended, for people."""

from typing import Any

import pytest

from luci_scheduler.core.errors import PermanentError
from luci_scheduler.core.invocation import Status
from luci_scheduler.managers.buildbucket.v1 import V1Client
from luci_scheduler.managers.buildbucket.v2 import V2Client
from luci_scheduler.ports import BuildbucketError
from tests.unit.engine.world import World

_SILENT = BuildbucketError("UNAVAILABLE", "HTTP 502: try later", transient=True)
_REFUSED = BuildbucketError("PERMISSION_DENIED", "no right to add builds", transient=False)


def _ended(world: World, summary: Any, status: str = "FAILURE") -> str:
    (build,) = world.buildbucket.builds.values()
    build.update(status=status, summaryMarkdown=summary)
    world.notify("n1")
    (invocation,) = world.invocations()
    assert invocation.status.is_final
    return invocation.summary


def test_the_builds_own_words_are_kept() -> None:
    """The check of the status reads them, so they cost nothing; the log has the answer as before."""
    world = World()
    world.commit()
    world.counted()
    assert _ended(world, "2 tests **failed**\n\nlast line") == "2 tests **failed**\n\nlast line"
    assert world.counted() == "2R/2W/1c"
    assert '"summaryMarkdown": "2 tests **failed**\\n\\nlast line"' in world.log()
    world = World()
    world.commit()
    assert _ended(world, "all good", "SUCCESS") == "all good"


@pytest.mark.parametrize(
    ("summary", "kept"),
    [
        ("Authorization: Bearer abcdefghijk \x1b[31m", "Authorization: Bearer [redacted] \\x1b[31m"),
        ("x" * 4000, "x" * 999 + "…"),
        ("\x1b" * 4000, None),
        (7, "7"),
        (None, ""),
    ],
)
def test_foreign_text_is_cleaned_and_cut(summary: Any, kept: str | None) -> None:
    """At most 1,000 characters, without secrets and control characters."""
    world = World()
    world.commit()
    found = _ended(world, summary)
    assert len(found) <= 1000
    assert "\x1b" not in found
    assert kept is None or found == kept


def test_a_check_asks_for_the_summary() -> None:
    """The default mask of Buildbucket omits it."""
    asked: list[Any] = []

    class Wire:
        def v2(self, *question: Any, **_: Any) -> dict[str, Any]:
            asked.append(question)
            return {"id": "1", "status": "STARTED"}

    V2Client(Wire()).get("host", "1")  # type: ignore[arg-type]
    ((host, method, request),) = asked
    assert (host, method, request["id"]) == ("host", "GetBuild", "1")
    assert set(request["mask"]["fields"].split(",")) >= {"id", "status", "builder", "summaryMarkdown"}


def test_failed_attempts_and_refusals() -> None:
    """A retried launch keeps the reason of the last attempt; a successful attempt forgets it."""
    world = World()
    world.buildbucket.faults = [_SILENT]
    world.commit()
    (invocation,) = world.invocations()
    assert (invocation.status, invocation.attempts) == (Status.RETRYING, 1)
    assert "UNAVAILABLE: HTTP 502: try later" in invocation.summary
    world.tick(5)
    (invocation,) = world.invocations()
    assert (invocation.status, invocation.summary) == (Status.RUNNING, "")
    world = World()
    world.buildbucket.faults = [_REFUSED]
    world.commit()
    (invocation,) = world.invocations()
    assert invocation.status is Status.FAILED
    assert "PERMISSION_DENIED: no right to add builds" in invocation.summary


def test_an_error_of_a_check_is_kept() -> None:
    """Buildbucket no longer knows the build."""
    world = World()
    world.commit()
    world.buildbucket.faults = [BuildbucketError("NOT_FOUND", "no such build", transient=False)]
    world.notify("n1")
    (invocation,) = world.invocations()
    assert invocation.status is Status.FAILED
    assert "NOT_FOUND: no such build" in invocation.summary


@pytest.mark.parametrize(
    ("build", "summary"),
    [
        ({"result_details_json": '{"error": {"message": "2 failed"}, "ui": {"info": "x"}}'}, "2 failed"),
        ({"result_details_json": '{"ui": {"info": "fine"}}'}, "fine"),
        ({"result_details_json": "nonsense", "failure_reason": "BUILD_FAILURE"}, "BUILD_FAILURE"),
        ({"result_details_json": '{"error": "odd", "ui": []}', "cancelation_reason": "TIMEOUT"}, "TIMEOUT"),
        ({"result_details_json": 7}, ""),
    ],
)
def test_details_of_v1(build: Any, summary: str) -> None:
    """The details are JSON inside of JSON, and may have any shape."""
    client = V1Client(None)  # type: ignore[arg-type]
    assert client.summary({"build": build}) == summary
    assert client.summary({"build": None}) == ""
    with pytest.raises(PermanentError):
        client.checked({"build": None}, lambda _: None)
