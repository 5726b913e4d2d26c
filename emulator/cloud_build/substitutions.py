"""Substitutions: the values that replace ``$NAME`` and ``${NAME}`` in a build's templates."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from emulator.cloud_build.errors import CallError, invalid

__all__ = ["BUILT_IN", "SETTABLE", "check_substitutions", "is_loose", "replaced"]

SETTABLE = frozenset({"REPO_NAME", "BRANCH_NAME", "TAG_NAME", "REVISION_ID", "COMMIT_SHA", "SHORT_SHA"})
"""The built-in keys that a request for a build may set."""
BUILT_IN = SETTABLE | {
    "PROJECT_ID", "PROJECT_NUMBER", "BUILD_ID", "LOCATION", "REPO_FULL_NAME", "REF_NAME", "TRIGGER_NAME",
    "TRIGGER_BUILD_CONFIG_PATH", "SERVICE_ACCOUNT", "SERVICE_ACCOUNT_EMAIL",
}  # fmt: skip
"""All built-in keys."""
_KEY = re.compile(r"_[A-Z0-9_]+")
_REFERENCE = re.compile(r"\$(?:\$|([A-Z_][A-Z0-9_]*)|\{([A-Z_][A-Z0-9_]*)\})")
_MOST, _LONGEST_KEY, _LONGEST_VALUE = 200, 100, 4000
_TEMPLATES = ("name", "entrypoint", "dir", "args", "env")
"""The members of a step into which the service puts values; ``script`` is none of them."""


def replaced(template: str, values: Mapping[str, str]) -> str:
    """Return a template with its values; ``$$`` is a dollar sign, and a key without a value is empty."""
    return _REFERENCE.sub(lambda found: values.get(found[1] or found[2], "") if found[1] or found[2] else "$", template)


def is_loose(build: Mapping[str, Any]) -> bool:
    """Return whether a build accepts keys without a use, and uses without a value."""
    return bool(build.get("options", {}).get("substitutionOption") == "ALLOW_LOOSE")


def check_substitutions(build: Mapping[str, Any], *, loose: bool) -> None:
    """Check the keys and values of a request, and their uses.

    Args:
        build: the message ``Build`` of the request.
        loose: whether keys may have no use, and uses no value.

    Raises:
        CallError: INVALID_ARGUMENT, with the service's words where they are known.
    """
    given: Mapping[str, str] = build.get("substitutions", {})
    if len(given) > _MOST:
        raise _invalid(f"number of substitutions {len(given)} exceeded (max: {_MOST})")
    for key, value in given.items():
        _check_pair(key, value)
    used = set(_uses(_templates(build)))
    for key in sorted(used):
        if not key.startswith("_") and key not in BUILT_IN:
            raise _invalid(f'key in the template "{key}" is not a valid built-in substitution')
    if loose:
        return
    for key in sorted(given):
        if key.startswith("_") and key not in used and not _is_mapped(build):
            raise _invalid(f'key "{key}" in the substitution data is not matched in the template')
    for key in sorted(used - given.keys() - BUILT_IN):
        raise _invalid(f'key in the template "{key}" is not matched in the substitution data')


def _check_pair(key: str, value: str) -> None:
    if not _KEY.fullmatch(key) and key not in SETTABLE:
        raise _invalid(f'substitution key "{key}" does not match format "^_[A-Z0-9_]+$" and is no settable built-in')
    if len(key.encode()) > _LONGEST_KEY:
        raise _invalid(f'substitution key "{key}" too long (max: {_LONGEST_KEY})')
    if len(value.encode()) > _LONGEST_VALUE:
        raise _invalid(f'substitution value for key "{key}" too long (max: {_LONGEST_VALUE})')


def _is_mapped(build: Mapping[str, Any]) -> bool:
    """Return whether every step has all substitutions as variables, so that each key has a use."""
    return bool(build.get("options", {}).get("automapSubstitutions"))


def _templates(build: Mapping[str, Any]) -> Iterator[str]:
    for step in build.get("steps", []):
        for member in _TEMPLATES:
            value = step.get(member, "")
            yield from [value] if isinstance(value, str) else value
    yield from build.get("images", [])
    yield from build.get("tags", [])
    yield from build.get("options", {}).get("env", [])


def _uses(templates: Iterable[str]) -> Iterator[str]:
    for template in templates:
        for found in _REFERENCE.finditer(template):
            if key := found[1] or found[2]:
                yield key


def _invalid(reason: str) -> CallError:
    return invalid(f"invalid build: {reason}")
