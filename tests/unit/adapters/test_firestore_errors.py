"""The meaning of Firestore's errors: a lost race only for requests that can lose one."""

from typing import Any
from unittest.mock import Mock

import pytest
from google.api_core import exceptions
from google.auth.exceptions import RefreshError
from structlog.testing import capture_logs

from luci_scheduler.adapters.firestore import LIMIT, FirestoreStore
from luci_scheduler.core.errors import PermanentError, StoreConflictError, TransientError
from luci_scheduler.core.identifiers import JobId
from luci_scheduler.core.instants import Instant


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
    client: Any = Mock()
    client.batch().commit.side_effect = exceptions.FailedPrecondition("changed")
    with pytest.raises(StoreConflictError, match="changed"):
        FirestoreStore(client).commit([])


def test_a_short_failure_of_a_read_costs_no_redelivery() -> None:
    """It is retried, each time with the rest of the limit. The library's own retries are off."""
    client: Any = Mock()
    get = client.collection().document().get
    get.side_effect = [
        exceptions.ServiceUnavailable("hiccup"),
        exceptions.ServiceUnavailable("hiccup"),
        Mock(exists=False),
    ]
    assert FirestoreStore(client).project("p") is None
    limits = [call.kwargs["timeout"] for call in get.call_args_list]
    assert LIMIT >= limits[0] > limits[1] > limits[2] > 0
    for call in get.call_args_list:
        assert not call.kwargs["retry"]._predicate(exceptions.ServiceUnavailable("hiccup"))


def test_retries_are_few_and_fit_into_the_limit() -> None:
    """At most three reads; none after a failure that took the whole limit, and no retry of a commit."""
    client: Any = Mock()
    get = client.collection().document().get
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
    commit = client.batch().commit
    commit.side_effect = exceptions.ServiceUnavailable("down")
    with pytest.raises(TransientError):
        FirestoreStore(client).commit([])
    assert commit.call_count == 1


def test_the_text_of_firestore_is_one_line_without_secrets() -> None:
    """A quota is marked as such. A missing token is an ordinary failure."""
    client: Any = Mock()
    commit = client.batch().commit
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
    client: Any = Mock()
    client.batch().commit.side_effect = error
    with pytest.raises(StoreConflictError):
        FirestoreStore(client).commit([])
    client.collection_group.side_effect = exceptions.Aborted("contention")
    with pytest.raises(TransientError) as raised:
        FirestoreStore(client).due_jobs(Instant(0), 10, None)
    assert not isinstance(raised.value, StoreConflictError)


def test_setting_a_trigger_aside_has_the_limit_of_a_call() -> None:
    """It is a write like a commit: the library never retries it, and after a lost race the next read decides."""
    bad: Any = Mock(id="t", to_dict=lambda: {"record": "["}, update_time="v1")
    bad.reference.path = "jobs/j/triggers/t"
    bad.reference.update.side_effect = exceptions.FailedPrecondition("changed")
    client: Any = Mock()
    pending = client.collection().document().collection().where().order_by().limit()
    pending.stream.side_effect = [[bad], []]
    with capture_logs():
        assert FirestoreStore(client).pending_triggers(JobId("p/j"), 10) == []
    (update,) = bad.reference.update.call_args_list
    assert update.kwargs["retry"] is None
    assert 0 < update.kwargs["timeout"] <= LIMIT
