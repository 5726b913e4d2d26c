"""Sets of refs and path filters, beyond the vectors."""

import pytest

from luci_scheduler.core.path_filter import PathFilter
from luci_scheduler.core.ref_sets import RefSet, ref_set
from luci_scheduler.core.ref_validation import named_ref
from luci_scheduler.core.regexps import BadRegexpError


def test_missing_entries() -> None:
    """Names and patterns without a matching ref are returned as configured, sorted. Each pattern counts alone."""
    refs = RefSet(["refs/heads/main", "refs/heads/gone", r"regexp:refs/tags/v\d+", r"regexp:refs/tags/r\d+"])
    assert refs.missing(["refs/heads/main", "refs/tags/v1", "refs/tags/r1-extra"]) == (
        "refs/heads/gone",
        r"regexp:refs/tags/r\d+",
    )
    assert refs.missing(["refs/heads/main", "refs/heads/gone", "refs/tags/v1", "refs/tags/r1"]) == ()


def test_a_pattern_without_operators_is_a_name() -> None:
    """It is listed like a literal ref, and escaped characters match themselves."""
    refs = RefSet([r"regexp:refs/heads/release\.1"])
    assert refs.prefixes == ("refs/heads",)
    assert "refs/heads/release.1" in refs
    assert "refs/heads/releasex1" not in refs
    assert refs.missing([]) == ("refs/heads/release.1",)


def test_joined_patterns_stay_in_their_folder() -> None:
    """The last of several is not anchored at its start, but a ref outside the folder is never a member."""
    refs = RefSet([r"regexp:refs/heads/rel-\d+", r"regexp:refs/heads/dev-\d+"])
    assert "refs/heads/rel-1-extra" in refs
    assert "refs/heads/mirror/refs/heads/dev-1" in refs
    assert "refs/mirror/refs/heads/dev-1" not in refs


def test_an_empty_set_has_no_members() -> None:
    """It lists no folder and has no member."""
    assert ref_set(()).prefixes == ()
    assert "refs/heads/main" not in ref_set(())


def test_bad_patterns_are_refused() -> None:
    """Look-ahead is not RE2."""
    with pytest.raises(BadRegexpError):
        RefSet(["regexp:refs/heads/(?=x)"])
    with pytest.raises(BadRegexpError):
        PathFilter(["?a"], [])


def test_matching_takes_time_linear_in_the_name() -> None:
    """A pattern that hangs backtracking engines for years has no effect here."""
    refs = RefSet(["regexp:refs/heads/(a+)+b"])
    assert f"refs/heads/{'a' * 5000}" not in refs
    assert f"refs/heads/{'a' * 5000}b" in refs


@pytest.mark.parametrize(
    ("entry", "ref"),
    [
        ("refs/heads/main", "refs/heads/main"),
        ("regexp:refs/heads/main", "refs/heads/main"),
        (r"regexp:refs/heads/release\-1\.2", "refs/heads/release-1.2"),
        ("regexp:refs/heads/release-branch.go1.20", "refs/heads/release-branch.go1.20"),
        ("regexp:refs/heads/.*", ""),
        (r"regexp:refs/tags/v\d+", ""),
        ("regexp:refs/heads/(a|b)", ""),
        ("regexp:refs/heads/a?", ""),
    ],
)
def test_the_ref_that_an_entry_names(entry: str, ref: str) -> None:
    """A pattern without operators names a ref; an unescaped dot is taken for a dot."""
    assert named_ref(entry) == ref
