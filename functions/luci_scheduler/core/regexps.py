r"""Regular expressions of configs: RE2's syntax, with matching in time linear in the text.

Other people write the configs, so their patterns count as hostile. RE2 does not backtrack, refuses repetitions above
1000 (nested ones multiplied), and compiles into bounded memory. A limit on length bounds the remaining cost.
Patterns run without capture groups, because RE2 would repeat the work for each group. `pattern_budget` bounds the
remaining time. The engine is imported when the first pattern is compiled, so a function without patterns does not pay
for the import.
"""

from __future__ import annotations

import re
from functools import lru_cache
from itertools import takewhile
from typing import Any

from luci_scheduler.core.pattern_budget import EVALUATION_UNITS, PatternBudget

__all__ = ["MAX_LENGTH", "BadRegexpError", "Pattern", "PatternReader", "compile_regexp", "literal_prefix"]

MAX_LENGTH = 20_000
"""The longest pattern that is compiled, in characters. The longest in real configs (a whole list, joined) has fewer
than 2,000."""
_MAX_MEMORY = 1 << 20  # bytes for the program, and again for matching: the worst pattern takes about 60 ms to compile
_CACHED = 256  # compiled patterns of one process


class BadRegexpError(ValueError):
    """A pattern is not valid RE2, or is too large."""


class Pattern:
    """A compiled pattern. Threads may share it."""

    __slots__ = ("_compiled", "size", "text")

    def __init__(self, text: str, compiled: Any) -> None:
        self.text = text
        self.size: int = compiled.programsize
        """Instructions of the compiled program. RE2 may step through all of them for each byte of a text."""
        self._compiled = compiled

    def fullmatch(self, text: str, budget: PatternBudget | None = None) -> bool:
        """Whether the pattern matches all of ``text``.

        Raises:
            PatternCostError: the budget is used up.
        """
        return self._compiled.fullmatch(self._charged(text, budget)) is not None

    def search(self, text: str, budget: PatternBudget | None = None) -> bool:
        """Whether the pattern matches anywhere in ``text``.

        Raises:
            PatternCostError: the budget is used up.
        """
        return self._compiled.search(self._charged(text, budget)) is not None

    def _charged(self, text: str, budget: PatternBudget | None) -> bytes:
        encoded = _encoded(text)
        # Charge before matching: the cost is known, and a match cannot be interrupted.
        if budget is not None:
            budget.charge(self.size * len(encoded) + EVALUATION_UNITS)
        return encoded


@lru_cache(_CACHED)
def compile_regexp(pattern: str) -> Pattern:
    """Compile a pattern.

    Raises:
        BadRegexpError: the pattern is not valid, or exceeds a limit.
    """
    if len(pattern) > MAX_LENGTH:
        raise BadRegexpError(f"the pattern has {len(pattern)} characters, at most {MAX_LENGTH} are allowed")
    import re2  # type: ignore[import-untyped] # noqa: PLC0415 - only where a pattern is used

    options = re2.Options()
    options.max_mem = _MAX_MEMORY
    options.log_errors = False
    options.never_capture = True
    try:
        return Pattern(pattern, re2.compile(pattern, options))
    except UnicodeEncodeError as error:
        raise BadRegexpError("the pattern is not valid Unicode") from error
    except re2.error as error:
        # The binding passes RE2's own message as bytes.
        reason = error.args[0]
        text = reason.decode(errors="replace") if isinstance(reason, bytes) else str(reason)
        raise BadRegexpError(text) from error


def literal_prefix(pattern: str) -> tuple[str, bool]:
    r"""Return the text that every match of a valid pattern begins with, and whether the pattern matches only that text.

    Follows Go's ``Regexp.LiteralPrefix``, with which the original finds the refs to list: ``refs/heads/\d+`` →
    ``refs/heads/``. If the two might differ, this function returns the shorter text.
    """
    scanner = _Scanner(pattern)
    return scanner.alternation()


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")  # names in a repository need not be valid Unicode


_OPAQUE = ("", False)
_LIMIT = 1000  # characters of a prefix: repetitions are not written out further
_MAX_DEPTH = 100  # nested groups: each takes Python several nested calls
_FLAGS = re.compile(r"\?([imsU]*)(-[imsU]+)?([:)])")
_NAME = re.compile(r"\?P?<\w+>")
_REPEAT = re.compile(r"\{(\d+)(,(\d*))?\}")
_CODE = re.compile(r"x\{([0-9A-Fa-f]+)\}|x([0-9A-Fa-f]{2})|([0-7]{1,3})")
_CONTROLS = {"a": "\a", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}


class PatternReader:
    """The text of a pattern and the place up to which it is read; a base of classes that read patterns."""

    def __init__(self, pattern: str) -> None:
        self._text = pattern
        self._at = 0
        self._depth = 0  # open groups, which the class that reads them counts

    def _next(self) -> str:
        """Read a character; return an empty text at the end."""
        self._at += 1
        return self._text[self._at - 1 : self._at]

    def _take(self, text: str) -> bool:
        """Read ``text`` if it comes next; return whether it did."""
        found = self._text.startswith(text, self._at)
        self._at += len(text) * found
        return found


class _Scanner(PatternReader):
    """Reads a valid pattern from left to right.

    Each piece is (the literal that it begins with, whether that is all of it).
    """

    def __init__(self, pattern: str) -> None:
        super().__init__(pattern)
        self._folds = False
        self._quoted = False

    def alternation(self) -> tuple[str, bool]:
        branches = [self._sequence()]
        while self._take("|"):
            branches.append(self._sequence())
        if len(branches) == 1:
            return branches[0]
        least, most = (
            min(branches)[0],
            max(branches)[0],
        )  # all branches sort between these two, so they share what these share
        shared = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(least, most, strict=False)))
        return least[:shared], False

    def _sequence(self) -> tuple[str, bool]:
        prefix, is_open = "", True
        while self._at < len(self._text) and (self._quoted or self._text[self._at] not in "|)"):
            piece, complete = self._atom()
            least, exactly = self._quantifier()
            # A piece that may be absent ends the prefix. So does a piece that is only a prefix, after it has been
            # added.
            if is_open and least:
                prefix = (prefix + piece * (least if complete else 1))[:_LIMIT]
            is_open = is_open and complete and exactly and len(prefix) < _LIMIT
        return prefix, is_open

    def _atom(self) -> tuple[str, bool]:
        if self._quoted:
            return self._quoted_character()
        character = self._next()
        if character == "(":
            return self._group()
        if character == "[":
            return self._class()
        if character == "\\":
            return self._escape()
        return _OPAQUE if character in ".^$" else self._literal(character)

    def _literal(self, character: str) -> tuple[str, bool]:
        return _OPAQUE if self._folds else (character, True)

    def _quoted_character(self) -> tuple[str, bool]:
        piece = ("", True) if self._text.startswith(r"\E", self._at) else self._literal(self._next())
        if self._take(r"\E"):  # at once: a repetition after \E applies to the last quoted character
            self._quoted = False
        return piece

    def _group(self) -> tuple[str, bool]:
        flags = _FLAGS.match(self._text, self._at)
        name = _NAME.match(self._text, self._at)
        if flags:
            self._at = flags.end()
            # Case folding stays on after the group. RE2 would end it, but a shorter prefix is always safe.
            self._folds = self._folds or "i" in flags[1]
            if flags[3] == ")":
                return "", True
        elif name:
            self._at = name.end()
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            self._at = len(self._text)
            return _OPAQUE
        inner = self.alternation()
        self._depth -= 1
        self._take(")")
        return inner

    def _class(self) -> tuple[str, bool]:
        negated = self._take("^")
        # A `]` directly after the opening is a member. A class with one member is a literal, as in Go.
        members: list[tuple[str, bool]] = []
        while self._at < len(self._text) and (not members or self._text[self._at] != "]"):
            if self._text.startswith("[:", self._at) and ":]" in self._text[self._at :]:
                self._at = self._text.index(":]", self._at) + 2
                members.append(_OPAQUE)
                continue
            character = self._next()
            members.append(self._escape() if character == "\\" else self._literal(character))
        self._take("]")
        return members[0] if len(members) == 1 and not negated else _OPAQUE

    def _escape(self) -> tuple[str, bool]:
        code = _CODE.match(self._text, self._at)
        if code:
            self._at = code.end()
            number = int(code[1] or code[2], 16) if code[1] or code[2] else int(code[3], 8)
            return self._literal(chr(number))
        character = self._next()
        if character == "Q":
            self._quoted = True
            return "", True
        if character in "pP":
            self._at = self._text.index("}", self._at) + 1 if self._take("{") else self._at + 1
        if character in _CONTROLS:
            return self._literal(_CONTROLS[character])
        return _OPAQUE if character.isalnum() else self._literal(character)

    def _quantifier(self) -> tuple[int, bool]:
        """Return how often the piece before occurs at least, and whether exactly so often."""
        least, exactly = 1, True
        while not self._quoted and self._at < len(self._text):
            repeat = _REPEAT.match(self._text, self._at)
            if repeat:
                self._at = repeat.end()
                least *= int(repeat[1])
                exactly = exactly and (not repeat[2] or repeat[3] == repeat[1])
            elif self._text[self._at] in "*+?":
                least *= self._next() == "+"
                exactly = False
            else:
                break
        return least, exactly
