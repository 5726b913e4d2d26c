"""Hostile input, generated from a seed: the same seed gives the same bodies."""

from __future__ import annotations

import base64
import json
import random
from collections.abc import Callable, Sequence
from typing import Any

__all__ = ["Hostile"]

_TEXTS = (
    "", " ", "a", "proj/job", "proj", "job", "/", "a/b/c", "..", "__x__", "é", "\u2028", "\x00", "\ud800", "\udfff!",
    "\U0001f600",
    "\r\nX-Injected: 1", "\x1b[31m", "<script>alert(1)</script>", "x" * 300, "0", "-1", "9" * 30, "1e999", "NaN",
    "null", "true",
    "refs/heads/main", "https://r.googlesource.com/repo", "a" * 40, "0" * 40, "2026-03-01T12:00:00Z",
    "9999-12-31T23:59:59Z",
    "0001-01-01T00:00:00Z", "2026-13-01T00:00:00Z", "eyJhIjoxfQ==", "e30=\n", "%%%", "{}", "[",
)  # fmt: skip
_NUMBERS = (0, 1, -1, 2**31, 2**53 + 1, 2**63 - 1, 2**63, -(2**63) - 1, 10**30, 0.5, -0.0, 1e308)
_RAW = (
    b"", b" ", b"x", b'"x"', b"5", b"[]", b"{}", b"null", b"true", b"NaN", b"[NaN]", b'{"a":Infinity}',
    b'{"a":1e999}', b"\xff\xfe", b"\x00",
    b'{"a":"\xff"}', b'{"a":"\\ud800"}', b'{"context":5}', b'{"message":5}', b'{"message":null,"subscription":null}',
    b"[" * 3_000,
    b'{"message":' * 3_000, b'{"a":' * 3_000 + b"1" + b"}" * 3_000, b'{"specversion":"1.0"}',
    b"\xef\xbb\xbf{}", b"{" + b'"a":1,' * 300 + b'"a":1}',
    b'{"a":' + b"9" * 5_000 + b"}",
)  # fmt: skip


class Hostile:
    """Draws hostile values."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)  # noqa: S311 - nothing secret
        self.pick: Callable[[Sequence[Any]], Any] = self._random.choice
        self.entropy: Callable[[], float] = self._random.random

    def text(self) -> str:
        """Return a text that no careful client would send."""
        text: str = self.pick(_TEXTS)
        return text + self.pick(_TEXTS) if self.entropy() < 0.1 else text

    def value(self, depth: int = 3) -> Any:
        """Return a JSON value of any type."""
        kind = self._random.randrange(10 if depth else 6)
        match kind:
            case 0 | 1:
                return self.text()
            case 2 | 3:
                return self.pick(_NUMBERS)
            case 4:
                return self.pick((None, True, False))
            case 5:
                return self.pick(([], {}, float("nan"), float("inf")))
            case 6 | 7:
                return [self.value(depth - 1) for _ in range(self._random.randrange(4))]
            case _:
                return {self.text(): self.value(depth - 1) for _ in range(self._random.randrange(4))}

    def spoiled(self, document: Any) -> Any:
        """Return a valid document with damage: some members are missing, doubled, or of another type and value."""
        if self.entropy() < 0.12:
            return self.value()
        if isinstance(document, dict):
            members = {name: self.spoiled(value) for name, value in document.items() if self.entropy() > 0.06}
            if self.entropy() < 0.08:
                members[self.text()] = self.value(1)
            return members
        if isinstance(document, list):
            return [self.spoiled(item) for item in document for _ in range(self.pick((1, 1, 1, 1, 0, 2)))]
        return document

    def json(self, document: Any) -> bytes:
        """Return a damaged document as JSON, with NaN and lone surrogates, which Python's writer does not refuse."""
        return json.dumps(self.spoiled(document)).encode()

    def damaged(self, data: bytes) -> bytes:
        """Return bytes after changes, cuts and insertions."""
        out = bytearray(data)
        for _ in range(self._random.randrange(1, 4)):
            place = self._random.randrange(len(out) + 1)
            match self._random.randrange(3):
                case 0 if out:
                    out[place % len(out)] = self._random.randrange(256)
                case 1:
                    del out[place:]
                case _:
                    out[place:place] = self.bytes(self._random.randrange(1, 8))
        return bytes(out)

    def bytes(self, number: int) -> bytes:
        """Return random bytes."""
        return self._random.randbytes(number)

    def body(self, document: Any) -> bytes:
        """Return a body for a reader of such documents."""
        drawn = self.entropy()
        if drawn < 0.6:
            return self.json(document)
        if drawn < 0.8:
            return self.damaged(json.dumps(document).encode())
        return self.pick(_RAW) if drawn < 0.95 else self.bytes(self._random.randrange(60))

    def base64(self, data: bytes) -> str:
        """Return data in base64, sometimes slightly wrong."""
        text = base64.b64encode(data).decode()
        return self.pick(
            (text, text, text, text, text.rstrip("="), text[:-1], text + "\n", text + "!", "", self.text())
        )

    def header(self) -> str:
        """Return a header's value as a server passes it on: in Latin-1, for bytes of any encoding."""
        return self.text().encode(errors="surrogatepass").decode("latin-1").replace("\r", "").replace("\n", "")
