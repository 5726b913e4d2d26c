"""The tutorial works as written: its commands run in its order, with the results that it promises."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from emulator.tcp_ports import free_port
from tests.waiting import until

ROOT = Path(__file__).parents[2]
TUTORIAL = (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")
README = (ROOT / "README.md").read_text(encoding="utf-8")
_BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```", TUTORIAL, re.DOTALL | re.MULTILINE)


def _block(start: str) -> str:
    """Return the only fenced block of the tutorial that starts with a text."""
    (block,) = (text for _, text in _BLOCKS if text.startswith(start))
    return str(block)


class _User:
    """The terminals of a user: the commands of the tutorial, on ports that are free."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "serverless-luci-scheduler"
        self.folder.mkdir()
        self.output = folder / "up.txt"
        self._ports = {"8080": str(free_port()), "8081": str(free_port())}
        names = {
            f"GIT_{role}_{part}": "ada@example.com" for role in ("AUTHOR", "COMMITTER") for part in ("NAME", "EMAIL")
        }
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        self._environment = {**os.environ, **names, "PATH": path, "GIT_CONFIG_GLOBAL": os.devnull}

    def _here(self, text: str) -> str:
        return re.sub("|".join(self._ports), lambda found: self._ports[found[0]], text)

    def run(self, start: str) -> str:
        """Run the block that starts with a text, in the folder where the block before ended; return its output."""
        script = f"set -e\n{self._here(_block(start))}\npwd >&2\n"
        ran = subprocess.run(
            ["sh", "-c", script],
            cwd=self.folder,
            env=self._environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert ran.returncode == 0, ran.stdout + ran.stderr
        self.folder = Path(ran.stderr.splitlines()[-1])
        return ran.stdout

    def start(self, start: str) -> subprocess.Popen[str]:
        """Run the one command of a block in the second terminal, in memory."""
        command = f"exec {self._here(_block(start)).strip()} --store memory"
        with self.output.open("w") as file:
            return subprocess.Popen(
                ["sh", "-c", command], cwd=self.folder, env=self._environment, stdout=file, stderr=file, text=True
            )

    def sees(self, pattern: str) -> bool:
        """Return whether the second terminal has a line with a pattern."""
        return re.search(pattern, self.output.read_text(encoding="utf-8")) is not None

    def save(self, path: str, text: str) -> None:
        """Save a file, with the path that the tutorial names."""
        assert f"`{path}`" in TUTORIAL
        file = self.folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")


@pytest.fixture(name="user")
def _user(tmp_path: Path) -> Iterator[_User]:
    """A user who has done the first step: `up` runs, and its end is as clean as after Ctrl-C."""
    user = _User(tmp_path)
    user.run("mkdir ../hello")
    with user.start("luci-scheduler local up --folder") as process:
        try:
            until(lambda: user.sees("The local cloud is up"))
            yield user
            os.kill(process.pid, signal.SIGINT)
            assert process.wait(60) == 0
        finally:
            process.kill()


@pytest.mark.timeout(180)
def test_the_tutorial(user: _User) -> None:
    """A failure, its correction, the commands, an own config, and a command for each builder."""
    assert user.sees(r"git push http://127\.0\.0\.1:\d+/sample\.googlesource\.com/engine HEAD:main")
    user.run("git remote add local")
    until(lambda: user.sees(r"FAILURE +sample/ci/Linux Tests at [0-9a-f]{12} FAILURE after [\d.]+ s: testing"))
    assert user.sees(r"build +sample/ci/Linux Tests at [0-9a-f]{12} started +http://")
    user.run("echo hello > greeting.txt")
    until(lambda: user.sees(r"build +sample/ci/Linux Tests at [0-9a-f]{12} SUCCESS"))
    assert "linux-tests" in user.run("export LUCI_SCHEDULER_URL")

    user.save("../my-cloud/builders.toml", _block("[builders]"))
    user.save("../my-cloud/configs/hello/luci-scheduler.cfg", _block("trigger {"))
    until(lambda: user.sees(r"config +the config of hello is in force: 3 jobs, 0 warnings"))
    user.run("git push http://127.0.0.1:8081/example")
    for builder in ("tests", "docs"):
        until(lambda builder=builder: user.sees(rf"build +hello/ci/{builder} at [0-9a-f]{{12}} SUCCESS"))


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
