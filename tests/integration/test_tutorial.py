"""The tutorial works as written: its commands run in its order, with the results that it promises."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.reader import Reader, reading

ROOT = Path(__file__).parents[2]
TUTORIAL = (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")
README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.fixture(name="user")
def _user(tmp_path: Path) -> Iterator[Reader]:
    """A reader who has done the first step: `up` runs."""
    user = Reader(TUTORIAL, tmp_path, ("8080", "8081"))
    user.run("mkdir ../hello")
    with reading(user, "luci-scheduler local up --folder"):
        yield user


@pytest.mark.timeout(180)
def test_the_tutorial(user: Reader) -> None:
    """A failure, its correction, the commands, an own config, and a command for each builder."""
    assert user.sees(r"git push http://127\.0\.0\.1:\d+/sample\.googlesource\.com/engine HEAD:main")
    user.run("git remote add local")
    user.waits_for(r"FAILURE +sample/ci/Linux Tests at [0-9a-f]{12} FAILURE after [\d.]+ s: testing")
    assert user.sees(r"build +sample/ci/Linux Tests at [0-9a-f]{12} started +http://")
    user.run("echo hello > greeting.txt")
    user.waits_for(r"build +sample/ci/Linux Tests at [0-9a-f]{12} SUCCESS")
    assert "linux-tests" in user.run("export LUCI_SCHEDULER_URL")

    user.save("../my-cloud/builders.toml", user.block("[builders]"))
    user.run("mkdir ../my-cloud")
    user.save("../my-cloud/configs/hello/luci-scheduler.cfg", user.block("trigger {"))
    user.waits_for(r"config +the config of hello is in force: 3 jobs, 0 warnings")
    user.run("git push http://127.0.0.1:8081/example")
    for builder in ("tests", "docs"):
        user.waits_for(rf"build +hello/ci/{builder} at [0-9a-f]{{12}} SUCCESS")


def test_the_pip_commands_of_the_readme_install_the_local_cloud() -> None:
    """Without the extra, the README's next command refuses to start."""
    commands = re.findall(r"`((?:pip|pipx) [^`]*)`", README)
    assert commands
    assert [command for command in commands if "[local]" not in command] == []


def test_every_command_of_the_readme_exists() -> None:
    """The README's options of `up` are those of its help."""
    options = set(re.findall(r"(--[a-z-]+)", "".join(re.findall(r"local up (.*)", README + TUTORIAL))))
    command = [sys.executable, "-m", "emulator", "up", "--help"]
    listed = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    assert options
    assert {option for option in options if option not in listed} == set()
