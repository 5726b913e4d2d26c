"""The catalogs of planted bugs fit the code, so that they cannot rot."""

from collections import Counter
from pathlib import Path

import pytest

from tests.planted.catalog import ROOT, Bug, catalog_names, read_catalog

_ALL = [(catalog, bug) for catalog in catalog_names() for bug in read_catalog(catalog)]
_LEAST = {"engine": 92}


def test_each_bug_still_fits_its_file() -> None:
    """Each `before` occurs once, the file with the bug is still Python, and the tests to try first exist."""
    for _, bug in _ALL:
        planted = bug.planted((ROOT / bug.file).read_text(encoding="utf-8"))
        if bug.file.endswith(".py"):
            compile(planted, bug.file, "exec")
        missing = [path for path in bug.tests if not (ROOT / path.partition("::")[0]).exists()]
        assert missing == [], bug.name


def test_no_bug_is_planted_twice() -> None:
    """Names are unique over all catalogs, and so are the changes."""
    names = Counter(bug.name for _, bug in _ALL)
    changes = Counter((bug.file, bug.before, bug.after) for _, bug in _ALL)
    assert {key: times for key, times in (names | changes).items() if times > 1} == {}


def test_catalogs_have_all_their_bugs() -> None:
    """A catalog never shrinks below its number of bugs."""
    sizes = Counter(catalog for catalog, _ in _ALL)
    assert {catalog: sizes[catalog] >= least for catalog, least in _LEAST.items()} == dict.fromkeys(_LEAST, True)


_BUG = {"name": "a-bug", "file": "x.py", "before": "a", "after": "b", "breaks": "It works.", "tests": ["tests/unit"]}


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"name": "A bug"}, "bad name"),
        ({"after": "a"}, "needs a change"),
        ({"tests": []}, "tests to try first"),
        ({"equivalnt": "typo"}, "equivalnt"),
    ],
)
def test_malformed_entry_is_refused(changes: dict[str, object], error: str, tmp_path: Path) -> None:
    """The error names the entry or its member."""
    lines = [f"{name} = {value!r}" for name, value in {**_BUG, **changes}.items()]
    (tmp_path / "some.toml").write_text("\n".join(["[[bug]]", *lines]), encoding="utf-8")
    with pytest.raises(ValueError, match=error):
        read_catalog("some", tmp_path)


@pytest.mark.parametrize("source", ["no such text", "a a"])
def test_bug_that_does_not_fit_is_refused(source: str) -> None:
    """Text that is gone, or no longer unique, is an error that names the entry and its file."""
    bug = Bug(**{**_BUG, "tests": ("tests/unit",), "before": "a"})
    assert bug.planted("a") == "b"
    with pytest.raises(ValueError, match=r"a-bug: .* in x.py"):
        bug.planted(source.replace("such", "?"))
