"""Calls of the v2 API, and the recorded payloads."""

import json
from pathlib import Path
from typing import Any

from emulator.buildbucket import BuildbucketServer, BuilderId
from emulator.buildbucket.testing import call_prpc, prpc_json

START = 1_700_000_000 * 10**9 + 123_456_789
BUILDER = {"project": "p", "bucket": "b", "builder": "x"}
COMMIT = {"host": "h.googlesource.com", "project": "r", "id": "a" * 40, "ref": "refs/heads/main"}

SAMPLES = Path(__file__).parents[3] / "samples"
MAC_REL = BuilderId("tint", "ci", "mac-rel")
ACCOUNT = "tint-ci-builder@chops-service-accounts.iam.gserviceaccount.com"


def schedule(server: BuildbucketServer, caller: str = "project:tint", **fields: Any) -> Any:
    """Schedule a build and return the reply's message."""
    return prpc_json(call_prpc(server.url, "ScheduleBuild", {"builder": BUILDER, **fields}, caller=caller))


def get(server: BuildbucketServer, build: Any, **fields: Any) -> Any:
    """Get a build and return the reply's message."""
    return prpc_json(call_prpc(server.url, "GetBuild", {"id": build["id"], **fields}))


def tag(key: str, value: str) -> dict[str, str]:
    """Return a tag's message."""
    return {"key": key, "value": value}


def sample(name: str) -> Any:
    """Return a recorded body of JSON."""
    return json.loads((SAMPLES / name).read_text())
