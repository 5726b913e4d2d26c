"""Firestore's hot calls as plain protobuf messages: read documents by name, list a range of names, and commit.

The library's own methods wrap each message and copy each document several times, which took longer than the rest of a
handler. The calls here send the same messages with the same headers, through the library's channel and with its
credentials. Each call is one attempt, and its timeout covers the whole call. Errors are the library's.

Paths are relative to the database: ``jobs/proj%2Fjob``. Fields are plain values: None, bool, int, str, bytes, datetime,
and lists and dicts of these.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

import grpc
from google.api_core.datetime_helpers import DatetimeWithNanoseconds
from google.api_core.exceptions import GoogleAPICallError, NotFound, from_grpc_error
from google.api_core.gapic_v1.routing_header import to_grpc_metadata
from google.cloud import firestore
from google.cloud.firestore_v1 import types
from google.cloud.firestore_v1.field_path import FieldPath
from google.cloud.firestore_v1.services.firestore.transports.base import DEFAULT_CLIENT_INFO
from google.protobuf.timestamp_pb2 import Timestamp

__all__ = ["Document", "Wire"]

_SERVICE = "/google.firestore.v1.Firestore/"
_BatchGet, _BatchGetAnswer = types.BatchGetDocumentsRequest.pb(), types.BatchGetDocumentsResponse.pb()
_Get, _Document = types.GetDocumentRequest.pb(), types.Document.pb()
_RunQuery, _RunQueryAnswer = types.RunQueryRequest.pb(), types.RunQueryResponse.pb()
_Commit, _CommitAnswer, _Write = types.CommitRequest.pb(), types.CommitResponse.pb(), types.Write.pb()


@dataclass(frozen=True, slots=True)
class Document:
    """A document as read."""

    path: str
    fields: Mapping[str, Any]
    """The requested fields that the document has."""
    update_time: Any
    """The database's version of the document."""


class Wire:
    """The hot calls on the database of a client. Thread-safe. Each call raises ``GoogleAPICallError``."""

    def __init__(self, client: firestore.Client) -> None:
        self._client = client

    def get(self, path: str, fields: Sequence[str], timeout: float) -> Document | None:
        """Read a document that probably exists, in a call that costs a third less of the processor than `read`."""
        end = time.monotonic() + timeout
        request = _Get(name=self._root + path)
        request.mask.field_paths.extend(fields)
        try:
            answer = self._get(request, timeout=timeout, metadata=self._headers("name", request.name))
            return self._document(answer)
        except grpc.RpcError as error:
            translated = _translated(error)
            if not isinstance(translated, NotFound):
                raise translated from error
        # The same code is the answer if the database is missing. A read of several documents distinguishes the two.
        return next(iter(self.read([path], fields, max(0.0, end - time.monotonic()))), None)

    def read(self, paths: Sequence[str], fields: Sequence[str] | None, timeout: float) -> list[Document]:
        """Read documents in one call, in no order; missing ones are left out. ``fields`` None: all fields."""
        request = _BatchGet(database=self._database, documents=[self._root + path for path in paths])
        if fields is not None:
            request.mask.field_paths.extend(fields)
        answers = self._streamed(self._batch_get, request, timeout)
        return [self._document(answer.found) for answer in answers if answer.HasField("found")]

    def range(self, collection: str, first: str, end: str, timeout: float) -> list[Document]:
        """Read the documents of a top-level collection from the ID ``first`` to the last one before ``end``, by ID."""
        request = _RunQuery(parent=f"{self._database}/documents")
        query = request.structured_query
        query.from_.add(collection_id=collection)
        order = query.order_by.add(direction=1)
        order.field.field_path = "__name__"
        query.start_at.values.add(reference_value=f"{self._root}{collection}/{first}")
        query.start_at.before = True
        query.end_at.values.add(reference_value=f"{self._root}{collection}/{end}")
        query.end_at.before = True
        answers = self._streamed(self._query, request, timeout)
        return [self._document(answer.document) for answer in answers if answer.HasField("document")]

    def commit(self, writes: Iterable[Any], timeout: float) -> list[Any]:
        """Apply all writes or none; return the update time of each document."""
        request = _Commit(database=self._database, writes=writes)
        try:
            answer = self._apply(request, timeout=timeout, metadata=self._database_headers)
        except grpc.RpcError as error:
            raise _translated(error) from error
        return [_update_time(result) for result in answer.write_results]

    def create(self, path: str, fields: Mapping[str, Any]) -> Any:
        """Return the write of a new document; refused if the document exists."""
        write = self._put(path, fields)
        write.current_document.exists = False
        return write

    def update(self, path: str, fields: Mapping[str, Any], update_time: Any, added: Mapping[str, Any] = {}) -> Any:
        """Return the write of some fields; refused if the document has changed since ``update_time``.

        ``added`` has lists whose items are appended to the lists of those fields.
        """
        write = self._put(path, fields)
        write.update_mask.field_paths.extend(sorted(fields))
        write.current_document.update_time.CopyFrom(_timestamp(update_time))
        for name, items in added.items():
            _fill_list(write.update_transforms.add(field_path=name).append_missing_elements, items)
        return write

    def merge(self, path: str, fields: Mapping[str, Any]) -> Any:
        """Return the write of some fields, and of members of fields; the document need not exist."""
        write = self._put(path, fields)
        write.update_mask.field_paths.extend(sorted(FieldPath(*names).to_api_repr() for names in _leaves(fields)))
        return write

    def delete(self, path: str, update_time: Any) -> Any:
        """Return the removal of a document; refused if the document has changed since ``update_time``, or is gone."""
        write = _Write(delete=self._root + path)
        write.current_document.update_time.CopyFrom(_timestamp(update_time))
        return write

    def _put(self, path: str, fields: Mapping[str, Any]) -> Any:
        write = _Write()
        write.update.name = self._root + path
        _fill(write.update.fields, fields)
        return write

    def _document(self, message: Any) -> Document:
        path = message.name.removeprefix(self._root)
        fields = {name: _value(value) for name, value in message.fields.items()}
        return Document(path, fields, _update_time(message))

    def _streamed(self, call: Any, request: Any, timeout: float) -> Iterator[Any]:
        headers = self._query_headers if call is self._query else self._database_headers
        try:
            yield from call(request, timeout=timeout, metadata=headers)
        except grpc.RpcError as error:
            raise _translated(error) from error

    @cached_property
    def _database(self) -> str:
        return str(self._client._database_string)  # noqa: SLF001 - the library has no public name for it

    @cached_property
    def _root(self) -> str:
        return f"{self._database}/documents/"

    @cached_property
    def _channel(self) -> Any:
        # Made by the library, which adds the credentials, or connects to an emulator.
        return self._client._firestore_api.transport.grpc_channel  # noqa: SLF001

    @cached_property
    def _get(self) -> Any:
        return self._channel.unary_unary(f"{_SERVICE}GetDocument", _Get.SerializeToString, _Document.FromString)

    @cached_property
    def _batch_get(self) -> Any:
        return self._channel.unary_stream(
            f"{_SERVICE}BatchGetDocuments", _BatchGet.SerializeToString, _BatchGetAnswer.FromString
        )

    @cached_property
    def _query(self) -> Any:
        return self._channel.unary_stream(
            f"{_SERVICE}RunQuery", _RunQuery.SerializeToString, _RunQueryAnswer.FromString
        )

    @cached_property
    def _apply(self) -> Any:
        return self._channel.unary_unary(f"{_SERVICE}Commit", _Commit.SerializeToString, _CommitAnswer.FromString)

    @cached_property
    def _database_headers(self) -> Sequence[tuple[str, str]]:
        return self._headers("database", self._database)

    @cached_property
    def _query_headers(self) -> Sequence[tuple[str, str]]:
        return self._headers("parent", f"{self._database}/documents")

    def _headers(self, name: str, value: str) -> Sequence[tuple[str, str]]:
        """Return the headers that the library sends: they route the call, and name the library's version."""
        return (*self._common_headers, to_grpc_metadata([(name, value)]))  # type: ignore[no-untyped-call]

    @cached_property
    def _common_headers(self) -> Sequence[tuple[str, str]]:
        version = DEFAULT_CLIENT_INFO.to_grpc_metadata()  # type: ignore[no-untyped-call]
        return (*self._client._rpc_metadata, version)  # noqa: SLF001


def _translated(error: grpc.RpcError) -> GoogleAPICallError:
    translated: GoogleAPICallError = from_grpc_error(error)  # type: ignore[no-untyped-call]
    return translated


def _update_time(message: Any) -> Any:
    return DatetimeWithNanoseconds.from_timestamp_pb(message.update_time)  # type: ignore[no-untyped-call]


def _timestamp(update_time: Any) -> Timestamp:
    return update_time if isinstance(update_time, Timestamp) else update_time.timestamp_pb()


def _leaves(fields: Mapping[str, Any], *above: str) -> Iterator[tuple[str, ...]]:
    for name, value in fields.items():
        if isinstance(value, dict) and value:
            yield from _leaves(value, *above, name)
        else:
            yield (*above, name)


def _fill(to: Any, fields: Mapping[str, Any]) -> None:
    """Fill a message's map of fields."""
    for name, value in fields.items():
        _filler(value)(to[name], value)


def _fill_list(to: Any, items: Iterable[Any]) -> None:
    for item in items:
        _filler(item)(to.values.add(), item)


def _fill_null(to: Any, _: None) -> None:
    to.null_value = 0


def _fill_bool(to: Any, value: bool) -> None:
    to.boolean_value = value


def _fill_int(to: Any, value: int) -> None:
    to.integer_value = value


def _fill_text(to: Any, value: str) -> None:
    to.string_value = value


def _fill_bytes(to: Any, value: bytes) -> None:
    to.bytes_value = value


def _fill_time(to: Any, value: datetime) -> None:
    to.timestamp_value.FromDatetime(value)


def _fill_array(to: Any, value: list[Any]) -> None:
    to.array_value.SetInParent()  # an empty list is a list
    _fill_list(to.array_value, value)


def _fill_map(to: Any, value: dict[str, Any]) -> None:
    to.map_value.SetInParent()
    _fill(to.map_value.fields, value)


_Filler = Callable[[Any, Any], None]
_FILLERS: Mapping[type, _Filler] = {
    type(None): _fill_null,
    bool: _fill_bool,
    int: _fill_int,
    str: _fill_text,
    bytes: _fill_bytes,
    datetime: _fill_time,
    list: _fill_array,
    dict: _fill_map,
}
"""Type → the function that sets a value of this type in a message."""


def _filler(value: Any) -> _Filler:
    kind: type = type(value)
    filler = _FILLERS.get(kind) or next((_FILLERS[base] for base in kind.__mro__ if base in _FILLERS), None)
    if filler is None:
        raise TypeError(f"a document cannot hold a value of the type {kind.__name__}")
    return filler


def _value(message: Any) -> Any:
    """Return the plain value of a message."""
    kind = message.WhichOneof("value_type")
    match kind:
        case "null_value" | None:
            return None
        case "timestamp_value":
            return message.timestamp_value.ToDatetime(UTC)
        case "array_value":
            return [_value(item) for item in message.array_value.values]
        case "map_value":
            return {name: _value(item) for name, item in message.map_value.fields.items()}
        case _:
            return getattr(message, kind)
