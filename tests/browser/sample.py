"""A sample project on a local cloud in memory, with a plausible history, for browser tests and screenshots."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from emulator.buildbucket.plans import End, Manual, Script, Start
from emulator.gitiles.repository import Person
from emulator.local_cloud import LocalCloud
from emulator.options import Options
from emulator.settings import BUILDBUCKET_HOST
from emulator.start import start_local_cloud
from luci_scheduler.core.commit_event import gitiles_trigger
from luci_scheduler.core.identifiers import JobId, make_invocation_id
from luci_scheduler.core.instants import DAY, HOUR, MINUTE, SECOND, Instant
from luci_scheduler.core.invocation import Invocation, Status, result_of
from luci_scheduler.core.job import MAX_RECENT, Result
from luci_scheduler.ports import CreateInvocation, PutJob, Store

REPO = "https://sample.googlesource.com/engine"
REF = "refs/heads/main"
PROJECT = "engine"
JOB = JobId(f"{PROJECT}/linux-tests")
SLOW = JobId(f"{PROJECT}/mac-tests")
ALONE = JobId(f"{PROJECT}/perf-tests")
"""A job that no commit triggers."""
POLLER = JobId(f"{PROJECT}/main-poller")

_CONFIG = f"""
trigger {{
  id: "main-poller"
  schedule: "with 1h interval"
  gitiles {{ repo: "{REPO}" refs: "{REF}" }}
  triggers: "linux-tests" triggers: "mac-tests" triggers: "win-release"
}}
trigger {{
  id: "docs-poller"
  schedule: "with 1h interval"
  gitiles {{ repo: "{REPO}" refs: "{REF}" path_regexps: "docs/.*" }}
  triggers: "docs"
}}
job {{ id: "linux-tests" buildbucket {{ server: "{BUILDBUCKET_HOST}" bucket: "ci" builder: "Linux Tests" }} }}
job {{ id: "mac-tests" buildbucket {{ server: "{BUILDBUCKET_HOST}" bucket: "ci" builder: "Mac Tests" }} }}
job {{
  id: "win-release"
  triggering_policy {{ kind: LOGARITHMIC_BATCHING log_base: 2.0 }}
  buildbucket {{ server: "{BUILDBUCKET_HOST}" bucket: "luci.{PROJECT}.ci" builder: "Win Release" }}
}}
job {{ id: "docs" buildbucket {{ server: "{BUILDBUCKET_HOST}" bucket: "ci" builder: "Docs" }} }}
job {{
  id: "nightly-fuzzing"
  schedule: "0 2 * * *"
  buildbucket {{ server: "{BUILDBUCKET_HOST}" bucket: "ci" builder: "Fuzz" }}
}}
job {{ id: "perf-tests" buildbucket {{ server: "{BUILDBUCKET_HOST}" bucket: "ci" builder: "Perf Tests" }} }}
job {{ id: "cleanup" schedule: "with 12h interval" noop {{ sleep_ms: 5 }} }}
"""
_HISTORY = (
    ("Ada Lovelace", "Compile shaders in parallel"),
    ("Grace Hopper", "Fix a race between two render passes"),
    ("Ada Lovelace", "Use one descriptor pool for each frame"),
    ("Edsger Dijkstra", "Remove a lock that nothing takes"),
    ("Barbara Liskov", "Let every texture view name its aspect, also where the format has only one aspect"),
    ("Grace Hopper", "Roll the compiler to 17.0.2"),
    ("Alan Turing", "Reject loops without an exit in the validator"),
    ("Ada Lovelace", "Resolve multisampled attachments at the end of the pass"),
)
"""Author and subject of each commit before the sample starts, the oldest first."""
_USUAL = {"linux-tests": 9, "mac-tests": 21, "win-release": 34, "docs": 2, "nightly-fuzzing": 95}
"""Job → the usual duration of its builds in minutes."""


def _entropy(*about: object) -> float:
    """Return a number from 0 to 1 that looks random and is the same in every run."""
    digest = hashlib.sha256(repr(about).encode()).digest()
    return int.from_bytes(digest[:4], "big") / (1 << 32)


@dataclass
class Sample:
    """The running sample."""

    cloud: LocalCloud
    revisions: list[str]

    @property
    def url(self) -> str:
        """The address of the pages."""
        return self.cloud.console_url

    @property
    def store(self) -> Store:
        """The documents."""
        assert self.cloud.memory is not None
        return self.cloud.memory.store

    def commit(self, name: str = "src/main.cc", *, announced: bool = True) -> str:
        """Commit to the repository, announce the commit by default, and return the revision."""
        number = len(self.revisions)
        at = time.time_ns()
        revision = self.cloud.repository(REPO).commit(f"Change {number}", {name: f"content {number}\n"}, at=at)
        self.revisions.append(revision)
        if announced:
            self.cloud.publish_commit(REPO, REF, revision)
        return revision

    def running(self, job_id: JobId) -> Invocation | None:
        """Return a job's newest invocation if its build runs."""
        newest = list(self.store.invocations(job_id, 1))
        return newest[0] if newest and newest[0].status is Status.RUNNING else None

    def is_idle(self, job_id: JobId) -> bool:
        """Return whether a job has neither active invocations nor pending triggers."""
        found = self.store.job(job_id)
        return found is not None and not found.value.active_invocations and not found.value.triggers_wait

    def newest(self, job_id: JobId) -> Invocation:
        """Return a job's newest invocation."""
        return next(iter(self.store.invocations(job_id, 1)))


@contextmanager
def sample(folder: Path, *, past: int = 60) -> Iterator[Sample]:
    """Run the sample. Builds of mac-tests and perf-tests run until they are aborted; others take a second."""
    config = folder / "configs" / PROJECT / "luci-scheduler.cfg"
    config.parent.mkdir(parents=True)
    config.write_text(_CONFIG, encoding="utf-8")
    plan = Script((Start(SECOND // 5), End(SECOND)))
    options = Options(config.parent.parent, check_interval_seconds=2, store="memory", plan=plan, sync_seconds=0)
    with start_local_cloud(options) as cloud:
        for builder in ("Mac Tests", "Perf Tests"):
            cloud.buildbucket.plans.set(f"{PROJECT}/ci/{builder}", Manual())
        running = Sample(cloud, [])
        repository, now = cloud.repository(REPO), time.time_ns()
        for number, (author, subject) in enumerate(_HISTORY):
            person, at = (
                Person(author, f"{author.split()[0].lower()}@example.com"),
                now - (len(_HISTORY) - number) * HOUR,
            )
            running.revisions.append(repository.commit(subject, {"src/main.cc": subject}, author=person, at=at))
        for name in _USUAL:
            _write_past(running, name, past)
        yield running


def _write_past(running: Sample, name: str, number: int) -> None:
    store, results = running.store, list[Result]()
    job = store.job(JobId(f"{PROJECT}/{name}"))
    assert job is not None
    now = time.time_ns()
    for place in range(number):
        job_id = job.value.id
        started = Instant((now - 3 * HOUR - place * (DAY // 6) - int(_entropy(name, place) * HOUR)) // 1000 * 1000)
        minutes = _USUAL[name] * (0.75 + 0.5 * _entropy(name, place, "length"))
        failed = _entropy(name, place, "result") < 0.12
        finished = Instant(started + int(minutes * (0.4 if failed else 1.0) * MINUTE) // 1000 * 1000)
        revision = running.revisions[-1 - place % len(_HISTORY)]
        trigger = gitiles_trigger(REPO, REF, revision, Instant(started - SECOND))
        build = str(8_700_000_000_000_000_000 + int(_entropy(name, place, "build") * 10**12))
        invocation = Invocation(
            id=make_invocation_id(started, int(_entropy(name, place, "id") * 65535)),
            job_id=job_id,
            started=started,
            finished=finished,
            status=Status.FAILED if failed else Status.SUCCEEDED,
            task=job.value.definition.task,
            revision=job.value.definition.revision,
            incoming_triggers=(trigger,),
            attempts=1,
            mutations=6,
            commits=8,
            summary="3 of 418 tests failed: RenderPassTest.Resolve" if failed else "",
            view_url=f"https://{BUILDBUCKET_HOST}/build/{build}",
            task_data={"build_id": build},
            expires=Instant(finished + 180 * DAY),
        )
        store.commit([CreateInvocation(invocation, "")])
        results.append(result_of(invocation))
    store.commit([PutJob(replace(job.value, recent=tuple(results[:MAX_RECENT])), job.version)])
