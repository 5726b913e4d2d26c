"""``python -m emulator storm``: many commits, lost and repeated messages, crashes; prints what held."""

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
from emulator.errors import LocalCloudError
from emulator.local_cloud import LocalCloud
from emulator.options import Options
from emulator.settings import BUILDBUCKET_HOST
from emulator.start import start_local_cloud
from emulator.storm.chaos import Chaos, Killer
from emulator.storm.network import Network
from emulator.storm.report import Report, is_quiet, job_config, take_stock, trigger_id
from luci_scheduler.core.instants import MILLISECOND

__all__ = ["SHORT_DEADLINES", "main"]

_REPO, _REF = "https://storm.googlesource.com/sea", "refs/heads/main"
_PUBLISHERS = 16
_KILL_SECONDS = 1.5
_POLL_SECONDS = 0.2
_PATIENCE_SECONDS = 60.0
_SECONDS_PER_TRIGGER = 0.5  # a slow machine shared with others makes four a second

SHORT_DEADLINES = {
    "SCHEDULER_REQUEST_DEADLINE_SECONDS": "4",
    "SCHEDULER_CLAIM_LEASE_SECONDS": "5",
    "SCHEDULER_SWEEP_GRACE_SECONDS": "2",
    "SCHEDULER_COMMIT_WAIT_SECONDS": "0",  # the commits are made up: no host serves them
}
"""Settings under which what a crash has interrupted is taken up again after seconds instead of minutes."""


@dataclass(frozen=True, slots=True)
class _Storm:
    """What is asked for."""

    commits: int
    jobs: int
    seed: int
    kills: int
    store: str

    @property
    def names(self) -> list[str]:
        """The jobs' names within their project."""
        return [f"job{number}" for number in range(self.jobs)]

    @property
    def revisions(self) -> list[str]:
        """What is committed."""
        return [f"{number:040x}" for number in range(1, self.commits + 1)]


@dataclass(frozen=True, slots=True)
class _Outcome:
    report: Report
    most_deliveries: int
    kills: int
    seconds: float
    in_time: bool


def main(arguments: Sequence[str]) -> int:
    """Let a storm pass over a local cloud, and print what held.

    Returns:
        0 if every commit was built to its end, once for each job; 1 if something was lost, doubled or did not end.

    Raises:
        LocalCloudError: the local cloud cannot start.
    """
    options = _parse(arguments)
    kills = (3 if options.store == "emulators" else 0) if options.kills is None else options.kills
    if kills and options.store == "memory":
        raise LocalCloudError("in memory there are no processes to kill: use --kills 0, or --store emulators")
    storm = _Storm(options.commits, options.jobs, options.seed, kills, options.store)
    outcome = _pass_over(storm)
    _print(storm, outcome)
    return 0 if outcome.report.holds and outcome.in_time else 1


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m emulator storm",
        description="Many commits at once while messages are repeated and lost, answers get lost and functions are killed.",
        epilog="exit status: 0 everything held, 1 something was lost, doubled or did not end, 2 wrong usage",
    )
    parser.add_argument("--commits", type=whole_number(1), default=100, help="how many commits (default: %(default)s)")
    parser.add_argument(
        "--jobs", type=whole_number(1), default=3, help="how many jobs each triggers (default: %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=1, help="of everything that is drawn (default: %(default)s)")
    parser.add_argument(
        "--kills", type=whole_number(0), help="how often functions are killed (default: 3, in memory 0)"
    )
    parser.add_argument(
        "--store", choices=["emulators", "memory"], default="emulators", help="as that of up (default: %(default)s)"
    )
    return parser.parse_args(arguments)


def _pass_over(storm: _Storm) -> _Outcome:
    entropy = random.Random(storm.seed)  # noqa: S311 - a storm is to be repeatable, not secret
    with tempfile.TemporaryDirectory(prefix="storm-") as name, Network() as network:
        config = Path(name) / "configs" / "storm" / "luci-scheduler.cfg"
        config.parent.mkdir(parents=True)
        config.write_text(job_config(BUILDBUCKET_HOST, _REF, {_REPO: storm.names}), encoding="utf-8")
        options = Options(
            folder=Path(name),
            check_interval_seconds=2,
            plan=Script((Start(50 * MILLISECOND), End(200 * MILLISECOND))),
            settings=SHORT_DEADLINES,
            sweep_seconds=3,
            sync_seconds=0,
            store="memory" if storm.store == "memory" else "emulators",
            interceptors=network,
            on_progress=lambda text: print(text, file=sys.stderr, flush=True),
        )
        with start_local_cloud(options) as cloud:
            # Leases are scaled down, the minute for which Buildbucket knows a request is not: without it they are on their own.
            cloud.buildbucket.request_id_memory = 0
            return _blow(cloud, network, storm, entropy)


def _blow(cloud: LocalCloud, network: Network, storm: _Storm, entropy: random.Random) -> _Outcome:
    print(f"the storm breaks: seed {storm.seed}", file=sys.stderr, flush=True)
    network.interfere = Chaos(entropy)
    killer = Killer(cloud, entropy, storm.kills, _KILL_SECONDS)
    began = time.monotonic()
    killer.start()
    try:
        with ThreadPoolExecutor(_PUBLISHERS) as pool:
            list(pool.map(lambda revision: cloud.publish_commit(_REPO, _REF, revision), storm.revisions))
        triggers = {trigger_id(_REPO, _REF, revision) for revision in storm.revisions}
        wanted = {f"storm/{name}": triggers for name in storm.names}
        patience = _PATIENCE_SECONDS + _SECONDS_PER_TRIGGER * storm.commits * storm.jobs
        in_time = False
        while not in_time and time.monotonic() < began + patience:
            time.sleep(_POLL_SECONDS)
            in_time = (
                killer.is_done
                and len(network.taken("on_gitiles_commit")) >= storm.commits
                and is_quiet(cloud, wanted)
                and not (stock := take_stock(cloud, wanted)).lost
                and not stock.unfinished
            )
        seconds = time.monotonic() - began
    finally:
        killer.stop()
    report = take_stock(cloud, wanted)
    most = max(network.deliveries.values(), default=0)
    return _Outcome(report, most, killer.kills, seconds, in_time)


def _print(storm: _Storm, outcome: _Outcome) -> None:
    report = outcome.report
    table = Table("what", "how many", show_header=False)
    rows = {
        "commits": storm.commits,
        "jobs": storm.jobs,
        "times functions were killed": outcome.kills,
        "invocations": report.invocations,
        "builds": report.builds,
        "lost": len(report.lost),
        "doubled": len(report.doubled),
        "not ended": report.unfinished,
        "not successful": report.unsuccessful,
        "deliveries of a message or task, at most": outcome.most_deliveries,
        "seconds": f"{outcome.seconds:.1f}",
    }
    for what, count in rows.items():
        table.add_row(what, str(count))
    Console().print(table)
    for title, names in (("lost", report.lost), ("doubled", report.doubled)):
        for name in names[:10]:
            print(f"storm: {title}: {name}", file=sys.stderr)
    if not outcome.in_time:
        print("storm: the wait for the end was given up", file=sys.stderr)
