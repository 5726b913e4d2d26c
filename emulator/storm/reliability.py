"""``python -m emulator.storm.reliability FOLDER``: prints `docs/explanation/reliability.md` from stored results.

The folder has the files that ``python -m emulator storm --json`` writes. Results of planted bugs are optional.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from emulator.storm.faults import KINDS
from emulator.storm.invariants import SENTENCES

__all__ = ["main", "page"]

_NAMES = {
    "schedules": "random schedules",
    "focused": "focused schedules: a few kinds at a high rate",
    "single": "single faults, each in a separate run",
    "hangs": "a call that hangs, and one more fault, once for each situation",
    "pairs": "two faults in a handler and its successor, once for each situation",
}
_COMMANDS = {
    "schedules": "--schedules N --seed {seed}",
    "focused": "--schedules N --focused --seed {seed}",
    "single": "--enumerate single",
    "hangs": "--enumerate hangs",
    "pairs": "--enumerate pairs",
}
_INTRODUCTION = """# Reliability: attempts to refute the claims, and their results

[How one build per invocation is kept](one-build-per-invocation.md)
and [how nothing is lost](nothing-is-lost.md) are claims.
This page shows the attempts to refute them.
`python -m emulator.storm.reliability tests/storm/results tests/planted/results` generates it from stored results.

The storm plays the real functions in memory on a virtual clock.
Nothing in it waits, and every decision follows from one seed.
Each call to the outside is a place where another handler may run, and where something may fail.
After each commit and at the end of each run, every invariant is checked.
[The reference](../reference/storm.md) describes the command.
"""
_LIMITS = """## Where the guarantee ends

One build per invocation rests on three properties of Buildbucket. The storm stays within them:

- It ends a request at the limit that the request names, give or take 5 seconds.
- The protocol v2 recognizes a request ID for 60 seconds, as its comments promise.
- A search shows each build that is older than 45 seconds. This number is ours: Buildbucket promises none.

A repeated request ends 10 seconds after its search began. So it falls within one of the two periods.
A search that hides a build for longer than 45 seconds can double the build.
The cache of v1 may lose a request ID. The storm spares only the IDs of builds that the last search did not show:
then nothing is left by which a client could find the build at once.

Cloud Build recognizes no repeated request. So a list that hides a build for longer than a minute can double the build.
The second build is canceled by its own first message, or by the next check. It runs to its end only if that message is
lost, and the build ends before a check whose list shows it.

A list without builds is an empty object. So a proxy never answers a list with one in the storm: no client could notice.

A build service's own refusal is final.
If it denies a status check for good, the invocation fails, although its build may run on.

The storm does not model threads inside a delivery, the bytes of HTTP and gRPC, IAM, and the platform's front end.
Contract tests compare the memory store, queue and topic with the emulators.
"""
_REPEAT = """## Repeat it

```
python -m emulator storm --schedules 10000 --processes 2
python -m emulator storm --enumerate single
python -m emulator storm --enumerate hangs
python -m emulator storm --enumerate pairs
python -m emulator chaos --builds 200 --jobs 4 --kills 20 --terminations 10 --outages 10 --freezes 4
make nightly
```

A run that violates an invariant is shrunk to the faults that matter. The command prints one line that replays it.
"""


def main(arguments: Sequence[str]) -> int:
    """Print the page; the second argument is the folder with the results of planted bugs."""
    if not 1 <= len(arguments) <= 2:  # noqa: PLR2004 - folders
        sys.stderr.write("usage: python -m emulator.storm.reliability RESULTS [PLANTED]\n")
        return 2
    results, planted = (_read(Path(folder)) for folder in (*arguments, "")[:2])
    sys.stdout.write(page(results, planted))
    return 0


def page(results: Sequence[Mapping[str, Any]], planted: Sequence[Mapping[str, Any]] = ()) -> str:
    """Return the page, in Markdown.

    Args:
        results: documents of `report.document`, and of ``python -m emulator chaos --json``.
        planted: for each catalog its ``catalog``, ``caught``, ``survived`` and ``bugs``.
    """
    storms = [result for result in results if result["what"] != "chaos"]
    chaos = [result for result in results if result["what"] == "chaos"]
    parts = [_INTRODUCTION, *_runs(storms), *_invariants(storms), *_kinds(storms), *_chaos(chaos), *_planted(planted)]
    return "\n".join([*parts, _LIMITS, _REPEAT])


def _read(folder: Path) -> list[Mapping[str, Any]]:
    files = sorted(folder.glob("*.json")) if folder.name else []
    return [json.loads(file.read_text(encoding="utf-8")) for file in files]


def _runs(results: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    ordered = sorted(results, key=lambda result: list(_NAMES).index(result["what"]))
    yield "## Runs\n"
    yield "| what | runs | faults | builds | function calls | violations | longest time to rest |"
    yield "|---|---|---|---|---|---|---|"
    for result in ordered:
        numbers = " | ".join(
            f"{number:,}"
            for number in (
                result["schedules"],
                sum(result["faults"].values()),
                result["builds"],
                result["deliveries"],
                len(result["violations"]),
            )
        )
        rest = f"{result['longest_rest_minutes']:.0f} min"
        sample = f", {result['schedules']:,} of them, at equal distances" if result.get("sampled") else ""
        if result.get("stands_for"):
            sample = f" of {result['stands_for']:,} pairs{sample}"
        yield f"| {_NAMES[result['what']]}{sample} | {numbers} | {rest} |"
    yield "\nThe time to rest is virtual: from the last possible fault until nothing is in flight."
    yield "The option of `python -m emulator storm` for each row:\n"
    for result in ordered:
        only = " ".join([" --scenario", *result["scenarios"]]) if result.get("scenarios") else ""
        yield f"- `{_COMMANDS[result['what']].format(seed=result['seed'])}{only}`"
    yield ""


def _invariants(results: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    broken = Counter(
        text.partition(":")[0] for result in results for item in result["violations"] for text in item["violations"]
    )
    yield "## Invariants\n"
    yield "| invariant | says | violations |"
    yield "|---|---|---|"
    yield from (f"| `{name}` | {sentence} | {broken[str(name)]} |" for name, sentence in SENTENCES.items())
    yield "\nFor each of them, `tests/storm/test_invariants.py` has a history that violates it.\n"


def _kinds(results: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    yield f"## {len(KINDS)} kinds of faults\n"
    yield "| kind | says | occurrences |"
    yield "|---|---|---|"
    for kind, spec in KINDS.items():
        yield f"| `{kind}` | {spec.says} | {sum(result['faults'].get(str(kind), 0) for result in results):,} |"
    yield ""


def _chaos(results: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    for result in results:
        yield "## Real processes\n"
        yield "`chaos` runs the functions and the servers of the local cloud in processes, on the official emulators of"
        yield "Firestore and Pub/Sub. The network between them loses, repeats and breaks calls."
        yield "`chaos` also kills processes.\n"
        yield "| what | number |\n|---|---|"
        rows = {
            "commits": result["commits"],
            "jobs that build each commit": result["jobs"],
            **{what: count for what, count in result["disturbances"].items() if count},
            "most deliveries of one message or task": result["most_deliveries"],
            "builds": result["builds"],
            "lost": result["lost"],
            "doubled": result["duplicated"],
            "unfinished": result["unfinished"],
            "unsuccessful": result["unsuccessful"],
        }
        yield from (f"| {what} | {number} |" for what, number in rows.items())
        yield f"\nIt took {result['seconds']:.0f} s.\n"


def _planted(catalogs: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    if not catalogs:
        return
    yield "## Planted bugs\n"
    yield "A bug is planted into a copy of the code, and the tests must fail. `python -m tests.planted` repeats this.\n"
    yield "| catalog | caught | survived | survivors |"
    yield "|---|---|---|---|"
    for item in catalogs:
        if "found_by_storm" in item:
            continue
        survivors = [f"`{bug['name']}` ({bug['equivalent']})" for bug in item["bugs"] if not bug["caught_by"]]
        yield f"| {item['catalog']} | {item['caught']} | {item['survived']} | {', '.join(survivors) or 'none'} |"
    yield ""
    for item in catalogs:
        if "found_by_storm" in item:
            tried = len(item["found_by_storm"]) + len(item["missed_by_storm"])
            yield f"The storm alone finds {len(item['found_by_storm'])} of the {tried} bugs that it was tried on,"
            yield f"with at most {item['schedules']} focused schedules for each: `python -m tests.planted.probe`.\n"
            yield "| bug | violates |\n|---|---|"
            yield from (f"| `{name}` | {how} |" for name, how in item["found_by_storm"].items())
            yield from (f"| `{name}` | missed |" for name in item["missed_by_storm"])
            yield ""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
