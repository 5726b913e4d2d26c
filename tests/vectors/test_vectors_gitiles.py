"""The vectors of gitiles jobs: members of a ref set, folders to list, and commits that pass a path filter."""

import pytest

from luci_scheduler.core.path_filter import PathFilter, compose
from luci_scheduler.core.ref_sets import RefSet
from tests.vectors.support import Case, cases


@pytest.mark.parametrize("case", cases("ref_sets"))
def test_vector_ref_sets(case: Case) -> None:
    """Members, other refs, and the folders to list."""
    refs = RefSet(case["refs"])
    assert list(refs.prefixes) == case["query_prefixes"]
    assert [ref for ref in case["in_set"] if ref not in refs] == []
    assert [ref for ref in case["not_in_set"] if ref in refs] == []


@pytest.mark.parametrize("case", cases("path_filters"))
def test_vector_path_filters(case: Case) -> None:
    """Whether a filter is active, and which commits pass. Every commit passes an inactive filter."""
    paths = PathFilter(case["path_regexps"], case["path_regexps_exclude"])
    assert paths.is_active is case["active"]
    for each in case["diffs"]:
        diff = [(change.get("old_path", ""), change.get("new_path", "")) for change in each["diff"]]
        wanted = True if each["interesting"] is None else each["interesting"]
        assert paths.interesting(diff) is wanted, each


@pytest.mark.parametrize("case", cases("path_regexp_composition"))
def test_vector_path_regexp_composition(case: Case) -> None:
    """Several patterns become one text. Its validity is a separate question."""
    assert compose(case["regexps"]) == case["composed"]
