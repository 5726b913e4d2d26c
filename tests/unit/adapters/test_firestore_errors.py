"""The meaning of Firestore's errors: a lost race only for requests that can lose one."""

from typing import Any
from unittest.mock import MagicMock, Mock

import pytest
from google.api_core import exceptions
from google.auth.exceptions import RefreshError
from google.protobuf.timestamp_pb2 import Timestamp
from structlog.testing import capture_logs

from luci_scheduler.adapters.firestore import LIMIT, FirestoreStore
from luci_scheduler.core.errors import PermanentError, StoreConflictError, TransientError
from luci_scheduler.core.identifiers import JobId
from luci_scheduler.core.instants import Instant


def _client() -> tuple[Any, Mock, Mock]:
    """Return a client, the call that commits, and the call that reads documents."""
    client: Any = MagicMock()
    channel = client._firestore_api.transport.grpc_channel
    return client, channel.unary_unary.return_value, channel.unary_stream.return_value


@pytest.mark.parametrize("error", [exceptions.FailedPrecondition("needs an index"), exceptions.NotFound("no database")])
def test_a_read_never_loses_a_race(error: Exception) -> None:
    """An index or the database is missing. The error says so, and is not retried like a lost race."""
    client: Any = Mock()
    client.collection_group.side_effect = error
    with pytest.raises(TransientError, match=r"needs an index|no database") as raised:
        FirestoreStore(client).due_jobs(Instant(0), 10, None)
    assert not isinstance(raised.value, StoreConflictError)


def test_a_commit_does() -> None:
    """Its precondition failed."""
    client, commit, _ = _client()
    commit.side_effect = exceptions.FailedPrecondition("changed")
    with pytest.raises(StoreConflictError, match="changed"):
        FirestoreStore(client).commit([])


def test_a_short_failure_of_a_read_costs_no_redelivery() -> None:
    """It is retried, each time with the rest of the limit. The library's own retries are off."""
    client, _, get = _client()
    get.side_effect = [exceptions.ServiceUnavailable("hiccup"), exceptions.ServiceUnavailable("hiccup"), iter(())]
    assert FirestoreStore(client).project("p") is None
    limits = [call.kwargs["timeout"] for call in get.call_args_list]
    assert LIMIT >= limits[0] > limits[1] > limits[2] > 0


def test_the_library_does_not_retry_a_query() -> None:
    """Its own retries would exceed the limit."""
    client, _, _ = _client()
    query = client.collection()
    query.stream.return_value = iter(())
    assert list(FirestoreStore(client).projects()) == []
    (call,) = query.stream.call_args_list
    assert not call.kwargs["retry"]._predicate(exceptions.ServiceUnavailable("hiccup"))
    assert LIMIT >= call.kwargs["timeout"] > 0


def test_retries_are_few_and_fit_into_the_limit() -> None:
    """At most three reads; none after a failure that took the whole limit, and no retry of a commit."""
    client, commit, get = _client()
    get.side_effect = exceptions.ServiceUnavailable("down")
    with pytest.raises(TransientError, match="UNAVAILABLE: down"):
        FirestoreStore(client).project("p")
    assert get.call_count == 3
    get.reset_mock()
    with pytest.raises(TransientError):
        FirestoreStore(client, limit=0.05).project("p")
    assert get.call_count == 1
    get.side_effect = exceptions.DeadlineExceeded("late")
    get.reset_mock()
    with pytest.raises(TransientError, match="DEADLINE_EXCEEDED"):
        FirestoreStore(client).project("p")
    assert get.call_count == 1
    commit.side_effect = exceptions.ServiceUnavailable("down")
    with pytest.raises(TransientError):
        FirestoreStore(client).commit([])
    assert commit.call_count == 1


def test_the_text_of_firestore_is_one_line_without_secrets() -> None:
    """A quota is marked as such. A missing token is an ordinary failure."""
    client, commit, _ = _client()
    commit.side_effect = exceptions.ResourceExhausted("quota\n\x1b Bearer abcdefgh")
    with pytest.raises(TransientError) as raised:
        FirestoreStore(client).commit([])
    assert str(raised.value) == "Firestore: RESOURCE_EXHAUSTED: quota\\n\\x1b Bearer [redacted]"
    assert raised.value.throttled
    commit.side_effect = RefreshError("no token")
    with pytest.raises(TransientError, match="UNAVAILABLE"):
        FirestoreStore(client).commit([])
    commit.side_effect = exceptions.InvalidArgument("too large")
    with pytest.raises(PermanentError, match="Firestore refused the request: too large"):
        FirestoreStore(client).commit([])


@pytest.mark.parametrize(
    "error", [exceptions.Aborted("contention"), exceptions.AlreadyExists("there"), exceptions.NotFound("gone")]
)
def test_contention_is_a_lost_race(error: Exception) -> None:
    """The handler reads and decides again at once."""
    client, commit, _ = _client()
    commit.side_effect = error
    with pytest.raises(StoreConflictError):
        FirestoreStore(client).commit([])
    client.collection_group.side_effect = exceptions.Aborted("contention")
    with pytest.raises(TransientError) as raised:
        FirestoreStore(client).due_jobs(Instant(0), 10, None)
    assert not isinstance(raised.value, StoreConflictError)


def test_setting_a_trigger_aside_has_the_limit_of_a_call() -> None:
    """It is a write like a commit: the library never retries it, and after a lost race the next read decides."""
    bad: Any = Mock(to_dict=lambda: {"record": "["}, update_time=Timestamp(seconds=1))
    bad.reference.path = "jobs/j/triggers/t"
    client, commit, _ = _client()
    commit.side_effect = exceptions.FailedPrecondition("changed")
    pending = client.collection().where().order_by().limit()
    pending.stream.side_effect = [[bad], []]
    with capture_logs():
        assert FirestoreStore(client).pending_triggers(JobId("p/j"), 10) == []
    (update,) = commit.call_args_list
    (write,) = update.args[0].writes
    assert write.update.name.endswith("/documents/jobs/j/triggers/t")
    assert set(write.update.fields) == {"pending", "unreadable"}
    assert write.current_document.update_time == bad.update_time
    assert 0 < update.kwargs["timeout"] <= LIMIT
