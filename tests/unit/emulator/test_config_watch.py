"""Changes of configs are noticed, and several changes at once are read once."""

import os
from pathlib import Path

import pytest

from emulator.clock import SteppedClock
from emulator.config_watch import ConfigWatch, Settling, snapshot
from emulator.errors import LocalCloudError
from emulator.feed import Feed
from tests.waiting import until

A, B, C = {"x": (1, 1, 1)}, {"x": (2, 1, 1)}, {"x": (3, 1, 1)}


def test_a_change_is_read_when_two_looks_are_equal() -> None:
    """An editor may write a file in several steps."""
    settling = Settling(A)
    looks = [(A, 0.0), (B, 0.1), (C, 0.2), (C, 0.3), (C, 0.4)]
    assert [settling.look(seen, now) for seen, now in looks] == [False, False, False, True, False]


def test_a_folder_that_never_settles_is_read_after_a_second() -> None:
    """A file that a program writes all the time must not hide the others."""
    settling = Settling(A)
    seen = [settling.look({"x": (number, 1, 1)}, number * 0.15) for number in range(2, 20)]
    assert 1 <= sum(seen) <= 3


def test_a_change_that_was_undone_is_not_read() -> None:
    """The functions have that content already."""
    settling = Settling(A)
    assert [settling.look(seen, now) for seen, now in [(B, 0.1), (A, 0.2), (A, 0.3)]] == [False] * 3


def _config(folder: Path, project: str, text: str) -> Path:
    file = folder / project / "luci-scheduler.cfg"
    file.parent.mkdir(exist_ok=True)
    new = file.with_name("new")
    new.write_text(text, encoding="utf-8")
    return new.replace(file)  # in one step, so that each change is one state


def test_a_snapshot_sees_every_kind_of_change(tmp_path: Path) -> None:
    """New folders, new contents, a replaced file of the same size and time, deletions; other files do not count."""
    states = [snapshot(tmp_path)]
    file = _config(tmp_path, "p", "a")
    states.append(snapshot(tmp_path))
    (tmp_path / "p" / "other.txt").write_text("x")
    assert snapshot(tmp_path) == states[-1]
    file.write_text("ab")
    states.append(snapshot(tmp_path))
    before = file.stat()
    new = file.with_name("new")
    new.write_text("cd")
    os.utime(new, ns=(before.st_atime_ns, before.st_mtime_ns))
    new.replace(file)
    states.append(snapshot(tmp_path))
    file.unlink()
    assert snapshot(tmp_path) == states[0]
    assert all(one != other for number, one in enumerate(states) for other in states[number + 1 :])


@pytest.fixture(name="feed")
def _feed() -> Feed:
    return Feed(SteppedClock(0).now)


def test_each_change_starts_one_read(tmp_path: Path, feed: Feed) -> None:
    """A failed read is a problem in the feed, and the next change is read as well."""
    reads: list[str] = []

    def sync() -> None:
        reads.append((tmp_path / "p" / "luci-scheduler.cfg").read_text())
        if reads[-1] == "bad":
            raise LocalCloudError("the queue is away")

    with ConfigWatch(tmp_path, sync, feed):
        for text in ("one", "bad", "three"):
            _config(tmp_path, "p", text)
            until(lambda text=text: reads[-1:] == [text])
    assert reads == ["one", "bad", "three"]
    assert [entry.kind for entry in feed.after(0)] == ["problem"]
    assert "the queue is away" in feed.after(0)[0].text


def test_without_any_config_the_last_ones_stay(tmp_path: Path, feed: Feed) -> None:
    """An empty folder is more likely a mistake than a wish to delete every job, so it is not read."""
    file = _config(tmp_path, "p", "one")
    with ConfigWatch(tmp_path, lambda: pytest.fail("read"), feed):
        file.unlink()
        until(lambda: feed.after(0))
    assert "no config is left" in feed.after(0)[0].text
