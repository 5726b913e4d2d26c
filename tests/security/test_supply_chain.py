"""Everything that an installation downloads is pinned to its content."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from emulator import downloads
from emulator.errors import LocalCloudError

ROOT = Path(__file__).parents[2]
LOCKS = (
    "functions/requirements.txt",
    "requirements/dev.txt",
    "requirements/java.txt",
    "tests/clients/requirements.txt",
)
_PIN = re.compile(r"[A-Za-z0-9._-]+(\[[a-z0-9,-]+\])?==[A-Za-z0-9.!+_-]+( ;.*)?")
_HASH = re.compile(r"--hash=sha256:[0-9a-f]{64}")


@pytest.mark.parametrize("lock", LOCKS)
def test_each_package_is_pinned_with_checksums(lock: str) -> None:
    """One version, and one checksum at least. No line names another index or an address."""
    text = re.sub(r"\\\n\s*", " ", (ROOT / lock).read_text(encoding="utf-8"))
    lines = [line.partition(" #")[0].strip() for line in text.splitlines()]
    packages = [line for line in lines if line and not line.startswith("#")]
    assert packages
    for line in packages:
        words = re.split(r"\s+(?=--hash)", line)
        assert _PIN.fullmatch(words[0]), line
        assert len(words) > 1, f"{words[0]} has no checksum"
        assert all(_HASH.fullmatch(word.strip()) for word in words[1:]), line


def _installations() -> list[tuple[str, str]]:
    files = [
        ROOT / "Makefile",
        *(ROOT / ".ci").iterdir(),
        *(ROOT / "infra").rglob("*"),
        *(ROOT / "tests").rglob("*.py"),
    ]
    names = {".tf", ".sh", ".py", ""}
    found = []
    for file in files:
        if file.is_file() and file.suffix in names and file != Path(__file__):
            lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
            found += [(file.name, line) for line in lines if re.search(r"pip.{0,3} install\b.* -r ", line)]
    return found


def test_each_installation_checks_them() -> None:
    """Pip compares checksums only if it must, or if each requirement has one."""
    lines = _installations()
    assert len(lines) >= 2
    for file, line in lines:
        assert "--require-hashes" in line, (file, line)


def test_the_emulators_are_pinned() -> None:
    """`test_downloads` shows that another file is refused."""
    source = (ROOT / "emulator/downloads.py").read_text(encoding="utf-8")
    assert len(re.findall(r'"[0-9a-f]{64}"', source)) >= 2


def test_a_download_ends_at_the_pinned_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that sends another file cannot fill the disk."""
    taken: list[bytes] = []

    def endless(_: str) -> Iterator[bytes]:
        while len(taken) < 1_000:
            taken.append(b"x" * 100)
            yield taken[-1]

    monkeypatch.setattr(downloads, "_chunks", endless)
    pinned = downloads.Artefact("archive.zip", 250, "0" * 64)
    with pytest.raises(LocalCloudError, match="more than 250 of 250 bytes"):
        downloads._download("https://d.invalid/archive.zip", pinned, tmp_path / "archive.zip")
    assert len(taken) == 3
    assert list(tmp_path.iterdir()) == []
