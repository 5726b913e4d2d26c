"""The memory that a function needs for the largest inputs it accepts: less than Cloud Run gives it by default."""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from luci_scheduler.adapters.commit_answers import MAX_BODY_BYTES
from luci_scheduler.core.commit_event import MAX_GERRIT_BYTES
from luci_scheduler.core.github_push import MAX_PAYLOAD_BYTES
from luci_scheduler.core.untrusted import MAX_VALUES
from tests.deployed import link_deployment
from tests.pushes import payload

_SERVER_MIB = 32
"""For the parent process of the web server, which shares most of its pages, and for the sandbox."""


def _memory_mib() -> int:
    variables = Path(__file__).parents[2] / "infra" / "terraform" / "variables.tf"
    (part,) = re.findall(r"on_task = optional\(object\(\{(.*?)\}\)", variables.read_text(), re.DOTALL)
    (memory,) = re.findall(r'memory *= optional\(string, "(\d+)Mi"\)', part)
    return int(memory)


def _event() -> bytes:
    """Return the push of a Gerrit event with as many refs as its bytes hold."""
    head = b'{"url":"https://r.googlesource.com/r","refUpdateEvent":{"refUpdates":{'
    refs = (b'"refs/heads/%06d":{"newId":"%040x"}' % (number, number + 1) for number in range(MAX_GERRIT_BYTES // 74))
    data = head + b",".join(refs) + b"}}}"
    assert MAX_GERRIT_BYTES * 0.9 < len(data) <= MAX_GERRIT_BYTES
    message = {"data": base64.b64encode(data).decode(), "messageId": "1", "publishTime": "2026-03-01T12:00:00Z"}
    return json.dumps({"message": message, "subscription": "projects/p/subscriptions/s"}).encode()


def _answer() -> bytes:
    """Return an answer of the most bytes and the most values. Small objects take the most memory for their bytes."""
    values = b",".join(b'{"%d":%d}' % (number, number) for number in range(MAX_VALUES // 2 - 8))
    answer = b')]}\'\n{"values":[' + values + b'],"padding":"'
    return answer + b"x" * (MAX_BODY_BYTES - len(answer) - 2) + b'"}'


def _push() -> bytes:
    """Return a push of the most bytes and the most values that the webhook reads."""
    document = json.dumps(payload({"pushed_at": int(time.time())}, commits=["COMMITS"])).encode()
    values = b",".join(b'{"%d":%d}' % (number, number) for number in range(MAX_VALUES // 2 - 100))
    room = MAX_PAYLOAD_BYTES - len(document) - len(values) + len(b'"COMMITS"') - len(b',""')
    body = document.replace(b'"COMMITS"', values + b',"' + b"x" * room + b'"')
    assert len(body) == MAX_PAYLOAD_BYTES
    return body


@pytest.fixture(scope="module", name="deployment")
def _deployment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("deployment")
    link_deployment(folder)
    return folder


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has /proc, which shows the memory of a process")
@pytest.mark.parametrize(("kind", "make"), [("event", _event), ("answer", _answer), ("push", _push)])
def test_the_largest_input_fits_into_the_memory_of_a_function(
    kind: str, make: Callable[[], bytes], deployment: Path, tmp_path: Path
) -> None:
    """Cloud Run kills an instance that needs more, and the same input would come again."""
    file = tmp_path / "input"
    file.write_bytes(make())
    script = Path(__file__).with_name("peak_memory.py")
    done = subprocess.run(
        [sys.executable, "-S", script, kind, deployment / "main.py", file],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(deployment), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    peak = int(done.stdout.splitlines()[-1])
    assert peak <= _memory_mib() - _SERVER_MIB
