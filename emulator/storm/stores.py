"""The store of an instance: the shared store in memory behind the real adapter's treatment of errors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any, NoReturn

import grpc
from google.api_core import exceptions

from emulator.memory.store import MemoryStore
from emulator.storm.code import Code
from emulator.storm.faults import Fault, Kind
from emulator.storm.outside import Calling, Outside
from luci_scheduler.adapters.firestore import LIMIT
from luci_scheduler.core.instants import MILLISECOND, SECOND
from luci_scheduler.ports import Version, Write

__all__ = ["InstanceStore"]


def _error(kind: type[exceptions.GoogleAPICallError], text: str) -> exceptions.GoogleAPICallError:
    return kind(text)


_ERRORS: dict[Kind, Callable[[], exceptions.GoogleAPICallError]] = {
    Kind.STORE_UNAVAILABLE: lambda: _error(exceptions.ServiceUnavailable, "the service is unavailable"),
    Kind.STORE_QUOTA: lambda: _error(exceptions.ResourceExhausted, "quota exceeded"),
    Kind.STORE_ABORTED: lambda: _error(exceptions.Aborted, "too much contention on these documents"),
    Kind.STORE_HANG: lambda: _error(exceptions.DeadlineExceeded, "deadline exceeded"),
    Kind.STORE_LATE_LANDING: lambda: _error(exceptions.DeadlineExceeded, "deadline exceeded"),
    Kind.STORE_ANSWER_LOST: lambda: _error(exceptions.ServiceUnavailable, "connection reset"),
    Kind.STORE_FALSE_CONFLICT: lambda: _error(exceptions.Aborted, "the transaction was aborted"),
}


class _Refusal(grpc.RpcError):
    """The error of a call on a channel, with the code of one of the library's errors."""

    def __init__(self, error: exceptions.GoogleAPICallError) -> None:
        self._error = error

    def code(self) -> Any:
        return self._error.grpc_status_code

    def details(self) -> str:
        return str(self._error.message)

    def trailing_metadata(self) -> tuple[Any, ...]:
        return ()


class _Failing:
    """A Firestore client whose every call raises an error, so that the real adapter translates it.

    Today's functions call the channel below the library. The last release calls the library's own methods.
    """

    _database_string = "projects/p/databases/d"
    _rpc_metadata: Sequence[tuple[str, str]] = ()

    def __init__(self) -> None:
        self.error = _error(exceptions.ServiceUnavailable, "the service is unavailable")
        channel = SimpleNamespace(unary_unary=self._method, unary_stream=self._method)
        self._firestore_api = SimpleNamespace(transport=SimpleNamespace(grpc_channel=channel))

    def _method(self, *_: object) -> Callable[..., NoReturn]:
        return self._refuse

    def _refuse(self, *_: object, **__: object) -> NoReturn:
        raise _Refusal(self.error)

    def collection(self, _: str) -> _Failing:
        return self

    def document(self, _: str) -> _Failing:
        return self

    def batch(self) -> _Failing:
        return self

    def get(self, *_: Any, **__: Any) -> NoReturn:
        raise self.error

    def commit(self, *_: Any, **__: Any) -> NoReturn:
        raise self.error


class InstanceStore:
    """``ports.Store`` of one instance.

    Args:
        inner: the shared documents.
        outside: makes the calls.
        landed: gets the writes of each commit that landed.
        code: the functions of the instance.
    """

    def __init__(
        self, inner: MemoryStore, outside: Outside, landed: Callable[[Sequence[Write]], None], code: Code
    ) -> None:
        self._inner = inner
        self._outside = outside
        self._landed = landed
        self._conflict = code.module("core.errors").StoreConflictError
        self._client = _Failing()
        self._adapter = code.module("adapters.firestore").FirestoreStore(self._client)
        self._time_left = code.module("budget").time_left

    def __getattr__(self, name: str) -> Callable[..., Any]:
        """Return a method that reads."""
        read = getattr(self._inner, name)

        def call(*args: Any, **named: Any) -> Any:
            with self._outside.call(f"store.{name}") as calling:
                if calling.has(Kind.STORE_READ_FAILED) or self._is_down():
                    self._fail_read()
                self._time_left(LIMIT)
                found = read(*args, **named)
                self._outside.landed(calling)
                return found

        self.__dict__[name] = call
        return call

    def commit(self, writes: Sequence[Write]) -> Sequence[Version]:
        """Apply all writes or none."""
        with self._outside.call("store.commit") as calling:
            if self._is_down():
                self._fail(Kind.STORE_UNAVAILABLE)
            if calling.fault is not None:
                self._refuse(calling.fault, writes)
            return self._commit(calling, writes)

    def _commit(self, calling: Calling, writes: Sequence[Write]) -> Sequence[Version]:
        self._time_left(LIMIT)
        versions = self._inner.commit(writes)
        self._landed(writes)
        fault = self._outside.landed(calling)
        if fault is not None and fault.kind in _ERRORS:
            self._fail(fault.kind)
        return versions

    def _refuse(self, fault: Fault, writes: Sequence[Write]) -> None:
        if fault.kind in (Kind.STORE_HANG, Kind.STORE_LATE_LANDING):
            self._outside.sleep(round(self._time_left(LIMIT) * SECOND))
        if fault.kind is Kind.STORE_SLOW:
            self._outside.sleep(fault.amount * MILLISECOND)
        if fault.kind is Kind.STORE_LATE_LANDING:
            kernel, running = self._outside.kernel, self._outside.running
            kernel.spawn(kernel.now() + fault.amount * MILLISECOND, lambda: self._land(running, writes))
        if fault.kind in _ERRORS:
            self._fail(fault.kind)

    def _land(self, running: Any, writes: Sequence[Write]) -> None:
        """Apply the writes of a caller who has given up, unless a document has changed since."""
        self._outside.enter(running)
        try:
            self._inner.commit(writes)
        except self._conflict:
            return
        self._landed(writes)

    def _is_down(self) -> bool:
        return self._outside.outages.is_down("store", self._outside.kernel.now())

    def _fail(self, kind: Kind) -> NoReturn:
        """Raise the error that the real adapter makes of a failed commit."""
        self._client.error = _ERRORS[kind]()
        self._adapter.commit(())
        raise AssertionError("the adapter has hidden an error")

    def _fail_read(self) -> NoReturn:
        """Raise the error that the real adapter makes of failing reads, after its own quick repetitions."""
        self._client.error = _error(exceptions.ServiceUnavailable, "the service is unavailable")
        self._adapter.deferred("any")
        raise AssertionError("the adapter has hidden an error")
