"""The GitHub server of the local cloud."""

from __future__ import annotations

import random
from pathlib import Path

from emulator.clock import Clock, RealClock
from emulator.github.app import GitHubApp
from emulator.github.deliveries import Deliveries, Delivery, Webhook
from emulator.github.faults import GitHubFaults
from emulator.github.limits import Meter
from emulator.github.service import GitHubService
from emulator.github.state import GitHubRequest, GitHubState, GitHubSurroundings
from emulator.github.statuses import Statuses
from emulator.gitiles.refs import Push
from emulator.serving.emulated_server import EmulatedServer

__all__ = ["GitHubServer"]


class GitHubServer(EmulatedServer[GitHubFaults, GitHubRequest]):
    """GitHub over HTTP for the git repositories of one host below a folder.

    Each request reads the repositories again.

    ``<url>/repos/<owner>/<name>/...`` is the REST API over ``repositories/github.com/<owner>/<name>``, so `url` is the
    ``api`` of the commit host. ``git clone``, ``git fetch`` and ``git push`` work with `clone_url`. A repository that
    is a symbolic link belongs to its user, and is read only. ``<url>/<owner>/<name>`` is a page for people.

    The case of owner and name does not count. With ``strict_auth``, requests of the API need a token.

    Args:
        repositories: the folder, with a folder for each host; the Gitiles server may share it.
        host: the address to listen on.
        port: the port; 0 picks a free one.
        site: the host whose repositories are served.
        clock: the server's time, for rate limits, tokens and statuses.
        entropy: makes tokens and IDs.
    """

    def __init__(
        self,
        repositories: Path,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        site: str = "github.com",
        clock: Clock | None = None,
        entropy: random.Random | None = None,
    ) -> None:
        entropy = entropy or random.Random()  # noqa: S311 - local tokens open nothing
        self._own = GitHubState(clock=clock or RealClock(), entropy=entropy)
        self.service = GitHubService(repositories, site, self._own)
        super().__init__(GitHubApp(self.service), self._own, host, port)

    def start(self) -> None:
        """Serve requests and send webhooks. Connections are accepted when this returns."""
        super().start()
        self._own.deliveries.start()

    def stop(self) -> None:
        """Stop serving and sending; a no-op if the server does not run."""
        super().stop()
        self._own.deliveries.stop()

    @property
    def around(self) -> GitHubSurroundings:
        """The local cloud around the server; its members may be set while the server runs."""
        return self._own.around

    @property
    def webhook(self) -> Webhook | None:
        """The webhook of all repositories; it may be set while the server runs."""
        return self._own.deliveries.webhook

    @webhook.setter
    def webhook(self, value: Webhook | None) -> None:
        self._own.deliveries.webhook = value

    @property
    def deliveries(self) -> Deliveries:
        """The webhooks that were sent, with their outcomes."""
        return self._own.deliveries

    @property
    def statuses(self) -> Statuses:
        """The commit statuses that clients have set."""
        return self._own.statuses

    @property
    def meter(self) -> Meter:
        """The usage of the rate limits, and the limits."""
        return self._own.meter

    def clone_url(self, name: str) -> str:
        """Return the address of ``owner/name`` for ``git clone`` and ``git push``."""
        return f"{self.url}/{name}.git"

    def announce(self, push: Push) -> list[Delivery]:
        """Send the webhooks of a push that another server has taken, and return them.

        A push to this server needs no call.
        """
        return self.service.send_push(push)

    def ping(self) -> None:
        """Send the event that GitHub sends when a webhook is made."""
        self.service.send_ping()

    def rename(self, old: str, new: str) -> None:
        """Rename a repository (``owner/name``): its folder moves, and requests under the old name are redirected.

        Raises:
            ValueError: there is no repository of the old name, or the new name is taken or not allowed.
        """
        self.service.rename(old, new)

    def hold_refs(self, name: str, times: int | None = None) -> None:
        """Let the API show the present refs of ``owner/name`` for the next ``times`` requests; None: until faults end.

        The other calls know later commits already.
        """
        self.service.hold_refs(name, times)
