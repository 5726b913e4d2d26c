"""The environment of a build's program."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from emulator.buildbucket.builds import Build
from emulator.processes import environment_without

__all__ = ["inherited", "variables"]

# Settings and credentials of the local cloud's functions, and variables that lead git to another repository.
_NOT_INHERITED = (
    "SCHEDULER_", "GOOGLE_", "FUNCTION_", "GUNICORN_", "K_SERVICE", "FIRESTORE_EMULATOR_", "PUBSUB_EMULATOR_",
    "GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_", "GIT_OBJECT_", "GIT_ALTERNATE_", "GIT_COMMON_DIR", "GIT_PREFIX",
)  # fmt: skip


def inherited() -> dict[str, str]:
    """Return this process's environment without the variables that concern the local cloud or a git command."""
    return environment_without(*_NOT_INHERITED)


def variables(build: Build, commit: Mapping[str, Any]) -> dict[str, str]:
    """Return the variables that describe a build. Unknown values are empty.

    - ``BUILD_ID``, ``BUILD_NUMBER``, ``LUCI_PROJECT``, ``BUCKET``, ``BUILDER``
    - ``REPOSITORY`` (``https://<host>/<project>``), ``GITILES_HOST``, ``GITILES_PROJECT``, ``REF``, ``REVISION``
    - ``PROPERTIES`` (JSON), and ``PROPERTY_<NAME>`` for each text, number and boolean among them
    - ``CI``: ``true``

    Args:
        build: the build.
        commit: ``host``, ``project``, ``ref`` and ``id`` of the commit that it runs at; any may be missing.
    """
    spec = build.spec
    host, project = str(commit.get("host", "")), str(commit.get("project", ""))
    found = {
        **_scalars(spec.properties),
        "CI": "true",
        "BUILD_ID": str(build.id),
        "BUILD_NUMBER": "" if build.number is None else str(build.number),
        "LUCI_PROJECT": spec.builder.project,
        "BUCKET": spec.builder.bucket,
        "BUILDER": spec.builder.builder,
        "REPOSITORY": f"https://{host}/{project}" if host else "",
        "GITILES_HOST": host,
        "GITILES_PROJECT": project,
        "REF": str(commit.get("ref", "")),
        "REVISION": str(commit.get("id", "") or spec.properties.get("revision", "")),
        "PROPERTIES": json.dumps(dict(spec.properties), sort_keys=True),
    }
    return {name: value.replace("\0", "") for name, value in found.items()}


def _scalars(properties: Mapping[str, Any]) -> dict[str, str]:
    return {
        f"PROPERTY_{re.sub('[^A-Z0-9]', '_', name.upper())}": value if isinstance(value, str) else json.dumps(value)
        for name, value in sorted(properties.items())
        if isinstance(value, str | int | float)
    }
