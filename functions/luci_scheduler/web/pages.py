"""The pages: what each reads, and what it shows. A page costs a bounded number of reads, however long the history is.

=====================  ========================================================================================
page                   reads
=====================  ========================================================================================
projects               one for each project and each of its jobs
project                one for the project (twice) and each job, up to 8 for each of the 50 jobs that are shown
job                    its record, triage log and poller; up to 51 invocations and 51 pending triggers; active ones
invocation             the job, for the permission; the invocation
commit                 see ``api.explain``
backfill               see ``api.backfill``
=====================  ========================================================================================
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import Any

from luci_scheduler.api.access import Permission
from luci_scheduler.api.backfill import Backfill, backfill_commits
from luci_scheduler.api.context import Context
from luci_scheduler.api.errors import ApiError, Code
from luci_scheduler.api.explain import explain_commit
from luci_scheduler.api.service import get_invocations, get_job, get_jobs, state_of, visible_targets
from luci_scheduler.core.identifiers import InvocationId, JobId, project_of, split_job_id
from luci_scheduler.core.instants import format_rfc3339
from luci_scheduler.core.invocation import Invocation
from luci_scheduler.core.job import Flavor, Job
from luci_scheduler.core.public_state import JobState
from luci_scheduler.managers.registry import kind_of
from luci_scheduler.web.charts import duration_chart
from luci_scheduler.web.job_views import (
    job_order,
    job_view,
    policy_text,
    poller_view,
    result_view,
    row_json,
    triage_view,
)
from luci_scheduler.web.page_request import Answer, PageError, PageRequest, address
from luci_scheduler.web.presentation import (
    definition_text,
    facts_of,
    invocation_json,
    invocation_view,
    job_json,
    safe_url,
    shown,
    trigger_view,
)
from luci_scheduler.web.timeline import EventKind, count, events, marks

__all__ = [
    "NO_SUCH_INVOCATION",
    "NO_SUCH_JOB",
    "backfill",
    "commit",
    "invocation",
    "job",
    "project",
    "project_address",
    "projects",
]

NO_SUCH_JOB = "No such job or no permission to view it."
NO_SUCH_INVOCATION = "The requested invocation is not found."

_FILTERS = {
    "running": (JobState.RUNNING,),
    "scheduled": (JobState.SCHEDULED,),
    "waiting": (JobState.WAITING, JobState.DISABLED),
    "paused": (JobState.PAUSED,),
}
_JOBS_ON_PAGE = 50
_TREND = 8
_PENDING_ON_PAGE = 50
_MAX_INVOCATION_ID = (1 << 63) - 1


def projects(page_request: PageRequest) -> Answer:
    """Return the page of all projects that the caller sees a job of."""
    counts: dict[str, Counter[str]] = {}
    for item in get_jobs(page_request.context):
        state = state_of(item)
        names = [name for name, states in _FILTERS.items() if state in states]
        counts.setdefault(project_of(item.id), Counter()).update([*names, "all"])
    rows = [
        {
            "name": name,
            "address": address("jobs", name),
            "jobs": counts[name]["all"],
            "cells": [
                (label, counts[name][label], _jobs_in_words(counts[name][label]), address("jobs", name, filter=label))
                for label in _FILTERS
            ],
        }
        for name in sorted(counts)
    ]
    document = {"projects": [{"project": name, **dict(counts[name])} for name in sorted(counts)]}
    return page_request.page("projects.html", document, rows=rows)


def _jobs_in_words(number: int) -> str:
    return {0: "NONE", 1: "1 JOB"}.get(number, f"{number} JOBS")


def project(page_request: PageRequest, name: str) -> Answer:
    """Return the page of a project: its jobs, those of one state where the address asks for it."""
    context, now = page_request.context, page_request.context.runtime.clock.now()
    visible = sorted(get_jobs(context, name), key=job_order)
    record = context.runtime.store.project(name) if visible else None
    if record is None:
        raise PageError(404, "No such project or no permission to view any of its jobs.")
    asked, done_to = page_request.query.get("filter", ""), page_request.query.get("job", "")
    wanted = asked if asked in _FILTERS else ""
    chosen = [item for item in visible if not wanted or state_of(item) in _FILTERS[wanted]]
    start = _number(page_request.query.get("from", ""))
    part = chosen[start : start + _JOBS_ON_PAGE]
    trends = _trends(context, part)
    rows = []
    for item, trend in zip(part, trends, strict=True):
        rows.append((job_view(context, item, now), [result_view(one, now) for one in trend]))
    # They quote the config, jobs that are hidden from some included.
    told = context.sees_all(name)
    document = {
        "project": name,
        "revision": record.value.revision,
        "has_problems": bool(record.value.problems),
        "problems": list(record.value.problems) if told else [],
        "warnings": list(record.value.warnings) if told else [],
        "warning_count": record.value.warning_count,
        "jobs": [row_json(view, results) for view, results in rows],
    }
    return page_request.page(
        "project.html",
        document,
        name=name,
        record=record.value,
        told=told,
        revision_url=safe_url(record.value.revision_url),
        rows=rows,
        total=len(chosen),
        wanted=wanted,
        filters=[(label, address("jobs", name, filter=label)) for label in _FILTERS],
        all_address=address("jobs", name),
        newer=project_address(name, wanted, max(0, start - _JOBS_ON_PAGE)) if start else "",
        older=project_address(name, wanted, start + _JOBS_ON_PAGE) if start + _JOBS_ON_PAGE < len(chosen) else "",
        may_act=any(view.may_act_in_row for view, _ in rows),
        back={"page": "project", "filter": wanted, "from": start},
        done_to=next((done_to for item in visible if split_job_id(item.id)[1] == done_to), ""),
    )


def project_address(name: str, wanted: str, start: int | str, **more: str) -> str:
    """Return the address of a part of a project's page; a filter or a start that there is not is left out."""
    number = _number(str(start))
    query = {"filter": wanted if wanted in _FILTERS else "", "from": str(number) if number else ""}
    return address("jobs", name, **query, **more)


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 7 else 0  # noqa: PLR2004 - more jobs than any project has


def _trends(context: Context, jobs: Sequence[Job]) -> list[list[Invocation]]:
    """Return the latest invocations of each job, newest first, read side by side."""

    def latest(item: Job) -> list[Invocation]:
        return list(context.runtime.store.invocations(item.id, _TREND))

    if not jobs:
        return []
    with ThreadPoolExecutor(context.runtime.limits.concurrency, thread_name_prefix="trend") as pool:
        futures = [pool.submit(copy_context().run, latest, item) for item in jobs]  # within the request's budget
        return [future.result() for future in futures]


def job(page_request: PageRequest, job_id: JobId) -> Answer:
    """Return the page of a job; ``c`` in the address is the cursor of a later part of its history."""
    context, cursor = page_request.context, page_request.query.get("c", "")
    store, now = context.runtime.store, context.runtime.clock.now()
    record = _visible(context, job_id)
    try:
        history = get_invocations(context, job_id, cursor)
    except ApiError as error:
        if error.code is Code.INTERNAL:  # the API's answer to a bad cursor; here it is a bad address
            raise PageError(400, "Malformed cursor.") from error
        raise
    listed = {item.id for item in history.invocations}
    missing = [(job_id, item) for item in record.active_invocations if item not in listed and not cursor]
    unlisted = store.invocations_by_id(missing) if missing else ()
    active = [*unlisted, *(item for item in history.invocations if not item.status.is_final)]
    past = [item for item in history.invocations if item.status.is_final]
    document = {**job_json(record, history.invocations), "next_cursor": history.next_cursor or None}
    first = {} if cursor else _first_page(context, record, history.invocations, document)
    project_name, name = split_job_id(job_id)
    return page_request.page(
        "job.html",
        document,
        job=job_view(context, record, now),
        revision_url=safe_url(record.definition.revision_url),
        first=first,
        active=[invocation_view(item, "", now) for item in sorted(active, key=lambda item: item.id)],
        past=[invocation_view(item, "", now) for item in past],
        chart=duration_chart(history.invocations, now),
        backfill_address=_backfill_address(record, history.invocations),
        older=address("jobs", project_name, name, c=history.next_cursor) if history.next_cursor else "",
        newest=address("jobs", project_name, name) if cursor else "",
    )


def _first_page(
    context: Context, record: Job, listed: Sequence[Invocation], document: dict[str, Any]
) -> dict[str, Any]:
    """Return what the first page of a job's history shows besides it; the JSON twin's share of it is added to ``document``."""
    store, now = context.runtime.store, context.runtime.clock.now()
    waiting = [item.value.trigger for item in store.pending_triggers(record.id, _PENDING_ON_PAGE + 1)]
    document["pending_triggers"] = [item.public() for item in waiting[:_PENDING_ON_PAGE]]
    triage = triage_view(record, store.triage_log(record.id), waiting[:_PENDING_ON_PAGE], now)
    document["last_triage"] = {
        "at": triage.at or None,
        "stale": bool(triage.changes),
        "changes": list(triage.changes),
        "log": triage.log,
    }
    first: dict[str, Any] = {
        "definition": definition_text(record.definition.task),
        "policy": policy_text(record.definition.policy),
        "triggers": visible_targets(context, record),
        "triage": triage,
        "pending": [trigger_view(item, now) for item in waiting[:_PENDING_ON_PAGE]],
        "more_pending": len(waiting) > _PENDING_ON_PAGE,
    }
    polled = kind_of(record.definition.task).polled_repo(record.definition.task)
    if polled is not None:
        poller = store.poller(record.id)
        view = poller_view(record, polled.url, poller.value if poller else None, listed[0] if listed else None, now)
        document["poller"] = {"repo": view.repo, "known": dict(poller.value.known) if poller else {}}
        first["poller"] = view
    return first


def _visible(context: Context, job_id: JobId) -> Job:
    try:
        return get_job(context, job_id)
    except ApiError as error:
        raise PageError(404, NO_SUCH_JOB) from error


def _backfill_address(record: Job, invocations: Sequence[Invocation]) -> str:
    """Return where a backfill of the job begins, the form filled in from its latest commit; empty for a job that polls."""
    if record.definition.flavor is Flavor.TRIGGER:
        return ""
    project_name, name = split_job_id(record.id)
    for item in invocations:
        for trigger in item.incoming_triggers:
            if trigger.is_commit:
                repo, ref = str(trigger.payload.get("repo", "")), str(trigger.payload.get("ref", ""))
                return address("backfill", project_name, name, repo=repo, ref=ref)
    return address("backfill", project_name, name)


def invocation(page_request: PageRequest, job_id: JobId, text: str) -> Answer:
    """Return the page of an invocation."""
    if not (text.isascii() and text.isdigit() and len(text) < 20 and 0 < int(text) <= _MAX_INVOCATION_ID):  # noqa: PLR2004
        raise PageError(400, "Malformed invocation ID.")
    context, now = page_request.context, page_request.context.runtime.clock.now()
    record = _visible(context, job_id)
    read = context.runtime.store.invocation_with_log(job_id, InvocationId(int(text)))
    if read is None:
        raise PageError(404, NO_SUCH_INVOCATION)
    found, log = read[0].value, read[1]
    happened = events(found, log)
    cost = [
        ("Commits", found.commits),
        ("Saves", found.mutations),
        ("Launch attempts", found.attempts),
        ("Status checks", count(happened, EventKind.CHECK)),
        ("Notifications", count(happened, EventKind.NOTIFICATION)),
        ("Bytes of log", len(log.encode())),
    ]
    document = {
        **invocation_json(found, log),
        "timeline": [[event.kind, format_rfc3339(event.at)] for event in happened],
    }
    document["cost"] = {name.lower().replace(" ", "_"): number for name, number in cost}
    return page_request.page(
        "invocation.html",
        document,
        view=invocation_view(found, log, now),
        marks=marks(happened, now),
        cost=cost,
        facts=facts_of(found),
        paused=record.paused,
        may_abort=context.may(Permission.ABORT, record),
        may_trigger=context.may(Permission.TRIGGER, record),
    )


def commit(page_request: PageRequest) -> Answer:
    """Return what became of a commit in each job that watches it; without a commit, the form that asks for one."""
    repo, revision, ref = (page_request.query.get(name, "").strip() for name in ("repo", "revision", "ref"))
    problem, found = "", []
    if repo or revision:
        try:
            found = explain_commit(page_request.context, repo, revision.lower(), ref)
        except ApiError as error:
            problem = error.message
    rows = [
        {
            "job_id": item.job_id,
            "job_address": address("jobs", *split_job_id(item.job_id)),
            "reason": str(item.reason),
            "words": str(item.reason).replace("_", " ").capitalize(),
            "sentence": item.sentence,
            "origin": str(item.origin),
            "ref": item.ref,
            "status": item.status,
            "invocation_id": str(item.invocation_id) if item.invocation_id else "",
            "invocation_address": address("jobs", *split_job_id(item.job_id), str(item.invocation_id))
            if item.invocation_id and item.status
            else "",
            "waiting_for": [
                (str(one), address("jobs", *split_job_id(item.job_id), str(one))) for one in item.waiting_for
            ],
        }
        for item in found
    ]
    names = ("job_id", "reason", "sentence", "origin", "ref", "status", "invocation_id")
    document: dict[str, Any] = {"repo": repo, "revision": revision, "ref": ref}
    document |= {"error": problem} if problem else {"jobs": [{name: row[name] for name in names} for row in rows]}
    asked = bool(repo or revision)
    code = 400 if problem else 200
    url = safe_url(f"{repo.removesuffix('/')}/+/{revision}") if asked and not problem else ""
    return page_request.page(
        "commit.html",
        document,
        code,
        rows=rows,
        problem=problem,
        asked=asked,
        url=url,
        repo=repo,
        revision=revision,
        ref=ref,
    )


def backfill(page_request: PageRequest, job_id: JobId) -> Answer:
    """Return the form of a backfill and, where all of it is given, what it would bring."""
    context = page_request.context
    record = _visible(context, job_id)
    if not context.may(Permission.TRIGGER, record):
        raise PageError(403, "No permission to execute the attempted action.")
    values = {name: page_request.query.get(name, "").strip() for name in ("repo", "ref", "from", "to")}
    problem, plan = "", None
    if values["from"] or values["to"]:
        wanted = Backfill((job_id,), values["repo"], values["ref"], values["from"].lower(), values["to"].lower())
        try:
            plan = backfill_commits(context, wanted, preview=True)
        except ApiError as error:
            problem = error.message
    rows = [(item.id, shown(item.committed)) for item in plan.commits] if plan else []
    document: dict[str, Any] = {"job_id": job_id, **values}
    document |= {"error": problem} if problem else {"commits": [revision for revision, _ in rows]}
    return page_request.page(
        "backfill.html",
        document,
        400 if problem else 200,
        job=job_view(context, record, context.runtime.clock.now()),
        values=values,
        problem=problem,
        plan=plan,
        note=plan.notes.get(job_id, "") if plan else "",
        rows=rows,
    )
