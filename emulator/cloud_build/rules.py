"""The rules that a request for a build must keep, with the service's words where they are known."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from emulator.building.wire_time import parse_duration
from emulator.cloud_build.errors import CallError, invalid
from emulator.cloud_build.substitutions import check_substitutions, is_loose, replaced
from luci_scheduler.core.instants import HOUR

__all__ = ["check_build", "filled"]

_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_TAG_FORMAT = r"^[\\w][\\w.-]{0,127}$"
_MOST_TAGS, _MOST_STEPS, _MOST_ARGS, _MOST_ENV, _MOST_IMAGES = 64, 300, 100, 100, 200
_LONGEST_ARG = 10_000
_LONGEST_TIME = 24 * HOUR
_AT_ONCE = "-"
_TIMEOUT, _QUEUE_TTL = "3600s", "3600s"
_NO_LOGS = (
    "if 'build.service_account' is specified, the build must either (a) specify 'build.logs_bucket', (b) use the "
    "REGIONAL_USER_OWNED_BUCKET build.options.default_logs_bucket_behavior option, or (c) use either "
    "CLOUD_LOGGING_ONLY / NONE logging options"
)


def filled(build: Mapping[str, Any], built_in: Mapping[str, str]) -> dict[str, Any]:
    """Return a request with the service's defaults, and with the values of substitutions in its tags.

    Args:
        build: a request that `check_build` accepts.
        built_in: the values of built-in keys that the service knows, such as ``BUILD_ID``.
    """
    values = {**built_in, **build.get("substitutions", {})}
    options = {"pool": {}, **build.get("options", {})}
    found = {"timeout": _TIMEOUT, "queueTtl": _QUEUE_TTL, **build, "options": options}
    return {**found, "tags": [replaced(tag, values) for tag in build.get("tags", [])]}


def check_build(build: Mapping[str, Any], location: str, built_in: Mapping[str, str], *, loose: bool = False) -> None:
    """Check a request for a build, whose shape is right.

    Args:
        build: the message ``Build``.
        location: where the build would run.
        built_in: the values of built-in keys that the service knows.
        loose: whether unused substitutions are allowed without the option, as in the builds of triggers.

    Raises:
        CallError: INVALID_ARGUMENT.
    """
    check_substitutions(build, loose=loose or is_loose(build))
    values = {**built_in, **build.get("substitutions", {})}
    _check_tags([replaced(tag, values) for tag in build.get("tags", [])])
    _check_steps(build, values)
    _check_times(build)
    _check_logging(build)
    _check_source(build.get("source", {}), location)
    if len(build.get("images", [])) > _MOST_IMAGES:
        raise _invalid(f"number of images {len(build['images'])} exceeded (max: {_MOST_IMAGES})")


def _check_tags(tags: Sequence[str]) -> None:
    if len(tags) > _MOST_TAGS:
        raise _invalid(f"number of tags {len(tags)} exceeded (max: {_MOST_TAGS})")
    for tag in tags:
        if not _TAG.fullmatch(tag):
            raise _invalid(f'invalid build tag "{tag}": must match format "{_TAG_FORMAT}"')


def _check_steps(build: Mapping[str, Any], values: Mapping[str, str]) -> None:
    steps = build.get("steps", [])
    if not steps:
        raise _bad_steps("at least one build step must be specified")
    if len(steps) > _MOST_STEPS:
        raise _bad_steps(f"number of build steps {len(steps)} exceeded (max: {_MOST_STEPS})")
    known = {_AT_ONCE}
    for place, step in enumerate(steps):
        _check_step(place, step, values)
        _check_order(place, step, known)


def _check_step(place: int, step: Mapping[str, Any], values: Mapping[str, str]) -> None:
    if not step.get("name"):
        raise _bad_steps(f"build step {place} must specify name")
    if "script" in step and ("args" in step or "entrypoint" in step):
        raise _bad_steps(f"build step {place} cannot specify script together with args or entrypoint")
    for member, most in (("args", _MOST_ARGS), ("env", _MOST_ENV)):
        if len(step.get(member, [])) > most:
            raise _bad_steps(f"build step {place} has too many {member} (max: {most})")
    for number, arg in enumerate(step.get("args", [])):
        if len(replaced(arg, values)) > _LONGEST_ARG:
            raise _bad_steps(f"build step {place} arg {number} too long (max: {_LONGEST_ARG})")
    for pair in step.get("env", []):
        if "=" not in pair:
            raise _bad_steps(f'build step {place} env "{pair}" is not of the form KEY=VALUE')


def _check_order(place: int, step: Mapping[str, Any], known: set[str]) -> None:
    """Check whom a step waits for; ``known`` has the IDs of the steps before, and gets that of this step."""
    for other in step.get("waitFor", []):
        if other not in known:
            raise invalid(f'invalid build: invalid .waitFor field: build step {place} waits for unknown step "{other}"')
    identifier = step.get("id", "")
    if identifier and identifier in known:
        raise invalid(f'invalid build: invalid .id field: build step {place} has the duplicate id "{identifier}"')
    known.add(identifier)


def _check_times(build: Mapping[str, Any]) -> None:
    total = parse_duration(build.get("timeout", _TIMEOUT))
    for member in ("timeout", "queueTtl"):
        if parse_duration(build.get(member, _TIMEOUT)) > _LONGEST_TIME:
            raise _invalid(f"invalid {member}: must be at most {_LONGEST_TIME // HOUR} hours")
    for place, step in enumerate(build["steps"]):
        if parse_duration(step.get("timeout", "0s")) > total:
            raise _bad_steps(f"build step {place} timeout must be less than or equal to the build timeout")


def _check_logging(build: Mapping[str, Any]) -> None:
    """Check that a build with an account says where its logs go."""
    options = build.get("options", {})
    is_said = (
        build.get("logsBucket")
        or options.get("logging") in ("CLOUD_LOGGING_ONLY", "NONE")
        or options.get("defaultLogsBucketBehavior") == "REGIONAL_USER_OWNED_BUCKET"
    )
    if build.get("serviceAccount") and not is_said:
        raise invalid(_NO_LOGS)


def _check_source(source: Mapping[str, Any], location: str) -> None:
    if len(source) > 1:
        raise _invalid("only one source can be specified")
    if "gitSource" in source and not source["gitSource"].get("url"):
        raise _invalid("invalid source: git source must specify url")
    for member, name in (("connectedRepository", "repository"), ("developerConnectConfig", "gitRepositoryLink")):
        if member in source and f"/locations/{location}/" not in source[member].get(name, ""):
            raise _invalid(f"invalid source: the {name} must be in the location {location} of the build")


def _bad_steps(reason: str) -> CallError:
    return invalid(f"invalid build: invalid .steps field: {reason}")


def _invalid(reason: str) -> CallError:
    return invalid(f"invalid build: {reason}")
