"""One commit for 300 jobs, on the Firestore emulator and our servers, against the same calls without our code."""

from __future__ import annotations

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import requests
from google.cloud import firestore, tasks_v2
from google.protobuf import timestamp_pb2

from emulator.settings import BUILDBUCKET_HOST
from luci_scheduler.adapters.cloud_tasks import make_client
from luci_scheduler.bootstrap import App
from luci_scheduler.config.sync import ConfigFile, sync_project
from luci_scheduler.core.commit_event import CommitEvent
from luci_scheduler.engine.commit import on_commit
from luci_scheduler.settings import Settings
from tests.benchmarks.handlers import scheduler
from tests.benchmarks.measure import Measure, interleave, seconds_of

__all__ = ["measures"]

_REPO, _MAIN = "https://r.googlesource.com/repo", "refs/heads/main"
_MASK = ("schema", "record", "enabled", "next_due")
_FILLER = "x" * 700
"""About as long as each of the two texts of an invocation, and half as long as the log of a launch."""


def measures(*, quick: bool) -> list[Measure]:
    """Deliver commits to many jobs by both, and return one measure of the seconds of one commit."""
    jobs, rounds = (100, 3) if quick else (300, 5)
    with scheduler() as (settings, app):
        ours, raw = _Ours(app, jobs), _Raw(settings, jobs)
        seconds = interleave(seconds_of(ours.play), seconds_of(raw.play), rounds)
    return [
        Measure(
            f"one commit for {jobs} jobs",
            "s",
            *map(tuple, seconds),
            against="the same raw calls",
            must=1.25,
            aim=1.15,
            notes=(f"{settings.concurrency} jobs in parallel, in one process",),
        )
    ]


class _Ours:
    """The engine."""

    def __init__(self, app: App, jobs: int) -> None:
        self._app = app
        for start in range(0, jobs, 100):
            names = [f"job{number:03}" for number in range(start, min(jobs, start + 100))]
            sync_project(self._app.runtime, ConfigFile(f"p{start}", _config(names), "r"), "sync")
        projects = self._app.runtime.store.projects()
        # A refused config has no jobs: the benchmark would measure a commit that no job watches.
        assert not any(project.problems for project in projects), projects
        assert sum(len(project.job_ids) for project in projects) >= jobs

    def play(self, number: int) -> None:
        event = CommitEvent(_REPO, _MAIN, f"{number + 1:040x}")
        runtime = self._app.runtime
        on_commit(runtime, event, runtime.clock.now(), f"commit-{number}")


def _config(names: list[str]) -> str:
    targets = " ".join(f'triggers: "{name}"' for name in names)
    poller = (
        f'trigger {{ id: "poller" schedule: "triggered" gitiles {{ repo: "{_REPO}" refs: "{_MAIN}" }} {targets} }}\n'
    )
    return poller + "\n".join(
        f'job {{ id: "{name}" triggering_policy {{ max_concurrent_invocations: 100 }} '
        f'buildbucket {{ server: "{BUILDBUCKET_HOST}" bucket: "ci" builder: "{name}" }} }}'
        for name in names
    )


class _Raw:
    """Per job: a read, a commit of three writes, one of one, a build, a task, a commit of one."""

    def __init__(self, settings: Settings, jobs: int) -> None:
        self._settings = settings
        self._client = firestore.Client(project=settings.project, database=settings.database)
        self._tasks = make_client(settings.cloud_tasks_endpoint)
        self._queue = f"projects/{settings.project}/locations/{settings.location}/queues/{settings.queue}"
        self._jobs = [self._client.collection("raw").document(f"job{number:03}") for number in range(jobs)]
        self._sessions: dict[int, requests.Session] = {}
        for job in self._jobs:
            job.set({"schema": 1, "record": _FILLER, "enabled": True, "next_due": None, "commits": 0})

    def play(self, number: int) -> None:
        with ThreadPoolExecutor(self._settings.concurrency) as pool:
            for future in [pool.submit(self._one, job, place, number) for place, job in enumerate(self._jobs)]:
                future.result()

    def _one(self, job: Any, place: int, number: int) -> None:
        client = self._client
        snapshot = job.get(_MASK, timeout=20)
        batch = client.batch()
        invocation = job.collection("invocations").document(f"{number:019}")
        document = {
            "schema": 1,
            "definition": _FILLER,
            "state": _FILLER,
            "next_due": 1,
            "expire_at": None,
            "commits": 0,
        }
        batch.create(invocation, {**document, "log": [{"n": 0, "text": "line"}]})
        marker = {"schema": 1, "pending": None, "expire_at": None, "record": _FILLER}
        batch.create(job.collection("triggers").document(f"{number}"), marker)
        record = {
            "schema": 1,
            "record": _FILLER,
            "enabled": True,
            "next_due": None,
            "commits": number,
            "triage_log": _FILLER,
        }
        batch.update(job, record, option=client.write_option(last_update_time=snapshot.update_time))
        version = batch.commit(retry=None, timeout=20)[0].update_time
        version = self._update(invocation, version, 1, "claimed")
        self._schedule(place, number)
        body = json.dumps({"job": job.id, "invocation": f"{number}", "timer": "t", "created": 1}).encode()
        request = tasks_v2.HttpRequest(url=self._settings.task_url + "/timer", body=body)
        when = timestamp_pb2.Timestamp(seconds=int(time.time()) + 3600)
        self._tasks.create_task(
            parent=self._queue, task=tasks_v2.Task(http_request=request, schedule_time=when), timeout=10
        )
        self._update(invocation, version, 2, _FILLER * 2)

    def _update(self, reference: Any, version: Any, number: int, text: str) -> Any:
        batch = self._client.batch()
        document = {"state": _FILLER, "next_due": 2, "expire_at": None, "commits": number}
        document["log"] = firestore.ArrayUnion([{"n": number, "text": text}])
        batch.update(reference, document, option=self._client.write_option(last_update_time=version))
        return batch.commit(retry=None, timeout=20)[0].update_time

    def _schedule(self, place: int, number: int) -> None:
        session = self._sessions.setdefault(threading.get_ident(), requests.Session())
        session.trust_env = False
        (server,) = self._settings.buildbucket_servers
        request = {
            "requestId": f"raw-{number}-{place}",
            "builder": {"project": "p0", "bucket": "ci", "builder": f"raw{place:03}"},
            "properties": {"filler": _FILLER},
            "tags": [{"key": "scheduler_invocation_id", "value": f"raw-{number}-{place}"}],
        }
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        url = f"{server.url}/prpc/buildbucket.v2.Builds/ScheduleBuild"
        answer = session.post(url, data=json.dumps(request), headers=headers, timeout=60)
        assert answer.headers["X-Prpc-Grpc-Code"] == "0", answer.text
