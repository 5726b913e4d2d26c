"""Builds as JSON, so that a later server can continue with them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from itertools import islice
from typing import Any

from emulator.cloud_build.builds import WAITING, Place
from emulator.cloud_build.plans import Change
from emulator.cloud_build.service import Service

__all__ = ["export_builds", "import_builds"]

_VERSION = 1
_MOST = 2000
_RAN = "the local cloud stopped while this build ran"
_WAITED = "the local cloud stopped before this build started"


def export_builds(service: Service) -> dict[str, Any]:
    """Return the latest 2,000 builds with their kept outputs, as JSON."""
    builds = list(islice(service.store.newest_first(), _MOST))
    outputs = {build.id: output.read().text for build in builds if (output := service.outputs.get(build.id))}
    kept = [{"place": asdict(build.place), "created": build.created, "body": dict(build.body)} for build in builds]
    return {"version": _VERSION, "builds": kept, "outputs": outputs}


def import_builds(state: Mapping[str, Any], service: Service) -> None:
    """Add builds with their outputs, the oldest first; unfinished ones end now as INTERNAL_ERROR, which is announced.

    Each build's ``logUrl`` becomes that of this server.

    Raises:
        ValueError: the state is not from `export_builds` of this version; no build was added.
    """
    if state.get("version") != _VERSION:
        raise ValueError(f"the kept builds have the version {state.get('version')!r} instead of {_VERSION}")
    try:
        rows = [(Place(**row["place"]), int(row["created"]), dict(row["body"])) for row in reversed(state["builds"])]
        texts = {str(build_id): str(text) for build_id, text in state["outputs"].items()}
        bodies = [{**body, "logUrl": service.log_url(body["id"], place)} for place, _, body in rows]
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"the kept builds cannot be read: {error!r}") from error
    for (place, created, _), body in zip(rows, bodies, strict=True):
        build = service.store.restore(place, created, body)
        if build is None:
            continue
        if build.id in texts:
            service.outputs.restore(build.id, texts[build.id])
        if not build.ended:
            detail = _WAITED if build.status in WAITING else _RAN
            service.life_cycle.change(build.id, Change("INTERNAL_ERROR", 0, detail))
