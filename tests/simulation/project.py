"""A project of generated jobs, and its events: the script for both the engine and the naive model."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from luci_scheduler.core.instants import DAY, HOUR, MILLISECOND, MINUTE, SECOND, Instant, parse_rfc3339

__all__ = ["HOST", "MAIN", "POLLS", "START", "Event", "JobSpec", "Script", "config_text", "duration", "make_script"]

START = Instant(parse_rfc3339("2026-02-09T00:00:00Z") + 123_456_789)
"""An odd start instant, so that intervals counted from it never coincide with calendar times."""

HOST = "cr-buildbucket.appspot.com"
MAIN = "refs/heads/main"
_REPOS = tuple(f"https://r.googlesource.com/repo{number}" for number in range(3))
_CRONS = (
    "*/40 * * * *", "7-59/30 * * * *", "0 * * * *", "30 */2 * * *", "10,40 6-18 * * *", "5 4 * * MON-FRI",
    "0 12 1,15 * WED",
    "45 3 */2 * *", "0 */3 * * * 2026", "15 1 * * SUN 2025-2030", "30 */10 * * * * *", "0,30 0 * * * * *",
    "20 5 22 * FEB-MAR ? *",
)  # fmt: skip
_INTERVALS = (
    "with 30m interval",
    "with 50m interval",
    "with 1h30m interval",
    "with 17m30s interval",
    "with 6h interval",
)
POLLS = ("with 3m interval", "with 10m interval", "*/5 * * * *")
"""Schedules of pollers, for as long as no change replaces them."""


@dataclass(frozen=True, slots=True)
class JobSpec:
    """A job for both sides; durations in nanoseconds."""

    name: str
    task: str
    """``buildbucket``, ``noop``, ``url_fetch`` or ``gitiles``."""
    schedule: str = "triggered"
    policy: str = "GREEDY_BATCHING"
    limit: int = 1
    batch: int = 1000
    base: float = 2.0
    timeout: int = 7 * DAY
    sleep: int = 0
    """For noop."""
    emits: int = 0
    """For noop: triggers for ``targets``."""
    longest: int = 40 * MINUTE
    """For builds and fetches."""
    repo: str = ""
    targets: tuple[str, ...] = ()
    disabled: bool = False


@dataclass(frozen=True, slots=True)
class Event:
    """An event from outside at an instant.

    ``kind`` is ``push`` (a branch of a repository gets ``count`` commits; with ``published``, the newest one is also
    published), ``delete`` (of a branch), ``config`` (new specs take effect), ``pause``, ``resume`` or ``emit`` (a
    trigger from outside).
    """

    at: int
    kind: str
    job: str = ""
    repo: str = ""
    ref: str = ""
    count: int = 0
    published: bool = False
    trigger_id: str = ""
    specs: tuple[JobSpec, ...] = ()


@dataclass(frozen=True, slots=True)
class Script:
    """Jobs, and their events until ``end``."""

    specs: tuple[JobSpec, ...]
    events: tuple[Event, ...]
    end: int
    repos: tuple[str, ...] = field(default=_REPOS)


def duration(seed: int, spec: JobSpec, number: int) -> int:
    """Return how long the ``number``-th build or fetch of a job takes. It is random, but equal for both sides."""
    # Never a round number, so that an end never coincides with another event.
    if spec.task == "noop":
        return spec.sleep
    entropy = random.Random(f"{seed}/{spec.name}/{number}")  # noqa: S311
    return int(spec.longest * (0.1 + 0.9 * entropy.random())) + entropy.randrange(MILLISECOND)


def make_script(seed: int, days: float, jobs: int) -> Script:
    """Draw a project and its events."""
    entropy = random.Random(seed)  # noqa: S311
    specs = tuple(_specs(entropy, jobs))
    end = START + int(days * DAY)
    events = [*_pushes(entropy, end), *_emissions(entropy, specs, end), *_changes(entropy, specs, end)]
    return Script(specs, tuple(sorted(events, key=lambda event: event.at)), end)


def _specs(entropy: random.Random, jobs: int) -> list[JobSpec]:
    """Every fifth job runs on the calendar, every fifth by an interval. A tenth polls. The others are triggered."""
    sources = [_source(entropy, number) for number in range(max(4, jobs // 5))]
    timed = [_timed(entropy, number) for number in range(jobs * 2 // 5)]
    triggered = [_triggered(entropy, number) for number in range(jobs - len(sources) - len(timed))]
    # Each triggered job has one source. With two, their order at one instant would be undefined.
    shares: dict[int, list[str]] = {}
    for number, spec in enumerate(triggered):
        shares.setdefault(number % len(sources), []).append(spec.name)
    sources = [replace(s, targets=tuple(sorted(shares.get(n, ())))) for n, s in enumerate(sources)]
    return [*sources, *timed, *triggered]


def _source(entropy: random.Random, number: int) -> JobSpec:
    if number % 2:
        sleep, schedule = (5_000 + 137 * number) * MILLISECOND, entropy.choice(("12 */2 * * *", "with 2h10m interval"))
        return JobSpec(f"source{number:02}", "noop", schedule, sleep=sleep, emits=1 + number % 4)
    schedule = POLLS[number // 2 % len(POLLS)]
    return JobSpec(f"poller{number:02}", "gitiles", schedule, repo=_REPOS[number // 2 % len(_REPOS)])


def _timed(entropy: random.Random, number: int) -> JobSpec:
    task = ("buildbucket", "noop", "url_fetch", "buildbucket")[number % 4]
    schedule = _CRONS[number // 2 % len(_CRONS)] if number % 2 else _INTERVALS[number // 2 % len(_INTERVALS)]
    longest = 5 * MINUTE if task == "url_fetch" else entropy.choice((5, 30, 90)) * MINUTE
    if number % 16 == 0:
        schedule, longest = "continuously", 2 * HOUR
    sleep = (1_000 + 41 * number) * MILLISECOND
    return JobSpec(f"timed{number:02}", task, schedule, **_policy(entropy, number), sleep=sleep, longest=longest)


def _triggered(entropy: random.Random, number: int) -> JobSpec:
    longest = entropy.choice((3, 20, 60, 180)) * MINUTE
    return JobSpec(f"waits{number:02}", "buildbucket", **_policy(entropy, number), longest=longest)


def _policy(entropy: random.Random, number: int) -> dict[str, object]:
    limit = entropy.choice((1, 1, 2, 4))
    match number % 5:
        case 1:
            return {"policy": "LOGARITHMIC_BATCHING", "limit": limit, "base": entropy.choice((1.5, 2.0, 3.0))}
        case 2:
            return {"policy": "NEWEST_FIRST", "limit": limit, "timeout": entropy.choice((1, 4, 24)) * HOUR}
        case 3:
            return {"limit": limit, "batch": entropy.choice((1, 3, 10))}
        case _:
            return {"limit": limit}


def _instants(entropy: random.Random, mean: int, end: int) -> list[int]:
    """Draw odd instants, ``mean`` nanoseconds apart on average."""
    found, now = [], START + MINUTE
    while (now := now + 1 + int(entropy.expovariate(1 / mean))) < end:
        # Within the first 9 of every 10 seconds: a triage requested by then never coincides with a tick of the
        # calendar.
        found.append(now // (10 * SECOND) * 10 * SECOND + now % (7 * SECOND) + SECOND + 1)
    return found


def _pushes(entropy: random.Random, end: int) -> list[Event]:
    events = [Event(START - SECOND, "push", repo=repo, ref=MAIN, count=3) for repo in _REPOS]
    for repo in _REPOS:
        for at in _instants(entropy, 75 * MINUTE, end):
            count = entropy.choice((1, 1, 1, 2, 5, 70)) if entropy.random() < 0.1 else 1
            ref = MAIN if entropy.random() < 0.8 else f"refs/heads/b{entropy.randrange(4)}"
            if ref != MAIN and entropy.random() < 0.2:
                events.append(Event(at, "delete", repo=repo, ref=ref))
            else:
                events.append(Event(at, "push", repo=repo, ref=ref, count=count, published=entropy.random() < 0.4))
    return events


def _emissions(entropy: random.Random, specs: Sequence[JobSpec], end: int) -> list[Event]:
    """Triggers from outside. A fifth of them are emitted again, within half an hour or much later."""
    takers = [spec for spec in specs if spec.task != "gitiles"]
    events = []
    for number, at in enumerate(_instants(entropy, 600 * MINUTE // len(specs), end)):
        job = entropy.choice(takers).name
        events.append(Event(at, "emit", job, trigger_id=f"outside-{number}"))
        if entropy.random() < 0.2:
            again = at + entropy.choice((MINUTE, 10 * MINUTE, 5 * HOUR)) + 7
            events.append(Event(again, "emit", job, trigger_id=f"outside-{number}"))
    return [event for event in events if event.at < end]


def _changes(entropy: random.Random, specs: tuple[JobSpec, ...], end: int) -> list[Event]:
    """Jobs are paused and resumed, disabled and enabled again, and get other schedules and policies."""
    events: list[Event] = []
    for at in _instants(entropy, 3 * HOUR, end):
        job = entropy.choice(specs).name
        events.append(Event(at, "pause", job))
        events.append(Event(at + entropy.randrange(30, 300) * 10 * SECOND, "resume", job))
    current = specs
    for at in _instants(entropy, 4 * HOUR, end):
        place = entropy.randrange(len(current))
        current = (*current[:place], _changed(entropy, current[place]), *current[place + 1 :])
        events.append(Event(at, "config", specs=current))
    return [event for event in events if event.at < end]


def _changed(entropy: random.Random, spec: JobSpec) -> JobSpec:
    if spec.disabled:
        return replace(spec, disabled=False)
    match entropy.randrange(3):
        case 0:
            return replace(spec, disabled=True)
        case 1 if spec.schedule not in ("triggered", "continuously"):
            return replace(spec, schedule=entropy.choice((*_CRONS[:6], *_INTERVALS[:3])))
        case _:
            return replace(spec, **_policy(entropy, entropy.randrange(5)))  # type: ignore[arg-type]


def config_text(specs: Sequence[JobSpec]) -> str:
    """Write the jobs as a ``luci-scheduler.cfg``."""
    return "\n".join(_text(spec) for spec in specs)


def _text(spec: JobSpec) -> str:
    is_trigger = spec.task == "gitiles" or bool(spec.emits)
    numbers = {
        "GREEDY_BATCHING": f"max_batch_size: {spec.batch}",
        "LOGARITHMIC_BATCHING": f"max_batch_size: {spec.batch} log_base: {spec.base}",
        "NEWEST_FIRST": f"pending_timeout {{ seconds: {spec.timeout // SECOND} }}",
    }[spec.policy]
    policy = f"kind: {spec.policy} max_concurrent_invocations: {spec.limit} {numbers}"
    task = {
        "buildbucket": f'buildbucket {{ server: "{HOST}" bucket: "ci" builder: "{spec.name}" }}',
        "noop": f"noop {{ sleep_ms: {spec.sleep // MILLISECOND} triggers_count: {spec.emits} }}",
        "url_fetch": f'url_fetch {{ url: "https://{spec.name}.invalid/" timeout_sec: 480 }}',
        "gitiles": f'gitiles {{ repo: "{spec.repo}" refs: "regexp:refs/heads/.+" }}',
    }[spec.task]
    targets = " ".join(f'triggers: "{name}"' for name in spec.targets)
    return (
        f'{"trigger" if is_trigger else "job"} {{ id: "{spec.name}" schedule: "{spec.schedule}" '
        f"disabled: {'true' if spec.disabled else 'false'} triggering_policy {{ {policy} }} {task} {targets} }}"
    )
