"""Our side of a comparison: a local cloud in a separate process, which builds bursts of commits on request.

``python -m tests.benchmarks.contender emulators|memory``: each line of standard input is a `Burst` in JSON, and each
line of output its `Outcome`. `Contender` is the other end.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

import psutil

from emulator.buildbucket.plans import End, Script, Start
from emulator.local_cloud import LocalCloud
from emulator.memory_pubsub import MemoryPubSub
from emulator.options import Options
from emulator.settings import BUILDBUCKET_HOST
from emulator.start import start_local_cloud
from emulator.supervisor import FUNCTIONS
from luci_scheduler.config.folder import FILE

__all__ = ["BUILDERS", "Burst", "Contender", "Outcome", "revisions_of"]

_REF = "refs/heads/main"
BUILDERS: Mapping[str, Sequence[str]] = {
    "one": ["job"],
    "ten": [f"ten{number}" for number in range(10)],
    "many": [f"many{number:03}" for number in range(300)],
}
"""Category of commits → the jobs that build each of its commits, on both sides."""
_PUBLISHERS, _WORKERS, _POLL_SECONDS, _JOBS_OF_A_PROJECT = 8, 16, 0.02, 100


@dataclass(frozen=True, slots=True)
class Burst:
    """Commits that come at once."""

    category: str
    commits: int
    number: int
    """Makes the revisions unique."""
    direct: bool = False
    """Whether messages go from memory to the functions, sixteen at a time, instead of through the Pub/Sub emulator."""
    kill_after: float = 0.0
    """Seconds after which all functions get SIGKILL; 0: they do not."""
    patience: float = 120.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of a burst."""

    seconds: float
    """Until the last end of an invocation was recorded, or until the patience ended."""
    first: float
    """Until the first build was created."""
    created: float
    """Until the last build was created."""
    builds: int
    lost: int
    """Commits of a job without a successful build."""
    doubled: int
    """Successful builds beyond one for each commit of a job."""
    cpu: Mapping[str, float] = field(default_factory=dict)
    """Group of processes → seconds of CPU."""


def revisions_of(burst: Burst) -> list[str]:
    """Return the revisions of the commits."""
    return [f"{burst.number * 10_000 + number + 1:040x}" for number in range(burst.commits)]


class Contender:
    """A local cloud in a separate process."""

    def __init__(self, store: str) -> None:
        command = [sys.executable, "-m", "tests.benchmarks.contender", store]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        assert self._process.stdin is not None
        self._answers, self._requests = self._process.stdout, self._process.stdin
        if self._answers.readline() != "ready\n":
            raise RuntimeError(f"the local cloud ({store}) did not start; its output is above")

    def play(self, burst: Burst) -> Outcome:
        """Build a burst."""
        self._requests.write(json.dumps(asdict(burst)) + "\n")
        self._requests.flush()
        return Outcome(**json.loads(self._answers.readline()))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._requests.close()
        self._process.wait(timeout=60)


# The separate process -------------------------------------------------------------------------------------------------


def main(store: str) -> None:
    """Serve bursts until standard input ends."""
    with tempfile.TemporaryDirectory(prefix="contender-") as name, ExitStack() as stack:
        _write_configs(Path(name))
        options = Options(
            folder=Path(name),
            plan=Script((Start(0), End(0))),
            settings={"SCHEDULER_COMMIT_WAIT_SECONDS": "0"},  # the commits are invented: no host serves them
            sync_seconds=0,
            store="memory" if store == "memory" else "emulators",
        )
        cloud = stack.enter_context(start_local_cloud(options))
        # Without valid configs there would be nothing to measure.
        if problems := [entry.text for entry in cloud.feed.after(0) if entry.kind == "config_problem"]:
            raise SystemExit("\n".join(problems))
        runner = _Runner(cloud)
        stack.callback(runner.close)
        print("ready", flush=True)
        for line in sys.stdin:
            print(json.dumps(asdict(runner.play(Burst(**json.loads(line))))), flush=True)


def _write_configs(folder: Path) -> None:
    for category, jobs in BUILDERS.items():
        for start in range(0, len(jobs), _JOBS_OF_A_PROJECT):
            file = folder / "configs" / f"{category}{start}" / FILE
            file.parent.mkdir(parents=True)
            file.write_text(_config(category, jobs[start : start + _JOBS_OF_A_PROJECT]), encoding="utf-8")


def _config(category: str, jobs: Sequence[str]) -> str:
    targets = " ".join(f'triggers: "{name}"' for name in jobs)
    source = f'gitiles {{ repo: "{_repo(category)}" refs: "{_REF}" }}'
    limit = 1000 if len(jobs) == 1 else 100
    policy = f"triggering_policy {{ max_concurrent_invocations: {limit} max_batch_size: 1 }}"
    task = f'server: "{BUILDBUCKET_HOST}" bucket: "ci"'
    return f'trigger {{ id: "poller" schedule: "triggered" {source} {targets} }}\n' + "\n".join(
        f'job {{ id: "{name}" {policy} buildbucket {{ {task} builder: "{name}" }} }}' for name in jobs
    )


def _repo(category: str) -> str:
    return f"https://bench.googlesource.com/{category}"


class _Runner:
    """Publishes commits, and counts the ends that the functions log."""

    def __init__(self, cloud: LocalCloud) -> None:
        self._cloud = cloud
        self._emulated = cloud.pubsub._inner
        self._direct: MemoryPubSub | None = None
        self._lock = threading.Lock()
        self._ended: set[str] = set()
        outputs = [cloud.memory.output] if cloud.memory else [each.output for each in cloud.functions.values()]
        for output in outputs:
            output.listen(_both(output._listener, self._read))

    def play(self, burst: Burst) -> Outcome:
        """Publish the commits and wait for the ends of their builds."""
        self._cloud.pubsub._inner = self._direct_delivery() if burst.direct else self._emulated
        revisions, jobs = revisions_of(burst), BUILDERS[burst.category]
        wanted = len(revisions) * len(jobs)
        with self._lock:
            self._ended.clear()
        before, known = _cpu(), {build.id for build in self._cloud.buildbucket.builds.newest_first()}
        begun = time.monotonic()
        self._publish(burst, revisions)
        seconds = self._wait(wanted, begun, burst.patience)
        after = _cpu()
        builds = [build for build in self._cloud.buildbucket.builds.newest_first() if build.id not in known]
        created = sorted(build.create_time for build in builds)
        wall = time.time_ns() - int((time.monotonic() - begun) * 1e9)
        built = Counter(self._commit_of(build) for build in builds if build.status == "SUCCESS")
        return Outcome(
            seconds=seconds,
            first=(created[0] - wall) / 1e9 if created else seconds,
            created=(created[-1] - wall) / 1e9 if created else seconds,
            builds=len(builds),
            lost=wanted - len(built),
            doubled=built.total() - len(built),
            cpu={name: round(after[name] - before.get(name, 0.0), 3) for name in after},
        )

    def _publish(self, burst: Burst, revisions: Sequence[str]) -> None:
        killer = threading.Timer(burst.kill_after, self._kill)
        if burst.kill_after:
            killer.start()
        with ThreadPoolExecutor(_PUBLISHERS) as pool:
            list(pool.map(lambda each: self._cloud.publish_commit(_repo(burst.category), _REF, each), revisions))

    def _kill(self) -> None:
        for name in FUNCTIONS:
            self._cloud.kill(name)

    def _wait(self, wanted: int, begun: float, patience: float) -> float:
        while (seconds := time.monotonic() - begun) < patience:
            with self._lock:
                if len(self._ended) >= wanted:
                    return seconds
            time.sleep(_POLL_SECONDS)
        return seconds

    @staticmethod
    def _commit_of(build: Any) -> tuple[str, str]:
        """Return the builder and the commit of a build."""
        tags = dict(build.spec.tags)
        return build.spec.builder.builder, tags["buildset"]

    def _read(self, line: str) -> None:
        if '"invocation_finished"' not in line:
            return
        event = json.loads(line)
        if event["message"] == "invocation_finished" and event["status"] == "SUCCEEDED":
            with self._lock:
                self._ended.add(f"{event['job_id']}/{event['invocation_id']}")

    def _direct_delivery(self) -> MemoryPubSub:
        if self._direct is None:
            self._direct = MemoryPubSub(self._cloud.clock, _WORKERS)
            urls = {name: each.url for name, each in self._cloud.functions.items()}
            self._direct.create_topics(self._cloud.subscriptions, urls)
        return self._direct

    def close(self) -> None:
        """Stop direct delivery."""
        if self._direct is not None:
            self._direct.close()


def _both(first: Callable[[str], None] | None, second: Callable[[str], None]) -> Callable[[str], None]:
    def read(line: str) -> None:
        if first is not None:
            first(line)
        second(line)

    return read


def _cpu() -> dict[str, float]:
    """Return the seconds of CPU of this process and its descendants, the living and the dead, by group."""
    found: Counter[str] = Counter()
    this = psutil.Process()
    for process in (this, *this.children(recursive=True)):
        try:
            times, command = process.cpu_times(), " ".join(process.cmdline())
        except psutil.Error:
            continue
        found[_group(command, process.pid == this.pid)] += times.user + times.system
    return dict(found)


def _group(command: str, is_this: bool) -> str:
    if is_this:
        return "our servers"
    if "java" in command:
        return "Pub/Sub emulator" if "pubsub" in command.lower() else "Firestore emulator"
    return next((name for name in FUNCTIONS if f"--target={name}" in command), "other")


if __name__ == "__main__":
    main(sys.argv[1])
