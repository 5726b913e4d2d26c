"""Cold starts: from the first import to the first answer of each function, beside the libraries that it needs.

Each start is a fresh process with the compiled files and the requirements of a deployment, and no test tool. The
servers run in another process.
"""

from __future__ import annotations

import base64
import compileall
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import structlog

from emulator.cloud_tasks.oidc import TokenIssuer
from emulator.settings import BUILDBUCKET_HOST
from luci_scheduler.bootstrap import App, make_app
from luci_scheduler.cloud_ports import cloud_ports
from luci_scheduler.config.sync import ConfigFile, sync_project
from luci_scheduler.core.commit_event import CommitEvent
from luci_scheduler.core.identifiers import JobId
from luci_scheduler.core.invocation import Invocation
from luci_scheduler.core.notification_token import make_token
from luci_scheduler.core.queue_tasks import TimerTask, with_version
from luci_scheduler.engine.commit import on_commit
from luci_scheduler.logs import configure_logging
from luci_scheduler.settings import Settings
from luci_scheduler.settings_reader import read_settings
from tests.answering import Answer, answering
from tests.benchmarks import servers
from tests.benchmarks.handlers import made_up
from tests.benchmarks.measure import Measure, interleave
from tests.deployed import FUNCTIONS, link_deployment

__all__ = ["measures"]

_PROCESS = Path(__file__).with_name("cold_process.py")
_JOB = JobId("proj/job")
_REPO, _MAIN = "https://r.googlesource.com/repo", "refs/heads/main"
_CONFIG = f"""
trigger {{ id: "poller" schedule: "triggered" gitiles {{ repo: "{_REPO}" refs: "{_MAIN}" }} triggers: "job" }}
job {{ id: "job" triggering_policy {{ max_concurrent_invocations: 1000 max_batch_size: 1 }}
  buildbucket {{ server: "{BUILDBUCKET_HOST}" bucket: "ci" builder: "job" }} }}
"""
_PUSHES = "push@project.iam.gserviceaccount.com"
_NO_WORK = """
import functions_framework
on_gitiles_commit = functions_framework.cloud_event(lambda event: None)
on_build_completion = functions_framework.cloud_event(lambda event: None)
on_task = functions_framework.http(lambda request: "")
console = functions_framework.http(lambda request: "")
"""

Start = Mapping[str, float]
"""What a process has printed: milliseconds by the step that ended then, and the number of modules."""


def measures(*, quick: bool) -> list[Measure]:
    """Start each function in turn with its libraries; two measures for each function.

    Imports are compared by CPU time: they wait for nothing, and other work on the machine disturbs it less.
    """
    with _stage() as stage:
        return [measure for function in FUNCTIONS for measure in _of(function, stage, 3 if quick else 15)]


def _of(function: str, stage: _Stage, rounds: int) -> list[Measure]:
    starts: list[Start] = []

    def ours(number: int) -> float:
        starts.append(stage.start("ours", function, stage.request(function, number)))
        return starts[-1]["clients, CPU"]

    def libraries(_: int) -> float:
        return stage.start("libraries", function, {})["clients, CPU"]

    clients, needed = interleave(ours, libraries, rounds)
    answers = [start["answer"] for start in starts[-rounds:]]
    cpu = statistics.median(start["answer, CPU"] for start in starts[-rounds:])
    details = {"CPU ms": round(cpu, 1), "modules before the request": starts[-1]["modules"]}
    against = "the libraries that it needs"
    return [
        Measure(f"cold start: {function}", "ms", tuple(answers), must=400, aim=320, details=details),
        Measure(
            f"imports and clients: {function}",
            "CPU ms",
            tuple(clients),
            tuple(needed),
            against,
            must=1.10,
            aim=1.03,
        ),
    ]


class _Stage:
    """The servers, an installation with one job, and the requests of its functions."""

    def __init__(self, folder: Path, environment: Mapping[str, str], issuer: TokenIssuer) -> None:
        self._folder, self._environment, self._issuer = folder, environment, issuer
        named = {name: value for name, value in environment.items() if name.startswith("SCHEDULER_")}
        self._settings: Settings = read_settings(named)
        self._app: App = made_up(make_app(self._settings, cloud_ports(self._settings)))
        sync_project(self._app.runtime, ConfigFile("proj", _CONFIG, "r"), "sync")
        on_commit(self._app.runtime, CommitEvent(_REPO, _MAIN, "f" * 40), self._app.runtime.clock.now(), "first")

    def start(self, role: str, function: str, request: Mapping[str, Any]) -> Start:
        """Start a process in one of the roles of `tests.benchmarks.cold_process`."""
        source = self._folder / ("main.py" if role == "ours" else "no_work.py")
        ran = subprocess.run(
            [sys.executable, "-S", _PROCESS, role, function, source],
            input=json.dumps(request),
            env={"PATH": os.environ["PATH"], "PYTHONPATH": str(self._folder), **self._environment},
            check=True,
            stdout=subprocess.PIPE,
            text=True,
            timeout=120,
        )
        found: Start = json.loads(ran.stdout.splitlines()[-1])
        return found

    def request(self, function: str, number: int) -> Mapping[str, Any]:
        """Return a request with work for a function: ``method``, ``path``, ``headers`` and ``body``."""
        settings = self._settings
        if function == "console":
            return {"method": "GET", "path": "/jobs/proj", "headers": {}, "body": ""}
        if function == "on_task":
            return self._posted("/timer", settings.tasks_audience, settings.task_account, self._timer())
        data, attributes = self._message(function, number)
        text = base64.b64encode(json.dumps(data).encode()).decode()
        published = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        about = {"messageId": f"{number}", "publishTime": published, "attributes": attributes}
        push = {"message": {"data": text, **about}, "subscription": "projects/p/subscriptions/s"}
        return self._posted("/", settings.push_audience, _PUSHES, push)

    def _message(self, function: str, number: int) -> tuple[Mapping[str, Any], Mapping[str, str]]:
        if function == "on_gitiles_commit":
            return {"repo": _REPO, "ref": _MAIN, "revision": f"{number + 1:040x}"}, {}
        secret, now = self._settings.token_secrets[0], self._app.runtime.clock.now()
        token = make_token(secret, _JOB, self._invocation().id, now)
        return {"buildPubsub": {}, "userData": base64.b64encode(token.encode()).decode()}, {"version": "v2"}

    def _posted(self, path: str, audience: str, account: str, body: Mapping[str, Any]) -> Mapping[str, Any]:
        token = self._issuer.issue(account, audience, time.time_ns())
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        return {"method": "POST", "path": path, "headers": headers, "body": json.dumps(body)}

    def _invocation(self) -> Invocation:
        *_, first = self._app.runtime.store.invocations(_JOB, 1000)
        return first

    def _timer(self) -> Mapping[str, Any]:
        """Return the task of the status check of the first build."""
        invocation = self._invocation()
        timer = invocation.pending_timers[0]
        return with_version(TimerTask(_JOB, invocation.id, timer.id, timer.created).payload())


@contextmanager
def _stage() -> Iterator[_Stage]:
    issuer = TokenIssuer()
    keys = Answer(200, json.dumps(issuer.certificates()).encode())
    with (
        tempfile.TemporaryDirectory() as place,
        answering(keys) as certificates,
        servers.running() as environment,
        open(os.devnull, "w") as nowhere,  # noqa: PTH123
    ):
        folder = Path(place)
        link_deployment(folder)
        (folder / "no_work.py").write_text(_NO_WORK)
        compileall.compile_dir(folder, quiet=2)
        os.environ["FIRESTORE_EMULATOR_HOST"] = environment["FIRESTORE_EMULATOR_HOST"]
        configure_logging(file=nowhere)
        own = {
            "SCHEDULER_OIDC_CERTS_URL": certificates.url,
            "SCHEDULER_PUSH_ACCOUNT": _PUSHES,
            "SCHEDULER_PUSH_AUDIENCE": "https://push.example.com",
            "SCHEDULER_COMMIT_WAIT_SECONDS": "0",  # the commits are made up
        }
        try:
            yield _Stage(folder, {**environment, **own}, issuer)
        finally:
            structlog.reset_defaults()
