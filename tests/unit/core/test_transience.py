"""The failures that a retry may fix: the table, for every protocol."""

import pytest

from luci_scheduler.core import transience
from luci_scheduler.core.instants import MINUTE, SECOND, parse_rfc3339
from luci_scheduler.core.transience import Failure, requested_pause

NOW = parse_rfc3339("2026-03-01T12:00:00Z")
REFUSALS_FOR_NOW = {2: "UNKNOWN", 4: "DEADLINE_EXCEEDED", 10: "ABORTED", 13: "INTERNAL", 14: "UNAVAILABLE"}
REFUSALS = {
    1: "CANCELLED",
    3: "INVALID_ARGUMENT",
    5: "NOT_FOUND",
    6: "ALREADY_EXISTS",
    7: "PERMISSION_DENIED",
    9: "FAILED_PRECONDITION",
    11: "OUT_OF_RANGE",
    12: "UNIMPLEMENTED",
    15: "DATA_LOSS",
    16: "UNAUTHENTICATED",
}


@pytest.mark.parametrize("status", [200, 400, 404, 429, 500, 503])
def test_the_grpc_code_decides(status: int) -> None:
    """The HTTP status does not matter."""
    assert transience.prpc_failure(status, "0") is None
    for number, name in REFUSALS.items():
        assert transience.prpc_failure(status, str(number)) == Failure(name, transient=False)
    for number, name in REFUSALS_FOR_NOW.items():
        assert transience.prpc_failure(status, str(number)) == Failure(name, transient=True)
    throttled = Failure("RESOURCE_EXHAUSTED", transient=True, throttled=True)
    assert transience.prpc_failure(status, "8") == throttled
    assert transience.prpc_failure(status, "99") == Failure("code 99", transient=True)


@pytest.mark.parametrize(
    ("status", "name"),
    [
        *((status, "INTERNAL") for status in (200, 204, 301, 302, 400, 404, 408, 409, 429, 500, 501, 502, 504)),
        (401, "UNAUTHENTICATED"),
        (403, "PERMISSION_DENIED"),
        (503, "UNAVAILABLE"),
    ],
)
def test_an_answer_without_a_code_is_not_about_the_build(status: int, name: str) -> None:
    """An answer without a code comes from a server in front of the service."""
    assert transience.prpc_failure(status, None) == Failure(name, transient=True, throttled=status == 429)


@pytest.mark.parametrize("code", ["abc", "", "-1", "5, 5", "5.0", "\u00b2", "\u0665", "9" * 30])
def test_an_unreadable_code_counts_as_missing(code: str) -> None:
    """An error with an unreadable code proves nothing."""
    assert transience.prpc_failure(404, code) == Failure("INTERNAL", transient=True)


@pytest.mark.parametrize("status", [302, 400, 401, 403, 404, 408, 429, 500, 503])
def test_only_the_own_error_of_v1_is_permanent(status: int) -> None:
    """Only the service's own error object refuses permanently; its quota and its faults do not."""
    throttled = status == 429
    assert transience.rest_failure(status, is_own=False) == Failure(
        f"HTTP {status}", transient=True, throttled=throttled
    )
    own = Failure(f"HTTP {status}", transient=throttled or status >= 500, throttled=throttled)
    assert transience.rest_failure(status, is_own=True) == own


@pytest.mark.parametrize(
    ("status", "transient"), [(302, True), (400, False), (403, False), (404, False), (429, True), (500, True)]
)
def test_the_status_of_gitiles_decides(status: int, transient: bool) -> None:
    """Its error bodies have no reliable form, so the status decides."""
    failure = transience.gitiles_failure(status)
    assert (failure.transient, failure.throttled) == (transient, status == 429)


def test_only_invalid_argument_is_permanent_at_google() -> None:
    """Only INVALID_ARGUMENT is about the request. The operator can fix the causes of the others."""
    assert not transience.google_failure("INVALID_ARGUMENT").transient
    for code in ("PERMISSION_DENIED", "NOT_FOUND", "FAILED_PRECONDITION", "UNAVAILABLE", "UNAUTHENTICATED", "ABORTED"):
        assert transience.google_failure(code) == Failure(code, transient=True)
    assert transience.google_failure("RESOURCE_EXHAUSTED").throttled


@pytest.mark.parametrize(
    ("header", "pause"),
    [
        (None, 0),
        ("", 0),
        ("7", 7 * SECOND),
        (" 7 ", 7 * SECOND),
        ("0", 0),
        ("-7", 0),
        ("1.5", 0),
        ("86400", 10 * MINUTE),
        ("9" * 5000, 10 * MINUTE),
        ("\u0667", 0),
        ("Sun, 01 Mar 2026 12:00:30 GMT", 30 * SECOND),
        ("Sun, 01 Mar 2026 11:59:00 GMT", 0),
        ("Sun, 01 Mar 2099 12:00:00 GMT", 10 * MINUTE),
        ("Sun, 01 Mar 2026 12:00:30 -0000", 30 * SECOND),
        ("Sun, 99 Mar 2026 12:00:30 GMT", 0),
        ("soon", 0),
    ],
)
def test_the_pause_that_a_server_requests(header: str | None, pause: int) -> None:
    """Seconds or a date. An unreadable header means no pause, and ten minutes are the maximum."""
    assert requested_pause(header, NOW) == pause
