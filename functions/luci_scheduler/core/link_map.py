"""The addresses under which pages show foreign web pages: the local cloud's servers take the place of real hosts."""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import urlsplit

from luci_scheduler.core.frozen import frozen

__all__ = ["LinkMap", "link_problem"]

_STAR = "*"
_HOST_CHARACTERS = "([A-Za-z0-9.-]+)"
_SCHEMES = ("https://", "http://")
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


@frozen
class LinkMap:
    """Replaces the beginnings of addresses.

    A ``*`` in a prefix stands for letters, digits, dots and hyphens, at least one. The same text takes the place of
    ``*`` in the new address. The first prefix that fits wins.
    """

    entries: tuple[tuple[re.Pattern[str], str], ...] = ()

    @classmethod
    def of(cls, prefixes: Mapping[str, str]) -> LinkMap:
        """Return the map for prefixes and their new beginnings, in this order."""
        return cls(tuple((_pattern(prefix), target) for prefix, target in prefixes.items()))

    def shown(self, url: str) -> str:
        """Return the address under which a page shows ``url``; ``url`` itself if no prefix fits."""
        for pattern, target in self.entries:
            if match := pattern.match(url):
                star = match[1] if match.lastindex else ""
                return target.replace(_STAR, star) + url[match.end() :]
        return url


def link_problem(prefix: str, target: str) -> str:
    """Return why a prefix and its new beginning are refused; empty if they are accepted.

    The new beginning is an https address, or an http address of this machine. Both have a slash after their host.
    """
    if not prefix.startswith(_SCHEMES) or prefix in _SCHEMES:
        return f"{prefix!r} must begin with https:// or http:// and name a host"
    if "/" not in prefix.partition("://")[2]:
        return f"{prefix!r} must have a slash after its host, or it would also fit longer names of hosts"
    if prefix.count(_STAR) > 1 or target.count(_STAR) > prefix.count(_STAR):
        return f"{prefix!r} may have one *, and only then its new address may have one"
    if not _may_be_shown(target):
        return f"{target!r} must be an https address, or an http address of 127.0.0.1, localhost or [::1], with a path"
    return ""


def _may_be_shown(target: str) -> bool:
    try:
        parts = urlsplit(target)
        host, _ = parts.hostname or "", parts.port  # reading the port validates it
    except ValueError:
        return False
    if "@" in parts.netloc or _STAR in parts.netloc or not parts.path:  # the rest must not continue the host's name
        return False
    return bool(host) and (parts.scheme == "https" or (parts.scheme == "http" and host in _LOOPBACK))


def _pattern(prefix: str) -> re.Pattern[str]:
    return re.compile(_HOST_CHARACTERS.join(map(re.escape, prefix.split(_STAR))))
