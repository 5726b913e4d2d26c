"""The costs of an installation: list prices of 2026-11, operations of each path, and the tables of ``docs/cost.md``.

``python -m emulator.cost`` prints the tables; a test compares them with the page.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["PATHS", "PRICES", "Path", "Prices", "cost_of", "monthly_idle", "polling", "tables"]

_MILLION = 1e6
_DAYS = 30
_MINUTES = _DAYS * 24 * 60


@dataclass(frozen=True, slots=True)
class Prices:
    """Dollars for one unit of each resource, from the services' pricing pages."""

    firestore_read: float = 0.03 / 100_000
    firestore_write: float = 0.09 / 100_000
    task_operation: float = 0.40 / _MILLION
    request: float = 0.40 / _MILLION
    cpu_second: float = 0.000024
    gib_second: float = 0.0000025
    scheduler_job_month: float = 0.10
    secret_version_month: float = 0.06


PRICES = Prices()


@dataclass(frozen=True, slots=True)
class Path:
    """One path of the system, in operations."""

    name: str
    reads: int
    writes: int
    tasks: int
    """Created tasks; the creation and the delivery of each are billed as one operation."""
    functions: int = 1
    """Calls of functions."""
    tenths: int = 2
    """Billed tenths of a second of a call, as Cloud Run rounds up; most of the time is spent on Buildbucket or
    Gitiles."""


PATHS = {
    "commit": Path("commit → running", 2, 5, 1, tenths=12),
    "check": Path("status check", 1, 1, 1, tenths=5),
    "notification": Path("notification, running", 1, 1, 0, tenths=4),
    "completion": Path("completion", 2, 2, 0, tenths=4),
    "orphan": Path("the last timer, which does nothing", 1, 0, 0, tenths=1),
    "poll": Path("poll, unchanged", 2, 2, 1, tenths=5),
    "sweep": Path("sweep, nothing due", 3, 0, 0, tenths=1),
    "sync": Path("configs, unchanged", 1, 0, 0, tenths=4),
}


@dataclass(frozen=True, slots=True)
class Size:
    """An instance that serves one request at a time."""

    name: str
    cpu: float
    gib: float


SIZES = (Size("a third of a CPU, 512 MiB (as it comes)", 1 / 3, 0.5), Size("1 CPU, 512 MiB", 1.0, 0.5))


def cost_of(path: Path, size: Size, prices: Prices = PRICES) -> float:
    """Return the dollars that one run of a path costs; a task counts twice, for its creation and its delivery."""
    busy = path.tenths / 10 * path.functions
    return (
        path.reads * prices.firestore_read
        + path.writes * prices.firestore_write
        + path.tasks * 2 * prices.task_operation
        + path.functions * prices.request
        + busy * (size.cpu * prices.cpu_second + size.gib * prices.gib_second)
    )


def build(checks: int, size: Size, prices: Prices = PRICES) -> float:
    """Return the dollars that a build costs: one commit, two notifications, the status checks and one end."""
    rest = ("commit", "notification", "completion", "orphan")
    return sum(cost_of(PATHS[name], size, prices) for name in rest) + checks * cost_of(PATHS["check"], size, prices)


def polling(minutes: int, size: Size, prices: Prices = PRICES) -> float:
    """Return the dollars a month of one gitiles job that polls every so many minutes and finds nothing new."""
    return _MINUTES / minutes * cost_of(PATHS["poll"], size, prices)


def monthly_idle(size: Size, prices: Prices = PRICES) -> dict[str, float]:
    """Return the monthly costs of an idle installation, in dollars by cause."""
    return {
        "sweep, every minute": _MINUTES * cost_of(PATHS["sweep"], size, prices),
        "configs, every minute": _MINUTES * cost_of(PATHS["sync"], size, prices),
        "two schedules": 2 * prices.scheduler_job_month,
        "two secret versions": 2 * prices.secret_version_month,
    }


def tables() -> str:
    """Return the tables of ``docs/cost.md``, in Markdown."""
    header = "| | " + " | ".join(size.name for size in SIZES) + " |\n|---|" + "---|" * len(SIZES)
    idle = [monthly_idle(size) for size in SIZES]
    rows = [[f"${amounts[cause]:.2f}" for amounts in idle] for cause in idle[0]]
    parts = [
        "### Idle, a month",
        _table(
            header, [*zip(idle[0], rows, strict=True), ("**all**", [f"**${sum(one.values()):.2f}**" for one in idle])]
        ),
        "### Polling, a month and job",
        _table(
            header,
            [(f"every {minutes} min", [f"${polling(minutes, size):.2f}" for size in SIZES]) for minutes in (1, 5, 30)],
        ),
        "### A build, in micro-dollars",
        _table(
            header,
            [
                (f"{checks} status checks ({what})", [f"{build(checks, size) * _MILLION:.0f}" for size in SIZES])
                for checks, what in ((28, "half an hour, one a minute"), (5, "half an hour, one in 1-10 min"))
            ],
        ),
        "### One run of each path",
        _table(
            "| path | reads | writes | tasks | calls | micro-dollars |\n|---|---|---|---|---|---|",
            [
                (
                    path.name,
                    [
                        *map(str, (path.reads, path.writes, path.tasks, path.functions)),
                        f"{cost_of(path, SIZES[0]) * _MILLION:.1f}",
                    ],
                )
                for path in PATHS.values()
            ],
        ),
    ]
    return "\n\n".join(parts) + "\n"


def _table(header: str, rows: list[tuple[str, list[str]]]) -> str:
    return "\n".join([header, *(f"| {name} | " + " | ".join(cells) + " |" for name, cells in rows)])


if __name__ == "__main__":
    print(tables())
