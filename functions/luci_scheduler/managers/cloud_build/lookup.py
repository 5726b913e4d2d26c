"""Looking up the builds of an invocation: an earlier attempt may have made one whose answer was lost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from luci_scheduler.core.instants import MINUTE, Instant
from luci_scheduler.core.log_lines import Call
from luci_scheduler.managers.cloud_build.api import Api
from luci_scheduler.managers.cloud_build.build import created, is_of, oldest_first
from luci_scheduler.managers.cloud_build.request import Given, Place, identity_of, is_run
from luci_scheduler.managers.cloud_build.tags import invocation_tag

__all__ = ["find_builds", "look_up_query"]

_MAX_PAGES = 10
_BEFORE_START = MINUTE
"""Clocks differ: a build that is older than the invocation by this much cannot be one of its builds."""


def look_up_query(given: Given) -> list[tuple[str, str]]:
    """Return the query that lists the builds of an invocation, not yet percent-encoded.

    The request to run a trigger cannot set tags, so the newest builds of the location are listed.
    """
    if is_run(given.task):
        return [("pageSize", "100")]
    return [("filter", f'tags="{invocation_tag(given.invocation_id)}"'), ("pageSize", "20")]


def find_builds(
    api: Api, given: Given, place: Place, started: Instant, name: str, until: Instant | None = None
) -> list[Mapping[str, Any]]:
    """Return the builds of an invocation, the oldest first. A list may lag: a new build may be missing.

    Args:
        api: Cloud Build.
        given: the invocation, as for its request.
        place: where its builds are.
        started: when the invocation started.
        name: identifies the calls in the delivery.
        until: the end of the look-up.

    Raises:
        RefusedError, TransientError: as of `Api.call`.
    """
    query, identity = look_up_query(given), identity_of(given)
    found: list[Mapping[str, Any]] = []
    token = ""
    for page in range(_MAX_PAGES):
        more = [("pageToken", token)] if token else []
        answer = api.call(f"{name}, page {page}", Call.LOOK_UP, place.builds, query=[*query, *more], until=until)
        builds = _builds(answer)
        found += [build for build in builds if is_of(build, identity)]
        token = str(answer.get("nextPageToken") or "")  # an empty page with a token is not the end
        # A found build may have an older one on a later page, which another attempt made.
        if not token or (is_run(given.task) and _is_past(builds, started)):
            break
    return oldest_first(found)


def _builds(answer: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    builds = answer.get("builds")
    return [build for build in builds if isinstance(build, Mapping)] if isinstance(builds, list) else []


def _is_past(builds: Sequence[Mapping[str, Any]], started: Instant) -> bool:
    """Whether a page of the newest builds reaches back before the invocation's start."""
    return any(created(build) < started - _BEFORE_START for build in builds)
