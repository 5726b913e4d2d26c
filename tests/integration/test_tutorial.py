"""The tutorial works as written: its config is valid, and its script builds a commit with its build command."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TUTORIAL = (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")


def _block(start: str) -> str:
    """Return the only fenced block of the tutorial that starts with a text."""
    (block,) = (text for text in re.findall(r"```\w*\n(.*?)```", TUTORIAL, re.DOTALL) if text.startswith(start))
    return str(block)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with the files and the repository that the tutorial creates."""
    config = tmp_path / "my-cloud" / "configs" / "hello" / "luci-scheduler.cfg"
    config.parent.mkdir(parents=True)
    config.write_text(_block("trigger {"), encoding="utf-8")
    (tmp_path / "build.sh").write_text(_block("set -e"), encoding="utf-8")
    (tmp_path / "own_build.py").write_text(_block("from contextlib"), encoding="utf-8")
    return tmp_path


def test_the_config_is_valid(folder: Path) -> None:
    """`luci-scheduler config validate` prints the line that the tutorial promises."""
    command = [sys.executable, "-m", "luci_scheduler.cli.main", "config", "validate", "my-cloud/configs"]
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    promised = "1 file checked: 0 errors, 0 warnings"
    assert promised in TUTORIAL
    assert result.stdout.strip() == promised


def test_the_script_builds_a_pushed_commit(folder: Path) -> None:
    """The poller finds the commit of the tutorial, and `build.sh` checks it out and succeeds."""
    bare = folder / "my-cloud" / "repositories" / "example.googlesource.com" / "hello"
    identity = ["-c", "user.name=Ada", "-c", "user.email=ada@example.com"]
    for command in (
        ["git", "init", "-q", "--bare", "-b", "main", str(bare)],
        ["git", "clone", "-q", str(bare), "hello"],
        ["sh", "-c", "echo hello > hello/hello.txt"],
        ["git", "-C", "hello", "add", "hello.txt"],
        ["git", "-C", "hello", *identity, "commit", "-q", "-m", "Add hello.txt"],
        ["git", "-C", "hello", "push", "-q", "origin", "HEAD:main"],
    ):
        subprocess.run(command, cwd=folder, check=True, capture_output=True)
    # It never ends by itself, so end it after the line about the first invocation.
    with subprocess.Popen([sys.executable, "own_build.py"], cwd=folder, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline().startswith("The pages are at http://127.0.0.1:")
            assert re.fullmatch(r"[0-9]+ SUCCEEDED\n", process.stdout.readline())
        finally:
            process.kill()
