"""The records of a run: its schedule, and everything that happened in it. Instants and durations are nanoseconds."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, Self

from emulator.memory.store import MemoryStore
from emulator.storm.faults import Fault, Kind
from emulator.storm.scripts import SCENARIOS
from luci_scheduler.core.instants import Instant
from luci_scheduler.ports import Write

__all__ = [
    "LARGEST_SEED",
    "Answer",
    "Build",
    "Call",
    "Commit",
    "Delivery",
    "History",
    "Listing",
    "Message",
    "Observer",
    "Push",
    "Request",
    "Run",
    "Schedule",
    "Shown",
]


LARGEST_SEED = 10**9 - 1


@dataclass(frozen=True, slots=True)
class Schedule:
    """One run, in full: two runs of one schedule are equal."""

    seed: int
    faults: tuple[Fault, ...] | None = None
    """Exactly these faults happen; None: they are drawn from the seed."""
    without: frozenset[Kind] = frozenset()
    """Kinds that are not drawn."""
    rate: float = 1.0
    """Multiplies the rate of each drawn kind."""
    focus: frozenset[Kind] = frozenset()
    """Only these kinds are drawn; empty: all are. `focus.focused` selects them."""
    scenario: str = "random"
    """A name in `scripts.SCENARIOS`: which jobs there are, and what users do."""
    is_brief: bool = False
    """Whether the run ends when all its faults have happened, and nothing but idle schedules is left."""

    def line(self) -> str:
        """Return the schedule as one line of JSON, which `parse` reads."""
        document: dict[str, Any] = {"seed": self.seed, "scenario": self.scenario, "rate": self.rate}
        if self.without:
            document["without"] = sorted(self.without)
        if self.focus:
            document["focus"] = sorted(self.focus)
        if self.is_brief:
            document["brief"] = True
        if self.faults is not None:
            document["faults"] = [str(fault) for fault in self.faults]
        return json.dumps(document, separators=(",", ":"))

    @classmethod
    def parse(cls, line: str) -> Self:
        """Read what `line` writes.

        Raises:
            ValueError: the line is no schedule.
        """
        try:
            document = json.loads(line)
            faults = document.get("faults")
            schedule = cls(
                seed=int(document["seed"]),
                faults=None if faults is None else tuple(map(Fault.parse, faults)),
                without=frozenset(map(Kind, document.get("without", ()))),
                rate=float(document.get("rate", 1.0)),
                focus=frozenset(map(Kind, document.get("focus", ()))),
                scenario=str(document.get("scenario", "random")),
                is_brief=bool(document.get("brief", False)),
            )
        except KeyError as error:
            raise ValueError(f"the line has no {error.args[0]}") from error
        except (TypeError, AttributeError, OverflowError, ValueError) as error:
            raise ValueError(f"the line is no schedule: {error}") from error
        if schedule.scenario not in SCENARIOS:
            raise ValueError(f"the line has an unknown scenario: {schedule.scenario!r}")
        if not 0 <= schedule.seed <= LARGEST_SEED:
            raise ValueError(f"the line has a seed that is not from 0 to {LARGEST_SEED}: {schedule.seed}")
        return schedule


@dataclass(frozen=True, slots=True)
class Call:
    """A call of a handler to the outside."""

    point: str
    """Without its phase, for example ``on_task launch/buildbucket.ScheduleBuild``."""
    before: int
    """The occurrence of ``<point>/before``."""
    after: int | None
    """The occurrence of ``<point>/after``; None if the call never landed, or landed after its caller gave up."""
    at: Instant
    delivery: int
    """The number of the `Delivery`."""
    landed: bool
    told: str
    """``ok``, or the name of the error that the handler got; ``crash`` if the handler died here."""
    ended: Instant
    """When the handler got the answer or the error."""

    @property
    def handler(self) -> str:
        """The handler, for example ``on_task launch``."""
        return self.point.partition("/")[0]


@dataclass(frozen=True, slots=True)
class Commit:
    """A commit that landed in the store."""

    number: int
    """From 1, in the order in which commits landed."""
    at: Instant
    handler: str
    instance: str
    delivery: int
    writes: tuple[Write, ...]
    """As the handler made them: `luci_scheduler.ports`. Of an instance of the last release: its own classes."""


@dataclass(slots=True)
class Delivery:
    """One call of a function."""

    number: int
    handler: str
    """``<function> <kind>``: ``on_gitiles_commit``, ``on_task timer``, ``console PauseJob``."""
    instance: str
    key: str
    """Names the task, message or request; equal in repetitions."""
    attempt: int
    """0 for the first delivery."""
    began: Instant
    ended: Instant | None = None
    code: int | None = None
    """The HTTP status of the answer; None while it runs, and if the process died."""
    body: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer to a user's call of the console."""

    at: Instant
    method: str
    request: str
    """JSON."""
    code: int
    body: str


@dataclass(frozen=True, slots=True)
class Push:
    """A commit that was pushed to a repository."""

    at: Instant
    repo: str
    ref: str
    revision: str
    published: bool
    """Whether an event announces it; otherwise only a poll can find it."""


@dataclass(frozen=True, slots=True)
class Request:
    """A request for a build that reached a Buildbucket server, as the server read it."""

    at: Instant
    server: str
    method: str
    request: str
    """JSON; with the tokens that it carries."""


@dataclass(frozen=True, slots=True)
class Message:
    """A published announcement."""

    at: Instant
    attributes: tuple[tuple[str, str], ...]
    data: str


@dataclass(frozen=True, slots=True)
class Shown:
    """A status of a commit that GitHub took."""

    at: Instant
    revision: str
    context: str
    state: str
    page: str
    """The link, which leads to an invocation's page."""


@dataclass(slots=True)
class Build:
    """A build of a Buildbucket server or of Cloud Build, from its creation to its end."""

    id: str
    server: str
    builder: str
    job_id: str
    """From its tags, as the next two."""
    invocation_id: int
    request_id: str
    created: Instant
    ends: Instant
    """When it ends unless it is canceled first."""
    outcome: str
    """The status that it has then, in the words of v2: ``SUCCESS``, ``FAILURE`` or ``INFRA_FAILURE``."""
    status: str = "SCHEDULED"
    started: Instant | None = None
    ended: Instant | None = None
    delivery: int = 0
    """The number of the `Delivery` that requested it. Only Cloud Build has this and the next member."""
    canceled_by: list[int] = field(default_factory=list)
    """The numbers of the deliveries that canceled it."""

    @property
    def is_live(self) -> bool:
        """Whether it has not ended."""
        return self.ended is None


@dataclass(frozen=True, slots=True)
class Listing:
    """An answer of Cloud Build that lists builds."""

    at: Instant
    delivery: int
    shown: tuple[str, ...]
    """The IDs of the builds that it could show, whichever the request asks for."""
    hidden: tuple[str, ...]
    """The IDs of the builds that exist, and are too new for the list."""


@dataclass(slots=True)
class History:
    """Everything that happened, in order."""

    commits: list[Commit] = field(default_factory=list)
    deliveries: list[Delivery] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    builds: list[Build] = field(default_factory=list)
    pushes: list[Push] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)
    messages: list[Message] = field(default_factory=list)
    listings: list[Listing] = field(default_factory=list)
    statuses: list[Shown] = field(default_factory=list)
    notices: dict[str, str] = field(default_factory=dict)
    """Message of the topic ``cloud-builds`` → the build that it is about."""
    log: list[dict[str, Any]] = field(default_factory=list)
    """The log lines of the functions, as records: ``severity``, ``message``, ``at`` and the members of the line."""
    lost: list[str] = field(default_factory=list)
    """Commits that a force push removed from their branch. An event about such a commit waits for a day."""
    purges: list[Instant] = field(default_factory=list)
    outages: list[tuple[str, Instant, Instant]] = field(default_factory=list)
    """Name of the part (``store``, ``queue``, ``builds``, ``hosts``), beginning and end."""
    counts: Counter[str] = field(default_factory=Counter)


class Observer(Protocol):
    """Watches a run while it happens. A method may raise an error, which ends the run and leaves `World.run`."""

    def committed(self, world: Any, commit: Commit) -> None:
        """Look at the world right after a commit has landed; ``world.store`` is the store without faults."""

    def built(self, world: Any, build: Build) -> None:
        """Look at the world right after a build was created, started, ended or canceled."""

    def recovered(self, world: Any) -> None:
        """Look at the world ten minutes after the last fault, while schedules still run. Then they are stopped."""

    def ended(self, world: Any) -> None:
        """Look at the world at the end of the run."""


@dataclass(slots=True)
class Run:
    """A run that is over."""

    schedule: Schedule
    history: History
    faults: Sequence[Fault]
    """The faults that happened, in order. With them in `Schedule.faults`, the schedule gives the same run."""
    trace_hash: str
    effect_hash: str
    """The hash of the trace without its faults."""
    store: MemoryStore
    """The store at the end."""
    storm_ended: Instant
    """When the last fault could happen; later everything works."""
    ended: Instant
    is_quiet: bool
    """Whether everything had come to its end; False: the time was up, and something was still in flight."""
    secrets: Sequence[str]
    """Texts that no log line, answer, document or announcement may contain."""
