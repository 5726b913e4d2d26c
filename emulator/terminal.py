"""The output of ``up``: the addresses, then one line for each entry of the feed, as text or as JSON lines."""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Literal, Self, TextIO

from emulator.feed import PROBLEMS, Entry, Feed, Kind
from luci_scheduler.core.instants import SECOND

__all__ = ["WORDS", "Form", "Terminal", "clock_time", "entry_line", "has_color"]

Form = Literal["text", "quiet", "json"]

_WAIT_SECONDS = 0.1
WORDS: Mapping[Kind, str] = {
    "commit": "commit",
    "push": "push",
    "build_started": "build",
    "build_ended": "build",
    "failure": "FAILURE",
    "config": "config",
    "config_problem": "CONFIG",
    "problem": "PROBLEM",
    "note": "note",
}
"""Kind → the word that stands for it."""
_WIDTH = max(map(len, WORDS.values()))
_COLORS: Mapping[Kind, int] = {"build_ended": 32, "config": 36, "commit": 34, "push": 34, "note": 2}
_PROBLEM_COLOR = 31


def has_color(file: TextIO, environment: Mapping[str, str] = os.environ) -> bool:
    """Return whether output may have color: on a terminal, unless NO_COLOR (https://no-color.org) is set."""
    return file.isatty() and not environment.get("NO_COLOR") and environment.get("TERM") != "dumb"


def clock_time(at: int) -> str:
    """Return an instant as hours, minutes and seconds, in the machine's time zone."""
    return datetime.fromtimestamp(at // SECOND, UTC).astimezone().strftime("%H:%M:%S")


def entry_line(entry: Entry, *, color: bool) -> str:
    """Return an entry as one line: local time, kind, text, link."""
    word = f"{WORDS[entry.kind]:<{_WIDTH}}"
    if color:
        word = f"\x1b[{_PROBLEM_COLOR if entry.kind in PROBLEMS else _COLORS.get(entry.kind, 0)}m{word}\x1b[0m"
    return f"{clock_time(entry.at)}  {word}  {entry.text}{f'  {entry.link}' if entry.link else ''}"


class Terminal:
    """Prints a feed from a thread, inside a ``with`` block; entries that wait at its end are printed as well.

    Args:
        feed: the feed.
        form: ``text``: all entries. ``quiet``: problems only. ``json``: all entries as JSON, one object per line.
        file: where they go; standard output if None.
    """

    def __init__(self, feed: Feed, form: Form, file: TextIO | None = None) -> None:
        self._feed = feed
        self._form = form
        self._file = file or sys.stdout
        self._color = has_color(self._file)
        self._seen = 0
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="terminal", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join(timeout=5)

    def _run(self) -> None:
        # Without a reader, such as after `up | head`, the local cloud goes on.
        with suppress(OSError, ValueError):
            while not self._stopping.is_set():
                self._print(_WAIT_SECONDS)
            self._print(0)

    def _print(self, seconds: float) -> None:
        for entry in self._feed.after(self._seen, seconds):
            self._seen = entry.number
            if self._form != "quiet" or entry.kind in PROBLEMS:
                print(self._line(entry), file=self._file, flush=True)

    def _line(self, entry: Entry) -> str:
        if self._form == "json":
            return json.dumps(entry.as_json()).replace("\x7f", "\\u007f")  # the one control character that JSON keeps
        return entry_line(entry, color=self._color)
