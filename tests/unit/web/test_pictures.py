"""The geometry of the chart of durations and of the timeline."""

from __future__ import annotations

from luci_scheduler.core.identifiers import InvocationId, JobId
from luci_scheduler.core.instants import MINUTE, SECOND, Instant, parse_rfc3339
from luci_scheduler.core.invocation import Invocation, Status
from luci_scheduler.core.job import TaskDefinition
from luci_scheduler.web.charts import HEIGHT, duration_chart
from luci_scheduler.web.timeline import EventKind, count, events, marks

STARTED = parse_rfc3339("2026-03-01T23:59:30Z")
TASK = TaskDefinition("buildbucket")


def _invocation(minutes: int, status: Status = Status.SUCCEEDED) -> Invocation:
    finished = Instant(STARTED + minutes * MINUTE) if status.is_final else None
    return Invocation(InvocationId(1), JobId("a/b"), STARTED, TASK, status=status, finished=finished)


def test_the_chart_goes_from_the_oldest_to_the_newest() -> None:
    """A bar's height is the invocation's duration; a mark, not only a color, shows a bad result."""
    newest_first = [_invocation(0, Status.RUNNING), _invocation(10), _invocation(5, Status.FAILED)]
    chart = duration_chart(newest_first, Instant(STARTED + 20 * MINUTE))
    assert chart is not None
    assert [bar.height for bar in chart.bars] == [HEIGHT / 4, HEIGHT / 2, HEIGHT]
    assert [bar.bad for bar in chart.bars] == [True, False, False]
    assert [bar.x for bar in chart.bars] == sorted(bar.x for bar in chart.bars)
    assert chart.words.startswith("3 invocations, the oldest on the left: 1 failed, 1 succeeded, 1 running.")
    assert duration_chart([], STARTED) is None


def test_one_invocation_is_described_in_the_singular() -> None:
    """A single bar is not compared with others, even while its invocation runs."""
    ended = duration_chart([_invocation(10)], STARTED)
    runs = duration_chart([_invocation(0, Status.RUNNING)], Instant(STARTED + 5 * MINUTE))
    assert ended is not None
    assert runs is not None
    assert ended.words == "1 invocation: succeeded. Duration: 10 min."
    assert runs.words == "1 invocation: running. Duration: 5 min."


def test_an_invocation_without_duration_has_a_bar() -> None:
    """An invocation without duration has a low bar."""
    chart = duration_chart([_invocation(0)], STARTED)
    assert chart is not None
    assert 0 < chart.bars[0].height <= HEIGHT


def test_the_timeline_continues_after_midnight() -> None:
    """Lines of the log have only the time of day."""
    log = (
        "[23:59:31.000] Starting the invocation (attempt 1)\n"
        "{\n  not a line\n}\n"
        '[00:00:30.000] Handling timer "check" (x)\n'
        "[00:01:00.000] Received PubSub notification, asking Buildbucket for the build status\n"
    )
    invocation = _invocation(2)
    found = events(invocation, log)
    assert [event.kind for event in found] == ["queued", "launched", "check", "notification", "end"]
    assert found[2].at - STARTED == 60 * SECOND
    assert [mark.x for mark in marks(found, STARTED)] == [0, 8.3, 500, 750, 1000]


def test_a_long_timeline_is_cut_but_ends() -> None:
    """The timeline has the first 300 events and the end."""
    log = "".join(f"[23:59:{30 + number // 100:02d}.{number % 100:03d}] Handling timer x\n" for number in range(900))
    found = events(_invocation(2), log)
    assert len(found) == 301
    assert count(found, EventKind.CHECK) == 299
    assert found[-1].title == "End: SUCCEEDED"


def test_marks_stay_on_the_line() -> None:
    """A mark stays on the line for any stamps in the log."""
    log = "[23:58:00.000] Handling timer x\n[23:59:59.000] Handling timer x\n"
    assert all(0 <= mark.x <= 1000 for mark in marks(events(_invocation(0), log), STARTED))


def test_half_of_two() -> None:
    """The middle of two durations is the shorter one: half of them are not longer."""
    chart = duration_chart([_invocation(1), _invocation(18)], STARTED)
    assert chart is not None
    assert "half of them 1 " in chart.words
