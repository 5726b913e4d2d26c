"""The same essentials with Node's client library: ``node/cloud_tasks.test.js``, run as one test."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from emulator.cloud_tasks import CloudTasksServer

SUITE = Path(__file__).parent / "node"
INSTALL_SECONDS = 180
RUN_SECONDS = 90


def install() -> None:
    """Install the locked packages, unless they are installed as locked."""
    lock, installed = SUITE / "package-lock.json", SUITE / "node_modules" / ".package-lock.json"
    if installed.exists() and installed.stat().st_mtime >= lock.stat().st_mtime:
        return
    command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
    result = subprocess.run(command, cwd=SUITE, capture_output=True, text=True, timeout=INSTALL_SECONDS, check=False)
    assert result.returncode == 0, f"npm ci failed:\n{result.stdout}{result.stderr}"


@pytest.mark.node
@pytest.mark.timeout(INSTALL_SECONDS + RUN_SECONDS + 10)
def test_the_node_suite_passes(live: CloudTasksServer):
    """All cases of the Node suite pass against the live server, and there is at least one."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("node and npm are not on PATH: the Node suite needs both")
    install()
    # The client obeys proxy settings, and would send requests for this server to the proxy.
    env = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    env |= {"CLOUD_TASKS_ADDRESS": live.grpc_address, "CLOUD_TASKS_JWKS_URL": live.jwks_url}
    command = ["node", "--test", "--test-reporter=tap", "cloud_tasks.test.js"]
    result = subprocess.run(
        command, cwd=SUITE, env=env, capture_output=True, text=True, timeout=RUN_SECONDS, check=False
    )
    assert result.returncode == 0, f"the Node suite failed:\n{result.stdout}{result.stderr}"
    passed = re.search(r"^# pass (\d+)$", result.stdout, re.MULTILINE)
    declared = (SUITE / "cloud_tasks.test.js").read_text().count("\ntest(")
    assert passed is not None, result.stdout
    assert int(passed[1]) >= declared > 0, result.stdout
