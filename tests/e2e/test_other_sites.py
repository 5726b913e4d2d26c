"""Pages of other sites against all processes of a local cloud on the official emulators."""

import pytest

from emulator.local_cloud import LocalCloud
from emulator.supervisor import FUNCTIONS
from tests.listening import http_status, listening_ports

pytestmark = [pytest.mark.emulators, pytest.mark.timeout(180)]

FOREIGN = (
    "Host: evil.example",
    "Host: {own}\r\nOrigin: https://evil.example",
    "Host: {own}\r\nSec-Fetch-Site: cross-site",
)


SERVERS = 7
"""Four functions, Buildbucket, Gitiles, and the keys of Cloud Tasks; relays are additional."""


def _port(address: str) -> int:
    return int(address.rpartition(":")[2])


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_functions_refuse_them(cloud: LocalCloud, name: str) -> None:
    """The functions run under gunicorn, without a server of the local cloud in front of them."""
    port = _port(cloud.functions[name].url)
    assert http_status(port, f"Host: 127.0.0.1:{port}", "POST /x HTTP/1.1") != 403
    for headers in FOREIGN:
        for line in ("GET / HTTP/1.1", "POST /x HTTP/1.1"):
            assert http_status(port, headers.format(own=f"127.0.0.1:{port}"), line) == 403


def test_only_the_official_emulators_answer_them(cloud: LocalCloud) -> None:
    """They are Google's software and accept any host and origin; a page would have to guess the name of the project."""
    for headers in FOREIGN:
        statuses = {
            port: http_status(port, headers.format(own=f"127.0.0.1:{port}")) for port in listening_ports("java")
        }
        assert {port: status for port, status in statuses.items() if status not in (403, None)} == {}
        assert list(statuses.values()).count(403) >= SERVERS
        for address in (cloud.firestore_address, cloud.pubsub_address):
            assert http_status(_port(address), headers.format(own=address)) == 200
    assert len(cloud.project) >= len("local-01234567")
