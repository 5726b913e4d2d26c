"""The file that maps builders to commands, in TOML.

::

    parallel = 4                       # commands at once; by default one for each processor

    [builders]
    "ci/mac-*" = "sh build.sh"         # a line for /bin/sh, or a list: a program and its arguments
    "dawn/try/*" = { command = ["make", "test"], timeout = "10m", env = { MODE = "try" } }
    "*" = "sh build.sh"                # the first pattern that matches a builder counts
"""

from __future__ import annotations

import fnmatch
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emulator.buildbucket.commands import PARALLEL
from emulator.buildbucket.identifiers import BuilderId
from emulator.buildbucket.plans import Command
from emulator.errors import LocalCloudError
from luci_scheduler.core.instants import HOUR, MINUTE, SECOND

__all__ = ["FILE", "BuilderRules", "Rule", "parse_builders", "shell"]

FILE = "builders.toml"
"""The name under which the file is found in the folder of a local cloud."""
_MOST_PARALLEL = 1000
_MEMBERS = ("command", "timeout", "env")
_UNITS = {"s": SECOND, "m": MINUTE, "h": HOUR}
_TIMEOUT = re.compile(r"([1-9][0-9]{0,6})([smh])")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_PLACE = re.compile(r" \(at line (\d+), column (\d+)\)$")


class _BadFileError(ValueError):
    """The file is not valid; ``key`` is the text near which the fault is."""

    def __init__(self, key: str, fault: str) -> None:
        super().__init__(fault)
        self.key = key


@dataclass(frozen=True, slots=True)
class Rule:
    """A pattern of builders, and their command."""

    pattern: str
    """``builder``, ``bucket/builder`` or ``project/bucket/builder``, each part with ``*`` and ``?``."""
    command: Command

    def matches(self, builder: BuilderId) -> bool:
        """Return whether the pattern matches a builder. Parts that it lacks at its beginning match every name."""
        names = (builder.project, builder.bucket, builder.builder)
        parts = self.pattern.split("/")
        return all(fnmatch.fnmatchcase(name, part) for name, part in zip(names[-len(parts) :], parts, strict=True))


@dataclass(frozen=True, slots=True)
class BuilderRules:
    """The content of the file."""

    rules: tuple[Rule, ...] = ()
    parallel: int = PARALLEL

    def find(self, builder: BuilderId) -> Command | None:
        """Return the command of the first rule that matches a builder."""
        return next((rule.command for rule in self.rules if rule.matches(builder)), None)


def shell(line: str) -> Command:
    """Return the command that runs a line in the shell."""
    return Command(("/bin/sh", "-c", line))


def parse_builders(text: str, path: Path) -> BuilderRules:
    """Parse the file.

    Args:
        text: its content.
        path: its name in errors.

    Raises:
        LocalCloudError: it is not valid; the text has the place and the first fault.
    """
    try:
        return _rules(tomllib.loads(f"{text}\n"))  # so that also a fault at the end has a place
    except tomllib.TOMLDecodeError as error:
        place = _PLACE.search(str(error))
        where = f":{place[1]}:{place[2]}" if place else ""
        raise LocalCloudError(f"{path}{where}: this is not TOML: {_PLACE.sub('', str(error))}") from error
    except _BadFileError as error:
        raise LocalCloudError(f"{path}{_line_of(text, error.key)}: {error}") from error


def _line_of(text: str, key: str) -> str:
    """Return ``:<number>`` of the first line that has a key; empty if none has."""
    lines = (number for number, line in enumerate(text.split("\n"), 1) if key and key in line.partition("#")[0])
    return next((f":{number}" for number in lines), "")


def _rules(document: Mapping[str, Any]) -> BuilderRules:
    for name in document:
        if name not in ("parallel", "builders"):
            raise _BadFileError(name, f'unknown key "{name}": the keys are parallel and builders')
    parallel, builders = document.get("parallel", PARALLEL), document.get("builders", {})
    if not isinstance(parallel, int) or isinstance(parallel, bool) or not 1 <= parallel <= _MOST_PARALLEL:
        raise _BadFileError("parallel", f"parallel must be a whole number from 1 to {_MOST_PARALLEL}, not {parallel!r}")
    if not isinstance(builders, Mapping):
        raise _BadFileError("builders", 'builders must be a table: write [builders], then lines "PATTERN" = "COMMAND"')
    return BuilderRules(tuple(_rule(pattern, value) for pattern, value in builders.items()), parallel)


def _rule(pattern: str, value: object) -> Rule:
    parts = pattern.split("/")
    if not all(parts) or len(parts) > 3:  # noqa: PLR2004 - project, bucket, builder
        raise _BadFileError(
            pattern, f'"{pattern}" is no pattern: write builder, bucket/builder or project/bucket/builder, with * and ?'
        )
    members = value if isinstance(value, Mapping) else {"command": value}
    for name in members:
        if name not in _MEMBERS:
            raise _BadFileError(name, f'"{pattern}" has the unknown key "{name}": the keys are {", ".join(_MEMBERS)}')
    timeout = members.get("timeout")
    return Rule(
        pattern,
        Command(
            _argv(pattern, members.get("command")),
            env=_env(pattern, members.get("env", {})),
            timeout=None if timeout is None else _duration(pattern, timeout),
        ),
    )


def _argv(pattern: str, value: object) -> tuple[str, ...]:
    if isinstance(value, str) and value.strip():
        return shell(value).argv
    if isinstance(value, list) and value and all(isinstance(item, str) for item in value) and value[0]:
        return tuple(value)
    raise _BadFileError(
        pattern, f'the command of "{pattern}" must be a line for the shell, or a list of texts, and not empty'
    )


def _env(pattern: str, value: object) -> Mapping[str, str]:
    if not isinstance(value, Mapping) or not all(isinstance(item, str) for item in value.values()):
        raise _BadFileError(pattern, f'env of "{pattern}" must be a table of texts, such as {{ MODE = "fast" }}')
    for name in value:
        if not _VARIABLE.fullmatch(name):
            raise _BadFileError(name, f'"{name}" in env of "{pattern}" is not the name of a variable')
    return dict(value)


def _duration(pattern: str, value: object) -> int:
    if isinstance(value, str) and (match := _TIMEOUT.fullmatch(value)):
        return int(match[1]) * _UNITS[match[2]]
    raise _BadFileError(pattern, f'timeout of "{pattern}" must be a text such as "90s", "10m" or "2h", not {value!r}')
