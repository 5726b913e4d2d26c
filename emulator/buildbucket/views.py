"""Builds as pages show them: texts, colors and addresses, without HTML."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby, islice
from typing import Any
from urllib.parse import quote, urlencode

from emulator.buildbucket.builds import Build
from emulator.buildbucket.identifiers import ANONYMOUS
from emulator.buildbucket.state import CommitKey, Surroundings
from emulator.buildbucket.v2_build import summary_markdown
from emulator.building.views import CommitView, Moment, duration, moment
from luci_scheduler.web.addresses import address

__all__ = [
    "COLORS",
    "BuildView",
    "Chosen",
    "Row",
    "build_view",
    "choose",
    "commit_of",
    "list_address",
    "row",
]

COLORS: Mapping[str, str] = {
    "SCHEDULED": "default",
    "STARTED": "info",
    "SUCCESS": "success",
    "FAILURE": "danger",
    "INFRA_FAILURE": "danger",
    "CANCELED": "warning",
}
"""Status → color of the console's badges."""
_NOTICES = {"SUCCESS": "good", "FAILURE": "bad", "INFRA_FAILURE": "bad", "CANCELED": "warn"}
_PAGE = 50
_SHORT = 12  # digits of a hash that people read
_LONGEST_SEARCH = 200
_ID = re.compile(r"[0-9]{1,19}")
_CODE = "    "  # begins a line of code in Markdown


@dataclass(frozen=True, slots=True)
class Row:
    """A build in the list."""

    id: int
    builder: str
    status: str
    color: str
    commit: CommitView | None
    created: Moment
    duration: str


@dataclass(frozen=True, slots=True)
class Chosen:
    """The builds of one page of the list, and the filters that chose them."""

    builds: Sequence[Build]
    builder: str
    status: str
    older: str
    """The address of the next page; empty if there is none."""
    is_first: bool


@dataclass(frozen=True, slots=True)
class BuildView:
    """The page of a build."""

    row: Row
    notice: str
    """The kind of box for the summary."""
    summary: Sequence[tuple[bool, str]]
    """Parts of the summary, each with whether it is code."""
    facts: Sequence[tuple[str, str]]
    started: Moment | None
    ended: Moment | None
    is_canceling: bool
    """Whether its cancellation was requested and it has not ended."""
    invocation: str
    """The text of the link to the console's invocation; empty if the scheduler did not make the build."""
    invocation_url: str
    properties: str
    tags: Sequence[str] = field(default_factory=tuple)


def choose(builds: Iterator[Build], query: Mapping[str, str]) -> Chosen:
    """Return the page of the list that a query asks for.

    Args:
        builds: all builds, newest first; IDs grow with the age.
        query: ``builder``: a part of ``project/bucket/builder``, in any case; ``status``; ``after``: the last ID of the
            page before. Unknown values choose all.
    """
    builder = query.get("builder", "").strip()[:_LONGEST_SEARCH]
    status = query.get("status", "") if query.get("status", "") in COLORS else ""
    after = int(query["after"]) if _ID.fullmatch(query.get("after", "")) else 0
    found = (
        build
        for build in builds
        if build.id > after
        and (not status or build.status == status)
        and builder.casefold() in str(build.spec.builder).casefold()
    )
    page = list(islice(found, _PAGE + 1))
    older = list_address(builder=builder, status=status, after=str(page[_PAGE - 1].id)) if len(page) > _PAGE else ""
    return Chosen(page[:_PAGE], builder, status, older, after == 0)


def list_address(**query: str) -> str:
    """Return the address of the list; empty values are left out."""
    pairs = {name: value for name, value in query.items() if value}
    return f"/?{urlencode(pairs)}" if pairs else "/"


def commit_of(build: Build) -> CommitKey | None:
    """Return host, project and hash of a build's commit; None if it names none."""
    commit = build.spec.gitiles_commit or {}
    key = (str(commit.get("host", "")), str(commit.get("project", "")), str(commit.get("id", "")))
    return key if all(key) else None


def row(build: Build, now: int, around: Surroundings, subjects: Mapping[CommitKey, str]) -> Row:
    """Return a build as a row of the list."""
    return Row(
        id=build.id,
        builder=str(build.spec.builder),
        status=build.status,
        color=COLORS[build.status],
        commit=_commit(build, around, subjects),
        created=moment(build.create_time, now),
        duration=_ran(build, now),
    )


def build_view(build: Build, now: int, around: Surroundings, subjects: Mapping[CommitKey, str]) -> BuildView:
    """Return a build as its page shows it."""
    spec, tags = build.spec, dict(build.spec.tags)
    job, invocation = tags.get("scheduler_job_id", ""), tags.get("scheduler_invocation_id", "")
    has_invocation = bool(around.console_url and job.count("/") == 1 and _ID.fullmatch(invocation))
    facts = {
        "Created by": "" if spec.created_by == ANONYMOUS else spec.created_by,
        "Number": "" if build.number is None else str(build.number),
        "Canceled by": build.canceled_by,
        "Experiments": ", ".join(spec.experiments),
    }
    return BuildView(
        row=row(build, now, around, subjects),
        notice=_NOTICES.get(build.status, ""),
        summary=list(_summary(build)),
        facts=[(name, value) for name, value in facts.items() if value],
        started=None if build.start_time is None else moment(build.start_time, now),
        ended=None if build.end_time is None else moment(build.end_time, now),
        is_canceling=build.cancel_time is not None and not build.ended,
        invocation=f"{job} {invocation}" if has_invocation else "",
        invocation_url=f"{around.console_url}{address('jobs', *job.split('/'), invocation)}" if has_invocation else "",
        properties=json.dumps(dict(spec.properties), indent=2, sort_keys=True, ensure_ascii=False),
        tags=[f"{key}:{value}" for key, value in spec.tags],
    )


def _ran(build: Build, now: int) -> str:
    if build.start_time is None:
        return ""
    return duration((now if build.end_time is None else build.end_time) - build.start_time)


def _commit(build: Build, around: Surroundings, subjects: Mapping[CommitKey, str]) -> CommitView | None:
    key = commit_of(build)
    if key is None:
        return None
    host, project, revision = key
    url = f"{around.gitiles_url}/{quote(host)}/{quote(project)}/+/{quote(revision)}" if around.gitiles_url else ""
    ref: Any = (build.spec.gitiles_commit or {}).get("ref", "")
    return CommitView(revision[:_SHORT], f"{host}/{project}", str(ref), subjects.get(key, ""), url)


def _summary(build: Build) -> Iterator[tuple[bool, str]]:
    """Yield the parts of the summary: paragraphs, and blocks of lines that are indented by four spaces."""
    lines = (line for line in summary_markdown(build).split("\n") if line.strip())
    for is_code, part in groupby(lines, lambda line: line.startswith(_CODE)):
        yield is_code, "\n".join(line.removeprefix(_CODE) if is_code else line for line in part)
