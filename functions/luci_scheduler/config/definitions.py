"""Job definitions as plain values, and the differences between two sets of definitions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

from luci_scheduler.core.job import JobDefinition

__all__ = ["definition_values", "differences"]

_LEFT_OUT = ("task", "policy", "revision", "revision_url", "max_pending")


def definition_values(definition: JobDefinition) -> dict[str, Any]:
    """Return a definition as JSON values, without its config revision."""
    values = {
        field.name: _plain(getattr(definition, field.name))
        for field in fields(JobDefinition)
        if field.name not in _LEFT_OUT
    }
    policy = definition.policy
    values["policy"] = {field.name: _plain(getattr(policy, field.name)) for field in fields(policy)}
    values["task"] = {
        "kind": definition.task.kind,
        **{name: _plain(item) for name, item in definition.task.fields.items()},
    }
    return values


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value if isinstance(value, int | float | list) else str(value)


def differences(now: Mapping[str, Mapping[str, Any]], then: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the changes between two sets of definitions, sorted by job.

    Each change is ``{"job", "change": "added" | "removed" | "changed", "fields": [{"path", "now", "then"}]}``.
    """
    found: list[dict[str, Any]] = []
    for job in sorted({*now, *then}):
        if job not in now:
            found.append({"job": job, "change": "added", "fields": []})
        elif job not in then:
            found.append({"job": job, "change": "removed", "fields": []})
        elif changed := _changes(now[job], then[job], ()):
            found.append({"job": job, "change": "changed", "fields": changed})
    return found


def _changes(now: Mapping[str, Any], then: Mapping[str, Any], path: Sequence[str]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for name in sorted({*now, *then}):
        before, after = now.get(name), then.get(name)
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            found += _changes(before, after, (*path, name))
        elif before != after:
            found.append({"path": ".".join((*path, name)), "now": before, "then": after})
    return found
