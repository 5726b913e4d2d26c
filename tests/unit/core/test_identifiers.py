"""Identifiers of jobs, invocations and timers."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from luci_scheduler.adapters.system import SystemEntropy
from luci_scheduler.core import identifiers
from luci_scheduler.core.identifiers import (
    InvocationId,
    JobId,
    invocation_created,
    make_invocation_id,
    project_of,
    split_job_id,
    timer_id,
    timer_mutation,
)
from luci_scheduler.core.instants import MILLISECOND, Instant, parse_rfc3339
from luci_scheduler.core.mutation_counter import MutationCounter

repeatable = settings(derandomize=True, deadline=None, database=None, max_examples=200)
milliseconds = st.integers(
    parse_rfc3339("2015-01-01T00:00:00Z") // MILLISECOND, parse_rfc3339("2290-01-01T00:00:00Z") // MILLISECOND
)
suffixes = st.integers(0, 0xFFFF)


@repeatable
@given(milliseconds, suffixes, st.integers(0, MILLISECOND - 1))
def test_an_invocation_id_can_be_decoded(at: int, suffix: int, rest: int) -> None:
    """Creation survives to the millisecond, the suffix completely. IDs are positive, of 63 bits, the last four zero."""
    identifier = make_invocation_id(Instant(at * MILLISECOND + rest), suffix)
    assert invocation_created(identifier) == (at * MILLISECOND, suffix)
    assert 0 < identifier < 1 << 63
    assert identifier % 16 == 0


@repeatable
@given(milliseconds, suffixes, suffixes)
def test_newer_invocations_have_smaller_ids(at: int, older: int, newer: int) -> None:
    """A millisecond outweighs any suffix."""
    created = Instant(at * MILLISECOND)
    assert make_invocation_id(Instant(created + MILLISECOND), newer) < make_invocation_id(created, older)


@pytest.mark.parametrize("job_id", ["p/j", "p/j:1:2", "p/name (x): y/z"])
def test_a_timer_id_holds_its_mutation_for_any_job_name(job_id: str) -> None:
    """Colons in the job's name do no harm."""
    assert timer_mutation(timer_id(JobId(job_id), InvocationId(16), 31, 2)) == 31


@pytest.mark.parametrize("text", ["", "p/j", "p/j:16:2", "p/j:16:x:0"])
def test_texts_that_are_not_timer_ids_are_refused(text: str) -> None:
    """An ID needs job, invocation, mutation and index."""
    with pytest.raises(ValueError, match=r"not a timer ID|invalid literal"):
        timer_mutation(text)


def test_job_ids_are_split_at_the_first_slash() -> None:
    """The project comes first, the rest is the name."""
    assert split_job_id("tint/mac-rel") == ("tint", "mac-rel")
    assert split_job_id("p/a/b") == ("p", "a/b")
    assert project_of("tint/mac-rel") == "tint"


@pytest.mark.parametrize("text", ["", "tint", "/x", "x/", "/"])
def test_texts_that_are_not_job_ids_are_refused(text: str) -> None:
    """Both project and name are required."""
    with pytest.raises(ValueError, match="not a job ID"):
        split_job_id(text)


def test_a_save_with_an_added_timer_counts() -> None:
    """A save with an added timer counts even without a change. The next save numbers its timers from 0 again."""
    saves = MutationCounter(4)
    assert saves.timer_id(JobId("p/j"), InvocationId(16)) == "p/j:16:4:0"
    saves.save(changed=False)
    assert saves.known == 5
    saves.save(changed=False)
    assert saves.known == 5
    assert saves.timer_id(JobId("p/j"), InvocationId(16)) == "p/j:16:5:0"
    assert saves.timer_id(JobId("p/j"), InvocationId(16)) == "p/j:16:5:1"


@pytest.mark.parametrize(("start", "step"), [(0, 0), (65535, 65535), (4711, 12345)])
def test_suffixes_do_not_repeat(start: int, step: int) -> None:
    """For any start and step, all 65,536 suffixes come before one repeats."""
    assert len(set(itertools.islice(identifiers.suffixes(start, step), 1 << 16))) == 1 << 16


def test_one_process_draws_no_invocation_id_twice() -> None:
    """Two jobs that one commit starts within a millisecond have separate builds."""
    entropy, now = SystemEntropy(), parse_rfc3339("2026-03-01T12:00:00Z")
    drawn = {make_invocation_id(now, entropy.invocation_suffix()) for _ in range(10_000)}
    assert len(drawn) == 10_000
