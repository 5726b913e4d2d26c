"""The file of triggers."""

from pathlib import Path

import pytest

from emulator.cloud_build.triggers import read_triggers
from emulator.errors import LocalCloudError
from emulator.optional_servers import choose_triggers

FILE = """
[triggers.widget-ci]
location = "us-central1"
repository = "https://github.com/example-org/widget"
substitutions = { _MODE = "fast" }
tags = ["ci"]
steps = [{ name = "python:3.12", args = ["tests.py"] }]
approval = true
plan = [{ status = "WORKING" }, { status = "FAILURE", after = "2s" }]

[triggers.nightly]
"""


def write(folder: Path, text: str) -> Path:
    """Write the file and return its path."""
    path = folder / "triggers.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_file(tmp_path: Path) -> None:
    """A trigger needs only its name. Its ID is a UUID that stays."""
    first, second = read_triggers(write(tmp_path, FILE))
    assert (first.name, first.location, first.tags) == ("widget-ci", "us-central1", ("ci",))
    assert (first.approval, first.substitutions) == (True, {"_MODE": "fast"})
    assert first.steps == ({"name": "python:3.12", "args": ["tests.py"]},)
    assert first.plan is not None
    assert (second.location, second.repository, second.plan) == ("global", "", None)
    assert [len(trigger.id) for trigger in (first, second)] == [36, 36]
    assert choose_triggers(None, tmp_path) == choose_triggers(tmp_path / "triggers.toml", None) == [first, second]


def test_without_a_file(tmp_path: Path) -> None:
    """The folder need not have the file, but a file that the user names must exist."""
    assert choose_triggers(None, None) == choose_triggers(None, tmp_path) == []
    with pytest.raises(LocalCloudError, match="name another one in --triggers"):
        choose_triggers(tmp_path / "none.toml", None)
    with pytest.raises(LocalCloudError, match="cannot be read: Is a directory"):
        read_triggers(tmp_path)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("x = 1", "and nothing else"),
        ("triggers = 1", "and nothing else"),
        ("[triggers.a]\ncolour = 1", 'unknown key "colour"'),
        ("[triggers.a]\nsteps = [{ colour = 1 }]", 'the steps of the trigger "a" are not valid'),
        ("[triggers.a]\nplan = 1", "a plan is a list"),
        ("[triggers.a", "end of a table declaration"),
    ],
)
def test_a_bad_file(tmp_path: Path, text: str, reason: str) -> None:
    """The error names the file and the fault."""
    with pytest.raises(LocalCloudError, match=r"triggers\.toml: ") as caught:
        read_triggers(write(tmp_path, text))
    assert reason in str(caught.value)
