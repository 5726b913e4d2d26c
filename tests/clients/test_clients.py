"""Generated clients: two generators read the description, and their clients call every method of a local cloud."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests

from emulator.buildbucket.plans import End, Script, Start
from emulator.local_cloud import LocalCloud
from emulator.options import Options
from emulator.start import start_local_cloud
from luci_scheduler.api.description import PATH
from luci_scheduler.api.json_values import plain_name
from luci_scheduler.api.schema import METHODS, Method, fields_of
from luci_scheduler.core.instants import MILLISECOND
from tests.waiting import until

pytestmark = [pytest.mark.node, pytest.mark.timeout(600)]

HERE = Path(__file__).parent
SECONDS = 240  # of one command; a busy machine installs packages slowly
REPO = "https://r.googlesource.com/repo"
CONFIG = f"""
trigger {{ id: "poller" schedule: "triggered" gitiles {{ repo: "{REPO}" refs: "refs/heads/main" }} triggers: "linux" }}
job {{ id: "linux" buildbucket {{ server: "cr-buildbucket.appspot.com" bucket: "ci" builder: "b" }} }}
"""
JOB = {"project": "demo", "job": "linux"}
_LAST = ("AbortInvocation", "AbortJob", "PauseJob", "ResumeJob")
"""Methods that stop work come last, in this order, so that the job is as before."""


@dataclass(frozen=True, slots=True)
class _Console:
    """A local cloud with two commits of one job, and what a request needs."""

    url: str
    known: Mapping[str, Any]
    """Member of a request → its value."""


@pytest.fixture(scope="module")
def console(tmp_path_factory: pytest.TempPathFactory) -> Iterator[_Console]:
    """A local cloud in memory."""
    folder = tmp_path_factory.mktemp("clients")
    config = folder / "demo/luci-scheduler.cfg"
    config.parent.mkdir()
    config.write_text(CONFIG, encoding="utf-8")
    plan = Script((Start(10 * MILLISECOND), End(30 * MILLISECOND)))
    with start_local_cloud(Options(folder, store="memory", plan=plan)) as cloud:
        older, newer = (_build(cloud, number) for number in (1, 2))
        yield _Console(cloud.console_url, _known(cloud, older, newer))


def _build(cloud: LocalCloud, number: int) -> str:
    revision = cloud.repository(REPO).commit(f"Change {number}", {"a.txt": str(number)})
    cloud.publish_commit(REPO, "refs/heads/main", revision)

    def ended() -> bool:
        found = cloud.invocations("demo/linux")
        return len(found) == number and found[0]["final"]

    until(ended, f"the end of build {number}")
    return revision


def _known(cloud: LocalCloud, older: str, newer: str) -> Mapping[str, Any]:
    (page, *_) = cloud.invocations("demo/linux")
    probe = requests.post(f"{cloud.console_url}/api/v1/scheduler.Operator/StartProbe", json={}, timeout=20).json()
    return {
        **JOB,
        "jobRef": JOB,
        "jobs": [JOB],
        "invocationRef": {"jobRef": JOB, "invocationId": page["invocation_id"]},
        "invocationId": page["invocation_id"],
        "repo": REPO,
        "ref": "refs/heads/main",
        "revision": newer,
        "fromRevision": older,
        "toRevision": newer,
        "probeId": probe["probeId"],
        "triggerIds": [item["id"] for item in page["incoming_triggers"]],
        "batches": [{"trigger": {"id": "from-a-client", "buildbucket": {"properties": {"x": [1.5]}}}, "jobs": [JOB]}],
        "pageSize": 5,
        "reason": "a test of clients",
        "requestId": "from-a-client",
    }


def _requests(known: Mapping[str, Any]) -> list[tuple[Method, dict[str, Any]]]:
    """Return every method with a request that succeeds."""
    ordered = sorted(METHODS, key=lambda method: _LAST.index(method.name) if method.name in _LAST else -1)
    return [
        (method, {name: known[name] for name in map(plain_name, fields_of(method.request)) if name in known})
        for method in ordered
    ]


def _run(command: Sequence[str], *, folder: Path = HERE, **environment: str) -> str:
    kept = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    ran = subprocess.run(
        command, cwd=folder, env={**kept, **environment}, capture_output=True, text=True, timeout=SECONDS, check=False
    )
    assert ran.returncode == 0, f"{' '.join(map(str, command))}:\n{ran.stdout}{ran.stderr}"
    return ran.stdout


def _install(lock: str, mark: Path, command: Sequence[str]) -> None:
    """Install locked packages, unless they are installed as locked."""
    if not mark.exists() or mark.stat().st_mtime < (HERE / lock).stat().st_mtime:
        _run(command)
        mark.touch()


def _describe(console: _Console, folder: Path) -> Path:
    file = folder / "description.json"
    file.write_bytes(requests.get(console.url + PATH, timeout=20).content)
    return file


def _check(said: Mapping[str, Any], seconds: float) -> None:
    """Check what a client printed: each method succeeded, and the client understood its reply."""
    assert [answer for answer in said["answers"] if answer[1] != 200] == []
    assert {answer[0] for answer in said["answers"]} == {method.plain_path for method in METHODS}
    replies = {path.rpartition("/")[2]: reply for path, _, reply in said["answers"]}
    assert [item["jobRef"] for item in replies["GetJobs"]["jobs"]] == [JOB, {"project": "demo", "job": "poller"}]
    assert len(replies["GetInvocations"]["invocations"]) >= 2
    assert len(said["durations"]) >= 2
    assert all(0 <= item < seconds for item in said["durations"])
    assert said["refused"] == {
        "code": "INVALID_ARGUMENT",
        "message": "could not decode body: project must be a text, not the number 1",
        "details": [{"member": "project", "problem": "must be a text, not the number 1"}],
    }


def test_a_typescript_client_calls_every_method(console: _Console, tmp_path: Path) -> None:
    """openapi-typescript, tsc with its strictest options, and openapi-fetch on Node."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("node and npm are not on PATH: the TypeScript client needs both")
    mark = HERE / "node_modules" / ".package-lock.json"
    _install("package-lock.json", mark, ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"])
    for name in ("calls.ts", "tsconfig.json", "package.json"):
        shutil.copy(HERE / name, tmp_path)
    (tmp_path / "node_modules").symlink_to(HERE / "node_modules")
    tools = tmp_path / "node_modules/.bin"
    described = _describe(console, tmp_path)
    _run([str(tools / "openapi-typescript"), described.name, "-o", "schema.d.ts"], folder=tmp_path)
    _run([str(tools / "tsc"), "--project", "."], folder=tmp_path)
    bodies = json.dumps([(method.plain_path, body) for method, body in _requests(console.known)])
    _check(json.loads(_run(["node", "calls.js", console.url, bodies], folder=tmp_path)), 60_000)


def test_a_python_client_calls_every_method(console: _Console, tmp_path: Path) -> None:
    """The client of openapi-python-client, unchanged."""
    packages = HERE / ".python"
    pip = [sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-deps", "--no-compile"]
    target = ["--require-hashes", "--upgrade", "--target", str(packages), "-r", "requirements.txt"]
    _install("requirements.txt", packages / "installed", [*pip, *target])
    described = _describe(console, tmp_path)
    generate = ["generate", "--path", str(described), "--output-path", str(tmp_path / "scheduler_client")]
    options = ["--meta", "none", "--config", str(HERE / "generator.yaml")]
    command = [sys.executable, "-m", "openapi_python_client", *generate, *options]
    assert "WARNING" not in _run(command, PYTHONPATH=str(packages))
    bodies = json.dumps(
        [
            (method.plain_path, f"{method.service.rpartition('.')[2]}{method.name}", body)
            for method, body in _requests(console.known)
        ]
    )
    both = os.pathsep.join((str(tmp_path), str(packages)))
    said = json.loads(_run([sys.executable, str(HERE / "calls.py"), console.url, bodies], PYTHONPATH=both))
    _check(said, 60.0)
