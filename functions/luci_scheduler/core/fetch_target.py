"""Targets of URL fetches: which URLs are valid, and which addresses may be reached.

The author of a config chooses the URL. The functions can reach servers that such an author must not reach through them:
the metadata server, the machine itself, private networks. So a URL is read strictly: a URL that two programs could read
differently is refused. The decision about an address looks at the resolved address, never at its spelling.
"""

from __future__ import annotations

import re
from ipaddress import AddressValueError, IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from urllib.parse import quote as percent_encode

from luci_scheduler.core.frozen import frozen
from luci_scheduler.core.go_text import quote

__all__ = ["BadTargetError", "Target", "is_forbidden_name", "is_private", "is_public", "parse_target", "shown_url"]

_URL = re.compile(
    r"(?P<scheme>https?)://(?P<authority>[^/?#]*)(?P<path>/[^?#]*)?(?P<query>\?[^#]*)?(?:#.*)?", re.IGNORECASE
)
_AUTHORITY = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[^:\[\]]+)(?::(?P<port>[0-9]{0,5}))?")
_REFUSED_CHARACTERS = re.compile("[\x00-\x20\x7f-\xa0\\\\\u2028\u2029\ud800-\udfff]")
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
_MAX_NAME = 253  # characters of a domain name, from RFC 1035
_PORTS = {"https": 443, "http": 80}
_MAX_PORT = 65_535
# The reserved and unreserved characters of RFC 3986, and the percent sign of encoded characters.
_KEPT = "/%:@!$&'()*+,;=~-._?"


class BadTargetError(ValueError):
    """A URL cannot be fetched. The text gives the reason without the URL, which may hold a password."""


@frozen
class Target:
    """A valid URL, in parts."""

    scheme: str
    """``https`` or ``http``."""
    host: str
    """Lower case, without a trailing dot; an IPv6 address without brackets."""
    port: int
    resource: str
    """Path and query, percent-encoded: printable ASCII without spaces."""

    @property
    def is_address(self) -> bool:
        """Whether the host is an address and not a name."""
        return ":" in self.host or _NUMBER.fullmatch(self.host.rpartition(".")[2]) is not None

    @property
    def host_header(self) -> str:
        """The value of the ``Host`` header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"


def parse_target(url: str) -> Target:
    """Read an absolute http or https URL. The fragment is dropped.

    Also refused are user information, spaces, control characters, backslashes, names that are not ASCII, and numbers
    that only some programs read as IPv4 addresses (``2130706433``, ``0x7f.1``, ``0177.0.0.1``).

    Raises:
        BadTargetError: the URL is refused.
    """
    # First of all: programs disagree on these characters. Some cut or replace them before they parse.
    if _REFUSED_CHARACTERS.search(url):
        raise BadTargetError("the URL holds a space, a backslash or a control character")
    match = _URL.fullmatch(url)
    if match is None:
        raise BadTargetError("not an absolute http or https URL")
    if "@" in match["authority"]:
        raise BadTargetError("the URL holds a user name or a password")
    scheme = match["scheme"].lower()
    host, port = _host_and_port(match["authority"], _PORTS[scheme])
    resource = percent_encode((match["path"] or "/") + (match["query"] or ""), safe=_KEPT)
    return Target(scheme, host, port, resource)


def _host_and_port(authority: str, default_port: int) -> tuple[str, int]:
    match = _AUTHORITY.fullmatch(authority)
    if match is None:
        raise BadTargetError("the URL has no valid host and port")
    port = int(match["port"] or default_port)
    if not 1 <= port <= _MAX_PORT:
        raise BadTargetError(f"no such port: {port}")
    host = match["host"].lower()
    try:
        if host.startswith("["):
            return IPv6Address(host[1:-1]).compressed, port
        host = host.removesuffix(".")
        # Like browsers: a host whose last label is a number is an address. `IPv4Address` accepts the plain form only.
        if _NUMBER.fullmatch(host.rpartition(".")[2]):
            return str(IPv4Address(host)), port
    except AddressValueError as error:
        raise BadTargetError("the host looks like an address, but is not a plain one") from error
    if len(host) > _MAX_NAME or not all(_LABEL.fullmatch(label) for label in host.split(".")):
        raise BadTargetError("the host is not a valid name; write a name that is not ASCII in its xn-- form")
    return host, port


def shown_url(url: str) -> str:
    """Return a URL for a log: as it is if it can be fetched, otherwise escaped and without credentials."""
    try:
        parse_target(url)
    except BadTargetError:
        scheme, colon, _ = url.partition(":")
        # The last `@` ends the credentials, which may contain one themselves.
        rest = url.rpartition("@")[2]
        return quote(url if rest == url else f"{scheme if colon else ''}://xxxxx@{rest}")[1:-1]
    return url


_SPECIAL_4 = tuple(
    IPv4Network(text)
    for text in (
        # IANA's registry of special-purpose IPv4 addresses, with multicast (224/4).
        "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24",
        "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24",
        "224.0.0.0/4", "240.0.0.0/4",
    )
)  # fmt: skip
_UNICAST_6 = IPv6Network("2000::/3")
"""The only global unicast addresses in use. Outside are mapped (::ffff:0:0/96), NAT64 (64:ff9b::/96) and local
addresses (::1, fc00::/7 with the metadata server's fd20:ce::254, fe80::/10, ff00::/8)."""
_SPECIAL_6 = tuple(
    IPv6Network(text)
    for text in (
        "2001::/23",  # protocol assignments, with Teredo (2001::/32)
        "2001:db8::/32", "3fff::/20",  # documentation
        "2002::/16",  # 6to4: holds an IPv4 address
    )
)  # fmt: skip
_PRIVATE_4 = tuple(
    IPv4Network(text) for text in ("10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16")
)
_PRIVATE_6 = (IPv6Network("::1/128"), IPv6Network("fc00::/7"))
_METADATA_6 = IPv6Network("fd20:ce::/32")


def is_public(address: str) -> bool:
    """Whether a numeric address is reachable on the public internet. An address with a zone is not."""
    parsed = ip_address(address)
    if isinstance(parsed, IPv4Address):
        return not any(parsed in network for network in _SPECIAL_4)
    return not parsed.scope_id and parsed in _UNICAST_6 and not any(parsed in network for network in _SPECIAL_6)


def is_private(address: str) -> bool:
    """Whether an address belongs to a private network or to this machine.

    Metadata servers and link-local addresses do not.
    """
    parsed = ip_address(address)
    if isinstance(parsed, IPv4Address):
        return any(parsed in network for network in _PRIVATE_4)
    return not parsed.scope_id and parsed not in _METADATA_6 and any(parsed in network for network in _PRIVATE_6)


def is_forbidden_name(host: str) -> bool:
    """Whether a host name is never public: the machine itself, or a name inside Google Cloud."""
    return host in ("localhost", "metadata", "metadata.goog") or host.endswith((".localhost", ".internal", ".local"))
