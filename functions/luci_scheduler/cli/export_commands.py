"""``luci-scheduler export``: an invocation as a scenario that ``python -m emulator replay`` plays."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from luci_scheduler.cli.errors import CommandError, Exit
from luci_scheduler.cli.session import Session, invocation_ref

__all__ = ["add_commands"]


def add_commands(nouns: Any) -> None:
    """Add ``export`` to the parser."""
    parser = nouns.add_parser(
        "export",
        help="export an invocation as a scenario that can be replayed",
        description="Write scenario.json and luci-scheduler.cfg. "
        "`python -m emulator replay FOLDER/scenario.json` replays the invocation.",
    )
    parser.add_argument(
        "invocation", metavar="INVOCATION", help="PROJECT/JOB/NUMBER, or the address of the invocation's page"
    )
    parser.add_argument(
        "--out",
        default="",
        metavar="FOLDER",
        help="the output folder (default: a folder that is named after the number)",
    )
    parser.set_defaults(run=_export)


def _export(options: argparse.Namespace) -> int:
    session: Session = options.session(options)
    ref = invocation_ref(options.invocation, session.url)
    reply = session.call("ExportInvocation", ref)
    folder = Path(options.out or ref["invocationId"])
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "scenario.json").write_text(reply["scenario"], encoding="utf-8")
        (folder / "luci-scheduler.cfg").write_text(reply["config"], encoding="utf-8")
    except OSError as error:
        raise CommandError(f"{folder} is not writable: {error.strerror}") from error
    assumptions = json.loads(reply["scenario"]).get("assumptions", [])
    for text in assumptions:
        session.progress(f"assumption: {text}")
    shown = {"folder": str(folder), **({"assumptions": assumptions} if assumptions else {})}
    session.show(shown, f"exported; to replay: python -m emulator replay {folder / 'scenario.json'}")
    return Exit.DONE
