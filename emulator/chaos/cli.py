"""``python -m emulator chaos``: tests the scheduler under lost and repeated messages and crashes."""

from __future__ import annotations

import argparse
import json
import math
import platform
import random
import signal
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from emulator.arguments import whole_number
from emulator.buildbucket.plans import End, Script, Start
from emulator.chaos.faults import Chaos, Disturber, Outages, freezes, kills
from emulator.chaos.network import Network
from emulator.chaos.report import Report, is_quiet, job_config, take_stock, trigger_id
from emulator.errors import LocalCloudError
from emulator.local_cloud import LocalCloud
from emulator.official import OfficialEmulator, start_firestore, start_pubsub
from emulator.options import Options
from emulator.settings import BUILDBUCKET_HOST
from emulator.start import start_local_cloud
from luci_scheduler.core.instants import MILLISECOND

__all__ = ["SHORT_DEADLINES", "main"]

_REPO, _REF = "https://chaos.googlesource.com/sea", "refs/heads/main"
_PUBLISHERS = 16
_DISTURBANCES = {
    "kills": (1.5, "SIGKILLs of functions"),
    "terminations": (1.5, "SIGTERMs of functions"),
    "outages": (4.0, "deaths of Firestore, Cloud Tasks or Buildbucket, which keep their data"),
    "freezes": (6.0, "SIGSTOPs of the official emulators"),
}
"""Kind → seconds between two of them on average, and the description."""
_PROCESSES = ("kills", "terminations", "freezes")  # kinds that need processes
_ONE_BY_ONE = "max_concurrent_invocations: 50 max_batch_size: 1"
_POLL_SECONDS = 0.2
_PATIENCE_SECONDS = 60.0
_SECONDS_PER_TRIGGER = 0.5  # a slow, shared machine handles four triggers a second
_SECONDS_PER_DISTURBANCE = 3.0  # functions start again, and deliveries pause longer after each failure

SHORT_DEADLINES = {
    "SCHEDULER_REQUEST_DEADLINE_SECONDS": "4",
    "SCHEDULER_CLAIM_LEASE_SECONDS": "5",
    "SCHEDULER_SWEEP_GRACE_SECONDS": "2",
    "SCHEDULER_COMMIT_WAIT_SECONDS": "0",  # the commits are invented: no host serves them
}
"""Settings under which interrupted work resumes after seconds instead of minutes."""


@dataclass(frozen=True, slots=True)
class _Options:
    """The options of a run."""

    commits: int
    jobs: int
    seed: int
    store: str
    one_by_one: bool
    """Whether each commit is a separate build of each job."""
    times: Mapping[str, int]
    """How often each kind of `_DISTURBANCES` happens."""

    @property
    def names(self) -> list[str]:
        """The names of the jobs within their project."""
        return [f"job{number}" for number in range(self.jobs)]

    @property
    def revisions(self) -> list[str]:
        """The revisions of the commits."""
        return [f"{number:040x}" for number in range(1, self.commits + 1)]

    @property
    def wanted(self) -> dict[str, set[str]]:
        """The expected trigger IDs of each job."""
        triggers = {trigger_id(_REPO, _REF, revision) for revision in self.revisions}
        return {f"chaos/{name}": triggers for name in self.names}


@dataclass(frozen=True, slots=True)
class _Outcome:
    report: Report
    most_deliveries: int
    done: Mapping[str, int]
    seconds: float
    in_time: bool


def main(arguments: Sequence[str]) -> int:
    """Run the commits under faults over a local cloud, and print the report.

    Returns:
        0 if each commit was built once for each job, successfully; 1 if something was lost, duplicated or did not end.

    Raises:
        LocalCloudError: the local cloud cannot start.
    """
    options = _parse(arguments)
    if options.json and not options.json.parent.is_dir():
        raise LocalCloudError(f"the folder of --json does not exist: {options.json.parent}")
    times = {kind: getattr(options, kind) for kind in _DISTURBANCES}
    if times["kills"] is None:
        times["kills"] = 3 if options.store == "emulators" else 0
    if options.store == "memory" and any(times[kind] for kind in _PROCESSES):
        raise LocalCloudError(
            "the in-memory store runs no processes to kill or freeze: leave these options out, or use --store emulators"
        )
    commits = math.ceil(options.builds / options.jobs) if options.builds else options.commits
    run = _Options(commits, options.jobs, options.seed, options.store, bool(options.builds), times)
    outcome = _run(run)
    _print(run, outcome)
    if options.json:
        options.json.write_text(json.dumps(_document(run, outcome), indent=1) + "\n", encoding="utf-8")
    return 0 if outcome.report.holds and outcome.in_time else 1


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m emulator chaos",
        description="Publish many commits while messages and responses are lost or repeated and functions are killed.",
        epilog="exit status: 0 nothing lost or duplicated, 1 something lost, duplicated or unfinished, 2 wrong usage",
    )
    parser.add_argument("--commits", type=whole_number(1), default=100, help="how many commits (default: %(default)s)")
    parser.add_argument(
        "--jobs", type=whole_number(1), default=3, help="how many jobs each triggers (default: %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=1, help="the seed of all random decisions (default: %(default)s)")
    parser.add_argument(
        "--builds",
        type=whole_number(1),
        help="how many builds; replaces --commits, and each commit is built separately",
    )
    for kind, (_, what) in _DISTURBANCES.items():
        default = "3, in memory 0" if kind == "kills" else "0"
        parser.add_argument(
            f"--{kind}",
            type=whole_number(0),
            default=None if kind == "kills" else 0,
            help=f"how many {what} (default: {default})",
        )
    parser.add_argument(
        "--store",
        choices=["emulators", "memory"],
        default="emulators",
        help="like --store of up (default: %(default)s)",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the result to a file")
    return parser.parse_args(arguments)


def _run(run: _Options) -> _Outcome:
    entropy = random.Random(run.seed)  # noqa: S311 - a run must be repeatable, not secret
    with ExitStack() as stack:
        name = stack.enter_context(tempfile.TemporaryDirectory(prefix="chaos-"))
        network = stack.enter_context(Network())
        emulators = _start_emulators(stack) if run.store == "emulators" else []
        firestore, pubsub = [emulator.address for emulator in emulators] or ["", ""]
        config = Path(name) / "configs" / "chaos" / "luci-scheduler.cfg"
        config.parent.mkdir(parents=True)
        policy = _ONE_BY_ONE if run.one_by_one else ""
        config.write_text(job_config(BUILDBUCKET_HOST, _REF, {_REPO: run.names}, policy), encoding="utf-8")
        options = Options(
            folder=Path(name),
            check_interval_seconds=2,
            plan=Script((Start(50 * MILLISECOND), End(200 * MILLISECOND))),
            settings=SHORT_DEADLINES,
            sweep_seconds=3,
            sync_seconds=0,
            store="memory" if run.store == "memory" else "emulators",
            interceptors=network,
            firestore_address=firestore,
            pubsub_address=pubsub,
            on_progress=lambda text: print(text, file=sys.stderr, flush=True),
        )
        with start_local_cloud(options) as cloud:
            # The leases are shortened, but the minute for which Buildbucket remembers request IDs is not. If it is
            # switched off, it cannot hide a launch that relies on it.
            cloud.buildbucket.request_id_memory = 0
            outages = Outages()
            disturbers = _disturbers(cloud, emulators, outages, run)
            network.interfere = Chaos(entropy, outages)
            return _publish_and_wait(cloud, network, run, disturbers)


def _start_emulators(stack: ExitStack) -> list[OfficialEmulator]:
    """Start the Firestore and Pub/Sub emulators."""
    emulators = [start_firestore(), start_pubsub()]
    for emulator in emulators:
        stack.callback(emulator.stop)
    return [emulator.wait_until_ready() for emulator in emulators]


def _disturbers(
    cloud: LocalCloud, emulators: Sequence[OfficialEmulator], outages: Outages, run: _Options
) -> dict[str, Disturber]:
    """Return the disturber of each kind. Each has a separate random source, so that a kind does not change others."""
    sources = {kind: random.Random(f"{run.seed} {kind}") for kind in _DISTURBANCES}  # noqa: S311 - as above
    actions = {
        "kills": kills(cloud.kill),
        "terminations": kills(lambda name: cloud.kill(name, signal.SIGTERM)),
        "outages": outages.actions(sources["outages"]),
        "freezes": freezes(emulators, sources["freezes"]),
    }
    return {
        kind: Disturber(sources[kind], run.times[kind], seconds, actions[kind])
        for kind, (seconds, _) in _DISTURBANCES.items()
    }


def _publish_and_wait(
    cloud: LocalCloud, network: Network, run: _Options, disturbers: Mapping[str, Disturber]
) -> _Outcome:
    print(f"chaos started: seed {run.seed}", file=sys.stderr, flush=True)
    span = max(disturber.seconds for disturber in disturbers.values())
    patience = _PATIENCE_SECONDS + _SECONDS_PER_TRIGGER * run.commits * run.jobs + span
    patience += _SECONDS_PER_DISTURBANCE * sum(run.times.values())
    began = time.monotonic()
    with ExitStack() as stack:
        for disturber in disturbers.values():
            disturber.start()
            stack.callback(disturber.stop)
        _publish(cloud, run, span)
        in_time = False
        while not in_time and time.monotonic() < began + patience:
            time.sleep(_POLL_SECONDS)
            in_time = all(item.is_done for item in disturbers.values()) and _is_over(cloud, network, run)
        seconds = time.monotonic() - began
    most = max(network.deliveries.values(), default=0)
    done = {kind: disturber.done for kind, disturber in disturbers.items()}
    return _Outcome(take_stock(cloud, run.wanted), most, done, seconds, in_time)


def _publish(cloud: LocalCloud, run: _Options, span: float) -> None:
    """Publish the commits, evenly over the seconds in which the cloud is disturbed."""
    began = time.monotonic()

    def publish(number: int) -> None:
        time.sleep(max(0.0, began + span * number / run.commits - time.monotonic()))
        cloud.publish_commit(_REPO, _REF, run.revisions[number])

    with ThreadPoolExecutor(_PUBLISHERS) as pool:
        list(pool.map(publish, range(run.commits)))


def _is_over(cloud: LocalCloud, network: Network, run: _Options) -> bool:
    """Return whether all commits were delivered, and no trigger or invocation is pending."""
    if len(network.taken("on_gitiles_commit")) < run.commits or not is_quiet(cloud, run.wanted):
        return False
    report = take_stock(cloud, run.wanted)
    return not report.lost and not report.unfinished


def _counts(report: Report) -> Mapping[str, int]:
    return {
        "invocations": report.invocations,
        "builds": report.builds,
        "lost": len(report.lost),
        "duplicated": len(report.duplicated),
        "unfinished": report.unfinished,
        "unsuccessful": report.unsuccessful,
    }


def _document(run: _Options, outcome: _Outcome) -> Mapping[str, Any]:
    """Return the result as a JSON value. The page about reliability is made from it."""
    return {
        "what": "chaos",
        "seed": run.seed,
        "store": run.store,
        "commits": run.commits,
        "jobs": run.jobs,
        "disturbances": {_DISTURBANCES[kind][1]: count for kind, count in outcome.done.items()},
        **_counts(outcome.report),
        "most_deliveries": outcome.most_deliveries,
        "in_time": outcome.in_time,
        "seconds": round(outcome.seconds, 1),
        "python": platform.python_version(),
    }


def _print(run: _Options, outcome: _Outcome) -> None:
    report = outcome.report
    table = Table("measure", "count", show_header=False)
    rows = {
        "commits": run.commits,
        "jobs": run.jobs,
        **{_DISTURBANCES[kind][1]: count for kind, count in outcome.done.items() if count},
        **_counts(outcome.report),
        "most deliveries of a message or task": outcome.most_deliveries,
        "seconds": f"{outcome.seconds:.1f}",
    }
    for measure, count in rows.items():
        table.add_row(measure, str(count))
    Console().print(table)
    for title, names in (("lost", report.lost), ("duplicated", report.duplicated)):
        for name in names[:10]:
            print(f"chaos: {title}: {name}", file=sys.stderr)
    if not outcome.in_time:
        print("chaos: timed out before everything ended", file=sys.stderr)
