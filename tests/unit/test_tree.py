"""The files in git: none belongs to one machine."""

import subprocess
from pathlib import Path

import pytest

_ROOT = Path(__file__).parents[2]
_LINK = "120000"
"""Mode of a symbolic link in git's index."""


def _git(*arguments: str) -> list[str]:
    command = ["git", "-C", str(_ROOT), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.splitlines()


@pytest.mark.skipif(not (_ROOT / ".git").exists(), reason="an archive has no index")
def test_no_file_of_a_single_machine_is_checked_in() -> None:
    """No ignored file and no link. A `.venv` link to another checkout's environment breaks `make` in a clone."""
    assert _git("ls-files", "--cached", "--ignored", "--exclude-standard") == []
    assert [line for line in _git("ls-files", "--stage") if line.startswith(_LINK)] == []
