"""The terminal prints the feed as text or as JSON lines."""

import io
import json
import re

import pytest

from emulator.clock import SteppedClock
from emulator.feed import Feed
from emulator.terminal import Form, Terminal, entry_line, has_color
from luci_scheduler.core.instants import parse_rfc3339


class _Tty(io.StringIO):
    def isatty(self) -> bool:
        return True


class _Closed(io.StringIO):
    attempts = 0

    def write(self, _: str) -> int:
        self.attempts += 1
        raise BrokenPipeError


@pytest.fixture(name="feed")
def _feed() -> Feed:
    feed = Feed(SteppedClock(parse_rfc3339("2026-03-01T12:00:00Z")).now)
    feed.post("commit", "one", "http://x")
    feed.post("failure", "two", job="p/j")
    return feed


def _printed(feed: Feed, form: Form) -> list[str]:
    file = io.StringIO()
    with Terminal(feed, form, file):
        pass
    return file.getvalue().splitlines()


def test_each_entry_is_one_line(feed: Feed) -> None:
    """Time, kind, text, link. Entries that wait when the local cloud stops are printed as well."""
    first, second = _printed(feed, "text")
    assert re.fullmatch(r"\d\d:00:00  commit +one  http://x", first)
    assert re.fullmatch(r"\d\d:00:00  FAILURE +two", second)


def test_quiet_prints_problems_only(feed: Feed) -> None:
    """Failures, configs with problems, and parts that do not work."""
    feed.post("config_problem", "three")
    feed.post("problem", "four")
    feed.post("config", "five")
    assert [line.split()[-1] for line in _printed(feed, "quiet")] == ["two", "three", "four"]


def test_json_prints_one_object_per_line(feed: Feed) -> None:
    """Each line is an entry with its fields."""
    lines = [json.loads(line) for line in _printed(feed, "json")]
    assert [line["kind"] for line in lines] == ["commit", "failure"]
    assert lines[1] == {
        "number": 2,
        "time": "2026-03-01T12:00:00Z",
        "kind": "failure",
        "text": "two",
        "link": "",
        "job": "p/j",
    }


def test_color_only_on_a_terminal_and_never_with_no_color() -> None:
    """Pipes and files get plain text."""
    assert has_color(_Tty(), {})
    assert not has_color(io.StringIO(), {})
    assert not has_color(_Tty(), {"NO_COLOR": "1"})
    assert not has_color(_Tty(), {"TERM": "dumb"})


def test_problems_are_red(feed: Feed) -> None:
    """Only the word of the kind has a color."""
    _, failure = feed.after(0)
    assert "\x1b[31mFAILURE" in entry_line(failure, color=True)
    assert "\x1b" not in entry_line(failure, color=False)


def test_a_closed_pipe_does_not_stop_the_local_cloud(feed: Feed) -> None:
    """As after `up | head`: the first line meets the closed pipe, and no other is printed."""
    closed = _Closed()
    with Terminal(feed, "text", closed):
        pass
    assert closed.attempts == 1


def test_no_field_controls_the_terminal(feed: Feed) -> None:
    """Fields hold foreign text, such as the names of refs."""
    feed.post("commit", "three", author="\x1b[2J \x7f \x9b \u202e")
    line = _printed(feed, "json")[-1]
    assert line.isprintable()
    assert json.loads(line)["author"] == "\x1b[2J \x7f \x9b \u202e"
