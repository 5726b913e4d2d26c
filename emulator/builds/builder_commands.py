"""The commands of builders while a local cloud runs: those of a file, which is read again when it changes."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

from emulator.buildbucket.identifiers import BuilderId
from emulator.buildbucket.plans import Command
from emulator.builds.builders_file import FILE, BuilderRules, parse_builders, shell
from emulator.errors import LocalCloudError
from emulator.feed import Kind

__all__ = ["BuilderCommands", "choose_builders"]


def choose_builders(wanted: Path | None, folder: Path | None) -> Path | None:
    """Return the file of builders: the wanted one, else that of the local cloud's folder, which need not exist.

    Raises:
        LocalCloudError: the wanted file is missing.
    """
    if wanted is None:
        return folder / FILE if folder else None
    if not wanted.is_file():
        raise LocalCloudError(f"there is no file {wanted}: write it, or name another one in --builders")
    return wanted


class BuilderCommands:
    """Finds the command of a builder: that of the file, else the one for every builder. Thread-safe.

    Args:
        file: the file; None for none. It need not exist yet.
        every: the line of the shell that all other builders run; empty for none.
        post: gets a line of the kind ``config`` when the file has changed, and of the kind ``config_problem`` when
            it is not valid or cannot be read. Then the rules that were valid last stay.

    Raises:
        LocalCloudError: the file is not valid, or cannot be read.
    """

    def __init__(
        self,
        file: Path | None = None,
        every: str = "",
        *,
        post: Callable[[Kind, str], object] = lambda _kind, _line: None,
    ) -> None:
        self._file = file
        self._every = shell(every) if every.strip() else None
        self._post = post
        self._lock = threading.Lock()
        self._seen: bytes | None = None
        self._rules = BuilderRules()
        if content := self._changed():
            self._rules = _parse(content, file or Path())

    @property
    def parallel(self) -> int:
        """The number of commands that run at once."""
        return self._rules.parallel

    def find(self, builder: BuilderId) -> Command | None:
        """Return the command of a builder; None if it has none."""
        with self._lock:
            self._update()
            return self._rules.find(builder) or self._every

    def _update(self) -> None:
        try:
            content = self._changed()
            if content is None or self._file is None:
                return
            self._rules = _parse(content, self._file)
        except LocalCloudError as error:
            self._post("config_problem", f"{error}; the last valid commands stay in force")
        else:
            self._post("config", f"{self._file} is in force for the next builds")

    def _changed(self) -> bytes | None:
        """Return the content of the file if it differs from the last look; a file that was removed is empty."""
        if self._file is None:
            return None
        try:
            content = self._file.read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            content = b""
        except OSError as error:
            raise LocalCloudError(f"{self._file} cannot be read: {error.strerror}") from error
        if content == (self._seen or b""):
            return None
        self._seen = content
        return content


def _parse(content: bytes, file: Path) -> BuilderRules:
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        raise LocalCloudError(f"{file}: this is not TOML: it is not UTF-8") from error
    return parse_builders(text, file)
