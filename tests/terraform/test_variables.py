"""A plan refuses wrong values, with a message that names the variable and a remedy."""

import re
from collections.abc import Sequence
from subprocess import CompletedProcess

import pytest

from tests.terraform.tool import REPOSITORY, ROOT
from tests.terraform.wrong_values import ROUNDS, WRONG

pytestmark = pytest.mark.timeout(1800)


def test_every_variable_is_tried() -> None:
    """Each variable has a wrong value in the test."""
    text = (REPOSITORY / ROOT / "variables.tf").read_text(encoding="utf-8")
    assert set(re.findall(r'^variable "(\w+)"', text, re.MULTILINE)) == set(WRONG)
    assert text.count("validation {") <= sum(len(case[1]) for cases in WRONG.values() for case in cases if case)


@pytest.mark.parametrize("number", range(len(ROUNDS)))
def test_wrong_values_are_refused(refused: Sequence[CompletedProcess[str]], number: int) -> None:
    """The plan names each variable and its remedy."""
    case, done = ROUNDS[number], refused[number]
    assert done.returncode == 1
    said = re.sub(r"[\s│]+", " ", done.stdout + done.stderr)
    errors = [part for part in said.split("Error: ") if part.startswith("Invalid value for variable")]
    tried = [(name, remedy) for name, (_, remedies) in case.items() for remedy in remedies]
    for name, remedy in tried:
        found = [error for error in errors if f"var.{name}" in error and remedy in error]
        assert len(found) == 1, (name, remedy, errors)
        # The message itself names the variable, not only Terraform's frame around it.
        assert re.search(rf"(?<![.\w]){name}\b", found[0]), found
    assert len(errors) == len(tried)


def test_a_wrong_type_is_refused(refused: Sequence[CompletedProcess[str]]) -> None:
    """The message names a misspelled or missing attribute."""
    done = refused[-1]
    assert done.returncode == 1
    assert "buildbucket_servers" in done.stdout + done.stderr
    assert '"publisher" is required' in re.sub(r"[\s│]+", " ", done.stdout + done.stderr)
