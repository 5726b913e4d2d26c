"""The page about a deployer's roles knows each resource type of the configuration."""

import re
from fnmatch import fnmatch

import pytest

from tests.terraform.life import Life
from tests.terraform.tool import REPOSITORY, ROOT

pytestmark = pytest.mark.timeout(1800)

PAGE = (REPOSITORY / "docs/reference/deployer-roles.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| `(google_[\w*]+)` \| (.+) \| .+ \| (\w+) \|$", PAGE, re.MULTILINE)
"""Type or pattern, roles, where the type is used."""


def _types() -> set[str]:
    """Return the Google types of all resources and data sources in the configuration's files."""
    files = "\n".join(path.read_text(encoding="utf-8") for path in (REPOSITORY / ROOT).rglob("*.tf"))
    return set(re.findall(r'^(?:resource|data) "(google_\w+)"', files, re.MULTILINE))


def _roles(cell: str) -> set[str]:
    return set(re.findall(r"`([\w.]+)`", cell))


def test_each_type_has_one_row() -> None:
    """A new type needs a row, and a row without a type grants too much."""
    types = _types()
    assert len(types) > 30
    patterns = [pattern for pattern, _, _ in ROWS]
    assert {type_ for type_ in types if sum(fnmatch(type_, pattern) for pattern in patterns) != 1} == set()
    assert [pattern for pattern in patterns if not any(fnmatch(type_, pattern) for type_ in types)] == []
    assert all(_roles(cell) for _, cell, _ in ROWS)


def test_rows_say_which_example_has_the_type(minimal: Life, production: Life, github: Life) -> None:
    """The column equals the types of the applied examples. A data source is in no state."""
    lives = {"minimal": minimal, "production": production}
    used = {name: {found.type for found in life.resources} for name, life in lives.items()}
    for pattern, _, where in ROWS:
        found = {name for name, types in used.items() if any(fnmatch(type_, pattern) for type_ in types)}
        said = {"both": {"minimal", "production"}, "production": {"production"}}.get(where, set())
        assert found == said or pattern in {"google_project", "google_artifact_registry_docker_image"}, pattern
    more = {found.type for found in github.resources} - used["minimal"]
    assert more == {pattern for pattern, _, where in ROWS if where == "github"}


def test_the_command_grants_the_roles_of_both_examples() -> None:
    """The roles of the command are those of the rows."""
    command = PAGE.partition("for role in")[2].partition("\ndo")[0]
    needed = [_roles(cell) for _, cell, where in ROWS if where == "both"]
    assert set(re.findall(r"[\w.]+", command)) == set().union(*needed)


def test_the_condition_names_the_roles_on_the_project() -> None:
    """The condition permits exactly the roles that Terraform grants on the project."""
    files = "\n".join(path.read_text(encoding="utf-8") for path in (REPOSITORY / ROOT).rglob("*.tf"))
    blocks = re.findall(r'^resource "google_project_iam_member".*?^}', files, re.MULTILINE | re.DOTALL)
    granted = {role for block in blocks for role in re.findall(r'role\s+= "(roles/[\w.]+)"', block)}
    assert set(re.findall(r'"(roles/[\w.]+)"', PAGE)) == granted
