"""Common base of the emulated HTTP services: lifecycle, address, faults, request log, authentication."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from emulator.serving.faults import Faults
from emulator.serving.local_server import LocalServer
from emulator.serving.request_log import RequestLog

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

__all__ = ["EmulatedServer", "ServerState"]

FaultsT = TypeVar("FaultsT", bound=Faults[Any])
RecordT = TypeVar("RecordT")


@dataclass(slots=True)
class ServerState(Generic[FaultsT, RecordT]):
    """The state of a server that tests read and change. The application, its control endpoint and the server share it.

    Attributes:
        faults: the active faults.
        log: the requests so far, without those below ``/control/``.
        strict_auth: whether the service refuses calls without a ``Bearer fake:...`` token.
        stopping: set while the server stops, so that delayed responses end early.
    """

    faults: FaultsT
    log: RequestLog[RecordT] = field(default_factory=RequestLog)
    strict_auth: bool = False
    stopping: threading.Event = field(default_factory=threading.Event)


class EmulatedServer(Generic[FaultsT, RecordT]):
    """Serves the application of an emulated service, and gives access to its state."""

    def __init__(self, app: WSGIApplication, state: ServerState[FaultsT, RecordT], host: str, port: int) -> None:
        self._state = state
        self._http = LocalServer(app, host, port)

    def start(self) -> None:
        """Serve requests. Connections are accepted when this returns."""
        self._state.stopping.clear()
        self._http.start()

    def stop(self) -> None:
        """Stop serving; a no-op if the server does not run."""
        self._state.stopping.set()
        self._http.stop()

    @property
    def url(self) -> str:
        """``http://host:port``, known once the server was started."""
        return self._http.url

    @property
    def host(self) -> str:
        """``host:port``, known once the server was started."""
        return self._http.netloc

    @property
    def faults(self) -> FaultsT:
        """The faults of the service."""
        return self._state.faults

    @property
    def requests(self) -> list[RecordT]:
        """The latest 10,000 requests, oldest first, without those below ``/control/``."""
        return self._state.log.all()

    def clear_requests(self) -> None:
        """Clear the request log."""
        self._state.log.clear()

    @property
    def strict_auth(self) -> bool:
        """Whether the service refuses calls without a ``Bearer fake:...`` token."""
        return self._state.strict_auth

    @strict_auth.setter
    def strict_auth(self, value: bool) -> None:
        self._state.strict_auth = value
