"""Texts from outside: removal of secrets, and of characters that control a log, a terminal or a page."""

from __future__ import annotations

import re

from luci_scheduler.core.go_text import quote, valid_text

__all__ = ["REDACTED", "abridged", "escaped", "redacted", "sanitized", "without_forged_lines"]

REDACTED = "[redacted]"

_BIDI = "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # Unicode's property Bidi_Control
_CONTROL = re.compile(f"[\x00-\x1f\x7f-\x9f\u2028\u2029{_BIDI}]")
# A carriage return is allowed only before a line feed. Alone, it would overwrite a line on a terminal.
_CONTROL_IN_LINES = re.compile(f"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028\u2029{_BIDI}]|\r(?!\n)")
_STAMP = re.compile(r"(?<=\n)\[(?=\d\d:\d\d:\d\d\.\d{3}\] )")
_ESCAPED_BRACKET = r"\\x5b"

_MARKS = (
    "axsix2ki", "qvhzavgya2", "c2lymmtpt2", "whnpwdjrau9p", "ya29.", "eyj", "bearer", "authorization", "_token",
    "_secret", "ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_",
)  # fmt: skip
"""A text without any of these marks, in any case, holds no secret. Most texts are thus spared the full search."""

# Secrets appear quoted inside JSON or Python (once or several times over), inside URLs, and inside HTML.
# All repetitions are bounded, so that a hostile text cannot make the search slow.
_QUOTE = r"(?:b?(?:\\{0,8}[\"']|%22|%27|&quot;|&#3[49];)){0,2}+"
_SPACE = r"(?:\s|\+|%20|\\{1,8}(?:[nrt]|u0020))"
_COLON = rf"{_QUOTE}{_SPACE}{{0,8}}+(?:[:=]|%3[AaDd]|\\{{1,8}}u003[aAdD]){_SPACE}{{0,8}}+{_QUOTE}"
_COMMA = rf"\\{{0,8}}[\"'],{_SPACE}{{0,8}}+b?\\{{0,8}}[\"']"  # a pair, as Python prints it
_VALUE = r"(?!%22|%27|&quot;|&#3[49];)[^\s\"',;<\[\\&](?:(?!%22|%27|%26|&quot;|&#3[49];)[^\s\"',;\\])*"
_BREAK = r"=?(?:\\{1,8}r|\r)?(?:\\{1,8}n|\n)[ \t]{0,8}"
"""A line break inside a token, literal or escaped. Mail and PEM wrap base64 like this."""

_SECRETS = (
    # Values of the Authorization header with any scheme, also as JSON or Python print a header.
    (
        re.compile(
            rf"(authorization(?:{_COLON}|{_COMMA}))((?:bearer|basic|oauth){_SPACE}{{1,8}}+)?+{_VALUE}", re.IGNORECASE
        ),
        r"\1\2" + REDACTED,
    ),
    (re.compile(rf"(bearer{_SPACE}{{1,8}}+)[A-Za-z0-9._~+/=%-]{{8,}}", re.IGNORECASE), r"\1" + REDACTED),
    # OAuth tokens by name, as in URLs, forms and JSON.
    (
        re.compile(
            rf"((?:access_token|id_token|refresh_token|client_secret){_COLON})"
            r"(?!%26)[^\s&\"',;<\[\\%](?:(?!%26|%22)[^\s&\"',;<\[\\])*",
            re.IGNORECASE,
        ),
        r"\1" + REDACTED,
    ),
    # Our notification tokens (see `notification_token`): version byte 1 and `{"_i":"` in base64. Requests of
    # Buildbucket v2 carry them in base64 once more. There, the token begins at one of three places in a group of three
    # bytes, and its encoding depends on the place.
    (re.compile(rf"AXsiX2kiOi[A-Za-z0-9_=-]{{20,}}(?:{_BREAK}[A-Za-z0-9_=-]{{16,}})*"), REDACTED),
    (
        re.compile(
            r"(?:QVhzaVgya2lPa|[A-Za-z0-9+/_-]{2}c2lYMmtpT2|[A-Za-z0-9+/_-]{3}WHNpWDJraU9p)[A-Za-z0-9+/_=-]{20,}"
            rf"(?:{_BREAK}[A-Za-z0-9+/_=-]{{16,}})*"
        ),
        REDACTED,
    ),
    # GitHub's tokens. Some hold a JSON Web Token.
    (re.compile(r"(?:gh[opusr]_|github_pat_)[A-Za-z0-9_.-]{16,}"), REDACTED),
    # Google's OAuth access tokens, and JSON Web Tokens: three parts, of which the first is a JSON object.
    (re.compile(r"ya29\.[A-Za-z0-9._~+/=%-]+"), REDACTED),
    (re.compile(r"eyJ[A-Za-z0-9_-]{8,}(?:\.|%2[eE])[A-Za-z0-9_-]+(?:\.|%2[eE])[A-Za-z0-9_-]*"), REDACTED),
)


def redacted(text: str) -> str:
    """Return the text with each recognizable secret replaced by ``[redacted]``.

    Recognized are notification tokens (plain and in base64), values of ``Authorization`` headers, bearer tokens,
    Google's access tokens, GitHub's tokens, and JSON Web Tokens. A second pass changes nothing.
    """
    if not _has_mark(text):
        return text
    for pattern, replacement in _SECRETS:
        text = pattern.sub(replacement, text)
    return text


def _has_mark(text: str) -> bool:
    # Outside ASCII, letters other than the small and the capital one match a pattern that ignores case.
    lower = text.lower()
    return not text.isascii() or any(mark in lower for mark in _MARKS)


def escaped(text: str, *, lines: bool = False) -> str:
    r"""Return the text with control characters and bidirectional controls escaped as in Go (``\x1b``, ``\u202e``).

    Args:
        text: any text; half of a surrogate pair becomes U+FFFD.
        lines: keep tabs and line ends (``\n`` and ``\r\n``).
    """
    pattern = _CONTROL_IN_LINES if lines else _CONTROL
    return pattern.sub(lambda match: _escape(match[0]), valid_text(text))


def _escape(char: str) -> str:
    # ``\\x7f`` is not valid in JSON, and the text may be a printed JSON answer. JSON escapes the other control
    # characters itself.
    return "\\u007f" if char == "\x7f" else quote(char)[1:-1]


def sanitized(text: str) -> str:
    """Return a server's text as one line for a log, without secrets, control characters and line breaks."""
    return escaped(redacted(text))


def abridged(text: str, most: int) -> str:
    """Return the beginning of a text of several lines, sanitized, with at most ``most`` characters."""
    # The text is cut twice: the search for secrets is slow on a long text, and escaping makes a text longer.
    safe = escaped(redacted(text.strip()[: 2 * most]), lines=True)
    return safe if len(safe) <= most else f"{safe[: most - 1].rstrip()}…"


def without_forged_lines(text: str) -> str:
    r"""Return a text in which no line after the first looks like a line of the debug log.

    The opening bracket of a time stamp at the beginning of a line becomes ``\x5b``.
    """
    return _STAMP.sub(_ESCAPED_BRACKET, text) if "\n[" in text else text
