"""The modules that each function loads until its first answer: it waits for nothing that only other functions need.

A fresh process for each function has the files of a deployment, and no test tool.
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import flask
import pytest

from emulator.cloud_tasks.oidc import TokenIssuer
from luci_scheduler.core.identifiers import InvocationId, JobId
from luci_scheduler.core.instants import Instant
from luci_scheduler.core.notification_token import make_token
from tests.answering import Answer, answering
from tests.deployed import FUNCTIONS, link_deployment
from tests.pushes import SECRET, delivery, payload

ALL = (*FUNCTIONS, "on_cloud_build", "on_github_push")
OWN: Mapping[str, Mapping[str, int]] = {
    "on_gitiles_commit": {"": 21, "adapters": 18, "config": 1, "core": 63, "engine": 10, "managers": 23},
    "on_build_completion": {"": 21, "adapters": 18, "config": 1, "core": 57, "engine": 10, "managers": 23},
    "on_cloud_build": {"": 21, "adapters": 18, "config": 1, "core": 57, "engine": 10, "managers": 21},
    "on_task": {"": 21, "adapters": 18, "config": 1, "core": 63, "engine": 17, "managers": 23},
    "console": {
        "": 24, "adapters": 20, "api": 21, "config": 1, "core": 64, "engine": 10, "managers": 16, "web": 26
    },
    "on_github_push": {"": 12, "adapters": 4, "core": 19},
}  # fmt: skip
"""Function → package → the number of our modules that it may load; the package "" is the top level."""
_ENGINE = {*FUNCTIONS, "on_cloud_build"}
ONLY_IN = {
    "luci_scheduler.web": {"console"},
    "luci_scheduler.api": {"console"},
    "luci_scheduler.engine.commit": {"on_gitiles_commit", "on_task", "console"},
    "luci_scheduler.engine.sweep": {"on_task"},
    "luci_scheduler.engine.cron": {"on_task"},
    "luci_scheduler.engine.progress": {"on_build_completion", "on_cloud_build", "on_task"},
    "luci_scheduler.managers.buildbucket.manager": {"on_gitiles_commit", "on_build_completion", "on_task"},
    "luci_scheduler.managers.cloud_build.manager": set(),
    "luci_scheduler.managers.cloud_build.notification": {"on_cloud_build"},
    "luci_scheduler.managers.cloud_build.checks": set(),
    "luci_scheduler.managers.cloud_build.request": set(),
    "luci_scheduler.adapters.buildbucket": set(),
    "luci_scheduler.adapters.cloud_build": set(),
    "luci_scheduler.adapters.commit_answers": set(),
    "luci_scheduler.adapters.rest": set(),
    "luci_scheduler.adapters.access_tokens": {"console"},
    "luci_scheduler.adapters.fetch": {"console"},
    "luci_scheduler.adapters.config_sources": set(),
    "luci_scheduler.core.cron": set(),
    "luci_scheduler.managers.gitiles.check": set(),
    "luci_scheduler.config.validator": set(),
    "luci_scheduler.config.sync": set(),
    "luci_scheduler.cli": set(),
    "luci_scheduler.managers.gitiles.manager": set(),
    "luci_scheduler.managers.url_fetch.manager": set(),
    "luci_scheduler.adapters.cloud_tasks": set(),
    "luci_scheduler.adapters.github": set(),
    "luci_scheduler.adapters.github_api": set(),
    "luci_scheduler.adapters.github_credentials": set(),
    "luci_scheduler.adapters.github_objects": set(),
    "luci_scheduler.adapters.github_source": set(),
    "luci_scheduler.adapters.kept": set(),
    "luci_scheduler.adapters.pubsub": {"on_github_push"},
    "luci_scheduler.webhook": {"on_github_push"},
    "luci_scheduler.engine.statuses": set(),
    "luci_scheduler.adapters.github_statuses": set(),
    "luci_scheduler.bootstrap": _ENGINE,
    "luci_scheduler.config": _ENGINE,
    "luci_scheduler.engine": _ENGINE,
    "luci_scheduler.managers": _ENGINE,
    "luci_scheduler.ports": _ENGINE,
    "google.cloud.firestore": _ENGINE,
    "grpc": _ENGINE,
    "google.cloud.tasks_v2": set(),
    "re2": set(),
    "rich": set(),
}
"""Module or package → the functions that load it before their first answer. The rest is loaded when it is needed."""


@pytest.fixture(scope="module", name="modules")
def _modules(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], frozenset[str]]:
    folder = tmp_path_factory.mktemp("deployment")
    link_deployment(folder)

    @cache
    def modules(function: str) -> frozenset[str]:
        return frozenset(_loaded(folder, function))

    return modules


def _loaded(folder: Path, function: str) -> list[str]:
    issuer = TokenIssuer()
    with answering() as keys:
        published = Answer(200, b'{"messageIds": ["1"]}')
        certificates = Answer(200, json.dumps(issuer.certificates()).encode())
        keys.otherwise = lambda path, _: published if path.endswith(":publish") else certificates
        environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(folder),
            "PYTHONDONTWRITEBYTECODE": "1",
            "FIRESTORE_EMULATOR_HOST": "127.0.0.1:1",
            "SCHEDULER_PROJECT": "p",
            "SCHEDULER_LOCAL": "true",
            "SCHEDULER_LOCAL_USER": "a@example.com",
            "SCHEDULER_ACCESS": '{"version": 1, "admins": ["user:a@example.com"]}',
            "SCHEDULER_TASK_URL": "https://tasks.example.com",
            "SCHEDULER_TASK_ACCOUNT": "a@example.com",
            "SCHEDULER_PUSH_ACCOUNT": "a@example.com",
            "SCHEDULER_PUSH_AUDIENCE": "https://tasks.example.com",
            "SCHEDULER_OIDC_CERTS_URL": keys.url,
            "SCHEDULER_CLOUD_TASKS_ENDPOINT": "127.0.0.1:1",
            "SCHEDULER_BUILDBUCKET_SERVERS": '[{"host": "h", "publisher": "b@example.com"}]',
            "SCHEDULER_TOKEN_SECRETS": "a secret of twenty bytes",
            "SCHEDULER_APP_ID": "luci-scheduler",
            "SCHEDULER_GITHUB_WEBHOOK_SECRETS": SECRET,
            "SCHEDULER_COMMIT_TOPIC": "projects/p/topics/gitiles-commit",
            "SCHEDULER_PUBSUB_URL": keys.url,
        }
        token = issuer.issue("a@example.com", "https://tasks.example.com", time.time_ns())
        request = {"headers": {"Authorization": f"Bearer {token}"}, **_request(function)}
        done = subprocess.run(
            [sys.executable, "-S", Path(__file__).with_name("first_answer.py"), function, folder / "main.py"],
            input=json.dumps(request),
            env=environment,
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    found: list[str] = json.loads(done.stdout.splitlines()[-1])
    return found


def _request(function: str) -> Mapping[str, Any]:
    match function:
        case "console":
            return {"method": "GET", "path": "/", "json": None}
        case "on_task":
            timer = {"job": "p/j", "invocation": "9", "timer": "p/j:9:1:0", "created": 1}
            return {"method": "POST", "path": "/timer", "json": timer}
        case "on_gitiles_commit":
            commit = {"repo": "https://r.googlesource.com/x", "ref": "refs/heads/main", "revision": "a" * 40}
            return {"method": "POST", "path": "/", "json": _push(commit, {})}
        case "on_github_push":
            document = payload({"pushed_at": int(time.time())})
            body = flask.json.provider.DefaultJSONProvider(flask.Flask("f")).dumps(document)
            return {"method": "POST", "path": "/github", "json": document, "headers": delivery(body.encode())}
        case "on_cloud_build":
            names = {"APP": "luci-scheduler", "JOB": "p/j", "INVOCATION": "9"}
            values = {f"_SCHEDULER_{name}": value for name, value in names.items()}
            return {"method": "POST", "path": "/", "json": _push({"id": "b", "substitutions": values}, {})}
    token = make_token("a secret of twenty bytes", JobId("p/j"), InvocationId(9), Instant(time.time_ns()))
    user_data = base64.b64encode(token.encode()).decode()
    return {"method": "POST", "path": "/", "json": _push({"userData": user_data}, {"version": "v2"})}


def _push(data: Mapping[str, Any], attributes: Mapping[str, str]) -> Mapping[str, Any]:
    text = base64.b64encode(json.dumps(data).encode()).decode()
    published = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    message = {"messageId": "1", "publishTime": published, "data": text, "attributes": attributes}
    return {"message": message, "subscription": "projects/p/subscriptions/s"}


@pytest.mark.parametrize("function", ALL)
def test_a_function_loads_few_modules_of_ours(modules: Callable[[str], frozenset[str]], function: str) -> None:
    """By package. A module more is a tenth of a millisecond at a full CPU, and a frozen class or a pattern is more."""
    parts = (name.split(".") for name in modules(function) if name.startswith("luci_scheduler."))
    found = Counter(part[1] if len(part) > 2 else "" for part in parts)
    assert {package: number for package, number in found.items() if number > OWN[function].get(package, 0)} == {}


@pytest.mark.parametrize("name", ONLY_IN)
def test_a_function_loads_nothing_that_only_others_need(modules: Callable[[str], frozenset[str]], name: str) -> None:
    """Each module of the table is loaded by the functions that it names, and by no other."""
    loads = {
        function: any(each == name or each.startswith(f"{name}.") for each in modules(function)) for function in ALL
    }
    assert {function for function, does in loads.items() if does} == ONLY_IN[name]
