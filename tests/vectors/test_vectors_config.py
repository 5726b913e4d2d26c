"""The vectors of config validation."""

import pytest

from luci_scheduler.config.validator import validate
from luci_scheduler.core.ref_validation import ref_problems
from tests.vectors.support import Case, cases, era


@pytest.mark.parametrize("case", cases("config_validation"))
def test_vector_config_validation(case: Case) -> None:
    """The errors have the original's paths and texts, in its order. ``strict`` is the original's strictness."""
    found = validate(case["config"], project=case["project"], era=era(case["era"]), strict=True).errors
    assert (not found) == case["valid"]
    if case.get("parse_error"):
        (error,) = found
        assert error.path == ()
        return
    assert [list(error.path) for error in found] == [expected["path"] for expected in case["errors"]]
    for error, expected in zip(found, case["errors"], strict=True):
        assert expected["contains"] in error.message


@pytest.mark.parametrize("case", cases("ref_validation"))
def test_vector_ref_validation(case: Case) -> None:
    """An entry of ``refs`` is refused for the original's reasons, in its order."""
    problems = ref_problems(case["ref"])
    assert (not problems) == case["valid"]
    assert len(problems) == len(case["errors"])
    for problem, expected in zip(problems, case["errors"], strict=True):
        assert expected in problem
