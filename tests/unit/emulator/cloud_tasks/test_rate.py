"""The token bucket: exact in whole nanoseconds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulator.cloud_tasks.model import RateLimits
from emulator.cloud_tasks.rate import RateBucket
from luci_scheduler.core.instants import SECOND

NOW = 1_773_756_432_000_000_000


def taken_at_once(bucket: RateBucket, now: int) -> int:
    """Take all available tokens and return their number."""
    count = 0
    while bucket.take(now):
        count += 1
    return count


@pytest.mark.parametrize(("rate", "burst"), [(500.0, 100), (100.0, 20), (1.0, 10), (0.1, 10)])
def test_a_full_bucket_gives_its_size_at_once(rate: float, burst: int):
    """The burst follows the rate, between 10 and 100."""
    limits = RateLimits(rate)
    assert limits.max_burst_size == burst
    assert taken_at_once(RateBucket(limits), NOW) == burst


def test_an_empty_bucket_gives_one_token_exactly_at_ready_at():
    """A token must be available exactly then, so that a stepped clock does not stop short of it."""
    bucket = RateBucket(RateLimits(3.0))
    taken_at_once(bucket, NOW)
    ready = bucket.ready_at()
    assert ready == NOW + 333_333_333
    assert not bucket.take(ready - 1)
    assert bucket.take(ready)
    assert not bucket.take(ready)


@given(st.lists(st.integers(0, SECOND), min_size=1, max_size=200), st.sampled_from([1.0, 7.0, 33.3, 500.0]))
def test_no_window_sees_more_than_burst_and_rate_allow(gaps: list[int], rate: float):
    """Over any time the taken tokens are at most the burst plus the rate times the time."""
    limits = RateLimits(rate)
    bucket = RateBucket(limits)
    now, given_out = NOW, 0
    for gap in gaps:
        now += gap
        given_out += taken_at_once(bucket, now)
    assert given_out <= limits.max_burst_size + rate * (now - NOW) / SECOND + 1e-3 + len(gaps) * 1e-6


def test_an_update_takes_effect_at_once_and_gives_no_free_tokens():
    """After a bucket was emptied, a faster rate refills it faster."""
    bucket = RateBucket(RateLimits(1.0))
    taken_at_once(bucket, NOW)
    bucket.update(RateLimits(100.0), NOW)
    assert taken_at_once(bucket, NOW) == 10, "the new size is 20, 10 tokens are missing"
    assert bucket.ready_at() == NOW + SECOND // 100
    bucket.update(RateLimits(1.0), NOW)
    assert not bucket.take(NOW)
