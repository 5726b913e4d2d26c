"""Functions of two releases on one database: half of the deliveries go to another release's processes."""

from __future__ import annotations

import http.client
import json
import random
import re
import tarfile
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, cast

from emulator.chaos.faults import Disturber, kills
from emulator.chaos.network import Network, pass_on
from emulator.chaos.relays import Call, CutError, HttpResponse
from emulator.chaos.report import Report
from emulator.local_cloud import LocalCloud
from emulator.settings import BUILDBUCKET_HOST
from emulator.supervisor import FunctionProcess
from tests.e2e.pack_release import ARCHIVE
from tests.e2e.support import GITILES_HOST, jobs_beside, publish, settled
from tests.waiting import until

T = TypeVar("T")

NEXT = Path(__file__).parent / "releases" / "next"
SHARED = ("on_gitiles_commit", "on_build_completion", "on_task")
MEMBER = "of_next_release"
"""The name of the members that the next release plants."""
SEED = 11
_FEWEST_KILLS = 2
_COMMITS_PER_KILL = 20
_KILL_SECONDS = 0.5
_PATIENCE_SECONDS = 240.0
_POLL_SECONDS = 0.5  # a look reads many pages, and the functions need the processor
_NOT_FORWARDED = {"connection", "content-length", "host", "transfer-encoding"}


def unpack_last_release(folder: Path) -> Path:
    """Unpack the functions of the last release; return the folder with its entry points."""
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(folder, filter="data")
    return folder / "functions"


@dataclass(frozen=True)
class Release:
    """The functions of another release beside those of a local cloud."""

    functions: Mapping[str, FunctionProcess]

    @property
    def console_url(self) -> str:
        """Where its console listens."""
        return self.functions["console"].url


def _understood(environment: Mapping[str, str], folder: Path) -> dict[str, str]:
    """Return the variables that a release knows. It refuses the settings of later releases, which no apply gives it."""
    settings = folder / "luci_scheduler" / "settings.py"
    if not settings.exists():
        return dict(environment)  # it runs on today's package
    text = settings.read_text(encoding="utf-8")
    known = {f"SCHEDULER_{name.upper()}" for name in re.findall(r"^    (\w+): ", text, re.MULTILINE)}
    named = {**environment, **_named_hosts(environment)}
    return {name: value for name, value in named.items() if name in known or not name.startswith("SCHEDULER_")}


def _named_hosts(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the settings of hosts with names, as in the cloud: only a local cloud of today serves all hosts as one."""
    servers = json.loads(environment["SCHEDULER_BUILDBUCKET_SERVERS"])
    gitiles = json.loads(environment["SCHEDULER_GITILES_URLS"])["*"]
    return {
        "SCHEDULER_BUILDBUCKET_SERVERS": json.dumps([{**server, "host": BUILDBUCKET_HOST} for server in servers]),
        "SCHEDULER_GITILES_URLS": json.dumps({GITILES_HOST: f"{gitiles}/{GITILES_HOST}"}),
    }


@contextmanager
def other_release(cloud: LocalCloud, folder: Path, names: Collection[str] = SHARED, **more: str) -> Iterator[Release]:
    """Run functions of ``folder``, on the database and the queue of a local cloud, with ``more`` variables."""
    environment = {**_understood(cloud.environment, folder), "PYTHONPATH": str(folder), **more}
    with ExitStack() as stack:
        functions = {name: FunctionProcess(name, environment, source=folder / "main.py") for name in names}
        for function in functions.values():
            stack.callback(function.stop)
            function.start()
        for function in functions.values():
            function.wait_until_ready()
        yield Release(functions)


class Split:
    """An `Interfere` that sends each delivery to one of two releases, drawn from a random source.

    At first all deliveries go to the other release.
    """

    def __init__(self, other: Release, entropy: random.Random) -> None:
        self._other = other
        self._entropy = entropy
        self._lock = threading.Lock()
        self.share = 1.0
        """The fraction of the deliveries that the other release gets."""
        self.answers: dict[bool, list[int]] = {True: [], False: []}
        """Whether the other release answered → the status codes."""

    def __call__(self, call: Call, send: Callable[[], T], /) -> T:
        """Send a call to one of the two."""
        if call.server not in SHARED:
            return send()
        with self._lock:
            to_other = self._entropy.random() < self.share
        answer = cast("T", _forward(self._other.functions[call.server], call)) if to_other else send()
        with self._lock:
            self.answers[to_other].append(cast("HttpResponse", answer).status)
        return answer


def _forward(function: FunctionProcess, call: Call) -> HttpResponse:
    connection = http.client.HTTPConnection("127.0.0.1", function.port, timeout=60)
    headers = {name: value for name, value in call.headers.items() if name not in _NOT_FORWARDED}
    try:
        connection.request("POST", call.path, call.body, headers)
        response = connection.getresponse()
        return HttpResponse(response.status, response.getheaders(), response.read())
    except (OSError, http.client.HTTPException) as error:
        raise CutError from error
    finally:
        connection.close()


class _Both:
    """Kills the functions of one of two releases."""

    def __init__(self, cloud: LocalCloud, other: Release, entropy: random.Random) -> None:
        self._cloud = cloud
        self._other = other
        self._entropy = entropy

    def kill(self, name: str) -> None:
        """Kill a function of this release or of the other one."""
        if self._entropy.random() < 0.5:
            self._cloud.kill(name)
        else:
            self._other.functions[name].kill()


def burst(cloud: LocalCloud, network: Network, other: Release, name: str, commits: int) -> tuple[list[Report], Split]:
    """Publish commits to a repository while both releases share the deliveries and die.

    The other release builds the first commit alone, before the first death, so it has written documents of every kind.

    Returns:
        the report of each job that watches the repository, and the answers of both releases.
    """
    entropy = random.Random(SEED)  # noqa: S311 - to be drawn again
    split = Split(other, random.Random(SEED))  # noqa: S311
    times = max(_FEWEST_KILLS, commits // _COMMITS_PER_KILL)
    killer = Disturber(entropy, times, _KILL_SECONDS, kills(_Both(cloud, other, entropy).kill))
    numbers = range(1, commits + 1)

    def reports(wanted: Collection[int]) -> list[Report]:
        time.sleep(_POLL_SECONDS)
        found = [settled(cloud, job, wanted, name) for job in jobs_beside(name)]
        return [report for report in found if report] if all(found) else []

    network.interfere = split
    try:
        publish(cloud, name, numbers[0])
        until(lambda: reports(numbers[:1]), "the builds of the first commit", _PATIENCE_SECONDS)
        split.share = 0.5
        killer.start()
        try:
            with ThreadPoolExecutor(8) as pool:
                list(pool.map(lambda number: publish(cloud, name, number), numbers[1:]))
            ended = f"the builds of {commits} commits"
            return until(lambda: killer.is_done and reports(numbers), ended, _PATIENCE_SECONDS), split
        finally:
            killer.stop()
    finally:
        network.interfere = pass_on


def bodies_of_next(client: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the path and the body of each document that the next release wrote.

    Firestore itself keeps the field that marks them, because an update names the fields that it changes.
    """
    for kind, body in (("jobs", "record"), ("triggers", "record"), ("invocations", "state")):
        for snapshot in client.collection_group(kind).stream():
            document = snapshot.to_dict()
            if document.get(MEMBER):
                yield snapshot.reference.path, json.loads(document[body])
