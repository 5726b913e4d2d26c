"""Looking up the builds of an invocation: an earlier attempt may have made one whose answer was lost."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from luci_scheduler.core.errors import TransientError
from luci_scheduler.core.instants import MINUTE, Instant
from luci_scheduler.core.log_lines import Call
from luci_scheduler.managers.cloud_build.api import Api
from luci_scheduler.managers.cloud_build.build import created, is_of, oldest_first
from luci_scheduler.managers.cloud_build.request import BuildRequest, Place, identity_of, is_run
from luci_scheduler.managers.cloud_build.tags import invocation_tag

__all__ = ["find_builds", "look_up_query"]

_MAX_PAGES = 10
_BEFORE_START = MINUTE
"""Clocks differ: a build that is older than the invocation by this much cannot be one of its builds."""


def look_up_query(request: BuildRequest) -> list[tuple[str, str]]:
    """Return the query that lists the builds of an invocation, not yet percent-encoded.

    The request to run a trigger cannot set tags, so the newest builds of the location are listed.
    """
    if is_run(request.task):
        return [("pageSize", "100")]
    return [("filter", f'tags="{invocation_tag(request.invocation_id)}"'), ("pageSize", "20")]


def find_builds(
    api: Api, request: BuildRequest, place: Place, started: Instant, name: str, until: Instant | None = None
) -> list[Mapping[str, Any]]:
    """Return the builds of an invocation, the oldest first. A list may lag: a new build may be missing.

    Args:
        api: Cloud Build.
        request: the request for one of them, which names the invocation.
        place: where its builds are.
        started: when the invocation started.
        name: identifies the calls in the delivery.
        until: the end of the look-up.

    Raises:
        RefusedError, TransientError: as of `Api.call`.
    """
    identity, runs_trigger = identity_of(request), is_run(request.task)
    found: list[Mapping[str, Any]] = []
    for builds, is_last in _pages(api, place, look_up_query(request), name, until):
        found += [build for build in builds if is_of(build, identity)]
        # A found build may have an older one on a later page, which another attempt made.
        if is_last or (runs_trigger and _is_past(builds, started)):
            break
    else:
        if not found and not runs_trigger:  # a tag has few builds, so such a list proves nothing
            raise TransientError("the look-up of the build did not end, so it does not prove that there is none")
    return oldest_first(found)


def _pages(
    api: Api, place: Place, query: Sequence[tuple[str, str]], name: str, until: Instant | None
) -> Iterator[tuple[Sequence[Mapping[str, Any]], bool]]:
    """Yield the builds of at most ten pages, and whether each page is the last one."""
    token = ""
    for page in range(_MAX_PAGES):
        more = [("pageToken", token)] if token else []
        answer = api.call(f"{name}, page {page}", Call.LOOK_UP, place.builds, query=[*query, *more], until=until)
        token = str(answer.get("nextPageToken") or "")  # an empty page with a token is not the end
        yield _builds(answer), not token


def _builds(answer: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    builds = answer.get("builds")
    return [build for build in builds if isinstance(build, Mapping)] if isinstance(builds, list) else []


def _is_past(builds: Sequence[Mapping[str, Any]], started: Instant) -> bool:
    """Whether a page of the newest builds reaches back before the invocation's start."""
    return any(created(build) < started - _BEFORE_START for build in builds)
