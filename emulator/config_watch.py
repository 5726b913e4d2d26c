"""Watches the folder of configs, and has the functions read it as soon as a config has changed."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Self

from emulator.errors import LocalCloudError
from emulator.feed import Feed
from luci_scheduler.config.folder import FILE

__all__ = ["ConfigWatch", "Settling", "snapshot"]

Snapshot = Mapping[str, tuple[int, int, int]]

_LOOK_SECONDS = 0.15
_LONGEST_WAIT = 1.0
"""Seconds until a config that keeps changing is read nevertheless."""


def snapshot(folder: Path) -> Snapshot:
    """Return the time, size and file number of each config: path → state. A file that vanishes meanwhile is left out.

    The file number (inode) shows a file that was replaced by another one of the same age and size.
    """
    found = {}
    for path in folder.glob(f"*/{FILE}"):
        try:
            state = path.stat()
        except OSError:
            continue
        found[str(path)] = (state.st_mtime_ns, state.st_size, state.st_ino)
    return found


class Settling:
    """Decides when a changed folder is read: when two looks at it were equal, and at the latest after a second."""

    def __init__(self, read: Snapshot) -> None:
        self._read = read
        """The state that was read last."""
        self._last = read
        self._since: float | None = None
        """When the first change since then was seen."""

    def look(self, seen: Snapshot, now: float) -> bool:
        """Take a look at the folder, and return whether it is time to read it.

        Args:
            seen: the folder's state.
            now: seconds of a clock that never goes back.
        """
        settled, self._last = seen == self._last, seen
        if seen == self._read:
            self._since = None
            return False
        self._since = now if self._since is None else self._since
        if not settled and now - self._since < _LONGEST_WAIT:
            return False
        self._read, self._since = seen, None
        return True


class ConfigWatch:
    """Calls ``sync`` soon after each change of a config, inside a ``with`` block.

    Args:
        folder: holds ``<project>/luci-scheduler.cfg``.
        sync: has the functions read it, and returns when they have.
        feed: gets the failures.
    """

    def __init__(self, folder: Path, sync: Callable[[], None], feed: Feed) -> None:
        self._folder = folder
        self._sync = sync
        self._feed = feed
        self._settling = Settling(snapshot(folder))
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="config-watch", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join(timeout=15)

    def _run(self) -> None:
        while not self._stopping.wait(_LOOK_SECONDS):
            seen = snapshot(self._folder)
            if self._settling.look(seen, time.monotonic()):
                self._read(is_empty=not seen)

    def _read(self, *, is_empty: bool) -> None:
        if is_empty:
            self._feed.post("problem", f"no config is left in {self._folder}; the last ones stay in force")
            return
        try:
            self._sync()
        except LocalCloudError as error:
            self._feed.post("problem", f"the configs could not be read; the next try is within a minute: {error}")
