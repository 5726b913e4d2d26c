"""The bytes sent to Firestore."""

from dataclasses import replace
from typing import Any

import grpc
import pytest

from luci_scheduler.adapters.firestore import FirestoreStore
from luci_scheduler.core.identifiers import InvocationId, JobId
from luci_scheduler.core.instants import Instant
from luci_scheduler.core.invocation import Invocation
from luci_scheduler.core.job import TaskDefinition
from luci_scheduler.ports import CreateInvocation, UpdateInvocation

pytestmark = pytest.mark.emulators


class _Counter(grpc.UnaryUnaryClientInterceptor):
    """Counts the bytes of each commit that is sent, and of each answer to a read."""

    def __init__(self) -> None:
        self.sent: list[int] = []
        self.read: list[int] = []

    def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
        call = continuation(details, request)
        if details.method.endswith("/Commit"):
            self.sent.append(request.ByteSize())
        else:
            self.read.append(call.result().ByteSize())
        return call


def test_appending_sends_the_same_with_a_short_and_a_long_log(
    firestore_client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An update sends the same bytes (within five percent) with 1 KB and 190 KB of log, and reads none of it."""
    counter = _Counter()
    transport = firestore_client._firestore_api.transport
    monkeypatch.setattr(transport, "_grpc_channel", grpc.intercept_channel(transport.grpc_channel, counter))
    sent, read = counter.sent, counter.read
    store = FirestoreStore(firestore_client)
    sizes = []
    for number, kilobytes in enumerate((1, 190)):
        invocation = Invocation(
            InvocationId(8_000_000_000_000_000_000 + number), JobId("p/j"), Instant(1000), TaskDefinition("noop")
        )
        (version,) = store.commit([CreateInvocation(invocation, "x" * 1024 * kilobytes)])
        sent.clear()
        store.commit([UpdateInvocation(replace(invocation, commits=1), version, "one more line\n" * 10)])
        read.clear()
        assert store.invocation(invocation.job_id, invocation.id) is not None
        sizes.append((sent[0], read[0]))
    (short_sent, short_read), (long_sent, long_read) = sizes
    assert abs(long_sent - short_sent) <= 0.05 * short_sent
    assert abs(long_read - short_read) <= 0.05 * short_read
