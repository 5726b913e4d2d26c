"""Local addresses in the place of real ones, for display."""

import pytest

from luci_scheduler.core.link_map import LinkMap, link_problem

LINKS = LinkMap.of(
    {
        "https://builds.example.com/build/": "http://127.0.0.1:4/build/",
        "https://*.googlesource.com/": "http://127.0.0.1:5/*.googlesource.com/",
        "https://b/": "https://never.example.com/",
    }
)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://builds.example.com/build/7?x=1#y", "http://127.0.0.1:4/build/7?x=1#y"),
        ("https://a-b.c.googlesource.com/x/+/1", "http://127.0.0.1:5/a-b.c.googlesource.com/x/+/1"),
        ("https://a.googlesource.com", "https://a.googlesource.com"),
        ("https://.googlesource.com/x", "https://.googlesource.com/x"),
        ("https://evil.com/x.googlesource.com/", "https://evil.com/x.googlesource.com/"),
        ("https://evil.com?.googlesource.com/", "https://evil.com?.googlesource.com/"),
        ("https://u@a.googlesource.com/", "https://u@a.googlesource.com/"),
        (" https://a.googlesource.com/", " https://a.googlesource.com/"),
        ("http://a.googlesource.com/", "http://a.googlesource.com/"),
        ("", ""),
    ],
)
def test_beginnings_are_replaced(url: str, shown: str) -> None:
    """The first prefix that fits wins, and a star stands for a host's name only."""
    assert LINKS.shown(url) == shown


@pytest.mark.parametrize(
    ("prefix", "target", "says"),
    [
        ("ftp://x/", "https://y/", "must begin with https:// or http://"),
        ("https://", "https://y/", "name a host"),
        ("https://*.*/", "https://y/", "one \\*"),
        ("https://x/", "https://y/*", "one \\*"),
        ("https://x.example.com", "https://y/", "a slash after its host"),
        ("https://x/", "https://y", "with a path"),
        ("https://x/", "http://127.0.0.1:5", "with a path"),
        ("https://x/", "http://example.com/", "an https address, or an http address of 127.0.0.1"),
        ("https://x/", "http://127.0.0.1.example.com/", "an https address"),
        ("https://x/", "http://127.0.0.1@example.com/", "an https address"),
        ("https://x/", "https://good.example.com@example.com/", "an https address"),
        ("https://*/", "https://*.example.com/", "an https address"),
        ("https://x/", "javascript:alert(1)", "an https address"),
        ("https://x/", "http://[::1/", "an https address"),
        ("https://x/", "http://127.0.0.1:99999/", "an https address"),
    ],
)
def test_bad_links_are_refused(prefix: str, target: str, says: str) -> None:
    """A page must not lead to a strange place."""
    assert says.replace("\\", "") in link_problem(prefix, target)


@pytest.mark.parametrize("target", ["https://y/", "http://127.0.0.1:5/*/", "http://localhost/", "http://[::1]:5/"])
def test_good_links_are_accepted(target: str) -> None:
    """Https anywhere, http on this machine."""
    assert link_problem("https://*/", target) == ""
