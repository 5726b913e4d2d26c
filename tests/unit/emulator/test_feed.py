"""The feed numbers its entries, keeps the latest, and wakes those who wait."""

import json
import threading

import pytest

from emulator.clock import SteppedClock
from emulator.feed import Feed
from luci_scheduler.core.instants import SECOND, parse_rfc3339
from tests.waiting import until

START = parse_rfc3339("2026-03-01T12:00:00Z")


@pytest.fixture(name="clock")
def _clock() -> SteppedClock:
    return SteppedClock(START)


def test_entries_are_numbered_and_have_the_clocks_time(clock: SteppedClock) -> None:
    """`after` returns the entries that a reader has not seen."""
    feed = Feed(clock.now)
    first = feed.post("commit", "one", "http://127.0.0.1/x", repo="r", revision="a")
    clock.advance(SECOND)
    second = feed.post("problem", "two")
    assert (first.number, second.number) == (1, 2)
    assert second.at == START + SECOND
    assert feed.after(0) == [first, second]
    assert feed.after(1) == [second]
    assert feed.after(2) == []


def test_only_the_latest_entries_are_kept(clock: SteppedClock) -> None:
    """Numbers go on, so a reader sees that entries are missing."""
    feed = Feed(clock.now, kept=3)
    for number in range(10):
        feed.post("note", str(number))
    assert [entry.number for entry in feed.after(0)] == [8, 9, 10]


def test_the_json_form_has_an_rfc3339_time_and_the_fields(clock: SteppedClock) -> None:
    """A field cannot replace one of the entry's own members."""
    entry = Feed(clock.now).post("build_ended", "done", "http://x", job="a/b", time="never")
    assert json.loads(json.dumps(entry.as_json())) == {
        "number": 1,
        "time": "2026-03-01T12:00:00Z",
        "kind": "build_ended",
        "text": "done",
        "link": "http://x",
        "job": "a/b",
    }


def test_a_text_is_one_printable_line(clock: SteppedClock) -> None:
    """Texts of commits and builds are foreign: no line break, no escape sequence."""
    entry = Feed(clock.now).post("commit", "a\nb\x1b[31m\x00c\u2028d", "http://x/\x1b[2J")
    assert (entry.text, entry.link) == ("a b [31m c d", "http://x/ [2J")


def test_a_waiting_reader_gets_the_next_entry(clock: SteppedClock) -> None:
    """Posts come from any thread."""
    feed, seen = Feed(clock.now), list[str]()
    # The reader's own limit is far longer than the test's, so only the post can wake it.
    reader = threading.Thread(target=lambda: seen.extend(e.text for e in feed.after(0, seconds=600)), daemon=True)
    reader.start()
    until(lambda: vars(feed._posted)["_waiters"], "the reader waits")
    feed.post("note", "now")
    until(lambda: seen == ["now"], "the reader has the entry", seconds=30)
    reader.join()


def test_many_threads_lose_no_entry(clock: SteppedClock) -> None:
    """Each entry gets its own number."""
    feed = Feed(clock.now)
    threads = [threading.Thread(target=lambda: [feed.post("note", "x") for _ in range(100)]) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [entry.number for entry in feed.after(0)] == list(range(1, 501))
