"""The functions inside this process, on a store in memory: for machines without Java, and for time that runs faster."""

from __future__ import annotations

import signal
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import functions_framework
import structlog

from emulator.clock import Clock
from emulator.errors import LocalCloudError
from emulator.memory.store import MemoryStore
from emulator.processes import Output
from emulator.serving.local_server import LocalServer
from emulator.supervisor import FUNCTIONS, SOURCE
from emulator.tcp_ports import HOST, require_free
from luci_scheduler import bootstrap
from luci_scheduler.adapters.cloud_tasks import CloudTasksQueue, make_client
from luci_scheduler.adapters.http import fetch, sessions
from luci_scheduler.adapters.identity import OidcVerifier
from luci_scheduler.adapters.system import SystemEntropy
from luci_scheduler.core.instants import Instant
from luci_scheduler.settings import Settings, read_settings

__all__ = ["InProcessFunction", "MemoryHost"]

_one_at_a_time = threading.Lock()


class InProcessFunction:
    """One function, served by the functions framework from threads of this process."""

    def __init__(self, name: str, output: Output, port: int = 0) -> None:
        self.name = name
        self.output = output
        self.port = require_free(port, f"the function {name}")
        self.url = f"http://{HOST}:{self.port}"
        self.starts = 0
        self.restarts = 0
        self.pid = None
        self._server: LocalServer | None = None

    def start(self) -> None:
        """Serve; when this returns connections are accepted.

        Raises:
            LocalCloudError: the port is in use.
        """
        signature = FUNCTIONS[self.name]
        app = functions_framework.create_app(self.name, str(SOURCE), signature)  # type: ignore[no-untyped-call]
        self._server = LocalServer(app, HOST, self.port)
        try:
            self._server.start()
        except OSError as error:
            raise LocalCloudError(f"the function {self.name} does not start: {error}") from error
        self.starts = 1

    def wait_until_ready(self) -> None:
        """Return at once: it serves since it was started."""

    def kill(self, number: signal.Signals = signal.SIGKILL) -> None:  # noqa: ARG002 - as that of a process
        """Refuse: it has no process of its own.

        Raises:
            LocalCloudError: always.
        """
        raise LocalCloudError(
            f"{self.name} runs inside the local cloud, which is in memory: only --store emulators has it killed"
        )

    def stop(self) -> None:
        """Serve no more; may be repeated."""
        if self._server is not None:
            self._server.stop()


class _Clock:
    """``ports.Clock`` on the local cloud's."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def now(self) -> Instant:
        return Instant(self._clock.now())

    def sleep(self, nanoseconds: int) -> None:
        until, never = self._clock.now() + nanoseconds, threading.Event()
        while self._clock.now() < until:
            self._clock.wait_until(until, never)


class _LogFile:
    """Gives what is logged to an `Output`, as a file would take it."""

    def __init__(self, output: Output) -> None:
        self._output = output

    def write(self, text: str) -> None:
        for line in text.splitlines():
            self._output.write(line)

    def flush(self) -> None:
        """Do nothing: nothing waits."""


class MemoryHost:
    """What the functions of this process run on: a store in memory, and otherwise the same ports as processes of their own.

    Functions find their ports process-wide, so there is one at a time in a process.
    """

    def __init__(self, clock: Clock, log: Path | None = None) -> None:
        self.output = Output(log)
        self.store = MemoryStore()
        self._clock = _Clock(clock)
        self._settings: Settings | None = None

    def start(self, environment: Mapping[str, str]) -> None:
        """Let functions called in this process run on these ports, under the settings of ``environment``.

        Raises:
            LocalCloudError: there is another one.
        """
        settings = read_settings(environment)
        if not _one_at_a_time.acquire(blocking=False):
            raise LocalCloudError(
                "one process runs one local cloud in memory at a time: stop the other one, or use the emulators"
            )
        self._settings = settings
        structlog.configure(
            processors=[
                structlog.contextvars.merge_contextvars,
                structlog.processors.add_log_level,
                structlog.processors.TimeStamper(fmt="iso", key="time"),
                structlog.processors.format_exc_info,
                structlog.processors.EventRenamer("message"),
                structlog.processors.JSONRenderer(),
            ],
            logger_factory=structlog.WriteLoggerFactory(file=_LogFile(self.output)),  # type: ignore[arg-type]  # has all it needs
            cache_logger_on_first_use=False,
        )
        bootstrap.use(self._make_app(settings))

    def clear(self) -> None:
        """Forget all documents; while it does not run it does nothing."""
        if self._settings is not None:
            self.store = MemoryStore()
            bootstrap.use(self._make_app(self._settings))

    def stop(self) -> None:
        """Give the process back; may be repeated."""
        if self._settings is None:
            return
        self._settings = None
        bootstrap.use(None)
        structlog.reset_defaults()
        _one_at_a_time.release()

    def _make_app(self, settings: Settings) -> bootstrap.App:
        audience = settings.task_audience or settings.task_url
        queue = f"projects/{settings.project}/locations/{settings.location}/queues/{settings.queue}"
        callers = {settings.task_account, *settings.task_callers}
        verifier = OidcVerifier(lambda: fetch(settings.oidc_certs_url), audience, callers, self._clock)
        session = sessions(authenticated=False)
        ports: dict[str, Any] = {
            "store": self.store,
            "queue": CloudTasksQueue(
                make_client(settings.cloud_tasks_endpoint), queue, settings.task_url, settings.task_account, audience
            ),
            "clock": self._clock,
            "entropy": SystemEntropy(),
            "buildbucket": bootstrap.make_buildbucket(settings, session, self._clock),
            "gitiles": bootstrap.make_gitiles(settings, session, self._clock),
            "fetch": bootstrap.make_fetch(settings),
            "verify_caller": verifier.verify,
            "identify": bootstrap.make_identify(settings, self._clock),
        }
        return bootstrap.make_app(settings, **ports)
