"""The plain calls of `firestore_wire` send what the library sends, and read its answers as the library does."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, timezone
from enum import StrEnum
from typing import Any

import grpc
import pytest
from google.cloud import firestore
from google.cloud.firestore_v1 import _helpers, types
from google.cloud.firestore_v1.field_path import FieldPath
from google.protobuf.timestamp_pb2 import Timestamp

from luci_scheduler.adapters import firestore_wire
from luci_scheduler.adapters.firestore_wire import Document, Wire

FIELDS: dict[str, Any] = {
    "null": None,
    "yes": True,
    "number": -(2**62),
    "text": "é\n",
    "bytes": b"\x00\xff",
    "when": datetime(2026, 3, 1, 12, tzinfo=UTC),
    "list": [1, "a", {"inner": []}],
    "empty": [],
    "map": {"a/b.c": {"x": False}, "none": {}},
}
AT = Timestamp(seconds=1_700_000_000, nanos=123_456_789)
PATH = "jobs/proj%2Fjob/invocations/8"


class _Recording(grpc.GenericRpcHandler):
    """A Firestore that keeps each request with its headers, and always answers the same."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, bytes, frozenset[tuple[str, Any]]]] = []

    def service(self, call: Any) -> Any:
        method = call.method.rpartition("/")[2]

        def keep(request: bytes, context: Any) -> None:
            headers = frozenset(item for item in context.invocation_metadata() if item[0] != "user-agent")
            self.calls.append((method, request, headers))

        def commit(request: bytes, context: Any) -> bytes:
            keep(request, context)
            count = len(types.CommitRequest.deserialize(request).writes)
            results = [types.WriteResult(update_time=AT)] * count
            return bytes(types.CommitResponse.serialize(types.CommitResponse(write_results=results)))

        def stream(request: bytes, context: Any) -> Iterator[bytes]:
            keep(request, context)
            yield from _ANSWERS[method]()

        def get(request: bytes, context: Any) -> bytes:
            keep(request, context)
            if b"missing" in request:
                context.abort(grpc.StatusCode.NOT_FOUND, "not found")
            (answer,) = _ANSWERS[method]()
            return answer

        if method in ("Commit", "GetDocument"):
            return grpc.unary_unary_rpc_method_handler(commit if method == "Commit" else get)
        return grpc.unary_stream_rpc_method_handler(stream)


def _stored(client: Any, name: str) -> types.Document:
    write = client.batch()
    write.create(client.document(name), FIELDS)
    document: types.Document = write._write_pbs[0].update
    document.update_time = AT
    document.create_time = AT
    return document


_ANSWERS: dict[str, Callable[[], Iterator[bytes]]] = {}


@pytest.fixture(scope="module")
def server() -> Iterator[tuple[_Recording, str]]:
    """The server, and its address on loopback."""
    recording = _Recording()
    with ThreadPoolExecutor(2) as pool:
        server = grpc.server(pool, handlers=(recording,))
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        yield recording, f"127.0.0.1:{port}"
        server.stop(None).wait()


@pytest.fixture
def client(server: tuple[_Recording, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The library's client of a database that is not the default one; it keeps the names of its database."""
    server[0].calls.clear()
    monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", server[1])
    client = firestore.Client(project="p", database="d")
    name = f"{client._database_string}/documents/"
    found, missing = _stored(client, PATH), f"{name}jobs/missing"

    def got() -> Iterator[bytes]:
        for answer in ({"found": found, "read_time": AT}, {"missing": missing, "read_time": AT}):
            yield types.BatchGetDocumentsResponse.serialize(types.BatchGetDocumentsResponse(**answer))

    def queried() -> Iterator[bytes]:
        listed = _stored(client, "repositories/a")
        for answer in ({"document": listed, "read_time": AT}, {"read_time": AT, "skipped_results": 1}):
            yield types.RunQueryResponse.serialize(types.RunQueryResponse(**answer))

    _ANSWERS.update(
        BatchGetDocuments=got, RunQuery=queried, GetDocument=lambda: iter([types.Document.serialize(found)])
    )
    yield client
    client.close()


WRITES: dict[str, tuple[Callable[[Wire], Any], Callable[[Any, Any], Any]]] = {
    "create": (lambda wire: wire.create(PATH, FIELDS), lambda batch, ref: batch.create(ref, FIELDS)),
    "update": (
        lambda wire: wire.update(PATH, FIELDS, AT),
        lambda batch, ref: batch.update(ref, FIELDS, option=firestore.LastUpdateOption(AT)),
    ),
    "append": (
        lambda wire: wire.update(PATH, {"n": 1}, AT, {"log": [{"n": 1, "text": "x"}]}),
        lambda batch, ref: batch.update(
            ref, {"n": 1, "log": firestore.ArrayUnion([{"n": 1, "text": "x"}])}, option=firestore.LastUpdateOption(AT)
        ),
    ),
    "merge": (
        lambda wire: wire.merge(PATH, {"schema": 1, "paused": {"proj/job": True}}),
        lambda batch, ref: batch.set(ref, {"schema": 1, "paused": {"proj/job": True}}, merge=True),
    ),
    "delete": (
        lambda wire: wire.delete(PATH, AT),
        lambda batch, ref: batch.delete(ref, option=firestore.LastUpdateOption(AT)),
    ),
}


@pytest.mark.parametrize("kind", WRITES)
def test_a_commit_is_that_of_the_library(client: Any, server: tuple[_Recording, str], kind: str) -> None:
    """The message, its headers and the versions of the documents are equal."""
    ours, theirs = WRITES[kind]
    wire, batch = Wire(client), client.batch()
    versions = wire.commit([ours(wire)], 10)
    theirs(batch, client.document(PATH))
    results = batch.commit(retry=None, timeout=10)
    (_, own, own_headers), (_, request, headers) = server[0].calls
    assert types.CommitRequest.deserialize(own) == types.CommitRequest.deserialize(request)
    assert own_headers == headers
    assert versions == [result.update_time for result in results]
    assert [version.timestamp_pb() for version in versions] == [AT]


@pytest.mark.parametrize("fields", [None, ("null", "text")])
def test_a_read_is_that_of_the_library(client: Any, server: tuple[_Recording, str], fields: Any) -> None:
    """The message, its headers, the fields and the version are equal; a missing document is left out."""
    (found,) = Wire(client).read([PATH], fields, 10)
    snapshot = client.document(PATH).get(fields, timeout=10)
    (_, own, own_headers), (_, request, headers) = server[0].calls
    assert types.BatchGetDocumentsRequest.deserialize(own) == types.BatchGetDocumentsRequest.deserialize(request)
    assert own_headers == headers
    assert found == Document(PATH, snapshot.to_dict(), snapshot.update_time)
    assert found.fields == FIELDS


def test_a_read_of_one_document_is_that_of_the_library(client: Any, server: tuple[_Recording, str]) -> None:
    """The message, its headers, the fields and the version are equal."""
    found = Wire(client).get(PATH, ("null", "text"), 10)
    name = f"{client._database_string}/documents/{PATH}"
    message = {"name": name, "mask": {"field_paths": ["null", "text"]}}
    client._firestore_api.get_document(request=message, metadata=client._rpc_metadata, timeout=10)
    (method, own, own_headers), (other, request, headers) = server[0].calls
    assert method == other == "GetDocument"
    assert types.GetDocumentRequest.deserialize(own) == types.GetDocumentRequest.deserialize(request)
    assert own_headers == headers
    assert found is not None
    assert (found.path, found.fields, found.update_time.timestamp_pb()) == (PATH, FIELDS, AT)


def test_only_a_read_of_several_proves_that_a_document_is_missing(client: Any, server: tuple[_Recording, str]) -> None:
    """NOT_FOUND is also the answer if the database is missing. A job must not count as removed then."""
    wire = Wire(client)

    def missing() -> Iterator[bytes]:
        answer = types.BatchGetDocumentsResponse(missing="jobs/missing", read_time=AT)
        yield types.BatchGetDocumentsResponse.serialize(answer)

    _ANSWERS["BatchGetDocuments"] = missing
    assert wire.get("jobs/missing", ("text",), 10) is None
    assert [method for method, *_ in server[0].calls] == ["GetDocument", "BatchGetDocuments"]


def test_a_range_is_that_of_the_library(client: Any, server: tuple[_Recording, str]) -> None:
    """The query, its headers and the found documents are equal; an answer without a document is left out."""
    (found,) = Wire(client).range("repositories", "a", "b", 10)
    collection, name = client.collection("repositories"), FieldPath.document_id()
    query = collection.order_by(name).start_at({name: collection.document("a")})
    (snapshot,) = query.end_before({name: collection.document("b")}).stream(timeout=10)
    (_, own, own_headers), (_, request, headers) = server[0].calls
    assert types.RunQueryRequest.deserialize(own) == types.RunQueryRequest.deserialize(request)
    assert own_headers == headers
    assert found == Document("repositories/a", snapshot.to_dict(), snapshot.update_time)


def test_a_timestamp_may_be_of_a_subclass(client: Any) -> None:
    """Programs that freeze time replace ``datetime``."""

    class Frozen(datetime):
        pass

    wire = Wire(client)
    frozen = Frozen(2026, 3, 1, tzinfo=UTC)
    assert wire.create(PATH, {"when": frozen}) == wire.create(PATH, {"when": datetime(2026, 3, 1, tzinfo=UTC)})


class _Name(StrEnum):
    A = "a"


@pytest.mark.parametrize(
    "value",
    [
        datetime(2026, 3, 1, 12, 0, 0, 123_456, tzinfo=UTC),
        datetime(2026, 3, 1, 12, 0, 0, 1, tzinfo=timezone(timedelta(hours=-3, minutes=-30))),
        datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC),
        datetime(2026, 3, 1),  # noqa: DTZ001 - the library takes it as UTC
        _Name.A,
        {_Name.A: [_Name.A, True, 1, 0]},
        -(2**63),
        2**63 - 1,
        "",
        b"",
        [None, [], {}, ""],
        {"`": 2, "a.b": {"\\": {}}},
    ],
)
def test_a_value_is_that_of_the_library(client: Any, value: Any) -> None:
    """Times with and without a zone, subclasses, the largest numbers, empty values, and names that need quotes."""
    wire, batch = Wire(client), client.batch()
    for ours, set_theirs in (
        (wire.create(PATH, {"x": value}), lambda: batch.create(client.document(PATH), {"x": value})),
        (wire.merge(PATH, {"x": value}), lambda: batch.set(client.document(PATH), {"x": value}, merge=True)),
    ):
        set_theirs()
        assert types.Write.wrap(ours) == batch._write_pbs[-1]
    (message,) = wire.create(PATH, {"x": value}).update.fields.values()
    assert firestore_wire._value(message) == _helpers.decode_value(types.Value.wrap(message), client)


@pytest.mark.parametrize("value", [1.5, object(), ("a",), {"a": [{"b": 1j}]}])
def test_a_value_of_another_type_is_an_error(client: Any, value: Any) -> None:
    """A document has no such values. The error names the type."""
    with pytest.raises(TypeError, match=r"cannot hold a value of the type (float|object|tuple|complex)"):
        Wire(client).create(PATH, {"x": value})
