"""Rules that all triggering policies share."""

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from luci_scheduler.adapters.documents import decode_job, encode_job
from luci_scheduler.core.era import Era
from luci_scheduler.core.identifiers import JobId
from luci_scheduler.core.instants import SECOND, Instant
from luci_scheduler.core.job import Job, JobDefinition, TaskDefinition, TriggeringPolicy
from luci_scheduler.core.policy.logarithmic import LogarithmicBatching
from luci_scheduler.core.policy.newest_first import NewestFirst
from luci_scheduler.core.policy.registry import POLICIES, make_policy
from luci_scheduler.core.trigger import Trigger, sort_key

repeatable = settings(derandomize=True, deadline=None, database=None, max_examples=300)
NOW = Instant(1_600_000_000 * SECOND)

definitions = st.builds(
    TriggeringPolicy,
    kind=st.sampled_from([policy.kind for policy in POLICIES]),
    max_concurrent_invocations=st.integers(1, 6),
    max_batch_size=st.integers(1, 40),
    log_base=st.floats(1.0001, 100, width=64),
    pending_timeout=st.integers(1, 40).map(lambda seconds: seconds * SECOND),
)
pending_triggers = st.lists(st.integers(0, 60), max_size=60).map(
    lambda ages: sorted(
        (Trigger(f"t{number}", Instant(NOW - age * SECOND)) for number, age in enumerate(ages)), key=sort_key
    )
)


@repeatable
@given(definitions, pending_triggers, st.integers(0, 8), st.sampled_from(Era))
def test_every_policy_follows_the_rules(
    definition: TriggeringPolicy, pending: Sequence[Trigger], active: int, era: Era
) -> None:
    """No trigger is used twice or invented, the order stays, slots and sizes are kept, and work is not delayed."""
    decision = make_policy(definition, era).decide(pending, active, NOW)
    taken = [trigger for request in decision.requests for trigger in request.incoming_triggers]
    used = taken + [item.trigger for item in decision.discards]
    assert len({trigger.id for trigger in used}) == len(used)
    assert taken == sorted(taken, key=sort_key)
    assert set(map(id, used)) <= set(map(id, pending))
    free = max(0, definition.max_concurrent_invocations - active)
    assert len(decision.requests) <= free
    assert all(request.incoming_triggers for request in decision.requests)
    assert all(len(request.incoming_triggers) <= definition.max_batch_size for request in decision.requests) or (
        definition.kind == NewestFirst.kind
    )
    left = len(pending) - len(used)
    assert left == 0 or len(decision.requests) == free


@repeatable
@given(definitions, pending_triggers, st.integers(0, 8))
def test_the_triggers_that_a_policy_leaves_pending(
    definition: TriggeringPolicy, pending: Sequence[Trigger], active: int
) -> None:
    """Batching takes the oldest and discards nothing. Newest first leaves older triggers that are not too old."""
    decision = make_policy(definition, Era.V2).decide(pending, active, NOW)
    taken = [trigger for request in decision.requests for trigger in request.incoming_triggers]
    if definition.kind == NewestFirst.kind:
        fresh = [trigger for trigger in pending if NOW - trigger.created < definition.pending_timeout]
        assert [item.trigger for item in decision.discards] == pending[: len(pending) - len(fresh)]
        assert taken == fresh[len(fresh) - len(taken) :]
        assert all(len(request.incoming_triggers) == 1 for request in decision.requests)
    else:
        assert decision.discards == ()
        assert taken == pending[: len(taken)]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"max_concurrent_invocations": -1}, "max_concurrent_invocations should be positive"),
        ({"max_batch_size": -5}, "max_batch_size should be positive"),
        ({"kind": LogarithmicBatching.kind}, "log_base should be more or equal than 1.0001"),
        ({"kind": LogarithmicBatching.kind, "log_base": float("nan")}, "log_base should be more or equal"),
        ({"kind": NewestFirst.kind, "pending_timeout": 0}, "pending_timeout should be positive"),
        ({"kind": "GREEDY"}, "unrecognized triggering policy kind GREEDY"),
    ],
)
def test_an_invalid_policy_is_refused(changes: dict[str, Any], message: str) -> None:
    """The error has the original's text."""
    with pytest.raises(ValueError, match=message):
        make_policy(TriggeringPolicy(**changes), Era.V1)


@pytest.mark.parametrize(
    "policy",
    [
        TriggeringPolicy(),
        TriggeringPolicy(LogarithmicBatching.kind, 3, 50, log_base=1.185),
        TriggeringPolicy(NewestFirst.kind, 2, pending_timeout=90 * SECOND),
        TriggeringPolicy("KIND_OF_A_LATER_VERSION"),
    ],
)
def test_a_policy_survives_its_document(policy: TriggeringPolicy) -> None:
    """Every field is stored. An unknown kind stays unchanged."""
    job = Job(JobId("p/j"), JobDefinition(TaskDefinition("noop"), policy=policy))
    assert decode_job(job.id, encode_job(job)) == job


def test_a_document_of_an_earlier_version_gets_the_defaults() -> None:
    """The older document lacks the newer fields."""
    job = Job(JobId("p/j"), JobDefinition(TaskDefinition("noop")))
    document = encode_job(job)
    for text in (',"log_base":0.0', ',"pending_timeout":604800000000000'):
        assert text in document["record"]
        document["record"] = document["record"].replace(text, "")
    assert decode_job(job.id, document) == job
