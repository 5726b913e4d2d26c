"""The Buildbucket server of a host."""

import pytest

from luci_scheduler.managers.buildbucket.builder_id import server_of

SERVERS = {"a": 1, "b": 2}


@pytest.mark.parametrize(
    ("servers", "host", "expected"),
    [
        (SERVERS, "a", 1),
        (SERVERS, "c", None),
        (SERVERS, "", None),
        ({**SERVERS, "*": 3}, "a", 1),
        ({**SERVERS, "*": 3}, "c", 3),
        ({**SERVERS, "*": 3}, "", None),  # jobs without builds name no server
    ],
)
def test_the_server_of_a_host(servers: dict[str, int], host: str, expected: int | None) -> None:
    assert server_of(servers, host) == expected
