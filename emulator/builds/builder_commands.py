"""The commands of builders while a local cloud runs: those of a file, which is read again when it changes."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

from emulator.buildbucket.identifiers import BuilderId
from emulator.buildbucket.plans import Command
from emulator.builds.builders_file import BuilderRules, parse_builders, shell
from emulator.errors import LocalCloudError
from emulator.feed import Kind

__all__ = ["BuilderCommands"]


class BuilderCommands:
    """Finds the command of a builder: that of the file, else the one for every builder. Thread-safe.

    Args:
        file: the file; None for none. It need not exist yet, unless ``must_exist``.
        every: the line of the shell that all other builders run; empty for none.
        must_exist: whether a missing file is an error at the start.
        post: gets a line of the kind ``config`` when the file has changed, and of the kind ``config_problem`` when
            it is not valid. Then the rules that were valid last stay.

    Raises:
        LocalCloudError: the file is missing or not valid.
    """

    def __init__(
        self,
        file: Path | None = None,
        every: str = "",
        *,
        must_exist: bool = False,
        post: Callable[[Kind, str], object] = lambda _kind, _line: None,
    ) -> None:
        self._file = file
        self._every = shell(every) if every.strip() else None
        self._post = post
        self._lock = threading.Lock()
        self._seen: bytes | None = None
        self._rules = BuilderRules()
        if must_exist and file is not None and not file.is_file():
            raise LocalCloudError(f"there is no file {file}: write it, or name another one in --builders")
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
        content = self._changed()
        if content is None or self._file is None:
            return
        try:
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
        except FileNotFoundError:
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
