"""How the deployed server hands headers on: what the platform has not checked must not pass for what it has."""

from __future__ import annotations

from typing import Any

import pytest
from functions_framework._http.gunicorn import GunicornApplication
from gunicorn.http.parser import RequestParser
from gunicorn.http.wsgi import create
from werkzeug.datastructures import EnvironHeaders

from luci_scheduler.core.id_tokens import presented_token
from luci_scheduler.core.identity import UnauthenticatedError


def _headers(monkeypatch: pytest.MonkeyPatch, *lines: str) -> EnvironHeaders:
    """Return the headers of a request as the functions framework's server passes them to the application."""
    monkeypatch.setattr("sys.argv", ["functions-framework"])
    monkeypatch.delenv("GUNICORN_CMD_ARGS", raising=False)
    config: Any = GunicornApplication(None, "127.0.0.1", 0, debug=False).cfg
    raw = "\r\n".join(["GET / HTTP/1.1", "Host: x", *lines, "", ""]).encode()
    request = next(RequestParser(config, iter([raw]), ("127.0.0.1", 1)))
    _, environ = create(request, None, ("127.0.0.1", 1), ("127.0.0.1", 2), config)
    return EnvironHeaders(environ)


@pytest.mark.parametrize(
    "name", ["X_Serverless_Authorization", "X-Serverless_Authorization", "x_serverless-authorization"]
)
def test_a_look_alike_of_the_platforms_header_is_dropped(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """WSGI spells both with underscores, but the platform checks only the real one."""
    found = presented_token(_headers(monkeypatch, f"{name}: Bearer forged"))
    assert found is None
    found = presented_token(_headers(monkeypatch, f"{name}: Bearer forged", "Authorization: Bearer good"))
    assert found is not None
    assert (found.token, found.is_checked) == ("good", True)


@pytest.mark.parametrize("name", ["Authorization", "X-Serverless-Authorization"])
def test_a_doubled_header_is_joined(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """The text is no token, so it is refused."""
    headers = _headers(monkeypatch, f"{name}: Bearer eyJ.a.good", f"{name.lower()}: Bearer eyJ.a.forged")
    found = presented_token(headers)
    assert found is not None
    assert found.token == "eyJ.a.good,Bearer eyJ.a.forged"
    assert not found.is_jwt


def test_an_empty_header_of_the_platform_arrives(monkeypatch: pytest.MonkeyPatch) -> None:
    """It counts as present."""
    with pytest.raises(UnauthenticatedError):
        presented_token(_headers(monkeypatch, "X-Serverless-Authorization:"))
