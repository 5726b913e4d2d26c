"""A whole scheduler in memory, with counted operations, for tests of the engine."""

from __future__ import annotations

import base64
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import replace
from functools import wraps
from typing import Any

from emulator.clock import SteppedClock
from emulator.memory.gitiles import AnyCommit
from emulator.memory.ports import memory_ports
from emulator.memory.queue import MemoryQueue
from emulator.memory.store import MemoryStore
from luci_scheduler.bootstrap import make_app
from luci_scheduler.config.sync import ConfigFile, sync_project
from luci_scheduler.core.commit_event import CommitEvent
from luci_scheduler.core.deferred import Deferred
from luci_scheduler.core.era import Era
from luci_scheduler.core.errors import SchedulerError
from luci_scheduler.core.identifiers import JobId, project_of
from luci_scheduler.core.instants import DAY, SECOND, Instant, parse_rfc3339
from luci_scheduler.core.invocation import Invocation
from luci_scheduler.core.notification_token import verify_token
from luci_scheduler.engine.commit import on_commit
from luci_scheduler.engine.progress import on_notification
from luci_scheduler.engine.tasks import on_task
from luci_scheduler.ports import BuildbucketError, CommitStatuses, Fetched, FetchError, Gitiles, QueueTask, Topic
from luci_scheduler.settings import BuildbucketServer, Settings

HOST = "cr-buildbucket.appspot.com"
REPO = "https://r.googlesource.com/repo"
JOB = JobId("proj/job")
CONFIG = """
trigger {{ id: "poller" schedule: "triggered" gitiles {{ repo: "{repo}" refs: "refs/heads/main" }} {triggers} }}
{jobs}
"""


def config(names: tuple[str, ...] = ("job",), policy: str = "") -> str:
    """Return a config with jobs that one repository's main branch triggers."""
    jobs = "\n".join(
        f'job {{ id: "{n}" {policy} buildbucket {{ server: "{HOST}" bucket: "ci" builder: "{n}" }} }}' for n in names
    )
    return CONFIG.format(repo=REPO, triggers=" ".join(f'triggers: "{n}"' for n in names), jobs=jobs)


class CountingStore(MemoryStore):
    """Counts what Firestore would bill: documents read (at least one a call), documents written, commits."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()
        self.before_commit: Callable[[list[Any]], None] | None = None
        self._counting = threading.Lock()
        self._depth = threading.local()

    def commit(self, writes: Any) -> Any:
        """Commit and count."""
        if self.before_commit is not None:
            self.before_commit(list(writes))
        versions = super().commit(writes)
        with self._counting:
            self.counts["W"] += len(writes)
            self.counts["c"] += 1
        return versions


_READS = frozenset(
    {
        "watchers", "project", "job", "poller", "triage_log", "invocation", "invocation_with_log", "invocations",
        "trigger", "pending_triggers", "due_invocations", "due_jobs", "projects", "jobs", "found_jobs",
        "invocations_by_id", "triggers", "triggers_of_revision", "deferred", "due_deferred", "deferred_of_revision",
        "probe", "listed_jobs", "jobs_that_trigger", "count_jobs", "count_job_commits", "count_invocations",
    }
)  # fmt: skip
_AGGREGATIONS = frozenset({"count_jobs", "count_job_commits", "count_invocations"})


_READS_BY_NAME = frozenset({"jobs", "found_jobs", "invocations_by_id", "triggers"})
"""A read of a document by its name is billed, even if the document does not exist."""


def _counted(name: str) -> Callable[..., Any]:
    """Return a read of the store that also counts the documents. A read within another one is part of it."""
    method = getattr(MemoryStore, name)

    @wraps(method)
    def counted(self: CountingStore, *args: Any, **kwargs: Any) -> Any:
        outermost = not getattr(self._depth, "inside", False)
        self._depth.inside = True
        try:
            answer = method(self, *args, **kwargs)
        finally:
            if outermost:
                self._depth.inside = False
        if outermost:
            documents = len(answer) if isinstance(answer, list) else 1
            if name == "watchers":  # one document for each project
                documents = len({project_of(watcher.job_id) for watcher in answer})
            if name in _AGGREGATIONS:  # one read for each thousand; a test has fewer index entries
                documents = 1
            if name in _READS_BY_NAME:
                documents = len(args[0])
            with self._counting:
                self.counts["R"] += max(1, documents)
        return answer

    return counted


for _name in _READS:
    setattr(CountingStore, _name, _counted(_name))


class FakeBuildbucket:
    """A v2 server in memory: one build for each request ID it remembers, searchable by tag; thread-safe."""

    def __init__(self) -> None:
        self.builds: dict[str, dict[str, Any]] = {}
        self.tokens: dict[str, str] = {}
        self.calls: list[str] = []
        self.canceled: list[str] = []
        self.forgets = False
        self.faults: list[BuildbucketError | None] = []
        self.lose_reply = False
        self.experimental = False
        self.on_schedule: Callable[[], None] | None = None
        self._lock = threading.Lock()

    def v1(self, *_: Any, **__: Any) -> dict[str, Any]:
        """Refuse each call."""
        raise AssertionError("these tests speak v2")

    def v2(self, _server: str, method: str, request: Any, *, until: Instant | None = None) -> dict[str, Any]:
        """Answer a call at once, or with the failure that the test sets."""
        with self._lock:
            self.calls.append(method)
            if self.faults and (fault := self.faults.pop(0)) is not None:
                raise fault
        return getattr(self, f"_{method}")(request)

    def _ScheduleBuild(self, request: Any) -> dict[str, Any]:  # noqa: N802 - the method's name
        with self._lock:
            known = [b for b in self.builds.values() if b["requestId"] == request["requestId"]]
            if known and not self.forgets:
                build = known[0]
            else:
                build = {"id": str(9000 - len(self.builds)), "status": "SCHEDULED", "requestId": request["requestId"]}
                build["builder"] = request["builder"]
                self.builds[build["id"]] = build
            self.tokens[build["id"]] = request["notify"]["userData"]
        if self.on_schedule:
            self.on_schedule()
        if self.lose_reply:
            self.lose_reply = False
            raise BuildbucketError("UNAVAILABLE", "no answer", transient=True)
        return dict(build)

    def _SearchBuilds(self, request: Any) -> dict[str, Any]:  # noqa: N802
        if self.experimental and not request["predicate"].get("includeExperimental"):
            return {}  # as the real one: experimental builds show only on request
        wanted = request["predicate"]["tags"][0]["value"]
        return {"builds": [dict(b) for b in self.builds.values() if b["requestId"] == wanted]}

    def _GetBuild(self, request: Any) -> dict[str, Any]:  # noqa: N802
        return dict(self.builds[request["id"]])

    def _CancelBuild(self, request: Any) -> dict[str, Any]:  # noqa: N802
        self.canceled.append(request["id"])
        return dict(self.builds[request["id"]])


class FakeFetch:
    """Answers after ten seconds, or with the failure that the test sets."""

    def __init__(self, clock: SteppedClock) -> None:
        self._clock = clock
        self.outcome: Fetched | FetchError = Fetched(200, "200 OK", (), b"", 0)
        self.calls: list[tuple[str, int, int]] = []
        self.on_fetch: Callable[[], None] | None = None

    def get(self, url: str, timeout: int, max_bytes: int) -> Fetched:
        """Answer, or fail."""
        self.calls.append((url, timeout, max_bytes))
        self._clock.sleep(10 * SECOND)
        if self.on_fetch:
            self.on_fetch()
        if isinstance(self.outcome, FetchError):
            raise self.outcome
        return self.outcome


class Crash(BaseException):
    """The process dies: no handler catches this."""


def world_settings(**settings: Any) -> Settings:
    """Return the settings of a world, with one Buildbucket server whose builds are checked each minute."""
    return Settings(
        project="cloud-project",
        task_url="https://on-task.invalid",
        task_account="tasks@cloud-project.iam.gserviceaccount.com",
        token_secrets=("secret",),
        buildbucket_servers=(BuildbucketServer(HOST, "cr-buildbucket@appspot.gserviceaccount.com", Era.V2),),
        check_interval_seconds=60,
        **settings,
    )


class World:
    """The scheduler with everything around it."""

    def __init__(
        self,
        text: str | None = None,
        gitiles: Gitiles | None = None,
        topic: Topic | None = None,
        *,
        statuses: CommitStatuses | None = None,
        **settings: Any,
    ) -> None:
        self.clock = SteppedClock(parse_rfc3339("2026-03-01T12:00:00Z"))
        self.store = CountingStore()
        self.queue = MemoryQueue(self.clock)
        self.buildbucket = FakeBuildbucket()
        self.fetch = FakeFetch(self.clock)
        self.ports = replace(
            memory_ports(),
            store=self.store,
            queue=self.queue,
            clock=self.clock,
            buildbucket=self.buildbucket,
            gitiles=gitiles or AnyCommit(),
            fetch=self.fetch,
            topic=topic,
            statuses=statuses,
        )
        self.app = make_app(world_settings(**settings), self.ports)
        self.runtime = self.app.runtime
        self._revisions = 0
        self.sync(config() if text is None else text)

    def sync(self, text: str) -> None:
        """Activate a config, not counted."""
        self._revisions += 1
        sync_project(self.runtime, ConfigFile("proj", text, f"rev{self._revisions}"), "sync")
        self.store.counts.clear()

    def commit(self, revision: str = "a", message: str = "m1") -> None:
        """Let a second pass and deliver a commit."""
        self.clock.advance(SECOND)
        event = CommitEvent(REPO, "refs/heads/main", revision * 40)
        on_commit(self.runtime, event, self.clock.now(), f"commit-{message}")

    def notify(self, message: str, build_id: str | None = None) -> None:
        """Let a second pass and deliver a notification of a build (of the latest one)."""
        self.clock.advance(SECOND)
        build_id = build_id or list(self.buildbucket.builds)[-1]
        token = base64.b64decode(self.buildbucket.tokens[build_id]).decode()
        job_id, invocation_id = verify_token(["secret"], token, self.clock.now())
        on_notification(self.runtime, job_id, invocation_id, message)

    def run_task(self, task: QueueTask, name: str = "t") -> None:
        """Deliver a task."""
        on_task(self.runtime, task.kind, task.payload, f"task-{name}")

    def tick(self, seconds: int = 0, name: str = "t") -> list[QueueTask]:
        """Let time pass and deliver due tasks; a task that fails is retried a little later."""
        self.clock.advance(seconds * SECOND)
        due = self.queue.take_due(self.clock.now())
        for task in due:
            try:
                self.run_task(task, name)
            except SchedulerError:
                later = Instant(self.clock.now() + 5 * SECOND)
                self.queue.enqueue(QueueTask(task.kind, task.payload, later))
        return due

    def finish(self, status: str = "SUCCESS", build_id: str | None = None) -> None:
        """Let a build (the latest one) end without a notification."""
        self.buildbucket.builds[build_id or list(self.buildbucket.builds)[-1]]["status"] = status

    def works(self) -> list[Deferred]:
        """Return the deferred tasks, the earliest due first, not counted."""
        with self.uncounted():
            return list(self.store.due_deferred(Instant(self.clock.now() + 365 * DAY), 10_000))

    def invocations(self, job_id: JobId = JOB) -> list[Invocation]:
        """Return a job's invocations, newest first, not counted."""
        with self.uncounted():
            return list(self.store.invocations(job_id, 1000))

    def log(self, job_id: JobId = JOB, place: int = 0) -> str:
        """Return the debug log of an invocation (the newest), not counted."""
        with self.uncounted():
            found = self.store.invocation_with_log(job_id, self.store.invocations(job_id, 1000)[place].id)
        assert found is not None
        return found[1]

    def uncounted(self) -> Any:
        """Leave what happens inside out of the counts."""

        @contextmanager
        def keep() -> Any:
            before = self.store.counts.copy()
            yield
            self.store.counts = before

        return keep()

    def counted(self) -> str:
        """Return and reset the counts: ``2R/5W/3c``."""
        counts = self.store.counts
        text = f"{counts['R']}R/{counts['W']}W/{counts['c']}c"
        counts.clear()
        return text
