"""The body of a probe's document."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from luci_scheduler.adapters.documents.values import check_schema, known_fields
from luci_scheduler.core.instants import Instant
from luci_scheduler.core.probe import Finding, Mark, Probe

__all__ = ["decode_probe", "probe_values"]


def probe_values(probe: Probe) -> dict[str, Any]:
    """Return the body of a probe's document."""
    return {
        "created": probe.created,
        "marks": {name: asdict(mark) for name, mark in probe.marks.items()},
        "findings": [asdict(finding) for finding in probe.findings],
        "done": probe.done,
    }


def decode_probe(probe_id: str, document: Mapping[str, Any]) -> Probe:
    """Read a probe's document; raises as `records.decode_invocation` does."""
    check_schema(f"probe {probe_id}", document)
    values = json.loads(document["state"])
    return Probe(
        probe_id,
        Instant(values["created"]),
        {name: _mark(item) for name, item in values["marks"].items()},
        tuple(Finding(**known_fields(Finding, item)) for item in values["findings"]),
        done=values["done"],
    )


def _mark(values: Mapping[str, Any]) -> Mark:
    return Mark(**known_fields(Mark, {**values, "unexplained": tuple(values["unexplained"])}))
