"""A planted bug is judged by tests in a copy, and the copy is whole again afterwards."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.planted.catalog import ROOT, Bug
from tests.planted.planting import Copy, RedError, copy_files, unit_tests_of

_BUG = Bug(name="a-bug", file="sum.py", before="a + b", after="a - b", breaks="Sums.", tests=("test_sum.py",))
_TEST = """
import pytest
from sum import add

@pytest.mark.parametrize("total", [{1}], ids=["it is {1}"])
def test_add(total):
    assert add(2, {0}) == total
"""


@pytest.fixture
def copy(tmp_path: Path) -> Iterator[Copy]:
    """A tree with one function, one test that sees it, and all unit tests in another file that does not."""
    (tmp_path / "sum.py").write_text("def add(a, b):\n    return a + b\n", encoding="utf-8")
    (tmp_path / "test_sum.py").write_text(_TEST.format(1, 3), encoding="utf-8")
    (tmp_path / "tests" / "unit").mkdir(parents=True)
    (tmp_path / "tests" / "unit" / "test_none.py").write_text("def test_none():\n    pass\n", encoding="utf-8")
    copy = Copy(tmp_path, packages=())
    yield copy
    copy.close()


def test_bug_is_caught_by_the_first_failing_test(copy: Copy) -> None:
    """The verdict names the test, the source is restored, and the test succeeds without the bug."""
    verdict = copy.judge(_BUG)
    assert verdict.caught_by == "test_sum.py::test_add[it is 3]"
    assert "a + b" in (copy.root / "sum.py").read_text(encoding="utf-8")
    copy.check([verdict])


def test_bug_that_no_test_notices_survives(copy: Copy) -> None:
    """The package's unit tests are tried after the bug's own; here neither looks at the sum."""
    (copy.root / "test_sum.py").write_text(_TEST.format(0, 2), encoding="utf-8")
    assert copy.judge(_BUG).caught_by == ""


def test_test_that_fails_anyway_catches_nothing(copy: Copy) -> None:
    """A red test proves nothing about a bug, so it is an error."""
    (copy.root / "test_sum.py").write_text(_TEST.format(1, 4), encoding="utf-8")
    verdict = copy.judge(_BUG)
    with pytest.raises(RedError, match="without a bug"):
        copy.check([verdict])


def test_package_has_its_own_unit_tests() -> None:
    """Files outside the packages that have a folder of unit tests get all unit tests."""
    assert unit_tests_of("functions/luci_scheduler/engine/launch.py") == "tests/unit/engine"
    assert unit_tests_of("functions/luci_scheduler/ports.py") == "tests/unit"
    assert unit_tests_of("emulator/memory/store.py") == "tests/unit/emulator"


def test_copy_has_the_files_of_the_checkout(tmp_path: Path) -> None:
    """Ignored files, such as the environment, are not copied."""
    copy_files(ROOT, tmp_path)
    assert (tmp_path / "functions" / "luci_scheduler" / "entry.py").is_file()
    assert not (tmp_path / ".venv").exists()
