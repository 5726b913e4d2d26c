"""``luci-scheduler config``: work on configs where they lie; ``validate`` needs no cloud and no network."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from luci_scheduler.adapters.system import SystemClock
from luci_scheduler.cli.session import CommandError, Exit, Session
from luci_scheduler.config.config_rules import ConfigRules
from luci_scheduler.config.definitions import definition_values, differences
from luci_scheduler.config.folder import FILE
from luci_scheduler.config.problems import Problem
from luci_scheduler.config.reader import ConfigError, read_config
from luci_scheduler.config.validator import Validated, validate
from luci_scheduler.core.era import Era
from luci_scheduler.core.instants import Instant

__all__ = ["add_commands"]

_LENIENT = (
    "warn of unknown jobs in 'triggers' and leave them out, as an installation with SCHEDULER_LENIENT_TRIGGERS does"
)
_ERAS = {"head": Era.V2, "2021": Era.V1}


def add_commands(nouns: Any) -> None:
    """Add ``config validate`` and ``config diff`` to the parser of nouns."""
    verbs = nouns.add_parser("config", help="the configs that define jobs").add_subparsers(
        metavar="VERB", required=True
    )
    parser = verbs.add_parser(
        "validate",
        help="tell all that is wrong in configs",
        description="Tell all that is wrong in configs, each problem as FILE:LINE: PATH: MESSAGE.",
        epilog="Exit codes: 0 no errors (there may be warnings), 1 errors, 2 wrong usage or a file that cannot be read.",
    )
    parser.add_argument(
        "files",
        nargs="+",
        metavar="FILE",
        type=Path,
        help=f"a config, or a folder: with {FILE} in it, or in the folders within it, one for each project",
    )
    parser.add_argument("--project", help="project that the configs belong to (default: the name of each one's folder)")
    parser.add_argument(
        "--era", choices=sorted(_ERAS), default="head", help="whose rules: today's (default) or those of 2021"
    )
    parser.add_argument(
        "--strict", action="store_true", help="refuse old bucket names too, as LUCI does, instead of warning of them"
    )
    parser.add_argument("--lenient-triggers", action="store_true", help=_LENIENT)
    parser.add_argument("--quiet", action="store_true", help="leave out warnings; they are counted all the same")
    parser.add_argument("--json", action="store_true", help="one JSON document instead of lines")
    parser.set_defaults(run=_validate, offline=True)
    parser = verbs.add_parser(
        "diff",
        help="what a config would change of what is in force",
        description="Compare the jobs that a config defines with those in force, as far as the caller sees them.",
        epilog="Exit codes: 0 nothing would change, 1 something would, or the config has errors, 2 wrong usage or a file that cannot be read.",
    )
    parser.add_argument("file", metavar="FILE", type=Path, help="a config")
    parser.add_argument("--project", required=True, help="project that the config is for")
    parser.add_argument("--lenient-triggers", action="store_true", help=_LENIENT)
    parser.set_defaults(run=_diff)


def _diff(options: argparse.Namespace) -> int:
    try:
        config = read_config(
            options.project, options.file.read_bytes(), file=str(options.file), rules=_rules(options), now=_now()
        )
    except OSError as error:
        raise CommandError(f"{options.file} cannot be read: {error.strerror}", Exit.WRONG_USAGE) from error
    except ConfigError as error:
        raise CommandError(f"{options.file} is not valid:\n{error}") from error
    session: Session = options.session(options)
    reply = session.call("GetDefinitions", {"project": options.project})
    prefix = f"{options.project}/"
    now = {f"{prefix}{item['jobRef']['job']}": item.get("definition", {}) for item in reply.get("definitions", [])}
    then = {str(job_id): definition_values(definition) for job_id, definition in config.jobs.items()}
    found = differences(now, then)
    revision = reply.get("revision", "")
    lines = [f"in force: {revision or 'nothing'}", *(line for item in found for line in _told(item))]
    session.show(
        {"revision": revision, "changes": found}, "\n".join([*lines, *([] if found else ["nothing would change"])])
    )
    return Exit.FAILED if found else Exit.DONE


def _told(change: dict[str, Any]) -> list[str]:
    sign = {"added": "+", "removed": "-", "changed": "~"}[change["change"]]
    values = [
        f"    {item['path']}: {json.dumps(item['now'])} -> {json.dumps(item['then'])}" for item in change["fields"]
    ]
    return [f"{sign} {change['job']}", *values]


@dataclass(frozen=True, slots=True)
class _Checked:
    file: Path
    project: str
    validated: Validated


def _validate(options: argparse.Namespace) -> int:
    checked = []
    for path in options.files:
        try:
            files = _files(path)
        except OSError as error:
            return _unusable(f"{path}: {error.strerror or error}")
        if not files:
            return _unusable(f"there is no {FILE} in the folder {path}, nor in those within it")
        for file in files:
            try:
                content = file.read_bytes()
            except OSError as error:
                return _unusable(f"{file} cannot be read: {error.strerror}")
            project = options.project or file.absolute().parent.name
            validated = validate(
                content,
                project=project,
                file=str(file),
                era=_ERAS[options.era],
                strict=options.strict,
                rules=_rules(options),
                now=_now(),
            )
            checked.append(_Checked(file, project, validated))
    sys.stdout.write(_as_json(checked) if options.json else _as_lines(checked, quiet=options.quiet))
    return Exit.FAILED if any(one.validated.errors for one in checked) else Exit.DONE


def _rules(options: argparse.Namespace) -> ConfigRules:
    return ConfigRules(lenient_triggers=options.lenient_triggers)


def _now() -> Instant:
    return SystemClock().now()


def _unusable(reason: str) -> int:
    sys.stderr.write(f"luci-scheduler: {reason}\n")
    return Exit.WRONG_USAGE


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    own = path / FILE
    return [own] if own.exists() else sorted(path.glob(f"*/{FILE}"))


def _as_lines(checked: list[_Checked], *, quiet: bool) -> str:
    lines = []
    for one in checked:
        lines += [str(problem) for problem in (one.validated.errors if quiet else one.validated.problems)]
    errors, warnings = _counts(checked)
    files = _number(len(checked), "file")
    lines.append(f"{files} checked: {_number(errors, 'error')}, {_number(warnings, 'warning')}")
    return "".join(f"{line}\n" for line in lines)


def _as_json(checked: list[_Checked]) -> str:
    errors, warnings = _counts(checked)
    files = [
        {
            "file": str(one.file),
            "project": one.project,
            "valid": not one.validated.errors,
            "problems": [_problem(problem) for problem in one.validated.problems],
        }
        for one in checked
    ]
    return json.dumps({"errors": errors, "warnings": warnings, "files": files}, indent=2) + "\n"


def _problem(problem: Problem) -> dict[str, Any]:
    return {
        "severity": problem.severity,
        "line": problem.line,
        "column": problem.column or None,
        "path": list(problem.path),
        "message": problem.message,
    }


def _counts(checked: list[_Checked]) -> tuple[int, int]:
    errors = sum(len(one.validated.errors) for one in checked)
    return errors, sum(len(one.validated.warnings) for one in checked)


def _number(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"
