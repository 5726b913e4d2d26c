"""``python -m emulator chaos``: tests the scheduler under lost and repeated messages and crashes."""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from emulator.arguments import whole_number
from emulator.buildbucket.plans import End, Script, Start
from emulator.chaos.faults import Chaos, Killer
from emulator.chaos.network import Network
from emulator.chaos.report import Report, is_quiet, job_config, take_stock, trigger_id
from emulator.errors import LocalCloudError
from emulator.local_cloud import LocalCloud
from emulator.options import Options
from emulator.settings import BUILDBUCKET_HOST
from emulator.start import start_local_cloud
from luci_scheduler.core.instants import MILLISECOND

__all__ = ["SHORT_DEADLINES", "main"]

_REPO, _REF = "https://chaos.googlesource.com/sea", "refs/heads/main"
_PUBLISHERS = 16
_KILL_SECONDS = 1.5
_POLL_SECONDS = 0.2
_PATIENCE_SECONDS = 60.0
_SECONDS_PER_TRIGGER = 0.5  # a slow, shared machine handles four triggers a second

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
    kills: int
    store: str

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
    kills: int
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
    kills = (3 if options.store == "emulators" else 0) if options.kills is None else options.kills
    if kills and options.store == "memory":
        raise LocalCloudError("the in-memory store runs no processes to kill: use --kills 0, or --store emulators")
    run = _Options(options.commits, options.jobs, options.seed, kills, options.store)
    outcome = _run(run)
    _print(run, outcome)
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
        "--kills", type=whole_number(0), help="how often functions are killed (default: 3, in memory 0)"
    )
    parser.add_argument(
        "--store",
        choices=["emulators", "memory"],
        default="emulators",
        help="like --store of up (default: %(default)s)",
    )
    return parser.parse_args(arguments)


def _run(run: _Options) -> _Outcome:
    entropy = random.Random(run.seed)  # noqa: S311 - a run must be repeatable, not secret
    with tempfile.TemporaryDirectory(prefix="chaos-") as name, Network() as network:
        config = Path(name) / "configs" / "chaos" / "luci-scheduler.cfg"
        config.parent.mkdir(parents=True)
        config.write_text(job_config(BUILDBUCKET_HOST, _REF, {_REPO: run.names}), encoding="utf-8")
        options = Options(
            folder=Path(name),
            check_interval_seconds=2,
            plan=Script((Start(50 * MILLISECOND), End(200 * MILLISECOND))),
            settings=SHORT_DEADLINES,
            sweep_seconds=3,
            sync_seconds=0,
            store="memory" if run.store == "memory" else "emulators",
            interceptors=network,
            on_progress=lambda text: print(text, file=sys.stderr, flush=True),
        )
        with start_local_cloud(options) as cloud:
            # The leases are shortened, but the minute for which Buildbucket remembers request IDs is not. If it is
            # switched off, it cannot hide a launch that relies on it.
            cloud.buildbucket.request_id_memory = 0
            return _publish_and_wait(cloud, network, run, entropy)


def _publish_and_wait(cloud: LocalCloud, network: Network, run: _Options, entropy: random.Random) -> _Outcome:
    print(f"chaos started: seed {run.seed}", file=sys.stderr, flush=True)
    network.interfere = Chaos(entropy)
    killer = Killer(cloud, entropy, run.kills, _KILL_SECONDS)
    began = time.monotonic()
    killer.start()
    try:
        with ThreadPoolExecutor(_PUBLISHERS) as pool:
            list(pool.map(lambda revision: cloud.publish_commit(_REPO, _REF, revision), run.revisions))
        patience = _PATIENCE_SECONDS + _SECONDS_PER_TRIGGER * run.commits * run.jobs
        in_time = False
        while not in_time and time.monotonic() < began + patience:
            time.sleep(_POLL_SECONDS)
            in_time = killer.is_done and _is_over(cloud, network, run)
        seconds = time.monotonic() - began
    finally:
        killer.stop()
    most = max(network.deliveries.values(), default=0)
    return _Outcome(take_stock(cloud, run.wanted), most, killer.kills, seconds, in_time)


def _is_over(cloud: LocalCloud, network: Network, run: _Options) -> bool:
    """Return whether all commits were delivered, and no trigger or invocation is pending."""
    if len(network.taken("on_gitiles_commit")) < run.commits or not is_quiet(cloud, run.wanted):
        return False
    report = take_stock(cloud, run.wanted)
    return not report.lost and not report.unfinished


def _print(run: _Options, outcome: _Outcome) -> None:
    report = outcome.report
    table = Table("measure", "count", show_header=False)
    rows = {
        "commits": run.commits,
        "jobs": run.jobs,
        "kills of functions": outcome.kills,
        "invocations": report.invocations,
        "builds": report.builds,
        "lost": len(report.lost),
        "duplicated": len(report.duplicated),
        "unfinished": report.unfinished,
        "unsuccessful": report.unsuccessful,
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
