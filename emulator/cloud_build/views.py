"""Builds as pages show them: texts, colors and addresses, without HTML."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any
from urllib.parse import urlencode

from emulator.building.views import CommitView, Moment, duration, moment
from emulator.cloud_build.builds import Build
from emulator.cloud_build.state import Surroundings
from luci_scheduler.web.addresses import address

__all__ = ["COLORS", "BuildView", "Chosen", "Row", "StepView", "build_view", "choose", "list_address", "row"]

COLORS: Mapping[str, str] = {
    "PENDING": "default",
    "QUEUED": "default",
    "WORKING": "info",
    "SUCCESS": "success",
    "FAILURE": "danger",
    "INTERNAL_ERROR": "danger",
    "TIMEOUT": "danger",
    "EXPIRED": "danger",
    "CANCELLED": "warning",
}
"""Status → color of the console's badges."""
_NOTICES = {"danger": "bad", "warning": "warn", "success": "good"}
_PAGE = 50
_SHORT = 12  # digits of a hash that people read
_LONGEST_SEARCH = 200
_NUMBER = re.compile(r"[0-9]{1,19}")


@dataclass(frozen=True, slots=True)
class Row:
    """A build in the list."""

    id: str
    name: str
    """The scheduler's job; for builds of others, the trigger's ID or nothing."""
    status: str
    color: str
    commit: CommitView | None
    created: Moment
    duration: str


@dataclass(frozen=True, slots=True)
class Chosen:
    """The builds of one page of the list, and the filters that chose them."""

    builds: Sequence[Build]
    job: str
    status: str
    older: str
    """The address of the next page; empty if there is none."""
    is_first: bool


@dataclass(frozen=True, slots=True)
class StepView:
    """A step of a build."""

    name: str
    image: str
    status: str
    color: str
    exit_code: str


@dataclass(frozen=True, slots=True)
class BuildView:
    """The page of a build."""

    row: Row
    notice: str
    """The kind of box for the detail."""
    detail: str
    facts: Sequence[tuple[str, str]]
    steps: Sequence[StepView]
    started: Moment | None
    ended: Moment | None
    invocation: str
    """The text of the link to the console's invocation; empty if the scheduler did not make the build."""
    invocation_url: str
    substitutions: Sequence[tuple[str, str]]
    tags: Sequence[str]


def choose(builds: Iterator[Build], query: Mapping[str, str]) -> Chosen:
    """Return the requested page of the list.

    Args:
        builds: all builds, newest first.
        query: ``job``: a part of its name, in any case; ``status``; ``before``: the number of the last build of the
            page before. Unknown values choose all.
    """
    job = query.get("job", "").strip()[:_LONGEST_SEARCH]
    status = query.get("status", "") if query.get("status", "") in COLORS else ""
    before = int(query["before"]) if _NUMBER.fullmatch(query.get("before", "")) else 0
    found = (
        build
        for build in builds
        if (not before or build.number < before)
        and (not status or build.status == status)
        and job.casefold() in build.job.casefold()
    )
    page = list(islice(found, _PAGE + 1))
    older = list_address(job=job, status=status, before=str(page[_PAGE - 1].number)) if len(page) > _PAGE else ""
    return Chosen(page[:_PAGE], job, status, older, before == 0)


def list_address(**query: str) -> str:
    """Return the address of the list; empty values are left out."""
    pairs = {name: value for name, value in query.items() if value}
    return f"/?{urlencode(pairs)}" if pairs else "/"


def row(build: Build, now: int, around: Surroundings) -> Row:
    """Return a build as a row of the list."""
    return Row(
        id=build.id,
        name=build.job or build.body.get("buildTriggerId", ""),
        status=build.status,
        color=COLORS.get(build.status, "default"),
        commit=_commit(build, around),
        created=moment(build.created, now),
        duration=_ran(build, now),
    )


def build_view(build: Build, now: int, around: Surroundings) -> BuildView:
    """Return a build as its page shows it."""
    shown = row(build, now, around)
    failure: Mapping[str, str] = build.body.get("failureInfo", {})
    detail = build.body.get("statusDetail", "") or failure.get("detail", "")
    has_invocation = bool(around.console_url and build.job.count("/") == 1 and _NUMBER.fullmatch(build.invocation))
    facts = {
        "Project": build.place.project,
        "Location": build.place.location,
        "Trigger": build.body.get("buildTriggerId", ""),
        "Account": build.body.get("serviceAccount", "").rpartition("/")[2],
        "Failure": failure.get("type", ""),
        "Approval": build.body.get("approval", {}).get("state", ""),
    }
    return BuildView(
        row=shown,
        notice=_NOTICES.get(shown.color, ""),
        detail=detail,
        facts=[(name, value) for name, value in facts.items() if value],
        steps=[_step(place, step) for place, step in enumerate(build.steps)],
        started=_moment(build, "startTime", now),
        ended=_moment(build, "finishTime", now),
        invocation=f"{build.job} {build.invocation}" if has_invocation else "",
        invocation_url=f"{around.console_url}{address('jobs', *build.job.split('/'), build.invocation)}"
        if has_invocation
        else "",
        substitutions=sorted(build.substitutions.items()),
        tags=build.tags,
    )


def _step(place: int, step: Mapping[str, Any]) -> StepView:
    status = str(step.get("status", ""))
    code = str(step.get("exitCode", ""))
    return StepView(step.get("id") or f"Step #{place}", step["name"], status, COLORS.get(status, "default"), code)


def _moment(build: Build, member: str, now: int) -> Moment | None:
    instant = build.instant(member)
    return None if instant is None else moment(instant, now)


def _ran(build: Build, now: int) -> str:
    start, end = build.instant("startTime"), build.instant("finishTime")
    return "" if start is None else duration((now if end is None else end) - start)


def _commit(build: Build, around: Surroundings) -> CommitView | None:
    """Return the commit that a build's substitutions name."""
    values = build.substitutions
    repository = values.get("_REPOSITORY", "")
    revision = values.get("_REVISION", "") or values.get("COMMIT_SHA", "")
    if not revision:
        return None
    local = (
        url + repository.removeprefix(host) for host, url in around.commit_urls.items() if repository.startswith(host)
    )
    page = next(local, "")
    ref = values.get("_BRANCH", "") or values.get("BRANCH_NAME", "")
    return CommitView(revision[:_SHORT], repository, ref, "", f"{page}/commit/{revision}" if page else "")
