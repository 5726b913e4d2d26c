"""What Firestore's errors become: a lost race only where there can be one."""

from typing import Any
from unittest.mock import Mock

import pytest
from google.api_core import exceptions

from luci_scheduler.adapters.firestore import FirestoreStore
from luci_scheduler.core.errors import StoreConflictError, TransientError
from luci_scheduler.core.instants import Instant


@pytest.mark.parametrize("error", [exceptions.FailedPrecondition("needs an index"), exceptions.NotFound("no database")])
def test_a_read_never_loses_a_race(error: Exception) -> None:
    """An index or the database is missing: that is told, and not tried again as if somebody else had been quicker."""
    client: Any = Mock()
    client.collection_group.side_effect = error
    with pytest.raises(TransientError, match=r"needs an index|no database") as raised:
        FirestoreStore(client).due_jobs(Instant(0), 10, None)
    assert not isinstance(raised.value, StoreConflictError)


def test_a_commit_does() -> None:
    """Its precondition did not hold."""
    client: Any = Mock()
    client.batch().commit.side_effect = exceptions.FailedPrecondition("changed")
    with pytest.raises(StoreConflictError, match="changed"):
        FirestoreStore(client).commit([])
