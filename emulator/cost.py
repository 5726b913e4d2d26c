"""The costs of an installation: the usage of each path, the sizes of whole installations, and `docs/cost.md`'s tables.

``python -m emulator.cost`` prints the tables; a test compares them with the page.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from emulator.prices import (
    FIRST_PRICE_OF_A_CONDITION,
    FREE_IN_ACCOUNT,
    FREE_IN_PROJECT,
    PRICES,
    Prices,
    Usage,
    cost,
    times,
    total,
    without_free,
)

__all__ = [
    "CONDITIONS",
    "FLEETS",
    "LINE_BYTES",
    "LOG_ENTRY_BYTES",
    "METRICS",
    "OPTIONS",
    "PATHS",
    "REQUEST_LOG_BYTES",
    "SCHEDULE_LOG_BYTES",
    "SIZES",
    "WEBHOOK",
    "WEBHOOK_CONDITIONS",
    "WEBHOOK_INSTANCES",
    "Fleet",
    "Path",
    "Size",
    "attack",
    "build",
    "fleet",
    "idle",
    "job",
    "operations",
    "polling",
    "run",
    "tables",
]

_MILLION = 1e6
_KIB, _MIB, _GIB = 2**10, 2**20, 2**30
_DAYS = 30
_MINUTES = _DAYS * 24 * 60
_HOURS = 730
"""Hours of a month, as price lists count them."""

LINE_BYTES = 400
"""A line of the functions. The lines of all paths have 300 to 400 bytes."""
LOG_ENTRY_BYTES = 900
"""The members that Cloud Run and Cloud Logging add to each line: resource, labels, instance, trace and times."""
REQUEST_LOG_BYTES = 1_400
"""Cloud Run's own entry for each request."""
SCHEDULE_LOG_BYTES = 1_500
"""Cloud Scheduler's two entries for each run of a schedule. Cloud Tasks and Pub/Sub write none."""
_SENT_BYTES = 4_000
"""Data sent in one call to a build service or a commit host, with headers and the connection."""
_NOTIFICATION_BYTES = 20_000
"""A message of Buildbucket, which holds the whole build."""

_START_CPU_SECONDS = 1.2
"""CPU time from the start of a process to its first answer, as measured."""
_STARTS_A_DAY = 24
"""Starts of instances while idle. The sweep keeps one instance in use, and Cloud Run replaces it now and then."""
_STARTS_A_CALL = 0.01
"""Starts of instances for each call of a busy installation."""

_INVOCATION_BYTES = 22_000
_RETENTION_MONTHS = 3
_BACKUPS = 7
"""Daily backups that are kept by default."""
_EXPIRED_DOCUMENTS = 2
"""Documents of a build that expire: the invocation and its trigger."""

_SECRET_VERSIONS = 7
"""Four versions of the functions' keys and three of the console's, after the second rotation."""
_IMAGES_GB = 0.4
_SOURCES_GIB = 0.01
_BUILD_MINUTES = 3
"""Duration of the image's build in an upgrade. The page assumes one upgrade a month."""

_BUILD_BYTES = 5_000
"""A message of Cloud Build, which holds the whole build."""
_JOB_MINUTES = 5
"""Duration of a build of Cloud Build in the tables. It is checked after one to ten minutes, so once."""
_ATTACK_REQUESTS_A_SECOND = 1_000
"""Requests that both instances of the webhook answer in an attack. Cloud Run refuses more, and bills none of those."""
_KEPT_ENTRIES = 0.01
"""Share of Cloud Run's entries for refused requests of the webhook that Terraform's exclusion keeps."""
_DAY = 24 * 60 * 60

CONDITIONS = 26
"""Conditions of the alerts of every installation."""
WEBHOOK_CONDITIONS = 2
"""Conditions of the alert that an installation with the webhook adds."""
METRICS = 23
"""Metrics that are computed from logs."""
_EVALUATIONS = 2 * _MINUTES
"""An alert is evaluated every thirty seconds."""
_POINT_BYTES = 8


_OPERATIONS = ("firestore_read", "firestore_write", "task_operation", "request", "cpu_second", "gib_second")


@dataclass(frozen=True, slots=True)
class Path:
    """One path of the system, in operations."""

    name: str
    reads: int
    writes: int
    tasks: int
    """Created tasks; the creation and the delivery of each are billed as one operation."""
    tenths: int
    """Billed tenths of a second of the call, as Cloud Run rounds up; most of the time is spent on the build service or
    the commit host."""
    lines: int
    """Lines in the log."""
    outside: int
    """Calls to a build service or a commit host."""
    message_bytes: int = 0
    """Size of the Pub/Sub message that causes the call; Pub/Sub bills at least 1,000 bytes."""


PATHS = {
    "commit": Path("commit → running", 2, 5, 1, tenths=12, lines=2, outside=2, message_bytes=1_000),
    "check": Path("status check", 1, 1, 1, tenths=5, lines=1, outside=1),
    "notification": Path(
        "notification, running", 1, 1, 0, tenths=4, lines=0, outside=1, message_bytes=_NOTIFICATION_BYTES
    ),
    "completion": Path("completion", 2, 2, 0, tenths=4, lines=1, outside=1, message_bytes=_NOTIFICATION_BYTES),
    "orphan": Path("the last timer, which does nothing", 1, 0, 0, tenths=1, lines=1, outside=0),
    "poll": Path("poll, unchanged", 2, 2, 1, tenths=5, lines=1, outside=1),
    "sweep": Path("sweep, nothing due", 3, 0, 0, tenths=1, lines=1, outside=0),
    "sync": Path("configs, unchanged", 1, 0, 0, tenths=4, lines=0, outside=1),
}


@dataclass(frozen=True, slots=True)
class Size:
    """An instance that serves one request at a time."""

    name: str
    cpu: float
    gib: float


WEBHOOK = Size("the webhook", 1.0, 0.25)
WEBHOOK_INSTANCES = 2
"""The bound that Terraform sets."""

SIZES = (Size("a sixth of a CPU, 256 MiB (as deployed)", 1 / 6, 0.25), Size("1 CPU, 512 MiB", 1.0, 0.5))


@dataclass(frozen=True, slots=True)
class Fleet:
    """The work of a large installation."""

    name: str
    builds: int
    """Builds a day."""
    checks: int
    """Status checks of a build."""
    pollers: int = 0
    """Jobs that poll a repository every minute."""


FLEETS = (
    Fleet("Flutter: 1,500 builders, 20 builds a day each, 5 checks a build", 30_000, 5),
    Fleet("the same with a check each minute (28 a build)", 30_000, 28),
    Fleet("Chromium's CI: 2,000 jobs, 24 batched builds a day each, 5 checks, 12 pollers", 48_000, 5, 12),
    Fleet("Chromium without batches: 500 commits a day, each builds all 2,000 jobs", 1_000_000, 5, 12),
    Fleet("2,000 jobs that poll every minute, and no build", 0, 0, 2_000),
)


def run(path: Path, size: Size) -> Usage:
    """Return the usage of one run of a path. A task counts twice, for its creation and its delivery."""
    log_bytes = REQUEST_LOG_BYTES + path.lines * (LINE_BYTES + LOG_ENTRY_BYTES)
    return {
        "firestore_read": path.reads,
        "firestore_write": path.writes,
        "task_operation": 2 * path.tasks,
        "request": 1,
        "cpu_second": path.tenths / 10 * size.cpu,
        "gib_second": path.tenths / 10 * size.gib,
        "message_gib": 2 * path.message_bytes / _GIB,
        "sent_gib": path.outside * _SENT_BYTES / _GIB,
        "log_gib": log_bytes / _GIB,
    }


def build(checks: int, size: Size, message_bytes: int = _NOTIFICATION_BYTES) -> Usage:
    """Return the usage of a build: one commit, two notifications, the status checks, one end, and its documents.

    Its documents are stored until they expire, and are part of every backup.

    Args:
        checks: the number of status checks.
        size: the size of the functions.
        message_bytes: the size of a notification.
    """
    notified = [replace(PATHS[name], message_bytes=message_bytes) for name in ("notification", "completion")]
    paths = [PATHS["commit"], *notified, PATHS["orphan"], *[PATHS["check"]] * checks]
    gib_months = _INVOCATION_BYTES / _GIB * _RETENTION_MONTHS
    documents = {
        "firestore_delete": _EXPIRED_DOCUMENTS,
        "firestore_gib_month": gib_months,
        "backup_gib_month": _BACKUPS * gib_months,
    }
    return total([documents, *(run(path, size) for path in paths)])


def job(size: Size) -> Usage:
    """Return the usage of a build of Cloud Build for a commit, with the time of its machine."""
    return total([build(1, size, _BUILD_BYTES), {"build_minute": _JOB_MINUTES}])


def pushes(number: int) -> Usage:
    """Return the usage of pushes that the webhook publishes, one after the other: a tenth of a second each."""
    push = Path("push", 0, 0, 0, tenths=1, lines=1, outside=0, message_bytes=1_000)
    return times(number, run(push, WEBHOOK))


def attack() -> Usage:
    """Return the usage of a day in which strangers keep both instances of the webhook busy, without a signature."""
    requests = _ATTACK_REQUESTS_A_SECOND * _DAY
    seconds = WEBHOOK_INSTANCES * _DAY
    return {
        "request": requests,
        "cpu_second": seconds * WEBHOOK.cpu,
        "gib_second": seconds * WEBHOOK.gib,
        "log_gib": requests * _KEPT_ENTRIES * REQUEST_LOG_BYTES / _GIB,
    }


def operations(usage: Usage) -> Usage:
    """Return the part of a usage that the design of the functions decides: operations, calls and their time."""
    return {name: amount for name, amount in usage.items() if name in _OPERATIONS}


def polling(minutes: int, size: Size) -> Usage:
    """Return the monthly usage of one gitiles job that polls every ``minutes`` and finds nothing new."""
    return times(_MINUTES / minutes, run(PATHS["poll"], size))


def start(size: Size) -> Usage:
    """Return the usage of one start of an instance. A smaller CPU takes longer and costs the same for each second."""
    seconds = _START_CPU_SECONDS / size.cpu
    return {"cpu_second": _START_CPU_SECONDS, "gib_second": seconds * size.gib, "secret_access": 3}


def idle(size: Size) -> dict[str, Usage]:
    """Return the monthly usage of an idle installation for each cause."""
    schedule = {"log_gib": SCHEDULE_LOG_BYTES / _GIB}
    return {
        "sweep, every minute": times(_MINUTES, total([run(PATHS["sweep"], size), schedule])),
        "configs, every minute": times(_MINUTES, total([run(PATHS["sync"], size), schedule])),
        "two schedules": {"scheduler_job_month": 2},
        f"{_SECRET_VERSIONS} secret versions": {"secret_version_month": _SECRET_VERSIONS},
        "images and sources": {"image_gb_month": _IMAGES_GB, "bucket_gib_month": _SOURCES_GIB},
        f"{_STARTS_A_DAY} starts of instances a day": times(_DAYS * _STARTS_A_DAY, start(size)),
        "one upgrade": {"build_minute": _BUILD_MINUTES},
    }


def fleet(work: Fleet, size: Size) -> Usage:
    """Return the monthly usage of a fleet, with that of the idle installation."""
    busy = total([times(_DAYS * work.builds, build(work.checks, size)), times(work.pollers, polling(1, size))])
    starts = times(busy["request"] * _STARTS_A_CALL, start(size))
    return total([busy, starts, *idle(size).values()])


OPTIONS: dict[str, Usage] = {
    '`console.front_end = "iap"`, `"proxy"` or `"public"`': {},
    '`console.front_end = "load_balancer"`': {"forwarding_rule_hour": _HOURS},
    f"alerts: {CONDITIONS} conditions": {
        "alert_condition_month": CONDITIONS,
        "alert_point": CONDITIONS * _EVALUATIONS,
    },
    f"metrics of the alerts: {METRICS}, if each has a point a minute": {
        "metric_mib": METRICS * _POINT_BYTES * _MINUTES / _MIB
    },
    "`github.token` or `github.app`: one secret version": {"secret_version_month": 1},
    "`examples/github`: that version, and a poll a minute": total([{"secret_version_month": 1}, polling(1, SIZES[0])]),
    "`github.webhook`: one secret version and 10,000 pushes": total([{"secret_version_month": 1}, pushes(10_000)]),
    f"alert of the webhook: {WEBHOOK_CONDITIONS} conditions": {
        "alert_condition_month": WEBHOOK_CONDITIONS,
        "alert_point": WEBHOOK_CONDITIONS * _EVALUATIONS,
    },
    "a day of attack on the webhook, 1,000 requests a second": attack(),
    f"`cloud_build`: 1,000 builds of {_JOB_MINUTES} minutes, machine e2-standard-2": times(1_000, job(SIZES[0])),
    "`vpc_connector`": {"connector_machine_hour": 2 * _HOURS},
    "`kms_key`, with an operation a minute": {"key_version_month": 1, "key_operation": _MINUTES},
    "`database.point_in_time_recovery`, for each GiB of documents": {"recovery_gib_month": 1},
    "`database.weekly_backup_weeks = 8`, for each GiB of documents": {"backup_gib_month": 8},
}
"""Option → its monthly usage in an idle installation."""

_GROUPS: dict[str, Sequence[str]] = {
    "functions": ("request", "cpu_second", "gib_second", "secret_access"),
    "Firestore": ("firestore_read", "firestore_write", "firestore_delete"),
    "documents and backups": ("firestore_gib_month", "backup_gib_month"),
    "tasks and messages": ("task_operation", "message_gib"),
    "logs": ("log_gib",),
    "sent data": ("sent_gib",),
}
"""Column of the fleet table → its prices."""


def tables(prices: Prices = PRICES) -> str:
    """Return the tables of ``docs/cost.md``, in Markdown."""
    parts = [
        ("Idle, a month", _idle_table(prices)),
        ("Options, a month in addition", _option_table(prices)),
        ("Polling, a month and job", _size_table(_polls(), lambda usage: f"${cost(usage, prices):.2f}")),
        (
            "A build and other single events, in micro-dollars",
            _size_table(_events(), lambda usage: f"{cost(usage, prices) * _MILLION:.0f}"),
        ),
        ("One run of each path", _path_table(prices)),
        ("Fleets, a month", _fleet_table(prices)),
    ]
    return "\n\n".join(f"### {title}\n\n{table}" for title, table in parts) + "\n"


def _polls() -> dict[str, list[Usage]]:
    return {f"every {minutes} min": [polling(minutes, size) for size in SIZES] for minutes in (1, 5, 30)}


def _events() -> dict[str, list[Usage]]:
    kinds = {28: "half an hour, one a minute", 5: "half an hour, one in 1-10 min"}
    return {
        **{
            f"build, {checks} status checks ({what})": [build(checks, size) for size in SIZES]
            for checks, what in kinds.items()
        },
        "build of Cloud Build, 5 status checks, without the time of its machine": [
            build(5, size, _BUILD_BYTES) for size in SIZES
        ],
        f"build of Cloud Build, {_JOB_MINUTES} minutes, one status check, machine e2-standard-2": [
            job(size) for size in SIZES
        ],
        "of these for 28 checks: operations, calls and time": [operations(build(28, size)) for size in SIZES],
        "start of an instance": [start(size) for size in SIZES],
    }


def _idle_table(prices: Prices) -> str:
    by_size = [idle(size) for size in SIZES]
    sums = [total(usages.values()) for usages in by_size]
    rows = {cause: [usages[cause] for usages in by_size] for cause in by_size[0]}
    rows |= {
        "**all, list prices**": sums,
        "**all, less the free tier of the project**": [without_free(usage, FREE_IN_PROJECT) for usage in sums],
        "**all, less all free tiers**": [without_free(usage, FREE_IN_PROJECT, FREE_IN_ACCOUNT) for usage in sums],
    }
    return _size_table(rows, lambda usage: f"${cost(usage, prices):.2f}")


def _option_table(prices: Prices) -> str:
    rows = {name: [f"${cost(usage, prices):.2f}"] for name, usage in OPTIONS.items()}
    first = CONDITIONS * FIRST_PRICE_OF_A_CONDITION
    rows["the conditions alone, at the first published price"] = [f"${first:.2f}"]
    return _table(["list price"], rows)


def _path_table(prices: Prices) -> str:
    columns = ["reads", "writes", "tasks", "log lines", "log KiB", "micro-dollars"]
    rows = {}
    for path in PATHS.values():
        usage = run(path, SIZES[0])
        numbers = map(str, (path.reads, path.writes, path.tasks, path.lines))
        rows[path.name] = [
            *numbers,
            f"{usage['log_gib'] * _GIB / _KIB:.1f}",
            f"{cost(usage, prices) * _MILLION:.1f}",
        ]
    return _table(columns, rows)


def _fleet_table(prices: Prices) -> str:
    rows = {}
    for work in FLEETS:
        usage = without_free(fleet(work, SIZES[0]), FREE_IN_PROJECT)
        parts = [cost({name: usage[name] for name in names if name in usage}, prices) for names in _GROUPS.values()]
        rows[work.name] = [*(f"${part:,.0f}" for part in parts), f"**${cost(usage, prices):,.0f}**"]
    return _table([*_GROUPS, "all"], rows)


def _size_table(rows: dict[str, list[Usage]], show: Callable[[Usage], str]) -> str:
    return _table(
        [size.name for size in SIZES], {name: [show(usage) for usage in usages] for name, usages in rows.items()}
    )


def _table(columns: Sequence[str], rows: dict[str, list[str]]) -> str:
    header = "| | " + " | ".join(columns) + " |\n|---|" + "---|" * len(columns)
    return "\n".join([header, *(f"| {name} | " + " | ".join(cells) + " |" for name, cells in rows.items())])


if __name__ == "__main__":
    print(tables())
