"""The pages of the console: documents read, bytes, and time in memory and on the Firestore emulator."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import replace
from functools import partial

from emulator.memory.gitiles import MemoryGitiles
from emulator.settings import BUILDBUCKET_HOST
from luci_scheduler.bootstrap import App, make_app
from luci_scheduler.cloud_ports import cloud_ports
from luci_scheduler.config.sync import ConfigFile, sync_project
from luci_scheduler.core.commit_event import CommitEvent
from luci_scheduler.core.identifiers import JobId
from luci_scheduler.engine.commit import on_commit
from luci_scheduler.logs import configure_logging
from luci_scheduler.settings_reader import read_settings
from luci_scheduler.web.page_request import PageRequest
from luci_scheduler.web.routes import answer
from tests.benchmarks.measure import Measure, interleave
from tests.benchmarks.servers import running
from tests.unit.engine.world import CountingStore

__all__ = ["measures"]

_PROJECT, _REPO, _REF = "big", "https://r.googlesource.com/repo", "refs/heads/main"
_JOB = JobId(f"{_PROJECT}/j0000")
_COMMITS = 30
_MUST_READS, _AIM_READS = 60, 20


def measures(*, quick: bool) -> list[Measure]:
    """Measure each page of a project with 3,000 jobs, one of which has 30 invocations."""
    jobs, times = (300, 5) if quick else (3000, 15)
    with running() as environment:
        os.environ["FIRESTORE_EMULATOR_HOST"] = environment["FIRESTORE_EMULATOR_HOST"]
        configure_logging(file=open(os.devnull, "w"))  # noqa: PTH123, SIM115
        stores = [CountingStore(), None]
        memory, emulator = (_Console(environment, store, jobs) for store in stores)
        counted = stores[0]
        assert counted is not None
        return [each for name in memory.paths for each in _measured(name, memory, emulator, counted, jobs, times)]


class _Console:
    """A console with a project."""

    def __init__(self, environment: Mapping[str, str], store: CountingStore | None, jobs: int) -> None:
        settings = read_settings({name: value for name, value in environment.items() if name.startswith("SCHEDULER_")})
        git = MemoryGitiles()
        revisions = [git.push(_REF)[0] for _ in range(_COMMITS)]
        ports = replace(cloud_ports(settings, store=store), gitiles=git)
        self._app: App = make_app(settings, ports)
        runtime = self._app.runtime
        sync_project(runtime, ConfigFile(_PROJECT, _config(jobs), "r"), "sync")
        for number, revision in enumerate(revisions):
            on_commit(runtime, CommitEvent(_REPO, _REF, revision), runtime.clock.now(), f"c-{number}")
        invocations = runtime.store.invocations(_JOB, 50)
        assert len(invocations) == _COMMITS
        self.paths: Mapping[str, tuple[str, Mapping[str, str]]] = {
            "projects": ("/", {}),
            "project": (f"/jobs/{_PROJECT}", {}),
            "job": (f"/jobs/{_JOB}", {}),
            "invocation": (f"/jobs/{_JOB}/{invocations[0].id}", {}),
            "commit": ("/commits", {"repo": _REPO, "ref": _REF, "revision": revisions[-1]}),
            "grid": (f"/grid/{_PROJECT}", {"repo": _REPO, "ref": _REF}),
        }

    def show(self, name: str) -> int:
        """Make a page, and return its bytes."""
        path, query = self.paths[name]
        body, code, _ = answer(PageRequest(self._app.context({}), ("secret",), query), path)
        assert code == 200, (name, code)
        return len(body.encode() if isinstance(body, str) else body)


def _measured(
    name: str, memory: _Console, emulator: _Console, store: CountingStore, jobs: int, times: int
) -> list[Measure]:
    emulator.show(name)
    memory.show(name)  # what the console remembers for ten minutes is not part of the cost
    store.counts.clear()
    size = memory.show(name)
    reads, is_project = store.counts["R"], name == "project"
    ours, baseline = interleave(partial(_milliseconds, emulator, name), partial(_milliseconds, memory, name), times)
    title = f"page {name}, a project of {jobs:,} jobs"
    return [
        Measure(
            title,
            "reads",
            [reads],
            must=_MUST_READS if is_project else None,
            aim=_AIM_READS if is_project else None,
            exact=True,
            details={"kilobytes of HTML": round(size / 1000, 1)},
        ),
        Measure(f"page {name}: time on the Firestore emulator", "ms", ours, baseline, against="the store in memory"),
    ]


def _milliseconds(console: _Console, name: str, _: int) -> float:
    begun = time.perf_counter()
    console.show(name)
    return 1000 * (time.perf_counter() - begun)


def _config(jobs: int) -> str:
    policy = "triggering_policy { max_concurrent_invocations: 100 max_batch_size: 1 }"
    rows = [
        f'job {{ id: "j{number:04}" {policy if not number else ""} '
        f'buildbucket {{ server: "{BUILDBUCKET_HOST}" bucket: "ci" builder: "b{number}" }} }}'
        for number in range(jobs)
    ]
    source = f'gitiles {{ repo: "{_REPO}" refs: "{_REF}" }}'
    return f'trigger {{ id: "poller" schedule: "triggered" {source} triggers: "j0000" }}\n' + "\n".join(rows)
