"""HTTP sessions: one per thread, authenticated as the service account, never through a proxy of the environment."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

import requests

__all__ = ["fetch", "sessions"]

_SCOPES = (
    "https://www.googleapis.com/auth/userinfo.email",
    "https://www.googleapis.com/auth/gerritcodereview",
)
_TIMEOUT = 10.0  # seconds
_MAX_BYTES = 1 << 20


def sessions(*, authenticated: bool, scopes: Sequence[str] = _SCOPES) -> Callable[[], requests.Session]:
    """Return a function that gives each thread its session; with OAuth as the service account if ``authenticated``.

    ``scopes`` are those of Buildbucket and Gitiles if not given.
    """
    local = threading.local()

    def session() -> requests.Session:
        if not hasattr(local, "session"):
            local.session = _authenticated(scopes) if authenticated else requests.Session()
            local.session.trust_env = False
        return local.session  # type: ignore[no-any-return]

    return session


def _authenticated(scopes: Sequence[str]) -> requests.Session:
    import google.auth  # noqa: PLC0415 - looks for credentials: only when a call is to be made
    from google.auth.transport.requests import AuthorizedSession  # noqa: PLC0415

    credentials, _ = google.auth.default(scopes=scopes)
    session: requests.Session = AuthorizedSession(credentials)  # type: ignore[no-untyped-call]
    return session


def fetch(url: str) -> bytes:
    """Fetch a small public document.

    Raises:
        OSError: no answer, an error, or too large a body.
    """
    with requests.Session() as session:
        session.trust_env = False
        answer = session.get(url, timeout=_TIMEOUT)
        answer.raise_for_status()
        if len(answer.content) > _MAX_BYTES:
            raise OSError(f"{url} is larger than {_MAX_BYTES} bytes")
        return answer.content
