"""Requests from other sites to servers on a developer's machine."""

import pytest
from werkzeug.datastructures import Headers

from luci_scheduler.core.loopback import foreign_request

HOST = "127.0.0.1:8080"
LINK = {"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}


def _is_foreign(headers: dict[str, str], method: str = "POST") -> bool:
    return bool(foreign_request(method, Headers({"Host": HOST, **headers}).get))


@pytest.mark.parametrize("host", ["localhost", "LocalHost:8080", "127.0.0.1", HOST, "[::1]:8080", "[::1]"])
def test_names_of_this_machine_pass(host: str) -> None:
    """The port does not matter, because it may be forwarded."""
    assert not _is_foreign({"Host": host})
    assert not _is_foreign({"Host": host, "Origin": f"http://{host}", "Sec-Fetch-Site": "same-origin"})


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:8080",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "127.0.0.2",
        "[::1].evil",
        "localhost@evil",
        f"{HOST}, evil.example",
        "localhost:",
        "localhost:123456",
        "2130706433",
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_any_other_name_is_foreign(host: str, method: str) -> None:
    """A page that points its name to this machine's address sends its own name."""
    assert _is_foreign({"Host": host}, method)
    assert _is_foreign({"Host": host, **LINK}, method)


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "null", "", "http://127.0.0.1:8081", f"https://{HOST}", f"http://x@{HOST}"]
)
@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS"])
def test_any_other_origin_is_foreign(origin: str, method: str) -> None:
    """Another port of this machine may serve other people's content."""
    assert _is_foreign({"Origin": origin}, method)


@pytest.mark.parametrize("site", ["cross-site", "same-site", "", "new-word"])
def test_a_request_from_another_site_is_foreign_unless_it_follows_a_link(site: str) -> None:
    """A link opens a page that its site cannot read. Forms, scripts, images and frames are refused."""
    assert _is_foreign({"Sec-Fetch-Site": site}, "GET")
    assert _is_foreign({"Sec-Fetch-Site": site, **LINK, "Sec-Fetch-Dest": "iframe"}, "GET")
    assert _is_foreign({"Sec-Fetch-Site": site, **LINK, "Sec-Fetch-Mode": "no-cors"}, "GET")
    assert _is_foreign({"Sec-Fetch-Site": site, **LINK}, "POST")
    assert not _is_foreign({"Sec-Fetch-Site": site, **LINK}, "GET")


def test_programs_pass() -> None:
    """Programs send none of a browser's headers, and an old protocol not even the host."""
    assert not _is_foreign({})
    assert not foreign_request("POST", Headers().get)
