"""The environment of a build's program."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from emulator.buildbucket.builds import Build

__all__ = ["LONGEST", "variables"]

LONGEST = 100_000
"""Bytes of a variable's value. Linux starts no program with a longer one than 128 KiB, and others are stricter."""


def variables(build: Build, commit: Mapping[str, Any], say: Callable[[str], object]) -> dict[str, str]:
    """Return the variables that describe a build. Unknown values are empty, and too long ones are left out.

    - ``BUILD_ID``, ``BUILD_NUMBER``, ``LUCI_PROJECT``, ``BUCKET``, ``BUILDER``
    - ``REPOSITORY`` (``https://<host>/<project>``), ``GITILES_HOST``, ``GITILES_PROJECT``, ``REF``, ``REVISION``
    - ``PROPERTIES`` (JSON), and ``PROPERTY_<NAME>`` for each text, number and boolean among them
    - ``CI``: ``true``

    Args:
        build: the build.
        commit: ``host``, ``project``, ``ref`` and ``id`` of the commit that it runs at; any may be missing.
        say: gets a line about each variable that is left out.
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
    values = {name: value.replace("\0", "").encode(errors="replace") for name, value in found.items()}
    sizes = {name: len(value) for name, value in sorted(values.items())}
    for name, size in sizes.items():
        if size > LONGEST:
            say(f"The variable {name} is left out: it has {size:,} bytes, more than {LONGEST:,}.")
    return {name: value.decode() for name, value in values.items() if sizes[name] <= LONGEST}


def _scalars(properties: Mapping[str, Any]) -> dict[str, str]:
    return {
        f"PROPERTY_{re.sub('[^A-Z0-9]', '_', name.upper())}": value if isinstance(value, str) else json.dumps(value)
        for name, value in sorted(properties.items())
        if isinstance(value, str | int | float)
    }
