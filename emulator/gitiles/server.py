"""The Gitiles server of the local cloud."""

from __future__ import annotations

from pathlib import Path

from emulator.gitiles.app import GitilesApp
from emulator.gitiles.errors import ErrorForm
from emulator.gitiles.faults import GitilesFaults, RequestRecord
from emulator.serving.local_server import LocalServer

__all__ = ["GitilesServer"]


class GitilesServer:
    """Gitiles over HTTP for the git repositories below a folder; they are read anew for every request.

    ``<url>/<repository>/+log/...`` serves ``root/<repository>`` (or ``<repository>.git``; bare or not, names may be nested), and
    ``<url>/h/<host>/<repository>/+log/...`` serves ``root/<host>/<repository>``, so that one server can stand for several hosts. Either
    may have ``/a`` before the repository.

    Args:
        root: the folder.
        host: the address to listen on.
        port: the port; 0 picks a free one.
        zones: show each time in its own zone (``... 2026 +0100``); otherwise in UTC without a suffix, as the hosted service mostly does.
        errors: ``hosted`` for the hosted service's texts, ``open`` for open Gitiles' pages with ``X-Gitiles-Error``.
    """

    def __init__(
        self, root: Path, host: str = "127.0.0.1", port: int = 0, *, zones: bool = False, errors: ErrorForm = "hosted"
    ) -> None:
        self._app = GitilesApp(root, zones=zones, errors=errors)
        self._http = LocalServer(self._app, host, port)

    def start(self) -> None:
        """Listen; when this returns requests are served."""
        self._app.stopping.clear()
        self._http.start()

    def stop(self) -> None:
        """Stop listening; harmless when it does not run."""
        self._app.stopping.set()
        self._http.stop()

    @property
    def url(self) -> str:
        """``http://host:port``; known once started."""
        return self._http.url

    def url_of(self, host: str) -> str:
        """Return the base URL that stands for ``https://<host>``."""
        return f"{self.url}/h/{host}"

    @property
    def faults(self) -> GitilesFaults:
        """The faults, and the commits that are hidden."""
        return self._app.faults

    @property
    def requests(self) -> list[RequestRecord]:
        """The requests so far (the last 10,000), oldest first; those below ``/control/`` are not among them."""
        return self._app.faults.records()

    def clear_requests(self) -> None:
        """Forget the requests so far."""
        self._app.faults.clear_records()

    @property
    def zones(self) -> bool:
        """Whether times are shown in their own zones."""
        return self._app.zones

    @zones.setter
    def zones(self, value: bool) -> None:
        self._app.zones = value

    @property
    def strict_auth(self) -> bool:
        """Whether requests below ``/a`` without a ``Bearer fake:...`` token are refused with 401."""
        return self._app.strict_auth

    @strict_auth.setter
    def strict_auth(self, value: bool) -> None:
        self._app.strict_auth = value
