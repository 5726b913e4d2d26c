"""The Cloud Tasks server of the local cloud: gRPC service, dispatcher and public keys."""

from __future__ import annotations

import copy
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Literal, Self

import grpc

from emulator.clock import Clock
from emulator.cloud_tasks.delivery import Deliverer
from emulator.cloud_tasks.dispatcher import DeliveryRunner, Dispatcher
from emulator.cloud_tasks.keys_server import KeysServer
from emulator.cloud_tasks.limits import Limits
from emulator.cloud_tasks.model import RateLimits, RetryConfig, Task
from emulator.cloud_tasks.names import check_queue
from emulator.cloud_tasks.oidc import TokenIssuer
from emulator.cloud_tasks.queue import Attempt
from emulator.cloud_tasks.queues import Queues, Stats
from emulator.cloud_tasks.service import CloudTasksService

__all__ = ["CloudTasksServer"]

_RPC_THREADS = 16
# Above the largest task, so that the service refuses a larger task with a clear error, not the transport.
_LARGEST_MESSAGE = 32 * 1024 * 1024


class CloudTasksServer:
    """A local Cloud Tasks for the real client libraries.

    With ``dispatch="auto"`` threads deliver due tasks by the clock. With ``"manual"`` the host delivers one task at a
    time, in any order, through `next_due`, `due` and `dispatch`. Both modes work with any clock, and all methods are
    thread-safe.

    Args:
        clock: The server's time, used for schedule times, backoff, rate limits, tombstones and tokens. The deadline of
            a delivery is measured in real time, because the target runs in real time.
        host: The address to listen on.
        port: The gRPC port; 0 picks a free one.
        keys_port: The port of the public keys; 0 picks a free one.
        dispatch: Whether the server delivers tasks itself.
        workers: The maximum number of concurrent deliveries over all queues (automatic dispatch only).
        limits: The lifetimes of tombstones and the size of the largest task.
        issuer: Signs the tokens; a new one if None.
    """

    def __init__(
        self,
        *,
        clock: Clock,
        host: str = "127.0.0.1",
        port: int = 0,
        keys_port: int = 0,
        dispatch: Literal["auto", "manual"] = "auto",
        workers: int = 64,
        limits: Limits | None = None,
        issuer: TokenIssuer | None = None,
    ) -> None:
        if dispatch not in ("auto", "manual"):
            raise ValueError(f"dispatch is 'auto' or 'manual', not {dispatch!r}")
        self._clock = clock
        self._host = host
        self._port = port
        self._limits = limits or Limits()
        self._queues = Queues(self._limits)
        self._lock = threading.RLock()
        self._issuer = issuer or TokenIssuer()
        self._deliverer = Deliverer(self._issuer)
        self._runner = DeliveryRunner(self._lock, clock, self._deliverer.deliver)
        self._dispatcher: Dispatcher | None = None
        if dispatch == "auto":
            self._dispatcher = Dispatcher(lambda: self._queues, self._lock, clock, self._runner, workers)
        self._keys_port = keys_port
        self._keys: KeysServer | None = None
        self._rpc_threads = ThreadPoolExecutor(_RPC_THREADS, thread_name_prefix="cloud-tasks-rpc")
        self._rpc: grpc.Server | None = None
        self._is_stopped = False

    # Life -----------------------------------------------------------------------------------------------------------

    def start(self) -> Self:
        """Open the ports, start serving, and return the server. A server starts only once.

        Raises:
            OSError: a port is taken.
        """
        if self._rpc is not None:
            raise RuntimeError("a server starts once")
        keys = KeysServer(self._issuer, self._host, self._keys_port)
        keys.start()
        service = CloudTasksService(lambda: self._queues, self._lock, self._clock, self._wake)
        self._rpc = grpc.server(
            self._rpc_threads,
            options=[("grpc.so_reuseport", 0), ("grpc.max_receive_message_length", _LARGEST_MESSAGE)],
        )
        self._rpc.add_generic_rpc_handlers((service.handlers(),))
        try:
            self._port = self._rpc.add_insecure_port(f"{self._host}:{self._port}")
        except RuntimeError as error:
            keys.stop()
            raise OSError(f"cannot listen on {self._host}:{self._port}") from error
        self._rpc.start()
        self._keys = keys
        if self._dispatcher is not None:
            self._dispatcher.start()
        return self

    def stop(self) -> None:
        """Stop at once: cut running deliveries, end all threads and release the ports. Idempotent."""
        if self._is_stopped or self._rpc is None or self._keys is None:
            return
        self._is_stopped = True
        self._rpc.stop(None).wait()
        self._rpc_threads.shutdown(wait=True)
        if self._dispatcher is not None:
            self._dispatcher.stop_taking()
        self._deliverer.cut()
        if self._dispatcher is not None:
            self._dispatcher.join()
        self._deliverer.close()
        self._keys.stop()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def grpc_address(self) -> str:
        """``host:port`` of the service, for a client with an insecure channel."""
        return f"{self._host}:{self._port}"

    @property
    def issuer(self) -> TokenIssuer:
        """Signs the tokens of tasks."""
        return self._issuer

    @property
    def certs_url(self) -> str:
        """The URL of the public keys as certificates by key ID, the ``certs_url`` of ``google.oauth2.id_token``."""
        return f"{self._keys_address()}/oauth2/v1/certs"

    @property
    def jwks_url(self) -> str:
        """The URL of the public keys as a JWK set."""
        return f"{self._keys_address()}/oauth2/v3/certs"

    # State ----------------------------------------------------------------------------------------------------------

    def create_queue(
        self, name: str, rate_limits: RateLimits | None = None, retry_config: RetryConfig | None = None
    ) -> str:
        """Create a queue and return its name, ``projects/P/locations/L/queues/Q``.

        Raises:
            TasksError: the name is malformed, in use, or was in use recently.
        """
        check_queue("name", name)
        with self._lock:
            self._queues.create_queue(
                name, rate_limits or RateLimits(), retry_config or RetryConfig(), self._clock.now()
            )
        return name

    def stats(self) -> Stats:
        """Return the counts since the start or the last reset."""
        with self._lock:
            return self._queues.stats()

    def reset(self) -> None:
        """Remove all queues, tasks, names and counts. Running deliveries end, and their results are ignored."""
        with self._lock:
            self._queues = Queues(self._limits)
            self._wake()

    # Manual dispatch ------------------------------------------------------------------------------------------------

    def due(self, now: int | None = None) -> list[Task]:
        """Return copies of the tasks that are due at ``now`` (by default the clock's), earliest first.

        Tasks of a queue that is paused, or held after a 429 or 503, are due only after a RunTask request. A task with a
        running attempt is not due. The host is responsible for rate and concurrency limits.
        """
        with self._lock:
            tasks = self._queues.due(self._clock.now() if now is None else now)
            return [copy.deepcopy(task) for task in tasks]

    def waiting(self) -> list[Task]:
        """Return copies of all tasks without a running attempt, due or not, earliest first.

        Tasks of one queue with the same schedule time are in the order of their creation.
        """
        with self._lock:
            return [copy.deepcopy(task) for task in self._queues.waiting()]

    def next_due(self) -> int | None:
        """Return the instant at which the first task is due, possibly in the past.

        None means that no task will be due by itself.
        """
        with self._lock:
            return self._queues.next_due()

    def dispatch(self, task_name: str, *, lose_answer: bool = False) -> int:
        """Deliver a task now, regardless of its time and its queue's state, and return the HTTP status.

        It blocks until the target responds. Afterwards the task is done, waits for its retry, or is dropped, as after
        any delivery. A status of 0 means that the target could not be reached; 504 may also mean that it did not
        respond in time.

        Args:
            task_name: The full name.
            lose_answer: Record a lost response instead, so that an executed task is delivered again.

        Raises:
            NotFoundError: the task does not exist, or no longer exists.
        """
        with self._lock:
            queues = self._queues
            attempt: Attempt = queues.begin(task_name, self._clock.now())
        status = self._runner.run(queues, attempt, lose_answer=lose_answer).status
        self._wake()
        return status

    def _keys_address(self) -> str:
        if self._keys is None:
            raise RuntimeError("the server has not been started")
        return self._keys.address

    def _wake(self) -> None:
        if self._dispatcher is not None:
            self._dispatcher.wake()
