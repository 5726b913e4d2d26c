"""The functions inside this process, on a store in memory: for machines without Java, and for time that runs faster."""

from __future__ import annotations

import io
import signal
import threading
from collections.abc import Iterable, Mapping
from contextvars import ContextVar
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import functions_framework
import structlog

from emulator.clock import Clock
from emulator.errors import LocalCloudError
from emulator.front_end.front_end import EVENT_FUNCTIONS
from emulator.memory.store import MemoryStore
from emulator.processes import Output
from emulator.serving.local_server import LocalServer
from emulator.supervisor import ALL_FUNCTIONS, SOURCE
from emulator.tcp_ports import HOST, require_free
from luci_scheduler import process
from luci_scheduler.bootstrap import Ports, make_app
from luci_scheduler.cloud_ports import cloud_ports, make_identify, make_verify_caller, make_verify_push
from luci_scheduler.logs import configure_logging
from luci_scheduler.ports import Headers
from luci_scheduler.settings import Settings
from luci_scheduler.settings_reader import read_settings

__all__ = ["InProcessFunction", "MemoryHost"]

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

_one_at_a_time = threading.Lock()
_serving: ContextVar[str] = ContextVar("serving")
"""The function that the current request has reached."""


class InProcessFunction:
    """A function that the functions framework serves from threads of this process.

    Args:
        name: the entry point.
        output: the log of all functions.
        port: where it listens; 0 picks a free one.
        app: takes the place of the framework's application.
    """

    def __init__(self, name: str, output: Output, port: int = 0, app: WSGIApplication | None = None) -> None:
        self.name = name
        self._app = app
        self.output = output
        self.port = require_free(port, f"the function {name}")
        self.url = f"http://{HOST}:{self.port}"
        self.starts = 0
        self.restarts = 0
        self.pid = None
        self._server: LocalServer | None = None

    def start(self) -> None:
        """Start serving; on return the function accepts connections.

        Raises:
            LocalCloudError: the port is in use.
        """
        signature = ALL_FUNCTIONS[self.name]
        app = self._app or functions_framework.create_app(self.name, str(SOURCE), signature)  # type: ignore[no-untyped-call]
        self._server = LocalServer(_named(self.name, app), HOST, self.port)
        try:
            self._server.start()
        except OSError as error:
            raise LocalCloudError(f"the function {self.name} does not start: {error}") from error
        self.starts = 1

    def wait_until_ready(self) -> None:
        """Return at once: the function serves since `start` returned."""

    def kill(self, number: signal.Signals = signal.SIGKILL) -> None:  # noqa: ARG002 - as that of a process
        """Refuse: the function runs in this process.

        Raises:
            LocalCloudError: always.
        """
        raise LocalCloudError(
            f"{self.name} runs inside the local cloud, in memory; it can be killed only with --store emulators"
        )

    def stop(self) -> None:
        """Stop serving; may be repeated."""
        if self._server is not None:
            self._server.stop()


def _named(name: str, app: WSGIApplication) -> WSGIApplication:
    """Return the application, whose requests know the name of their function."""

    def serve(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        _serving.set(name)
        return app(environ, start_response)

    return serve


class _LogFile(io.StringIO):
    """A text file that passes its lines to an `Output`."""

    def __init__(self, output: Output) -> None:
        super().__init__()
        self._output = output

    def write(self, text: str) -> int:
        for line in text.splitlines():
            self._output.write(line)
        return len(text)


class MemoryHost:
    """The application that the functions of this process share: that of the cloud, but with its documents in memory.

    The functions find their application process-wide, so a process has one host at a time.
    """

    def __init__(self, clock: Clock, log: Path | None = None) -> None:
        self.output = Output(log)
        """The log of all functions."""
        self.store = MemoryStore()
        """The documents; `clear` replaces the store with an empty one."""
        self._clock = clock
        self._settings: Settings | None = None
        self._services: Mapping[str, Mapping[str, str]] = {}

    def start(self, environment: Mapping[str, str], services: Mapping[str, Mapping[str, str]] | None = None) -> None:
        """Serve the functions of this process, under the settings of ``environment``.

        Args:
            environment: the environment of all functions.
            services: function → its environment, for functions that verify their callers by different settings.

        Raises:
            LocalCloudError: another host serves this process.
        """
        settings = read_settings(environment)
        if not _one_at_a_time.acquire(blocking=False):
            raise LocalCloudError(
                "one process runs one local cloud in memory at a time: stop the other one, or use the emulators"
            )
        self._settings, self._services = settings, services or {}
        configure_logging(settings.project, _LogFile(self.output))
        self._serve(settings)

    def clear(self) -> None:
        """Delete all documents; a no-op if the host does not run."""
        if self._settings is not None:
            self.store = MemoryStore()
            self._serve(self._settings)

    def stop(self) -> None:
        """Stop serving; may be repeated."""
        if self._settings is None:
            return
        self._settings = None
        process.use(None)
        structlog.reset_defaults()
        _one_at_a_time.release()

    def _serve(self, settings: Settings) -> None:
        ports = cloud_ports(settings, store=self.store, clock=self._clock)
        app = make_app(settings, self._with_locks(ports) if self._services else ports)
        if self._services:  # the console alone shows the installation, under its own name
            service = read_settings(self._services["console"]).service_name
            app = replace(app, settings=replace(settings, local_service=service))
        process.use(app)

    def _with_locks(self, ports: Ports) -> Ports:
        """Return the ports with the checks of callers that each function has by its own settings."""
        own = {name: read_settings(environment) for name, environment in self._services.items()}
        pushes = {name: make_verify_push(own[name], self._clock) for name in own if name in EVENT_FUNCTIONS}

        def verify_push(headers: Headers) -> str:
            return pushes[_serving.get()](headers)

        return replace(
            ports,
            verify_caller=make_verify_caller(own["on_task"], self._clock),
            verify_push=verify_push,
            identify=make_identify(own["console"], self._clock),
        )
