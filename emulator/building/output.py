"""The output of builds: text that is safe to show, bounded for each build and for all builds together."""

from __future__ import annotations

import codecs
import re
import threading
from collections import OrderedDict, deque
from collections.abc import Hashable
from dataclasses import dataclass
from typing import IO, Generic, TypeVar

__all__ = ["BuildOutput", "Excerpt", "Outputs"]

_HEAD, _TAIL = 1 << 17, 1 << 18
"""Characters that are kept from the beginning and from the end of one build's output. The middle is left out."""
_ALL = 32 << 20
"""Characters that are kept of all outputs together: those of the oldest builds are removed first."""
_READ = 1 << 16
_LONGEST_ESCAPE = 4096

# Sequences that control a terminal: CSI (colors, cursor), strings (OSC: window titles, links), and short ones.
_ESCAPE = re.compile(
    rf"\x1b\[[0-?]*[ -/]*[@-~]|\x9b[0-?]*[ -/]*[@-~]|\x1b[\]PX^_][^\x07\x1b]{{0,{_LONGEST_ESCAPE}}}(?:\x07|\x1b\\)"
    r"|\x1b[ -/]*[0-OQ-WYZ\\`-~]"
)
_UNFINISHED = re.compile(
    rf"(?:\x1b|[\x1b\x9b]\[?[0-?]*[ -/]*|\x1b[\]PX^_][^\x07\x1b]{{0,{_LONGEST_ESCAPE}}}\x1b?|\r)\Z"
)
_LINE_END = re.compile(r"\r\n?")
_CONTROLS = "\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069"
_CONTROL = re.compile(f"[{_CONTROLS}]")
_UNSAFE = re.compile(f"[\r{_CONTROLS}]")


class _Cleaner:
    """Turns bytes into text without sequences that control a terminal.

    A sequence may begin in one piece of the output and end in the next.
    """

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._held = ""

    def clean(self, data: bytes, *, is_last: bool = False) -> str:
        text = self._held + self._decoder.decode(data, is_last)
        self._held = ""
        if not _UNSAFE.search(text):
            return text
        if not is_last and (unfinished := _UNFINISHED.search(text, max(0, len(text) - _LONGEST_ESCAPE))):
            self._held, text = unfinished[0], text[: unfinished.start()]
        return _CONTROL.sub("\ufffd", _LINE_END.sub("\n", _ESCAPE.sub("", text)))


@dataclass(frozen=True, slots=True)
class Excerpt:
    """A part of an output; ``next`` is the position after it, counted in characters of the whole output."""

    text: str
    next: int


class BuildOutput:
    """The output of one build. Thread-safe.

    Terminal sequences are removed, other control characters and invalid UTF-8 are replaced by U+FFFD, and a carriage
    return ends a line.
    """

    def __init__(self, head: int = _HEAD, tail: int = _TAIL) -> None:
        self._head_limit, self._tail_limit = head, tail
        self._cleaner = _Cleaner()
        self._head = ""
        self._tail: deque[str] = deque()
        self._tail_size = 0
        self._total = 0
        self._lock = threading.Lock()

    @property
    def kept(self) -> int:
        """The number of characters that are kept."""
        return len(self._head) + self._tail_size

    def consume(self, stream: IO[bytes]) -> None:
        """Write everything that a stream without a buffer delivers, as soon as it arrives, until its end."""
        read = getattr(stream, "read1", stream.read)
        while data := read(_READ):
            self.write(data)
        self.write(b"", is_last=True)

    def write(self, data: bytes, *, is_last: bool = False) -> None:
        """Append output; its pieces may end anywhere, also within a character."""
        with self._lock:
            self._append(self._cleaner.clean(data, is_last=is_last))

    def say(self, line: str) -> None:
        """Append a line of the local cloud itself, on a line by itself."""
        with self._lock:
            last = self._tail[-1] if self._tail else self._head
            begin = "\n" if last and not last.endswith("\n") else ""
            self._append(f"{begin}{line}\n")

    def read(self, start: int = 0, most: int | None = None) -> Excerpt:
        """Return the output from a position on, at most the last ``most`` characters of it.

        A line says how many characters are left out, if the excerpt would begin or continue after such a gap.
        """
        with self._lock:
            tail_start = self._total - self._tail_size
            begin = max(0, start, 0 if most is None else self._total - most)
            head = self._head[begin:]
            gap = tail_start - max(begin, len(self._head))
            tail = "".join(self._tail)[max(0, begin - tail_start) :]
            note = f"\n[... {gap:,} characters are left out here ...]\n" if gap > 0 else ""
            return Excerpt(head + note + tail, self._total)

    @property
    def end(self) -> int:
        """The position after the output so far."""
        return self._total

    def last_lines(self, since: int, lines: int, characters: int) -> str:
        """Return the last lines that are not blank, at most so many, and at most so many characters."""
        text = self.read(since, most=4 * characters).text
        chosen = [line for line in text.splitlines() if line.strip()][-lines:]
        return "\n".join(chosen)[-characters:].lstrip("\n")

    def _append(self, text: str) -> None:
        self._total += len(text)
        room = 0 if self._tail else self._head_limit - len(self._head)
        self._head += text[:room]
        if rest := text[room:]:
            self._tail.append(rest)
            self._tail_size += len(rest)
        while self._tail and self._tail_size - len(self._tail[0]) >= self._tail_limit:
            self._tail_size -= len(self._tail.popleft())


KeyT = TypeVar("KeyT", bound=Hashable)


class Outputs(Generic[KeyT]):
    """The outputs of all builds by their IDs, each since its program started. Thread-safe."""

    def __init__(self, limit: int = _ALL) -> None:
        self._limit = limit
        self._outputs: OrderedDict[KeyT, BuildOutput] = OrderedDict()
        self._removed: set[KeyT] = set()
        self._lock = threading.Lock()

    def add(self, build_id: KeyT) -> BuildOutput:
        """Begin the output of a build; remove the oldest outputs if all together are too large."""
        output = BuildOutput()
        with self._lock:
            self._outputs[build_id] = output
            while len(self._outputs) > 1 and sum(item.kept for item in self._outputs.values()) > self._limit:
                self._removed.add(self._outputs.popitem(last=False)[0])
        return output

    def restore(self, build_id: KeyT, text: str) -> None:
        """Add the output of a build that has ended."""
        self.add(build_id).write(text.encode(errors="replace"), is_last=True)

    def get(self, build_id: KeyT) -> BuildOutput | None:
        """Return a build's output; None if its program never started, or its output was removed."""
        with self._lock:
            return self._outputs.get(build_id)

    def was_removed(self, build_id: KeyT) -> bool:
        """Return whether a build had an output that newer ones have replaced."""
        with self._lock:
            return build_id in self._removed
