"""Other bounds of requests: the number of headers, and the length of a reason."""

import pytest

from tests.unit.api.support import OWNER, READER, Client, world_for
from tests.unit.engine.world import JOB

JSON = "application/json"
JOBS = "/prpc/scheduler.Scheduler/GetJobs"
OPERATOR = "scheduler.Operator"
REF = {"project": "proj", "job": "job"}
MAX_HEADERS = 200
MAX_REASON = 500


@pytest.mark.parametrize(("count", "status"), [(MAX_HEADERS - 20, 200), (MAX_HEADERS + 1, 400)])
def test_a_request_has_a_bounded_number_of_headers(count: int, status: int) -> None:
    """Each header whose name ends in ``-Bin`` is decoded, so their number is bounded."""
    more = {f"X_Number_{number}_Bin": "AAEC" for number in range(count)}
    answer = Client(world_for()).http(JOBS, b"{}", READER, Content_Type=JSON, Accept=JSON, **more)
    assert answer.status_code == status
    assert (b"too many headers" in answer.data) == (status == 400)


def test_a_reason_is_cut() -> None:
    """A job's document and its page have the beginning of the reason, in one line."""
    world = world_for()
    client = Client(world)
    client.call("PauseJob", {"jobRef": REF, "reason": "word\n" * 1000}, OWNER, OPERATOR)
    paused = world.store.job(JOB)
    assert paused is not None
    assert paused.value.change_reason == ("word " * 1000)[:MAX_REASON]
    client.call("ResumeJob", {"jobRef": REF, "reason": "x" * MAX_REASON}, OWNER, OPERATOR)
    resumed = world.store.job(JOB)
    assert resumed is not None
    assert resumed.value.change_reason == "x" * MAX_REASON


def test_the_reason_of_an_abort_is_cut() -> None:
    """The task of an abort has no more of the reason than the invocation will have."""
    world = world_for()
    world.commit()
    (invocation,) = world.invocations()
    ref = {"jobRef": REF, "invocationId": str(invocation.id)}
    Client(world).call("AbortInvocation", {"invocationRef": ref, "reason": "y" * 5000}, OWNER, OPERATOR)
    world.tick(1)
    assert world.invocations()[0].abort_reason == "y" * MAX_REASON
