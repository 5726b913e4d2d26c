"""The functions inside this process, on ports in memory: for machines without Java, and for time that runs faster."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import functions_framework
import structlog

from emulator.buildbucket.serving import LocalServer
from emulator.children import Output
from emulator.clock import Clock
from emulator.errors import LocalCloudError
from emulator.memory.store import MemoryStore
from emulator.ports import HOST
from emulator.supervisor import FunctionSpec
from luci_scheduler import bootstrap
from luci_scheduler.adapters.cloud_tasks import CloudTasksQueue, make_client
from luci_scheduler.adapters.http import fetch, sessions
from luci_scheduler.adapters.identity import OidcVerifier
from luci_scheduler.adapters.sources import SystemChance
from luci_scheduler.config.settings import Settings, read_settings
from luci_scheduler.core.instants import Instant

__all__ = ["InProcessFunctions"]

_one_at_a_time = threading.Lock()


class _Clock:
    """``ports.Clock`` on the local cloud's."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def now(self) -> Instant:
        return Instant(self._clock.now())


class _LogFile:
    """Gives what is logged to an `Output`, as a file would take it."""

    def __init__(self, output: Output) -> None:
        self._output = output

    def write(self, text: str) -> None:
        for line in text.splitlines():
            self._output.write(line)

    def flush(self) -> None:
        """Nothing waits."""


class InProcessFunctions:
    """Serves the functions by the functions framework from threads of this process; their documents are in memory.

    The functions find their ports process-wide, so there is one at a time in a process.

    Args:
        functions: which, each with its port.
        source: the file with the entry points.
        environment: the settings, as the processes would find them in their environment.
        clock: what time it is for the functions.
        log: a file to append what they log to.
    """

    def __init__(
        self,
        functions: Sequence[tuple[FunctionSpec, int]],
        source: Path,
        environment: Mapping[str, str],
        *,
        clock: Clock,
        log: Path | None = None,
    ) -> None:
        self.output = Output(log)
        self.store = MemoryStore()
        self._functions = functions
        self._source = source
        self._settings = read_settings(environment)
        self._clock = _Clock(clock)
        self._servers: list[LocalServer] = []
        self._is_running = False

    def start(self) -> None:
        """Serve; when this returns connections are accepted.

        Raises:
            LocalCloudError: the functions of another local cloud run in this process, or a port is in use.
        """
        if not _one_at_a_time.acquire(blocking=False):
            raise LocalCloudError("one process runs one local cloud in memory at a time: stop the other, or use --store emulators")
        self._is_running = True
        structlog.configure(
            processors=[
                structlog.contextvars.merge_contextvars,
                structlog.processors.add_log_level,
                structlog.processors.TimeStamper(fmt="iso", key="time"),
                structlog.processors.format_exc_info,
                structlog.processors.JSONRenderer(),
            ],
            logger_factory=structlog.WriteLoggerFactory(file=_LogFile(self.output)),  # type: ignore[arg-type]  # all it needs
            cache_logger_on_first_use=False,
        )
        bootstrap.use(self._make_app(self._settings))
        for spec, port in self._functions:
            app = functions_framework.create_app(spec.name, str(self._source), spec.signature_type)  # type: ignore[no-untyped-call]
            server = LocalServer(app, HOST, port)
            server.start()
            self._servers.append(server)

    def clear(self) -> None:
        """Forget all documents."""
        self.store = MemoryStore()
        bootstrap.use(self._make_app(self._settings))

    def stop(self) -> None:
        """Serve no more; may be repeated."""
        if not self._is_running:
            return
        self._is_running = False
        for server in self._servers:
            server.stop()
        bootstrap.use(None)
        structlog.reset_defaults()
        _one_at_a_time.release()

    def _make_app(self, settings: Settings) -> bootstrap.App:
        audience = settings.task_audience or settings.task_url
        queue = f"projects/{settings.project}/locations/{settings.location}/queues/{settings.queue}"
        callers = {settings.task_account, *settings.task_callers}
        verifier = OidcVerifier(lambda: fetch(settings.oidc_certs_url), audience, callers, self._clock)
        ports: dict[str, Any] = {
            "store": self.store,
            "queue": CloudTasksQueue(
                make_client(settings.cloud_tasks_endpoint), queue, settings.task_url, settings.task_account, audience
            ),
            "clock": self._clock,
            "chance": SystemChance(),
            "buildbucket": bootstrap.make_buildbucket(settings, sessions(authenticated=False)),
            "verify_caller": verifier.verify,
        }
        return bootstrap.make_app(settings, **ports)
