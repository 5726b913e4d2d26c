"""A loopback server that plays Google's ``tokeninfo``."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

__all__ = ["CLIENT", "TokenInfo", "serve_tokeninfo"]

CLIENT = "123-abc.apps.googleusercontent.com"
_UNKNOWN = {"error": "invalid_token", "error_description": "Invalid Value"}


class TokenInfo:
    """The server's tokens, and the requests that it got."""

    def __init__(self) -> None:
        self.tokens: dict[str, dict[str, Any]] = {}
        self.asked: Counter[str] = Counter()
        """Token → the number of requests."""
        self.paths: Counter[str] = Counter()
        self.trouble: tuple[int, bytes, dict[str, str]] | None = None
        """Status, body and headers of every answer, instead of the right one."""
        self.silent: threading.Event | None = None
        """No request is answered before it is set."""
        self.url = ""

    def know(self, token: str, **changes: Any) -> str:
        """Make a token good, and return it; a change to None leaves a member out."""
        info = {
            "azp": CLIENT,
            "aud": CLIENT,
            "sub": "1234567890",
            "scope": "openid https://www.googleapis.com/auth/userinfo.email",
            "exp": "1773759910",
            "expires_in": "3599",
            "email": "Dev@example.com",
            "email_verified": "true",
            "access_type": "online",
            **changes,
        }
        self.tokens[token] = {name: value for name, value in info.items() if value is not None}
        return token

    def answer(self, target: str) -> tuple[int, bytes, dict[str, str]]:
        """Answer a GET."""
        parts = urlsplit(target)
        self.paths[parts.path] += 1
        query = parse_qs(parts.query, keep_blank_values=True)
        (token,) = query.pop("access_token")
        assert not query, "nothing else is sent"
        self.asked[token] += 1
        if self.silent is not None:
            self.silent.wait(60)
        if self.trouble is not None:
            return self.trouble
        known = self.tokens.get(token)
        body = json.dumps(_UNKNOWN if known is None else known).encode()
        return 400 if known is None else 200, body, {"Content-Type": "application/json; charset=utf-8"}


@contextmanager
def serve_tokeninfo() -> Iterator[TokenInfo]:
    """Serve; the server ends with the context."""
    info = TokenInfo()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            code, body, headers = info.answer(self.path)
            self.send_response(code)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def handle(self) -> None:
            with suppress(OSError):  # the client hung up, as some tests intend
                super().handle()

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    info.url = f"http://127.0.0.1:{server.server_port}/tokeninfo"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield info
    finally:
        if info.silent is not None:
            info.silent.set()
        server.shutdown()
        server.server_close()
        thread.join()
