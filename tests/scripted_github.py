"""GitHub's REST API without a server: answers that a test defines, and the requests that were sent."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import requests
from urllib3 import HTTPResponse

from luci_scheduler.adapters.github_api import GitHubApi, NoCredentials, TokenSource
from luci_scheduler.core.commit_hosts import DEFAULT_HOSTS, CommitHosts
from luci_scheduler.core.instants import SECOND
from luci_scheduler.ports import Clock

__all__ = ["Exchange", "ScriptedGitHub", "normalized"]


@dataclass(frozen=True, slots=True)
class Exchange:
    """A request that is expected, and its answer."""

    request: str
    """Method, path and query, as in ``GET /repos/o/r/commits?sha=a``."""
    status: int = 200
    body: Any = None
    """A JSON value, or bytes."""
    headers: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of_sample(cls, sample: Mapping[str, Any]) -> Exchange:
        """Return the exchange that a sample holds."""
        request, answer = sample["request"], sample["response"]
        body = answer.get("body")
        content = body.encode() if isinstance(body, str) else body
        url = request["url"].removeprefix("https://api.github.com")
        return cls(f"{request['method']} {url}", answer["status"], content, answer["headers"])


class ScriptedGitHub:
    """A session that answers the expected requests in their order, and refuses any other."""

    def __init__(self, *exchanges: Exchange) -> None:
        self.expected = list(exchanges)
        self.sent: list[dict[str, Any]] = []
        """The requests so far: ``request``, ``url``, ``headers``, ``body``."""
        self.on_request: Callable[[], object] = lambda: None

    def request(self, method: str, url: str, **named: Any) -> requests.Response:
        """Send a request."""
        parts = urlsplit(url)
        text = f"{method} {parts.path}" + (f"?{parts.query}" if parts.query else "")
        self.sent.append({"request": text, "url": url, "headers": dict(named["headers"]), "body": named["json"]})
        self.on_request()
        assert self.expected, f"unexpected request: {text}"
        exchange = self.expected.pop(0)
        assert normalized(text) == normalized(exchange.request)
        return _response(exchange)

    def api(
        self,
        clock: Clock,
        credentials: TokenSource | None = None,
        hosts: CommitHosts = DEFAULT_HOSTS,
        deadline: int = 15 * SECOND,
    ) -> GitHubApi:
        """Return a client that sends its requests here."""
        session: Any = self
        return GitHubApi(hosts, lambda: session, credentials or NoCredentials(), clock, deadline)

    @property
    def requests(self) -> list[str]:
        """The requests so far, without their headers."""
        return [item["request"] for item in self.sent]

    def expect(self, exchanges: Iterable[Exchange]) -> None:
        """Add expected requests."""
        self.expected += exchanges


def normalized(request: str) -> str:
    """Return a request with its query in order: the order of parameters has no meaning."""
    head, _, query = request.partition("?")
    return f"{head}?{urlencode(sorted(parse_qsl(query)))}"


def _response(exchange: Exchange) -> requests.Response:
    body = exchange.body
    content = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
    response = requests.Response()
    response.status_code = exchange.status
    response.headers.update(exchange.headers)
    response.raw = HTTPResponse(io.BytesIO(content), preload_content=False)
    return response
