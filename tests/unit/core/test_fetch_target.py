"""Targets of URL fetches: valid URLs, refused URLs, and their form in a log."""

import pytest

from luci_scheduler.core.fetch_target import (
    BadTargetError,
    Target,
    is_forbidden_name,
    is_private,
    is_public,
    parse_target,
    shown_url,
)


@pytest.mark.parametrize(
    ("url", "target", "host_header"),
    [
        ("https://example.com", Target("https", "example.com", 443, "/"), "example.com"),
        ("HTTPS://Example.COM.:443/a?b#c", Target("https", "example.com", 443, "/a?b"), "example.com"),
        ("http://example.com:8080?q=1", Target("http", "example.com", 8080, "/?q=1"), "example.com:8080"),
        ("https://example.com:/", Target("https", "example.com", 443, "/"), "example.com"),
        ("https://e.com/%2f/\u00fc|[]?a=%zz", Target("https", "e.com", 443, "/%2f/%C3%BC%7C%5B%5D?a=%zz"), "e.com"),
        ("https://e.com/@scope/pkg", Target("https", "e.com", 443, "/@scope/pkg"), "e.com"),
        ("https://1.2.3.4./", Target("https", "1.2.3.4", 443, "/"), "1.2.3.4"),
        ("https://[2606:4700:0::1]:8443/", Target("https", "2606:4700::1", 8443, "/"), "[2606:4700::1]:8443"),
        ("https://a_b.xn--mnchen-3ya.de/", Target("https", "a_b.xn--mnchen-3ya.de", 443, "/"), "a_b.xn--mnchen-3ya.de"),
    ],
)
def test_valid_urls(url: str, target: Target, host_header: str) -> None:
    """Scheme and host in lower case, default ports, a resource that is safe in a request line."""
    assert parse_target(url) == target
    assert target.host_header == host_header


@pytest.mark.parametrize(
    "url",
    [
        "",
        "example.com/",
        "//example.com/",
        "/path",
        "https:/example.com",
        "https:example.com",
        "https://",
        "https:///path",
        "ftp://example.com/",
        "file:///etc/passwd",
        "gopher://example.com/",
        # user information
        "https://user@example.com/",
        "https://user:password@example.com/",
        "https://example.com@127.0.0.1/",
        "https://@example.com/",
        "https://example.com%40127.0.0.1/",
        # characters that programs read differently
        "https://example.com\\@127.0.0.1/",
        "https:\\\\example.com/",
        "https://example.com/\r\nX-Injected: 1",
        "https://example.com/a b",
        "https://example.com\t/",
        " https://example.com/",
        "https://example.com/\x00",
        "https://example.com/\x85",
        "https://example.com/\ud800",
        # ports
        "https://example.com:0/",
        "https://example.com:65536/",
        "https://example.com:-1/",
        "https://example.com:\u0661/",
        "https://example.com:80:80/",
        # numbers that some programs read as IPv4 addresses
        "https://2130706433/",
        "https://017700000001/",
        "https://0x7f000001/",
        "https://0x7f.1/",
        "https://0177.0.0.1/",
        "https://127.1/",
        "https://127.0.1/",
        "https://1.2.3.256/",
        "https://example.0x7f/",
        "https://example.1/",
        "https://1.2.3.4.5/",
        "https://%31%32%37.0.0.1/",
        "https://\uff11\uff12\uff17.0.0.1/",
        "https://127\u30020\u30020\u30021/",
        # names and IPv6 addresses
        "https://m\u00fcnchen.de/",
        "https://a..b/",
        "https://.b/",
        "https://./",
        "https://-a.com/",
        "https://a.com-/",
        f"https://{'a' * 64}.com/",
        f"https://{'a.' * 127}com/",
        "https://[::1/",
        "https://::1/",
        "https://[fe80::1%25eth0]/",
        "https://[::1]x/",
        "https://[1.2.3.4]/",
        "https://[1:2]/",
    ],
)
def test_ambiguous_urls_are_refused(url: str) -> None:
    """Ambiguous URLs are refused, and the reason repeats nothing of them."""
    with pytest.raises(BadTargetError) as raised:
        parse_target(url)
    assert "password" not in str(raised.value) or str(raised.value) == "the URL holds a user name or a password"


SPECIAL = [
    "0.0.0.0",  # noqa: S104
    "0.1.2.3", "10.0.0.1", "100.64.0.1", "100.127.255.255", "127.0.0.1", "127.255.255.254", "169.254.0.1",
    "169.254.169.254", "172.16.0.1", "172.31.255.255", "192.0.0.1", "192.0.2.1", "192.88.99.1", "192.168.1.1",
    "198.18.0.1", "198.19.255.255", "198.51.100.1", "203.0.113.1", "224.0.0.1", "239.255.255.255", "240.0.0.1",
    "255.255.255.255",
    "::", "::1", "::127.0.0.1", "::ffff:127.0.0.1", "::ffff:8.8.8.8", "::ffff:a9fe:a9fe", "::ffff:0:127.0.0.1",
    "64:ff9b::7f00:1", "64:ff9b::808:808", "64:ff9b:1::7f00:1", "100::1", "2001::1", "2001:0:4136:e378::1",
    "2001:20::1",
    "2001:db8::1", "2002:7f00:1::1", "2002:808:808::1", "3fff::1", "5f00::1", "4000::1", "fc00::1", "fd00::1",
    "fd20:ce::254", "fe80::1", "fe80::1%eth0", "fec0::1", "ff02::1", "ff0e::1", "2606:4700::1%eth0",
]  # fmt: skip
PRIVATE = {
    "10.0.0.1", "100.64.0.1", "100.127.255.255", "127.0.0.1", "127.255.255.254", "172.16.0.1", "172.31.255.255",
    "192.168.1.1", "::1", "fc00::1", "fd00::1",
}  # fmt: skip


@pytest.mark.parametrize("address", SPECIAL)
def test_addresses_that_are_not_public(address: str) -> None:
    """Special addresses are not public in any form. Only private networks and this machine can be allowed at all."""
    assert not is_public(address)
    assert is_private(address) == (address in PRIVATE)


@pytest.mark.parametrize(
    "address",
    [
        "1.1.1.1", "8.8.8.8", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0", "126.255.255.255",
        "128.0.0.1", "169.253.255.255", "169.255.0.0", "172.15.255.255", "172.32.0.0", "192.167.255.255", "192.169.0.0",
        "198.17.255.255", "198.20.0.0", "223.255.255.255", "2001:200::1", "2001:4860:4860::8888", "2606:4700::1111",
        "2a00:1450::1",
    ],
)  # fmt: skip
def test_public_addresses(address: str) -> None:
    """The neighbors of the special ranges, and well-known servers, are public and not private."""
    assert is_public(address)
    assert not is_private(address)


def test_names_that_are_not_public() -> None:
    """The machine itself and names inside the cloud, but not names that only look like them."""
    bad = ["localhost", "a.localhost", "metadata", "metadata.goog", "metadata.google.internal", "x.internal", "a.local"]
    assert all(is_forbidden_name(name) for name in bad)
    good = ["localhost.com", "metadata.com", "internal.com", "notlocalhost", "internal"]
    assert not any(is_forbidden_name(name) for name in good)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://example.com/a?b=%25#c", "https://example.com/a?b=%25#c"),
        ("https://e.com/@scope/pkg", "https://e.com/@scope/pkg"),
        ("https://user:canary@example.com/a", "https://xxxxx@example.com/a"),
        ("https://canary@example.com", "https://xxxxx@example.com"),
        ("https://user:can/ary@example.com/a", "https://xxxxx@example.com/a"),
        ("https://user:can@ary@example.com/a", "https://xxxxx@example.com/a"),
        ("canary@example.com", "://xxxxx@example.com"),
        ("https://example.com/\r\n[12:00:00.000] forged", "https://example.com/\\r\\n[12:00:00.000] forged"),
        ("https://user:canary@example.com/\x1b[2J", "https://xxxxx@example.com/\\x1b[2J"),
    ],
)
def test_the_form_of_a_url_in_a_log(url: str, shown: str) -> None:
    """A valid URL is shown as it is, a bad one on one line, without the text before its last at sign."""
    assert shown_url(url) == shown
