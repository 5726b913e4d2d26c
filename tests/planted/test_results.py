"""The stored results are about the bugs of the catalogs."""

from pathlib import Path

import pytest

from tests.planted.catalog import Bug, catalog_names, read_catalog
from tests.planted.planting import Verdict
from tests.planted.results import read_results, store

_BUG = Bug(name="a-bug", file="x.py", before="a", after="b", breaks="It works.", tests=("tests/unit",))
_OTHER = Bug(
    name="b-bug", file="x.py", before="a", after="c", breaks="It works.", tests=("tests/unit",), equivalent="?"
)

_LEAST = {"engine": 92}
"""Results that a catalog must have at least."""


@pytest.mark.parametrize("catalog", catalog_names())
def test_each_stored_bug_is_caught_or_has_a_reason(catalog: str) -> None:
    """A bug that survived without a reason needs a test. New entries may wait for the next run of the command."""
    stored, names = read_results(catalog), [bug.name for bug in read_catalog(catalog)]
    assert [name for name in names if name in stored] == list(stored)
    assert [row["name"] for row in stored.values() if not row["caught_by"] and not row["equivalent"]] == []
    assert len(stored) >= _LEAST.get(catalog, 0)


def test_new_results_replace_those_of_the_same_bugs(tmp_path: Path) -> None:
    """The others stay, in the order of the catalog. Bugs that the catalog no longer has are dropped."""
    store("some", [_OTHER, _BUG], [Verdict(_BUG, "", 1.0)], tmp_path)
    assert list(read_results("some", tmp_path)) == ["a-bug"]
    store("some", [_OTHER, _BUG], [Verdict(_OTHER, "", 1.0)], tmp_path)
    stored = read_results("some", tmp_path)
    assert [(row["name"], row["equivalent"]) for row in stored.values()] == [("b-bug", "?"), ("a-bug", "")]
    store("some", [_BUG], [Verdict(_BUG, "tests/unit/x.py::test_x", 1.0)], tmp_path)
    assert [row["caught_by"] for row in read_results("some", tmp_path).values()] == ["tests/unit/x.py::test_x"]
