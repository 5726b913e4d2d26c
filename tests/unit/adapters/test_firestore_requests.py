"""Requests to Firestore on the wire: preconditions, fields and sizes of every write, and the fields of reads."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import grpc
import pytest
from google.cloud import firestore
from google.cloud.firestore_v1.types import (
    BatchGetDocumentsRequest,
    CommitRequest,
    CommitResponse,
    GetDocumentRequest,
    WriteResult,
)
from google.protobuf.timestamp_pb2 import Timestamp

from luci_scheduler.adapters.documents import ReadVersion
from luci_scheduler.adapters.firestore import FirestoreStore
from luci_scheduler.core.deferred import Deferred
from luci_scheduler.core.errors import PermanentError
from luci_scheduler.core.identifiers import InvocationId, JobId
from luci_scheduler.core.instants import DAY, SECOND, Instant
from luci_scheduler.core.invocation import Invocation, Status
from luci_scheduler.core.job import Job, JobDefinition, TaskDefinition
from luci_scheduler.core.poller_record import PollerRecord
from luci_scheduler.core.project_record import ProjectRecord
from luci_scheduler.core.sizes import MAX_DOCUMENT_BYTES
from luci_scheduler.core.trigger import Trigger
from luci_scheduler.core.trigger_record import TriggerRecord
from luci_scheduler.ports import (
    CreateInvocation,
    CreateTrigger,
    DeleteDeferred,
    PutDeferred,
    PutJob,
    PutPaused,
    PutPoller,
    PutProject,
    PutWatchers,
    UpdateInvocation,
    UpdateTrigger,
    Write,
)

JOB = JobId("proj/job")
NOW = Instant(1_772_366_400 * SECOND)
READ_AT = ReadVersion(Timestamp(seconds=1_772_366_000, nanos=7))
INVOCATION = Invocation(InvocationId(7), JOB, NOW, TaskDefinition("noop"))
RECORD = TriggerRecord(JOB, Trigger("t", NOW, "webui"))
JOB_RECORD = Job(JOB, JobDefinition(TaskDefinition("noop")))
WORK = Deferred("abort-1", "abort", {}, NOW, NOW, Instant(NOW + DAY))
POLLER = PollerRecord(JOB, "https://r.googlesource.com/repo")

CREATIONS: dict[str, Write] = {
    "invocation": CreateInvocation(INVOCATION, "line\n"),
    "trigger": CreateTrigger(RECORD),
    "job": PutJob(JOB_RECORD, None),
    "project": PutProject(ProjectRecord("proj"), None),
    "poller": PutPoller(POLLER, None),
    "deferred": PutDeferred(WORK, None),
}
CHANGES: dict[str, Write] = {
    "invocation": UpdateInvocation(INVOCATION, READ_AT, "line\n"),
    "invocation with its whole log": UpdateInvocation(INVOCATION, READ_AT, "line\n", replaces_log=True),
    "invocation without lines": UpdateInvocation(INVOCATION, READ_AT),
    "trigger": UpdateTrigger(RECORD, READ_AT),
    "job": PutJob(JOB_RECORD, READ_AT, "log"),
    "project": PutProject(ProjectRecord("proj"), READ_AT),
    "poller": PutPoller(POLLER, READ_AT),
    "deferred": PutDeferred(WORK, READ_AT),
    "end of deferred": DeleteDeferred(WORK.id, READ_AT),
}
MERGES: dict[str, tuple[Write, set[str]]] = {
    "watchers": (PutWatchers("https://r.googlesource.com/repo", "proj", ()), {"schema", "watchers"}),
    "pause": (PutPaused("https://r.googlesource.com/repo", JOB, paused=True), {"paused.`proj/job`"}),
}


class Recording(grpc.GenericRpcHandler):
    """A Firestore that accepts every commit, has no documents, and keeps the requests."""

    def __init__(self) -> None:
        self.commits: list[CommitRequest] = []
        self.reads: list[BatchGetDocumentsRequest | GetDocumentRequest] = []

    def service(self, call: Any) -> Any:
        """Answer a commit or a read of documents."""
        if call.method.endswith("/Commit"):
            return grpc.unary_unary_rpc_method_handler(
                self._commit, CommitRequest.deserialize, CommitResponse.serialize
            )
        if call.method.endswith("/GetDocument"):
            return grpc.unary_unary_rpc_method_handler(self._refuse, GetDocumentRequest.deserialize)
        return grpc.unary_stream_rpc_method_handler(self._read, BatchGetDocumentsRequest.deserialize)

    def _commit(self, request: CommitRequest, _: Any) -> CommitResponse:
        self.commits.append(request)
        return CommitResponse(write_results=[WriteResult(update_time=Timestamp(seconds=1))] * len(request.writes))

    def _read(self, request: BatchGetDocumentsRequest, context: Any) -> Iterator[bytes]:
        self._refuse(request, context)
        yield b""

    def _refuse(self, request: BatchGetDocumentsRequest | GetDocumentRequest, context: Any) -> None:
        self.reads.append(request)
        context.abort(grpc.StatusCode.INVALID_ARGUMENT, "no documents here")


@pytest.fixture(scope="module")
def server() -> Iterator[tuple[Recording, str]]:
    """The recording server and its address on loopback."""
    recording = Recording()
    server = grpc.server(ThreadPoolExecutor(2), handlers=(recording,))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield recording, f"127.0.0.1:{port}"
    server.stop(None).wait()


@pytest.fixture
def recording(server: tuple[Recording, str]) -> Recording:
    """The recording server, without requests."""
    server[0].commits.clear()
    server[0].reads.clear()
    return server[0]


@pytest.fixture
def store(server: tuple[Recording, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[FirestoreStore]:
    """A store on the recording server."""
    monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", server[1])
    client = firestore.Client(project="p")
    yield FirestoreStore(client)
    client.close()


def _written(store: FirestoreStore, recording: Recording, write: Write) -> Any:
    store.commit([write])
    (commit,) = recording.commits
    return commit.writes[0]


@pytest.mark.parametrize("name", CREATIONS)
def test_a_creation_requires_that_no_document_exists(store: FirestoreStore, recording: Recording, name: str) -> None:
    """Otherwise two handlers could create a document, and the second would erase the work of the first."""
    written = _written(store, recording, CREATIONS[name])
    assert written._pb.current_document.WhichOneof("condition_type") == "exists"
    assert written.current_document.exists is False


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_requires_the_version_that_was_read(store: FirestoreStore, recording: Recording, name: str) -> None:
    """Otherwise a handler would overwrite the change of another."""
    written = _written(store, recording, CHANGES[name])
    assert written._pb.current_document.update_time == READ_AT.at


@pytest.mark.parametrize("name", MERGES)
def test_watchers_and_pause_marks_share_a_document(store: FirestoreStore, recording: Recording, name: str) -> None:
    """Each write names its own fields, and leaves those of the other alone."""
    write, fields = MERGES[name]
    written = _written(store, recording, write)
    assert set(written.update_mask.field_paths) == fields


def test_equal_lines_of_two_commits_are_two_chunks(store: FirestoreStore, recording: Recording) -> None:
    """An array in Firestore takes an equal element only once, so each commit numbers its chunk."""
    chunks = []
    for commits in (1, 2):
        update = UpdateInvocation(replace(INVOCATION, commits=commits), READ_AT, "again\n")
        store.commit([update])
        (transform,) = recording.commits[-1].writes[0].update_transforms
        assert transform.field_path == "log"
        (chunk,) = transform._pb.append_missing_elements.values
        chunks.append(chunk.SerializeToString())
    assert chunks[0] != chunks[1]


def test_the_store_deletes_an_invocation_at_its_expiry(store: FirestoreStore, recording: Recording) -> None:
    """The TTL policy reads the field ``expire_at``; an invocation that runs has none."""
    ended = replace(INVOCATION, status=Status.SUCCEEDED, finished=NOW, expires=Instant(NOW + 90 * DAY))
    expiries = []
    for invocation in (INVOCATION, ended):
        store.commit([UpdateInvocation(invocation, READ_AT)])
        field = recording.commits[-1].writes[0]._pb.update.fields["expire_at"]
        expiries.append(field.timestamp_value.seconds if field.WhichOneof("value_type") == "timestamp_value" else None)
    assert expiries == [None, (NOW + 90 * DAY) // SECOND]


def test_a_document_that_is_too_large_is_not_sent(store: FirestoreStore, recording: Recording) -> None:
    """Firestore would refuse it with a text that names no document."""
    work = replace(WORK, payload={"text": "x" * MAX_DOCUMENT_BYTES})
    with pytest.raises(PermanentError, match=rf"deferred/abort-1 .* bytes, .* {MAX_DOCUMENT_BYTES}"):
        store.commit([PutDeferred(work, READ_AT)])
    large = Trigger("large", NOW, "webui", {"text": "x" * MAX_DOCUMENT_BYTES})
    invocation = replace(INVOCATION, outgoing_triggers=(large,))
    with pytest.raises(PermanentError, match="bytes"):
        store.commit([UpdateInvocation(invocation, READ_AT)])
    assert recording.commits == []


@pytest.mark.parametrize("read", ["invocation", "invocations_by_id"])
def test_a_step_does_not_read_the_debug_log(store: FirestoreStore, recording: Recording, read: str) -> None:
    """The field mask leaves the log on the server, so that a step costs the same however long the log is."""
    arguments = ([(JOB, INVOCATION.id)],) if read == "invocations_by_id" else (JOB, INVOCATION.id)
    with pytest.raises(PermanentError, match="no documents here"):
        getattr(store, read)(*arguments)
    (request,) = recording.reads
    assert set(request.mask.field_paths) == {"schema", "definition", "state", "next_due", "expire_at"}
