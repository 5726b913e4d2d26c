"""The memory of a compiled pattern: RE2 gets one mebibyte, an eighth of its default."""

import pytest
import re2  # type: ignore[import-untyped]

from luci_scheduler.core.regexps import MAX_LENGTH, BadRegexpError, compile_regexp

LARGE = [r"\pN+" * 300, r"\pN+" * 600, r"\pN+" * 1200, "(?:a?){1000}" * 60]
"""Patterns well within the limit of length, with programs between one and eight mebibytes."""


@pytest.mark.parametrize("pattern", LARGE, ids=lambda pattern: pattern[:12])
def test_a_pattern_with_a_large_program_is_refused(pattern: str) -> None:
    """RE2 itself would compile it, so only the limit on memory refuses it."""
    assert len(pattern) < MAX_LENGTH // 4
    assert re2.compile(pattern)
    with pytest.raises(BadRegexpError, match="too large"):
        compile_regexp(pattern)


@pytest.mark.parametrize("pattern", [r"\pN+" * 20, "(?:a?){1000}" * 20, "x{1000}" * 20], ids=lambda p: p[:12])
def test_a_pattern_with_a_smaller_program_is_compiled(pattern: str) -> None:
    """The limit has room for every pattern in known real configs."""
    assert compile_regexp(pattern).text == pattern
