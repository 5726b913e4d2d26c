"""Addresses of pages: made from parts, and read back without trusting them."""

from __future__ import annotations

import pytest

from luci_scheduler.core.identifiers import JobId
from luci_scheduler.web.addresses import (
    address,
    invocation_address,
    job_address,
    parse_invocation_id,
    parse_job_id,
)
from luci_scheduler.web.filters import known_cursor, known_filter, project_address
from luci_scheduler.web.response import PageError

_LARGEST = (1 << 63) - 1


def test_parts_are_quoted_and_empty_values_are_omitted() -> None:
    """A part with a slash stays one segment of the path."""
    assert address("jobs", "a/b", "c d") == "/jobs/a%2Fb/c%20d"
    assert address("commits", repo="https://h/r", ref="") == "/commits?repo=https%3A%2F%2Fh%2Fr"
    assert address() == "/"


def test_addresses_of_jobs_and_invocations() -> None:
    """The ID of a job is its project and its name."""
    assert job_address("p/j") == "/jobs/p/j"
    assert job_address("p/j", c="x", done="") == "/jobs/p/j?c=x"
    assert invocation_address("p/j", parse_invocation_id("7")) == "/jobs/p/j/7"


@pytest.mark.parametrize(("text", "number"), [("1", 1), ("007", 7), (str(_LARGEST), _LARGEST)])
def test_an_invocation_id_is_a_positive_number_of_63_bits(text: str, number: int) -> None:
    """Leading zeros are accepted."""
    assert parse_invocation_id(text) == number


@pytest.mark.parametrize(
    "text", ["", "0", "-1", "+1", "1.5", "x", "\u0661", "1 ", str(_LARGEST + 1), "0" * 19 + "1", "9" * 5000]
)
def test_texts_that_are_not_invocation_ids(text: str) -> None:
    """The error is the visitor's, and a long text is not converted."""
    with pytest.raises(PageError, match="Malformed invocation ID") as raised:
        parse_invocation_id(text)
    assert raised.value.code == 400


def test_a_job_id_has_two_parts_without_a_slash() -> None:
    """Other names give the error of a missing job."""
    assert parse_job_id("p", "j") == JobId("p/j")
    for project, name in (("", "j"), ("p", ""), ("p/q", "j"), ("p", "j/k")):
        with pytest.raises(PageError) as raised:
            parse_job_id(project, name)
        assert raised.value.code == 404


@pytest.mark.parametrize(
    ("text", "cursor"), [("1linux tests", "1linux tests"), ("", ""), ("x" * 301, ""), ("1a\nb", ""), ("\x00", "")]
)
def test_a_cursor_in_a_list(text: str, cursor: str) -> None:
    """Every text that is not the place of a job means the beginning of the list."""
    assert known_cursor(text) == cursor


def test_an_address_has_only_known_filters() -> None:
    """An address has only known filters and possible cursors."""
    assert known_filter("paused") == "paused"
    assert known_filter("evil") == ""
    assert project_address("p", "paused", "1job", done="abort") == "/jobs/p?filter=paused&after=1job&done=abort"
    assert project_address("p", "evil", "\n") == "/jobs/p"
