"""The bytes of an invocation's document: counted before it is stored, and shared so that none reaches the limit."""

from dataclasses import replace

import pytest

from luci_scheduler.adapters import documents
from luci_scheduler.core import sizes
from luci_scheduler.core.debug_log import LOG_LIMIT
from luci_scheduler.core.errors import PermanentError
from luci_scheduler.core.identifiers import InvocationId, JobId
from luci_scheduler.core.instants import Instant
from luci_scheduler.core.invocation import Invocation
from luci_scheduler.core.job import TaskDefinition
from luci_scheduler.core.trigger import Trigger
from luci_scheduler.core.trigger_json import MAX_TRIGGER_BYTES

BARE = Invocation(
    InvocationId(8_000_000_000_000_000_016), JobId("p/j"), Instant(1_600_000_000_123_456_000), TaskDefinition("noop")
)
FULL = replace(
    BARE,
    task=TaskDefinition("buildbucket", {"server": "é", "properties": ['a:"\n\x01', "b:\U0001f600"]}),
    realm="ci",
    revision="a" * 40,
    revision_url="https://é",
    triggered_by="user:a@b.c",
    properties={"n": [1, {"x": None}], "é": "\u2028"},
    tags=("a:b", "c:é"),
    incoming_triggers=(Trigger("t/é", Instant(5), "gitiles", {"repo": "r"}, title="<t>"), Trigger("u", Instant(6))),
    triggered_jobs=(JobId("p/a"), JobId("p/b é")),
    trace="f" * 32,
)


@pytest.mark.parametrize("invocation", [BARE, FULL], ids=["bare", "full"])
def test_the_counted_size_of_a_definition_is_right(invocation: Invocation) -> None:
    """The count is never too small, and hardly too large."""
    stored = len(documents.encode_invocation(invocation)["definition"].encode())
    assert stored <= sizes.definition_bytes(invocation) <= stored + 300


def test_the_largest_task_and_trigger_fit_together() -> None:
    """Each has the largest allowed size. The properties are both the trigger's and the request's."""
    properties = {"p": "x" * (MAX_TRIGGER_BYTES - 100)}
    invocation = replace(
        BARE,
        task=TaskDefinition("buildbucket", {"properties": ["p:" + "x" * (sizes.MAX_TASK_BYTES - 20)]}),
        properties=properties,
        incoming_triggers=(Trigger("t", Instant(5), "buildbucket", {"properties": properties}),),
    )
    assert 540_000 < sizes.definition_bytes(invocation) <= sizes.MAX_DEFINITION_BYTES
    sizes.check_invocation(invocation)
    most, cut_to = sizes.log_limits(invocation)
    assert most >= 350_000
    assert cut_to == LOG_LIMIT


def test_a_small_invocation_keeps_a_log_of_twice_the_limit() -> None:
    """Nearly all invocations are small."""
    assert sizes.log_limits(FULL) == (2 * LOG_LIMIT, LOG_LIMIT)


def test_an_invocation_without_room_for_a_log_is_refused() -> None:
    """The message names both sizes and the remedy. One byte less is accepted."""
    spare = sizes.MAX_DOCUMENT_BYTES - LOG_LIMIT - 60_000 - sizes.definition_bytes(replace(BARE, properties={"p": ""}))
    sizes.check_invocation(replace(BARE, properties={"p": "x" * spare}))
    with pytest.raises(PermanentError, match=r"740001 bytes cannot be stored, at most 740000 fit .* smaller"):
        sizes.check_invocation(replace(BARE, properties={"p": "x" * (spare + 1)}))
