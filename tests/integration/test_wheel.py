"""The wheel: built, installed into an empty environment, and used from there as a new user does."""

from __future__ import annotations

import configparser
import json
import os
import signal
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest

from tests.waiting import until

ROOT = Path(__file__).parents[2]
CONFIG = 'trigger { id: "t" noop {} triggers: "j" } job { id: "j" noop {} }'
IMPORTED = "import emulator, luci_scheduler; print(emulator.__file__); print(luci_scheduler.__file__)"


class Installed:
    """An environment with the wheel, and a folder to work in; no variable leads back to the checkout."""

    def __init__(self, environment: Path, work: Path) -> None:
        self.bin = environment / "bin"
        self.packages = Path(sysconfig.get_path("purelib", vars={"base": str(environment)}))
        self.work = work
        kept = ("PATH", "HOME", "LANG", "TMPDIR")
        self.variables = {name: os.environ[name] for name in kept if name in os.environ} | {"PYTHONUNBUFFERED": "1"}

    def run(self, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run a program of the environment to its end."""
        command = [str(self.bin / words[0]), *words[1:]]
        env = {**self.variables, **variables}
        return subprocess.run(command, cwd=self.work, env=env, capture_output=True, text=True, check=False, timeout=100)

    def git(self, *words: str) -> None:
        """Run git in the folder."""
        named = ("-c", "user.name=Ana", "-c", "user.email=ana@example.com", "-c", "init.defaultBranch=main")
        subprocess.run(["git", *named, *words], cwd=self.work, check=True, capture_output=True, timeout=60)


@pytest.fixture(scope="module", name="wheel")
def _wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout."""
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=100)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module", name="installed")
def _installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """The wheel in a new environment, with the dependencies of this process but without the project."""
    environment, work = tmp_path_factory.mktemp("wheel") / "venv", tmp_path_factory.mktemp("work")
    venv.create(environment, with_pip=False, symlinks=True)
    installed = Installed(environment, work)
    _unpack(wheel, installed)
    # Files named .pth are not read in a folder that such a file names, so this checkout's editable install stays out.
    (installed.packages / "dependencies.pth").write_text(sysconfig.get_path("purelib"), encoding="utf-8")
    return installed


def _unpack(wheel: Path, installed: Installed) -> None:
    """Install a wheel without pip, which takes seconds: the files, and the program of the only script."""
    with ZipFile(wheel) as archive:
        archive.extractall(installed.packages)
    (scripts,) = installed.packages.glob("*.dist-info/entry_points.txt")
    entries = configparser.ConfigParser()
    entries.read(scripts)
    ((name, place),) = entries["console_scripts"].items()
    module, _, function = place.partition(":")
    lines = [f"#!{installed.bin}/python", "import sys", f"from {module} import {function}", f"sys.exit({function}())"]
    script = installed.bin / name
    script.write_text("\n".join(lines) + "\n", encoding="utf-8")
    script.chmod(0o755)


def _pip(installed: Installed, *words: str) -> None:
    command = [sys.executable, "-m", "pip", "--python", str(installed.bin / "python"), "install", "-q", *words]
    subprocess.run(command, check=True, capture_output=True, timeout=600)


def test_the_wheel_has_everything_that_runs(wheel: Path) -> None:
    """Code, pages and the entry points of the functions; nothing at the top but the two packages."""
    names = ZipFile(wheel).namelist()
    wanted = {
        *[path.relative_to(ROOT).as_posix() for path in (ROOT / "emulator").rglob("*") if _is_source(path)],
        *[
            path.relative_to(ROOT / "functions").as_posix()
            for path in (ROOT / "functions").rglob("*/*")
            if _is_source(path)
        ],
        "emulator/deployed/main.py",
    }
    assert not wanted - {*names}
    assert {name.partition("/")[0].partition("-")[0] for name in names} == {
        "emulator", "luci_scheduler", "serverless_luci_scheduler",
    }  # fmt: skip
    deployed = ZipFile(wheel).read("emulator/deployed/main.py")
    assert deployed == (ROOT / "functions" / "main.py").read_bytes()


def _is_source(path: Path) -> bool:
    return path.is_file() and "__pycache__" not in path.parts


def test_the_command_runs_from_the_wheel(installed: Installed) -> None:
    """No file of the checkout is used: neither by the command nor by the local cloud."""
    where = installed.run("python", "-c", IMPORTED).stdout.split()
    assert [Path(name).parent.parent for name in where] == [installed.packages] * 2
    assert installed.run("luci-scheduler", "--version").stdout == "luci-scheduler 0.1.0\n"
    folder = installed.work / "configs" / "p"
    folder.mkdir(parents=True)
    (folder / "luci-scheduler.cfg").write_text(CONFIG, encoding="utf-8")
    checked = installed.run("luci-scheduler", "config", "validate", "configs")
    assert (checked.returncode, checked.stderr) == (0, "")
    helped = installed.run("luci-scheduler", "local", "up", "--help")
    assert helped.stdout.startswith("usage: luci-scheduler local up ")


def test_a_missing_extra_is_one_line(installed: Installed) -> None:
    """The line names the missing module and the extra that installs it."""
    (installed.packages / "sitecustomize.py").write_text("import sys; sys.modules['werkzeug'] = None", encoding="utf-8")
    try:
        ran = installed.run("luci-scheduler", "local", "up", "--store", "memory", "--no-watch")
    finally:
        (installed.packages / "sitecustomize.py").unlink()
    assert ran.returncode == 1
    assert ran.stderr.splitlines()[-1].startswith("up: werkzeug")
    assert "pip install '.[local]' in the checkout" in ran.stderr
    assert "Traceback" not in ran.stderr


@pytest.fixture(name="cloud")
def _cloud(installed: Installed) -> Iterator[str]:
    """The console of a local cloud that runs a command for each commit of a repository; it ends by itself."""
    installed.git("init", "-q")
    (installed.work / "build.sh").write_text(
        "echo built $REVISION\ntest -f broken && exit 3\nexit 0\n", encoding="utf-8"
    )
    installed.git("add", "build.sh")
    installed.git("commit", "-qm", "Build it")
    up = [str(installed.bin / "luci-scheduler"), "local", "up", "--store", "memory", "--json"]
    up += ["--watch", str(installed.work), "--build", "sh build.sh"]
    log = installed.work / "up.log"
    with log.open("wb") as out, subprocess.Popen(
        up, cwd=installed.work, env=installed.variables, stdin=subprocess.DEVNULL, stdout=out, stderr=out
    ) as process:  # fmt: skip
        try:
            yield until(lambda: _console(log, process), "the console")
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(60)
    assert process.returncode == 0, log.read_text(encoding="utf-8")


def _console(log: Path, process: subprocess.Popen[bytes]) -> str:
    text = log.read_text(encoding="utf-8")
    assert process.poll() is None, text
    found = [json.loads(line) for line in text.splitlines() if line.startswith("{") and line.endswith("}")]
    return next((str(item["console"]) for item in found if "console" in item), "")


def test_a_build_runs_to_its_end_in_a_local_cloud_from_the_wheel(installed: Installed, cloud: str) -> None:
    """The user's own command runs for a commit; the command of the same wheel triggers, follows and explains it."""

    def command(*words: str) -> subprocess.CompletedProcess[str]:
        return installed.run("luci-scheduler", *words, LUCI_SCHEDULER_URL=cloud)

    jobs = until(lambda: _document(command("jobs", "--json"))["jobs"], "the jobs")
    names = [f"{item['job']['jobRef']['project']}/{item['job']['jobRef']['job']}" for item in jobs]
    (job,) = [name for name in names if name.endswith("/build")]
    passed = command("job", "trigger", job, "--revision", "HEAD", "--follow")
    assert passed.returncode == 0, passed.stderr
    assert "built " in passed.stdout
    (installed.work / "broken").touch()
    installed.git("add", "broken")
    installed.git("commit", "-qm", "Break it")
    failed = command("job", "trigger", job, "--revision", "main", "--follow")
    assert failed.returncode == 1, failed.stderr
    assert ": FAILED: The command ended with status 3" in failed.stderr
    listed = command("invocations", job, "--result", "failed")
    assert "Break it" in listed.stdout


def _document(ran: subprocess.CompletedProcess[str]) -> Any:
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout)


@pytest.mark.install
@pytest.mark.parametrize("extras", ["", "[local,cli]"])
def test_pip_installs_the_wheel_with_its_dependencies(wheel: Path, extras: Sequence[str], tmp_path: Path) -> None:
    """Without the checkout's environment: pip finds every dependency, and both commands start."""
    venv.create(tmp_path / "venv", with_pip=False, symlinks=True)
    installed = Installed(tmp_path / "venv", tmp_path)
    _pip(installed, f"{wheel}{extras}")
    assert installed.run("luci-scheduler", "--version").returncode == 0
    ran = installed.run("luci-scheduler", "local", "demo", "--store", "memory")
    assert ran.returncode == (0 if extras else 1), ran.stderr
    assert ("[local]" in ran.stderr) == (not extras)
