"""Plants the bugs of the catalogs, one at a time, and prints which test catches each: ``python -m tests.planted``.

Works on copies of the checkout, and stores the results (see `tests.planted.results`).
Exit code 1: a bug without a reason survived. Exit code 2: tests fail without a bug, or an entry no longer fits.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue

from tests.planted.catalog import ROOT, Bug, catalog_names, read_catalog
from tests.planted.planting import Copy, RedError, Verdict, copy_files
from tests.planted.results import store

__all__ = ["main"]

_NICE = 1


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    options = _options(arguments)
    os.nice(_NICE)
    names = options.catalog or catalog_names()
    chosen = {name: _chosen(read_catalog(name), options.only) for name in names}
    if not any(chosen.values()):
        sys.stderr.write(f"no bug of the catalogs {', '.join(names)} has such a name\n")
        return 2
    try:
        verdicts = _judge([bug for bugs in chosen.values() for bug in bugs], options.processes, quick=options.quick)
    except (RedError, ValueError) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    for name, bugs in chosen.items():
        of_catalog = [verdicts[bug.name] for bug in bugs]
        # With --quick, not every test has tried a survivor.
        final = [verdict for verdict in of_catalog if verdict.caught_by or not options.quick]
        _say(f"{name}: {sum(bool(verdict.caught_by) for verdict in of_catalog)} of {len(bugs)} caught")
        if final:
            _say(f"stored in {store(name, read_catalog(name), final).relative_to(ROOT)}")
    return int(any(not verdict.caught_by and not verdict.bug.equivalent for verdict in verdicts.values()))


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m tests.planted", description="plants bugs and looks which test fails")
    parser.add_argument("--only", action="append", metavar="NAME", help="only this bug; may be repeated")
    parser.add_argument("--catalog", action="append", choices=catalog_names(), help="only this catalog")
    parser.add_argument("--quick", action="store_true", help="only the tests that an entry names")
    parser.add_argument("--processes", type=int, default=2, metavar="N", help="bugs that are tried at a time (2)")
    return parser.parse_args(arguments)


def _chosen(bugs: Iterable[Bug], only: Sequence[str] | None) -> list[Bug]:
    return [bug for bug in bugs if not only or bug.name in only]


def _judge(bugs: Sequence[Bug], processes: int, *, quick: bool) -> dict[str, Verdict]:
    """Judge the bugs in copies of the checkout, one copy for each process."""
    processes = min(processes, len(bugs))
    copies: SimpleQueue[Copy] = SimpleQueue()
    with tempfile.TemporaryDirectory(prefix="planted-") as folder, ThreadPoolExecutor(processes) as pool:
        for number in range(processes):
            copy_files(ROOT, root := Path(folder, str(number)))
            copies.put(Copy(root, quick=quick))
        try:
            verdicts = list(pool.map(lambda bug: _judged(copies, bug), bugs))
            (copy := copies.get()).check(verdicts)
            copies.put(copy)
        finally:
            for _ in range(processes):
                copies.get().close()
    return {verdict.bug.name: verdict for verdict in verdicts}


def _judged(copies: SimpleQueue[Copy], bug: Bug) -> Verdict:
    copy = copies.get()
    try:
        verdict = copy.judge(bug)
    finally:
        copies.put(copy)
    what = f"caught by {verdict.caught_by}" if verdict.caught_by else f"SURVIVES {bug.equivalent}".rstrip()
    _say(f"{bug.name}: {what} ({verdict.seconds:.0f} s)")
    return verdict


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
