"""The server of the public keys."""

from collections.abc import Iterator

import pytest
import requests

from emulator.cloud_tasks.keys_server import KeysServer
from emulator.cloud_tasks.oidc import TokenIssuer


@pytest.fixture(scope="module")
def issuer() -> TokenIssuer:
    """An issuer with its key."""
    return TokenIssuer()


@pytest.fixture
def server(issuer: TokenIssuer) -> Iterator[KeysServer]:
    """A running server."""
    server = KeysServer(issuer, "127.0.0.1", 0)
    server.start()
    yield server
    server.stop()


def get(server: KeysServer, path: str) -> requests.Response:
    """Send a request."""
    return requests.get(f"{server.address}{path}", timeout=60)


def test_it_serves_the_keys_in_both_forms(server: KeysServer, issuer: TokenIssuer) -> None:
    assert get(server, "/oauth2/v3/certs").json() == issuer.jwks()
    assert get(server, "/oauth2/v1/certs").json() == issuer.certificates()


def test_clients_must_not_cache_the_keys(server: KeysServer) -> None:
    """The key of the next start is another one."""
    response = get(server, "/oauth2/v1/certs")
    assert (response.headers["Cache-Control"], response.headers["Content-Type"]) == (
        "no-cache",
        "application/json; charset=UTF-8",
    )


@pytest.mark.parametrize("path", ["/", "/oauth2/v2/certs"])
def test_other_paths_are_not_found(server: KeysServer, path: str) -> None:
    assert get(server, path).status_code == 404


def test_a_stopped_server_is_gone(server: KeysServer) -> None:
    server.stop()
    with pytest.raises(requests.ConnectionError):
        get(server, "/oauth2/v1/certs")
