"""Firestore's refusals on the wire: which of them mean a lost race, and how often a request is sent."""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import grpc
import pytest
from google.cloud import firestore
from google.protobuf.timestamp_pb2 import Timestamp

from luci_scheduler.adapters.documents import ReadVersion
from luci_scheduler.adapters.firestore import FirestoreStore
from luci_scheduler.core.errors import PermanentError, SchedulerError, StoreConflictError, TransientError
from luci_scheduler.core.identifiers import InvocationId, JobId
from luci_scheduler.core.instants import Instant
from luci_scheduler.core.trigger import Trigger
from luci_scheduler.core.trigger_record import TriggerRecord
from luci_scheduler.ports import CreateTrigger, JobList, UpdateTrigger, Write

JOB = JobId("proj/job")
ARGUMENTS: dict[str, Any] = {
    "repo": "https://r.googlesource.com/repo",
    "job_ids": [JOB],
    "job_id": JOB,
    "invocation_id": InvocationId(7),
    "before": Instant(10),
    "limit": 3,
    "wanted": JobList("proj"),
}
"""Values for the parameters of the reads, by name; other parameters get a short text."""
KEYS: dict[str, Any] = {"invocations_by_id": [(JOB, InvocationId(7))], "triggers": [(JOB, "t")]}
READS = [
    name for name, _ in inspect.getmembers(FirestoreStore, inspect.isfunction) if name[0] != "_" and name != "commit"
]
RECORD = TriggerRecord(JOB, Trigger("t", Instant(1), "webui"))
WRITES: dict[str, Write] = {
    "create": CreateTrigger(RECORD),
    "update": UpdateTrigger(RECORD, ReadVersion(Timestamp(seconds=int(datetime(2026, 3, 1, tzinfo=UTC).timestamp())))),
}


class Refusing(grpc.GenericRpcHandler):
    """A Firestore that answers every request with the same status, and counts the requests."""

    def __init__(self) -> None:
        self.code = grpc.StatusCode.UNKNOWN
        self.requests: Counter[str] = Counter()

    def service(self, call: Any) -> Any:
        """Refuse a request of any method. Replies to reads are streams, replies to commits are not."""
        name = call.method.rpartition("/")[2]
        if name == "Commit":
            return grpc.unary_unary_rpc_method_handler(lambda _, context: self._refuse(name, context))
        return grpc.unary_stream_rpc_method_handler(lambda _, context: iter([self._refuse(name, context)]))

    def _refuse(self, name: str, context: Any) -> bytes:
        self.requests[name] += 1
        # No client retries after DATA_LOSS, so a test of a client that retries fails soon.
        code = self.code if self.requests[name] == 1 else grpc.StatusCode.DATA_LOSS
        context.abort(code, f"refused: {code.name}")
        raise AssertionError("abort raises")


@pytest.fixture(scope="module")
def server() -> Iterator[tuple[Refusing, str]]:
    """The refusing server and its address on loopback."""
    refusing = Refusing()
    server = grpc.server(ThreadPoolExecutor(4), handlers=(refusing,))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield refusing, f"127.0.0.1:{port}"
    server.stop(None).wait()


@pytest.fixture
def refusing(server: tuple[Refusing, str]) -> Refusing:
    """The refusing server, with its count at zero."""
    server[0].requests.clear()
    return server[0]


@pytest.fixture
def store(server: tuple[Refusing, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[FirestoreStore]:
    """A store on the refusing server."""
    monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", server[1])
    client = firestore.Client(project="p")
    yield FirestoreStore(client)
    client.close()


AT_A_COMMIT: dict[grpc.StatusCode, type[SchedulerError]] = {
    grpc.StatusCode.ABORTED: StoreConflictError,
    grpc.StatusCode.ALREADY_EXISTS: StoreConflictError,
    grpc.StatusCode.FAILED_PRECONDITION: StoreConflictError,
    grpc.StatusCode.NOT_FOUND: StoreConflictError,
    grpc.StatusCode.INVALID_ARGUMENT: PermanentError,
    grpc.StatusCode.DEADLINE_EXCEEDED: TransientError,
    grpc.StatusCode.INTERNAL: TransientError,
    grpc.StatusCode.PERMISSION_DENIED: TransientError,
    grpc.StatusCode.RESOURCE_EXHAUSTED: TransientError,
    grpc.StatusCode.UNAUTHENTICATED: TransientError,
    grpc.StatusCode.UNAVAILABLE: TransientError,
    grpc.StatusCode.UNKNOWN: TransientError,
}
"""The first four mean that a precondition failed, or that writers contended: the handler reads and decides again."""


@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize("code", AT_A_COMMIT, ids=lambda code: code.name)
def test_a_refused_commit(store: FirestoreStore, refusing: Refusing, code: grpc.StatusCode, write: str) -> None:
    """The client sends a commit once.

    After a landed first one, a second would be refused, and look like a lost race.
    """
    refusing.code = code
    with pytest.raises(SchedulerError, match=code.name) as raised:
        store.commit([WRITES[write]])
    assert type(raised.value) is AT_A_COMMIT[code]
    assert refusing.requests == {"Commit": 1}


@pytest.mark.parametrize("read", READS)
@pytest.mark.parametrize(
    "code", [code for code, kind in AT_A_COMMIT.items() if kind is StoreConflictError], ids=lambda code: code.name
)
def test_a_refused_read(store: FirestoreStore, refusing: Refusing, code: grpc.StatusCode, read: str) -> None:
    """A read has no precondition: an index or the database is missing, or a retry may help."""
    refusing.code = code
    method = getattr(store, read)
    parameters = [p for p in inspect.signature(method).parameters.values() if p.default is inspect.Parameter.empty]
    arguments = [KEYS[read] if p.name == "keys" else ARGUMENTS.get(p.name, "x") for p in parameters]
    with pytest.raises(SchedulerError, match=code.name) as raised:
        method(*arguments)
    assert type(raised.value) is TransientError
    assert refusing.requests
