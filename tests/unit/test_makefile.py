"""The Makefile: its default target, and an unsuitable Python."""

import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]


def _make(folder: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(["make", *words], cwd=folder, capture_output=True, text=True, check=False, timeout=60)


def test_plain_make_lists_every_target() -> None:
    """It installs nothing, so a newcomer can look first."""
    listed = _make(ROOT, "--no-print-directory")
    assert listed.returncode == 0
    lines = listed.stdout.splitlines()
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = text.partition(".PHONY: ")[2].partition("\n")[0].split()
    assert sorted(line.split()[0] for line in lines[1:-1]) == sorted(targets)


def test_an_old_python_is_one_line(tmp_path: Path) -> None:
    """The line names the program, and the way to choose another one; nothing is installed."""
    shutil.copy(ROOT / "Makefile", tmp_path)
    (tmp_path / "requirements").mkdir()
    for name in ("requirements/dev.txt", "pyproject.toml"):
        (tmp_path / name).touch()
    old = tmp_path / "python3.10"
    old.write_text("#!/bin/sh\nexit 1\n", encoding="utf-8")
    old.chmod(0o755)
    made = _make(tmp_path, "-s", f"PYTHON={old}", "up")
    assert made.returncode == 2
    line, *_ = made.stderr.splitlines()
    assert line.startswith(f"this project needs Python 3.11 or newer, and {old} is older or missing: ")
    assert not (tmp_path / ".venv").exists()
