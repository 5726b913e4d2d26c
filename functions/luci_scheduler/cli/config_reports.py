"""The work of ``luci-scheduler config``: problems of config files, and differences from the active config."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from luci_scheduler.adapters.system import SystemClock
from luci_scheduler.cli.errors import CommandError, Exit
from luci_scheduler.cli.session import Session
from luci_scheduler.config.config_rules import ConfigRules
from luci_scheduler.config.definitions import definition_values, differences
from luci_scheduler.config.folder import FILE
from luci_scheduler.config.problems import Problem
from luci_scheduler.config.reader import ConfigError, ProjectConfig, read_config
from luci_scheduler.config.validator import Validated, validate
from luci_scheduler.core.commit_hosts import DEFAULT_HOSTS, CommitHosts, ConfiguredHost, HostKind
from luci_scheduler.core.era import Era
from luci_scheduler.core.frozen import frozen
from luci_scheduler.core.instants import Instant

__all__ = ["compare", "report"]

_ERAS = {"head": Era.V2, "2021": Era.V1}


def compare(options: argparse.Namespace) -> int:
    """Compare a config file with the active config, and return the exit code."""
    config = _read(options)
    session: Session = options.session(options)
    reply = session.call("GetDefinitions", {"project": options.project})
    prefix = f"{options.project}/"
    now = {f"{prefix}{item['jobRef']['job']}": item.get("definition", {}) for item in reply.get("definitions", [])}
    then = {str(job_id): definition_values(definition) for job_id, definition in config.jobs.items()}
    found = differences(now, then)
    revision = reply.get("revision", "")
    changes = [line for item in found for line in _change_lines(item)] or ["no changes"]
    session.show({"revision": revision, "changes": found}, "\n".join([f"active: {revision or 'nothing'}", *changes]))
    return Exit.FAILED if found else Exit.DONE


def _read(options: argparse.Namespace) -> ProjectConfig:
    name = str(options.file)
    try:
        return read_config(options.project, options.file.read_bytes(), file=name, rules=_rules(options), now=_now())
    except OSError as error:
        raise CommandError(f"{name} is unreadable: {error.strerror}", Exit.WRONG_USAGE) from error
    except ConfigError as error:
        raise CommandError(f"{name} is not valid:\n{error}") from error


def _change_lines(change: dict[str, Any]) -> list[str]:
    sign = {"added": "+", "removed": "-", "changed": "~"}[change["change"]]
    values = [
        f"    {item['path']}: {json.dumps(item['now'])} -> {json.dumps(item['then'])}" for item in change["fields"]
    ]
    return [f"{sign} {change['job']}", *values]


@frozen
class _Checked:
    file: Path
    project: str
    validated: Validated


def report(options: argparse.Namespace) -> int:
    """Report the problems of config files, and return the exit code."""
    checked = [_check(file, options) for path in options.files for file in _files(path)]
    sys.stdout.write(_as_json(checked) if options.json else _as_lines(checked, quiet=options.quiet))
    return Exit.FAILED if any(one.validated.errors for one in checked) else Exit.DONE


def _check(file: Path, options: argparse.Namespace) -> _Checked:
    try:
        content = file.read_bytes()
    except OSError as error:
        raise CommandError(f"{file} is unreadable: {error.strerror}", Exit.WRONG_USAGE) from error
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
    return _Checked(file, project, validated)


def _rules(options: argparse.Namespace) -> ConfigRules:
    hosts = {host: ConfiguredHost(HostKind.GITHUB, f"https://{host}/api/v3") for host in options.github_hosts}
    return ConfigRules(
        lenient_triggers=options.lenient_triggers, hosts=CommitHosts({**DEFAULT_HOSTS.configured, **hosts})
    )


def _now() -> Instant:
    return SystemClock().now()


def _files(path: Path) -> list[Path]:
    """Return the config files of a path: the file itself, or those in the folder or its subfolders."""
    try:
        if not path.is_dir():
            return [path]
        own = path / FILE
        found = [own] if own.exists() else sorted(path.glob(f"*/{FILE}"))
    except OSError as error:
        raise CommandError(f"{path}: {error.strerror or error}", Exit.WRONG_USAGE) from error
    if not found:
        raise CommandError(f"no {FILE} in the folder {path} or in its subfolders", Exit.WRONG_USAGE)
    return found


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
