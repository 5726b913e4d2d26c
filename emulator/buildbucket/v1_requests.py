"""Requests of the v1 API of Buildbucket: their contents and their errors."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from emulator.buildbucket.builds import Callback
from emulator.buildbucket.validation import check_buildset, gitiles_buildsets, topic_fault

__all__ = ["BadRequest", "PutRequest", "Refused", "parse_put"]

_CANARY = frozenset({"AUTO", "PROD", "CANARY"})
_DEFAULT_REF = "refs/heads/master"


class BadRequest(Exception):  # noqa: N818 - a response: HTTP 400
    """The body cannot be decoded."""


class Refused(Exception):  # noqa: N818 - a response: HTTP 200 with an error in the body
    """The service refuses the request; ``reason`` is one of its fixed codes."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


@dataclass(frozen=True, slots=True)
class PutRequest:
    """A checked PutRequest. ``parameters`` is the ``parameters_json`` without builder and properties."""

    bucket: str
    builder: str
    operation_id: str
    tags: tuple[tuple[str, str], ...]
    properties: dict[str, Any]
    parameters: dict[str, Any]
    gitiles_commit: dict[str, Any] | None
    callback: Callback | None
    canary: bool
    experimental: bool


def parse_put(body: object) -> PutRequest:
    """Parse and check the body of ``PUT builds``.

    Raises:
        BadRequest: the body is not a PutRequest.
        Refused: a value in the body is invalid.
    """
    message = _typed(body)
    operation_id = message.get("client_operation_id") or ""
    if "/" in operation_id:
        raise _invalid("client_operation_id cannot contain /")
    parameters = _parameters(message.get("parameters_json"))
    builder = parameters.pop("builder_name", None)
    if not isinstance(builder, str) or not builder:
        raise _invalid("parameters_json.builder_name is required")
    properties = parameters.pop("properties", None) or {}
    if not isinstance(properties, Mapping):
        raise _invalid('"properties" parameter is not a JSON object')
    tags = {_tag(tag, builder) for tag in message.get("tags") or []}
    tags.add(("builder", builder))
    commit = _commit(tags)
    return PutRequest(
        bucket=message["bucket"],
        builder=builder,
        operation_id=operation_id,
        tags=tuple(sorted(tags)),
        properties=dict(properties),
        parameters=parameters,
        gitiles_commit=commit,
        callback=_callback(message.get("pubsub_callback")),
        canary=message.get("canary_preference") == "CANARY",
        experimental=bool(message.get("experimental")),
    )


def _typed(body: object) -> dict[str, Any]:
    if not isinstance(body, dict):
        raise BadRequest("Message PutRequestMessage must be an object")
    if body.get("bucket") is None:
        raise BadRequest("Message PutRequestMessage is missing required field bucket")
    for name in ("bucket", "client_operation_id", "parameters_json", "canary_preference"):
        _check_texts(name, body.get(name), str)
    _check_texts("tags", body.get("tags"), list)
    if body.get("canary_preference") is not None and body["canary_preference"] not in _CANARY:
        raise BadRequest(f"Invalid value for field canary_preference: {body['canary_preference']}")
    return body


def _check_texts(name: str, value: object, expected: type) -> None:
    """Check a field of texts: one text, or a list of them. A missing field is valid."""
    if value is None:
        return
    if not isinstance(value, expected) or (
        isinstance(value, list) and not all(isinstance(item, str) for item in value)
    ):
        raise BadRequest(f"Expected type {str} for field {name}, found {value!r}")


def _parameters(text: str | None) -> dict[str, Any]:
    if not text:
        return {}
    try:
        parameters = json.loads(text)
    except (RecursionError, ValueError) as error:
        raise _invalid(f"Could not parse parameters_json: {error}") from error
    if not isinstance(parameters, dict):
        raise _invalid("parameters_json is not a JSON object")
    return parameters


def _tag(tag: str, builder: str) -> tuple[str, str]:
    key, colon, value = tag.partition(":")
    if not colon:
        raise _invalid(f'Invalid tag "{tag}": does not contain ":"')
    if not key:
        raise _invalid(f'Invalid tag "{tag}": starts with ":"')
    if key == "buildset" and (fault := check_buildset(value)):
        raise _invalid(f'Invalid tag "{tag}": {fault}')
    if key == "builder" and value != builder:
        raise _invalid(f'Invalid tag "{tag}": conflicts with builder_name parameter "{builder}"')
    if key == "build_address":
        raise _invalid('Tag "build_address" is reserved')
    return key, value


def _commit(tags: set[tuple[str, str]]) -> dict[str, Any] | None:
    """Return the commit in the tags, and add the default ref to the tags if they have none."""
    commits = gitiles_buildsets(tags)
    if len(commits) > 1:
        raise _invalid("More than one commit/gitiles buildset")
    if not commits:
        return None
    host, project, identifier = commits[0]
    refs = sorted(value for key, value in tags if key == "gitiles_ref")
    ref = refs[0] if refs else _DEFAULT_REF
    tags.add(("gitiles_ref", ref))
    return {"host": host, "project": project, "id": identifier, "ref": ref}


def _callback(message: object) -> Callback | None:
    if message is None:
        return None
    if not isinstance(message, Mapping) or message.get("topic") is None:
        raise BadRequest("Message PubSubCallbackMessage is missing required field topic")
    values = [message.get(name) or "" for name in ("topic", "user_data", "auth_token")]
    if not all(isinstance(value, str) for value in values):
        raise BadRequest("Message PubSubCallbackMessage holds a value that is not a string")
    topic, user_data, token = values
    if fault := topic_fault(topic):
        raise _invalid(f"invalid pubsub_callback.topic: {fault}")
    return Callback(topic, user_data.encode(), token)


def _invalid(message: str) -> Refused:
    return Refused("INVALID_INPUT", message)
