"""Builds as JSON, so that a later server can continue with them."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from dataclasses import asdict
from itertools import islice
from typing import Any

from emulator.buildbucket.builders import BuilderConfig
from emulator.buildbucket.builds import Build, BuildSpec, BuildStore, Callback, Outcome
from emulator.buildbucket.identifiers import BuilderId
from emulator.building.output import Outputs

__all__ = ["build_from_kept", "build_to_kept", "export_builds", "import_builds"]

_VERSION = 1
_MOST = 2000
_RAN = Outcome("INFRA_FAILURE", summary="The local cloud stopped while this build ran.")
_WAITED = Outcome("INFRA_FAILURE", summary="The local cloud stopped before this build started.")


def export_builds(store: BuildStore, outputs: Outputs[int]) -> dict[str, Any]:
    """Return the latest 2,000 builds with their kept outputs, as JSON."""
    builds = list(islice(store.newest_first(), _MOST))
    kept = {str(build.id): output.read().text for build in builds if (output := outputs.get(build.id)) is not None}
    return {"version": _VERSION, "builds": [build_to_kept(build) for build in builds], "outputs": kept}


def import_builds(
    state: Mapping[str, Any], store: BuildStore, outputs: Outputs[int], end: Callable[[int, Outcome], Build | None]
) -> None:
    """Add builds with their outputs, the oldest first, and ``end`` unfinished ones.

    Raises:
        ValueError: the state is not from `export_builds` of this version; no build was added.
    """
    if state.get("version") != _VERSION:
        raise ValueError(f"the kept builds have the version {state.get('version')!r} instead of {_VERSION}")
    try:
        builds = [build_from_kept(item) for item in reversed(state["builds"])]
        texts = {int(build_id): str(text) for build_id, text in state["outputs"].items()}
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"the kept builds cannot be read: {error!r}") from error
    for build in builds:
        if not store.restore(build):
            continue
        if build.id in texts:
            outputs.restore(build.id, texts[build.id])
        if not build.ended:
            end(build.id, _WAITED if build.start_time is None else _RAN)


def build_to_kept(build: Build) -> dict[str, Any]:
    """Return a build as JSON; `build_from_kept` reads it."""
    kept = asdict(build)
    config, callback = kept["spec"]["config"], kept["spec"]["callback"]
    config["allowed_property_overrides"] = sorted(config["allowed_property_overrides"])
    if callback is not None:
        callback["user_data"] = base64.b64encode(callback["user_data"]).decode()
    return kept


def build_from_kept(kept: Mapping[str, Any]) -> Build:
    """Return the build.

    Raises:
        KeyError, TypeError, ValueError: the JSON is not from `build_to_kept` of this version.
    """
    outcome = kept["outcome"]
    spec = _spec(kept["spec"])
    return Build(**{**kept, "spec": spec, "outcome": None if outcome is None else Outcome(**outcome)})


def _spec(kept: Mapping[str, Any]) -> BuildSpec:
    callback = kept["callback"]
    return BuildSpec(
        **{
            **kept,
            "builder": BuilderId(**kept["builder"]),
            "config": _config(kept["config"]),
            "tags": tuple((key, value) for key, value in kept["tags"]),
            "gerrit_changes": tuple(kept["gerrit_changes"]),
            "experiments": tuple(kept["experiments"]),
            "callback": None if callback is None else _callback(callback),
        }
    )


def _callback(kept: Mapping[str, Any]) -> Callback:
    return Callback(**{**kept, "user_data": base64.b64decode(kept["user_data"])})


def _config(kept: Mapping[str, Any]) -> BuilderConfig:
    overrides, experiments = frozenset(kept["allowed_property_overrides"]), tuple(kept["experiments"])
    return BuilderConfig(**{**kept, "allowed_property_overrides": overrides, "experiments": experiments})
