"""The shapes of the API's request messages: unknown members and values of wrong types are refused, as by the service.

The members are those of the API's discovery document that a client of this project may send.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from emulator.building.wire_time import parse_duration
from emulator.cloud_build.errors import CallError, invalid

__all__ = ["check_shape"]

_TEXTS, _MAP = "texts", "map"
_SHAPES: Mapping[str, Mapping[str, str]] = {
    "Build": {
        "projectId": "text", "id": "text", "source": "Source", "steps": "[Step]", "images": _TEXTS,
        "timeout": "duration", "queueTtl": "duration", "logsBucket": "text", "options": "Options",
        "substitutions": _MAP, "tags": _TEXTS, "serviceAccount": "text", "availableSecrets": "any",
        "artifacts": "any", "dependencies": "any",
    },
    "Source": {
        "gitSource": "GitSource", "connectedRepository": "ConnectedRepository",
        "developerConnectConfig": "DeveloperConnectConfig", "repoSource": "RepoSource", "storageSource": "any",
    },
    "GitSource": {"url": "text", "dir": "text", "revision": "text"},
    "ConnectedRepository": {"repository": "text", "dir": "text", "revision": "text"},
    "DeveloperConnectConfig": {"gitRepositoryLink": "text", "dir": "text", "revision": "text"},
    "RepoSource": {
        "projectId": "text", "repoName": "text", "branchName": "text", "tagName": "text", "commitSha": "text",
        "dir": "text", "invertRegex": "flag", "substitutions": _MAP,
    },
    "Step": {
        "name": "text", "args": _TEXTS, "entrypoint": "text", "script": "text", "env": _TEXTS, "secretEnv": _TEXTS,
        "dir": "text", "id": "text", "waitFor": _TEXTS, "timeout": "duration", "volumes": "any",
        "allowFailure": "flag", "allowExitCodes": "any", "automapSubstitutions": "flag",
    },
    "Options": {
        "logging": "text", "machineType": "text", "pool": "Pool", "substitutionOption": "text",
        "automapSubstitutions": "flag", "dynamicSubstitutions": "flag", "env": _TEXTS, "secretEnv": _TEXTS,
        "diskSizeGb": "any", "pubsubTopic": "text", "defaultLogsBucketBehavior": "text", "volumes": "any",
        "requestedVerifyOption": "text", "sourceProvenanceHash": "any", "logStreamingOption": "text",
    },
    "Pool": {"name": "text"},
    "RunBuildTriggerRequest": {"projectId": "text", "triggerId": "text", "source": "RepoSource"},
    "CancelBuildRequest": {"projectId": "text", "id": "text", "name": "text"},
    "Empty": {},
}  # fmt: skip
"""Message → member → its type: another message, ``[message]``, or a name that `_FITS` explains."""


def _is_duration(value: object) -> bool:
    try:
        return parse_duration(value) >= 0 if isinstance(value, str) else False
    except ValueError:
        return False


_FITS: Mapping[str, Callable[[Any], bool]] = {
    "any": lambda _: True,
    "text": lambda value: isinstance(value, str),
    "flag": lambda value: isinstance(value, bool),
    "duration": _is_duration,
    _TEXTS: lambda value: isinstance(value, list) and all(isinstance(item, str) for item in value),
    _MAP: lambda value: isinstance(value, Mapping) and all(isinstance(item, str) for item in value.values()),
}


def check_shape(message: str, body: object, path: str) -> None:
    """Refuse a body that is not the JSON form of a message.

    Args:
        message: a name in the table above.
        body: the parsed JSON.
        path: where it is, for the text of the error, such as ``build``.

    Raises:
        CallError: INVALID_ARGUMENT.
    """
    if not isinstance(body, Mapping):
        raise _bad_value(path, message, body)
    members = _SHAPES[message]
    for name, value in body.items():
        if name not in members:
            where = f" at '{path}'" if path else ""
            raise invalid(f'Invalid JSON payload received. Unknown name "{name}"{where}: Cannot find field.')
        _check_member(members[name], value, f"{path}.{name}" if path else name)


def _check_member(kind: str, value: object, path: str) -> None:
    if kind in _SHAPES:
        check_shape(kind, value, path)
    elif kind.startswith("["):
        if not isinstance(value, list):
            raise _bad_value(path, kind, value)
        for place, item in enumerate(value):
            check_shape(kind.strip("[]"), item, f"{path}[{place}]")
    elif not _FITS[kind](value):
        raise _bad_value(path, kind, value)


def _bad_value(path: str, kind: str, value: Any) -> CallError:
    return invalid(f"Invalid value at '{path or 'body'}' ({kind}), {str(value)[:100]!r}")
