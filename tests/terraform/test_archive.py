"""The deployed archive equals functions/ byte for byte, and starts with only its requirements installed."""

import base64
import io
import json
import os
import subprocess
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests

from emulator.official import OfficialEmulator
from emulator.supervisor import ALL_FUNCTIONS
from emulator.tcp_ports import HOST, require_free
from tests.terraform.life import Life
from tests.terraform.tool import REPOSITORY
from tests.waiting import until

pytestmark = pytest.mark.timeout(1800)

_READY_SECONDS = 90.0


def test_the_archive_is_the_folder(everything: Life) -> None:
    """It contains every file of functions/, and no other file."""
    folder = REPOSITORY / "functions"
    files = {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if "__pycache__" not in path.parts and path.is_file()
    }
    with zipfile.ZipFile(io.BytesIO(everything.archive)) as archive:
        deployed = {name: archive.read(name) for name in archive.namelist()}
    assert set(deployed) == set(files)
    assert deployed == files


def test_every_file_of_the_folder_is_in_version_control() -> None:
    """A stray environment, cache or draft in functions/ would be deployed."""
    listed = subprocess.run(
        ["git", "ls-files", "--others", "--exclude-standard", "functions"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    )
    assert listed.stdout == ""


@contextmanager
def _served(python: Path, source: Path, function: str, environment: dict[str, str]) -> Iterator[str]:
    """Run one function as the cloud does, without its signature type, and yield its address."""
    port = require_free(0, function)
    command = [python, "-m", "functions_framework", f"--source={source}", f"--target={function}"]
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    with subprocess.Popen(
        [*command, f"--host={HOST}", f"--port={port}"],
        env={**kept, **environment, "FUNCTION_SIGNATURE_TYPE": "http"},
        cwd=source.parent,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        url = f"http://{HOST}:{port}"
        try:
            _wait(url, process)
            yield url
        finally:
            process.terminate()


def _wait(url: str, process: subprocess.Popen[str]) -> None:
    def answers() -> bool:
        assert process.poll() is None, process.stdout.read() if process.stdout else ""
        try:
            requests.get(f"{url}/favicon.ico", timeout=5)
        except (requests.ConnectionError, requests.Timeout):
            return False
        return True

    until(answers, f"{url} answers", seconds=_READY_SECONDS)


def _push(message: dict[str, Any], subscription: str) -> dict[str, Any]:
    data = base64.b64encode(json.dumps(message).encode()).decode()
    about = {"messageId": "1", "publishTime": "2026-01-01T00:00:00Z", "attributes": {}}
    return {"message": {"data": data, **about}, "subscription": subscription}


def test_the_archive_starts_and_takes_pushes(
    everything: Life, clean_python: Path, firestore_emulator: OfficialEmulator, tmp_path: Path
) -> None:
    """Each function starts as deployed, and a raw push to a subscription's path reaches the function."""
    with zipfile.ZipFile(io.BytesIO(everything.archive)) as archive:
        archive.extractall(tmp_path)
    extra = {
        "SCHEDULER_TOKEN_SECRETS": "the signing secret",
        "SCHEDULER_GITHUB_WEBHOOK_SECRETS": "the secret of the webhook",
        # The other settings keep the functions away from Google's servers.
        "FIRESTORE_EMULATOR_HOST": firestore_emulator.address,
        "SCHEDULER_CLOUD_TASKS_ENDPOINT": f"{HOST}:1",
        "SCHEDULER_LOCAL": "true",
    }
    messages = {
        "on_gitiles_commit": {"repo": "https://h.googlesource.com/r", "ref": "refs/heads/main", "revision": "a" * 40},
        "on_build_completion": {"build": {"id": 1}},
        # It names an invocation that does not exist, so the function reads the store.
        "on_cloud_build": {
            "id": "a-build",
            "substitutions": {
                "_SCHEDULER_APP": everything.environments["on_cloud_build"]["SCHEDULER_APP_ID"],
                "_SCHEDULER_JOB": "project/job",
                "_SCHEDULER_INVOCATION": "9000000000000000016",
            },
        },
    }
    # Path of a request without a token or a signature → its answer.
    refusals = {"on_task": ("/sweep", 401), "console": ("/sweep", 403), "on_github_push": ("/github", 401)}
    pushed = 0
    for function, environment in everything.environments.items():
        keys = {"SCHEDULER_GITHUB_PRIVATE_KEY": "a key"} if "SCHEDULER_GITHUB_APP_ID" in environment else {}
        deployed, subscribed = {**environment, **extra, **keys}, _subscribed(everything, function)
        with _served(clean_python, tmp_path / "main.py", function, deployed) as url:
            for path, subscription in subscribed.items():
                answer = requests.post(url + path, json=_push(messages[function], subscription), timeout=30)
                assert answer.status_code == 401, "Pub/Sub's token is missing"
            if ALL_FUNCTIONS[function] == "http":
                path, code = refusals[function]
                assert requests.post(url + path, json={}, timeout=30).status_code == code
        if not subscribed:
            continue
        # Without the account, the local cloud's function accepts pushes without a token.
        with _served(clean_python, tmp_path / "main.py", function, {**deployed, "SCHEDULER_PUSH_ACCOUNT": ""}) as url:
            for path, subscription in subscribed.items():
                answer = requests.post(url + path, json=_push(messages[function], subscription), timeout=30)
                assert answer.status_code == 200, (function, answer.text)
                pushed += 1
    assert pushed == 5


def _subscribed(life: Life, function: str) -> dict[str, str]:
    """Return path → subscription of the pushes to a function."""
    base = _base(life, function)
    return {
        push["push_endpoint"].removeprefix(base): item["id"]
        for item in life.all("google_pubsub_subscription")
        for push in item["push_config"]
        if push["oidc_token"][0]["audience"] == base
    }


def _base(life: Life, function: str) -> str:
    on_task = life.environments["on_task"]["SCHEDULER_TASK_URL"]
    return on_task.replace("on-task", function.replace("_", "-"))
