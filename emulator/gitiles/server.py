"""The Gitiles server of the local cloud."""

from __future__ import annotations

from pathlib import Path

from emulator.gitiles.app import GitilesApp
from emulator.gitiles.errors import ErrorForm
from emulator.gitiles.faults import GitilesFaults
from emulator.gitiles.state import GitilesRequest, GitilesState, Surroundings
from emulator.serving.emulated_server import EmulatedServer

__all__ = ["GitilesServer"]


class GitilesServer(EmulatedServer[GitilesFaults, GitilesRequest]):
    """Gitiles over HTTP for the git repositories below a folder. Each request reads the repositories again.

    ``<url>/<repository>/+log/...`` serves ``root/<repository>`` (or ``<repository>.git``; bare or not; names may be
    nested). ``<url>/h/<host>/<repository>/+log/...`` serves ``root/<host>/<repository>``, so that one server can serve
    several hosts. Either form may have ``/a`` before the repository. With `strict_auth`, requests below ``/a`` need
    a token.

    ``git clone``, ``git fetch`` and ``git push`` work with ``<url>/<host>/<repository>``. A repository that is a
    symbolic link belongs to its user, and is read only.

    Args:
        root: the folder.
        host: the address to listen on.
        port: the port; 0 picks a free one.
        zones: whether to show each time in its own zone (``... 2026 +0100``). Otherwise times are in UTC without a
            suffix, as the hosted service mostly shows them.
        errors: ``hosted`` for the hosted service's texts, ``open`` for the pages of open-source Gitiles with
            ``X-Gitiles-Error``.
    """

    def __init__(
        self, root: Path, host: str = "127.0.0.1", port: int = 0, *, zones: bool = False, errors: ErrorForm = "hosted"
    ) -> None:
        self._settings = GitilesState(zones=zones, errors=errors)
        super().__init__(GitilesApp(root, self._settings), self._settings, host, port)

    @property
    def around(self) -> Surroundings:
        """The local cloud around the server; its members may be set while the server runs."""
        return self._settings.around

    def url_of(self, host: str) -> str:
        """Return the base URL that serves ``https://<host>``."""
        return f"{self.url}/h/{host}"

    @property
    def zones(self) -> bool:
        """Whether each time is shown in its own zone."""
        return self._settings.zones

    @zones.setter
    def zones(self, value: bool) -> None:
        self._settings.zones = value
