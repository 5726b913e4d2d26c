"""The vectors about the API."""

import pytest

from luci_scheduler.core.identifiers import InvocationId
from luci_scheduler.core.page_cursor import BadCursorError, decode_cursor, encode_cursor
from tests.vectors.support import Case, cases


@pytest.mark.parametrize("case", cases("invocation_cursors"))
def test_vector_invocation_cursors(case: Case) -> None:
    """A cursor names the last invocation of the page before, and can be decoded again."""
    last = InvocationId(int(case["last_scanned"]))
    assert encode_cursor(last) == case["cursor"]
    assert decode_cursor(case["cursor"]) == (last or None)


@pytest.mark.parametrize(
    "cursor", ["E", "EA", "EAA", "CBA", "EBAA", "EBA=", "E BA", "EB\u00c4", "EP__________8B", "EIA", "x" * 5000]
)
def test_other_cursors_are_refused(cursor: str) -> None:
    """Cut short, zero, another field, padded, out of range, endless."""
    with pytest.raises(BadCursorError):
        decode_cursor(cursor)
