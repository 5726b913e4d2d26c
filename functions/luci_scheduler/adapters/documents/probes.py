"""The codec of probes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from luci_scheduler.adapters.documents.values import SCHEMA, check_schema, known_fields, to_json, to_timestamp
from luci_scheduler.core.instants import HOUR, Instant
from luci_scheduler.core.probe import LIFETIME, Finding, Mark, Probe

__all__ = ["decode_probe", "encode_probe"]


def encode_probe(probe: Probe) -> dict[str, Any]:
    """Return a probe's document. Firestore deletes it after an hour or later."""
    state = {
        "created": probe.created,
        "marks": {name: asdict(mark) for name, mark in probe.marks.items()},
        "findings": [asdict(finding) for finding in probe.findings],
        "done": probe.done,
    }
    expires = Instant(probe.created + LIFETIME + HOUR)
    return {"schema": SCHEMA, "state": to_json(state), "expire_at": to_timestamp(expires)}


def decode_probe(probe_id: str, document: Mapping[str, Any]) -> Probe:
    """Read a probe's document."""
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
