"""Filters of lists."""

import pytest

from emulator.cloud_build.builds import Build
from emulator.cloud_build.errors import CallError
from emulator.cloud_build.filters import parse_filter
from tests.unit.emulator.cloud_build.support import PLACE

BUILD = Build(PLACE, 1, 0, {"id": "i", "status": "WORKING", "tags": ["a", 'q"t'], "buildTriggerId": "t"})


@pytest.mark.parametrize(
    ("text", "matches"),
    [
        ("", True),
        ('tags="a"', True),
        ('tags = "b"', False),
        (r'tags="q\"t"', True),
        ('tags!="b"', True),
        ('tags="a" AND status="WORKING"', True),
        ('tags="a" AND status="QUEUED"', False),
        ('tags="b" OR status="WORKING"', True),
        ('NOT tags="a"', False),
        ('NOT (tags="b" OR tags="c")', True),
        ('tags="b" OR tags="a" AND build_id="i"', True),
        ('(tags="b" OR tags="a") AND build_id="j"', False),
        ('trigger_id="t" AND project_id="example-project"', True),
    ],
)
def test_filters(text: str, matches: bool) -> None:
    """AND binds more tightly than OR."""
    assert parse_filter(text)(BUILD) is matches


@pytest.mark.parametrize(
    "text",
    [
        'createTime="x"', 'create_time>="2026-01-01T00:00:00Z"', "tags=a", 'tags:"a"', 'tags="a" tags="b"',
        'tags="a" AND', "NOT", '(tags="a"', 'tags="a")', 'results.images="x"', "tags", '"a"', 'tags="a',
        "(" * 3000, "NOT " * 3000,
    ],
)  # fmt: skip
def test_other_filters_are_refused(text: str) -> None:
    """Unknown fields, camel case and other operators are invalid arguments."""
    with pytest.raises(CallError, match="invalid list filter") as caught:
        parse_filter(text)
    assert caught.value.status == 400
