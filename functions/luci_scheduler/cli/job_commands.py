"""``luci-scheduler jobs`` and ``job``: inspect jobs and act on them over the API."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Callable, Mapping
from typing import Any

from luci_scheduler.adapters.system import SystemEntropy
from luci_scheduler.cli.documents import document, fact_lines, history_table, job_name, jobs_table, moment, page_of
from luci_scheduler.cli.errors import CommandError, Exit
from luci_scheduler.cli.follow import Request, add_follow, report
from luci_scheduler.cli.names import missing_project
from luci_scheduler.cli.session import Session, job_ref
from luci_scheduler.cli.tables import plain

__all__ = [
    "JOB_HELP",
    "add_commands",
    "add_paging",
    "add_reason",
    "add_request_id",
    "add_verb",
    "fresh_key",
    "full_ref",
    "hint_at_more",
    "pages",
]

_FILTERS = ("failing", "running", "scheduled", "waiting", "paused")
_PAGE = 50  # entries of one call
_MAX_LISTED = 20  # names in one line of a job's facts
JOB_HELP = "PROJECT/JOB, or the address of the job's page"
"""The help of an argument that names a job."""


def add_commands(nouns: Any) -> None:
    """Add this module's nouns to the parser."""
    parser = nouns.add_parser(
        "jobs", help="list the jobs of a project, or of all projects, with their latest results: failing jobs first"
    )
    parser.add_argument(
        "project", nargs="?", default="", metavar="PROJECT", help="the project (default: all visible projects)"
    )
    parser.add_argument("--filter", choices=_FILTERS, default="", help="list only these jobs")
    add_paging(parser, "jobs", 50)
    parser.set_defaults(run=_jobs)
    _add_job(nouns)


def _add_job(nouns: Any) -> None:
    verbs = nouns.add_parser("job", help="show, pause, resume, abort or trigger a job").add_subparsers(
        metavar="VERB", required=True
    )
    argument = ("job", JOB_HELP)
    show = "show a job: its task, its triggers, its pending triggers, its next run and its latest invocations"
    add_verb(verbs, "show", show, argument, _job_show)
    pause = "pause a job: discard pending triggers, accept no more, let invocations end"
    add_reason(add_verb(verbs, "pause", pause, argument, _job_switch("PauseJob")), "job")
    resume = "resume a job, which then accepts triggers again"
    add_reason(add_verb(verbs, "resume", resume, argument, _job_switch("ResumeJob")), "job")
    abort = "abort all active invocations of a job, and cancel their builds"
    add_reason(add_verb(verbs, "abort", abort, argument, _job_abort), "invocations")
    verb = add_verb(verbs, "trigger", "trigger a job now, perhaps for a commit", argument, _job_trigger)
    verb.add_argument("--revision", default="", help="a commit: a hash or its first digits, a branch, a tag, HEAD~2")
    verb.add_argument(
        "--repo", default="", metavar="URL", help="with --revision: the repository (default: that of the job's config)"
    )
    verb.add_argument(
        "--ref", default="", help="with --revision: the ref, such as main (default: that of the job's config)"
    )
    add_request_id(verb)
    add_follow(verb, "write the log of the invocation until its end; the exit code is that of its result")


def add_verb(
    verbs: Any, name: str, summary: str, argument: tuple[str, str], run: Callable[[argparse.Namespace], int]
) -> argparse.ArgumentParser:
    """Add a verb with one argument, given as a pair of name and help."""
    parser: argparse.ArgumentParser = verbs.add_parser(name, help=summary)
    parser.add_argument(argument[0], metavar=argument[0].upper(), help=argument[1])
    parser.set_defaults(run=run)
    return parser


def add_reason(parser: argparse.ArgumentParser, shown_with: str) -> None:
    """Add the option for the reason of an action."""
    parser.add_argument("--reason", default="", help=f"the reason, shown with the {shown_with}")


def add_request_id(parser: argparse.ArgumentParser) -> None:
    """Add the option for the idempotency key of an action."""
    parser.add_argument(
        "--request-id",
        default="",
        metavar="KEY",
        help="idempotency key; a repeated key has no second effect (default: a new key)",
    )


def number(text: str) -> int:
    """Return a whole number of an option.

    Raises:
        ArgumentTypeError: the text is none.
    """
    try:
        return int(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number") from error


def add_paging(parser: argparse.ArgumentParser, things: str, default: int) -> None:
    """Add the options of a long list."""
    parser.add_argument(
        "--limit",
        type=number,
        default=default,
        metavar="N",
        help=f"the largest number of {things} (default: %(default)s)",
    )
    parser.add_argument("--all", action="store_true", help=f"list all {things}")
    parser.add_argument(
        "--cursor", default="", help="continue a list: the cursor that the previous list ended with (nextCursor)"
    )


def pages(
    session: Session, options: argparse.Namespace, method: str, request: Mapping[str, Any], member: str
) -> tuple[list[dict[str, Any]], str]:
    """Return the entries of a list, up to the limit of the options, and the cursor of the rest; empty at the end."""
    if options.limit < 1:
        raise CommandError("--limit must be at least 1", Exit.WRONG_USAGE)
    found, cursor = list[dict[str, Any]](), options.cursor
    while options.all or len(found) < options.limit:
        size = _PAGE if options.all else min(_PAGE, options.limit - len(found))
        page = session.call(method, {**request, "cursor": cursor, "pageSize": size})
        found += page.get(member, [])
        cursor = page.get("nextCursor", "")
        if not cursor:
            break
    return found, cursor


def hint_at_more(session: Session, cursor: str) -> None:
    """Say how a list continues, if it does."""
    if cursor:
        session.progress(f"there are more: continue with --cursor {shlex.quote(cursor)}, or list them with --all")


def fresh_key() -> str:
    """Return an idempotency key that no request had before."""
    return f"cli-{SystemEntropy().nonce():016x}"


def full_ref(text: str) -> str:
    """Return the full name of a ref; a short name is that of a branch."""
    return text if not text or text.startswith("refs/") else f"refs/heads/{text}"


def _jobs(options: argparse.Namespace) -> int:
    session: Session = options.session(options)
    if not options.project:
        return _all_jobs(session, options)
    jobs, cursor = _jobs_of(session, options, options.project)
    if not jobs and not options.cursor and not options.filter:
        raise missing_project(session, options.project)
    _show_jobs(session, jobs, cursor)
    hint_at_more(session, cursor)
    return Exit.DONE


def _all_jobs(session: Session, options: argparse.Namespace) -> int:
    """List jobs of each project, the failed ones first."""
    if options.cursor:
        raise CommandError("--cursor continues the list of one project: name the PROJECT", Exit.WRONG_USAGE)
    jobs, more = list[dict[str, Any]](), list[str]()
    for project in session.call("GetNames", {}).get("names", []):
        found, cursor = _jobs_of(session, options, project)
        jobs += found
        more += [project] if cursor else []
    _show_jobs(session, sorted(jobs, key=lambda item: not _has_failed(item)))
    if more:
        session.progress(f"there are more in {', '.join(more)}: name the PROJECT, or list them with --all")
    return Exit.DONE


def _jobs_of(session: Session, options: argparse.Namespace, project: str) -> tuple[list[dict[str, Any]], str]:
    return pages(session, options, "ListJobs", {"project": project, "filter": options.filter}, "jobs")


def _show_jobs(session: Session, jobs: list[dict[str, Any]], cursor: str = "") -> None:
    session.show({"jobs": document(jobs), "nextCursor": cursor}, jobs_table(session, jobs))


def _has_failed(item: Mapping[str, Any]) -> bool:
    return bool(item.get("latest", {}).get("invocation", {}).get("status") == "FAILED")


def _job_show(options: argparse.Namespace) -> int:
    session: Session = options.session(options)
    found = session.call("DescribeJob", job_ref(options.job, session.url))
    job, name = found["job"], job_name(found["job"]["jobRef"])
    facts = {
        "job": name,
        "state": _state(job),
        "paused": _pause(found) or "no",
        "schedule": job.get("schedule", ""),
        "task": _task(found.get("definition", {}).get("task", {})),
        "policy": _policy(found.get("definition", {}).get("policy", {})),
        "triggered by": _names(found.get("triggeredBy", [])),
        "triggers": _names(found.get("triggers", [])),
        "next run": _next_run(found),
        "last poll": _last_poll(found),
        "pending": _pending(found),
        "page": page_of(session.url, name),
    }
    lines = [*fact_lines(facts), "", history_table(session, found.get("invocations", []))]
    session.show({**document(found), "url": page_of(session.url, name)}, "\n".join(lines))
    return Exit.DONE


def _task(task: Mapping[str, Any]) -> str:
    """Return a task in one line: its kind and its fields."""
    fields = {name: value for name, value in task.items() if name != "kind"}
    return f"{task.get('kind', '')} {_fields(fields)}".rstrip()


def _fields(message: Mapping[str, Any]) -> str:
    return " ".join(f"{name}={_value(value)}" for name, value in sorted(message.items()) if value not in ("", []))


def _value(value: Any) -> str:
    """Return a value of a field; numbers of a Struct are floating-point numbers."""
    if isinstance(value, Mapping):
        return f"{{{_fields(value)}}}"
    if isinstance(value, list):
        shown = ",".join(map(_value, value[:_MAX_LISTED]))
        return f"{shown},… ({len(value)})" if len(value) > _MAX_LISTED else shown
    text = f"{value:g}" if isinstance(value, float) else str(value)
    return shlex.quote(text) if text else "''"


def _policy(policy: Mapping[str, Any]) -> str:
    if not policy:
        return ""
    most, batch = int(policy.get("max_concurrent_invocations", 0)), int(policy.get("max_batch_size", 0))
    return (
        f"{policy.get('kind', '')}: at most {most} at a time, up to {batch} trigger{'' if batch == 1 else 's'} in each"
    )


def _names(refs: list[Mapping[str, str]]) -> str:
    names = [job_name(ref) for ref in refs]
    more = f" and {len(names) - _MAX_LISTED} more" if len(names) > _MAX_LISTED else ""
    return ", ".join(names[:_MAX_LISTED]) + more


def _next_run(found: Mapping[str, Any]) -> str:
    if found.get("nextRunTs"):
        return moment(found["nextRunTs"])
    return "none while it is paused" if found["job"].get("paused") else "with the next trigger"


def _last_poll(found: Mapping[str, Any]) -> str:
    if not found.get("lastPollTs"):
        return ""
    failed, refs = int(found.get("failedPolls", 0)), int(found.get("knownRefs", 0))
    result = (
        f"{failed} failed in a row: the log has the reason" if failed else f"{refs} known ref{'' if refs == 1 else 's'}"
    )
    return f"{moment(found['lastPollTs'])}, {result}"


def _pending(found: Mapping[str, Any]) -> str:
    """Return the number of pending triggers and the oldest ones, one in each line."""
    pending = found.get("pending", [])
    count = f"more than {len(pending)}" if found.get("hasMorePending") else str(len(pending))
    lines = [f"{item.get('title') or item['id']}, since {moment(item.get('createdTs'))}" for item in pending]
    return "\n".join([count, *lines])


def _pause(details: Mapping[str, Any]) -> str:
    """Return who paused a job, since when and why; empty if it is not paused."""
    if not details["job"].get("paused"):
        return ""
    change = details.get("change", {})
    who = change.get("who", "").removeprefix("user:") or "unknown"
    return plain(f"by {who} since {moment(change.get('whenTs'))}: {change.get('reason') or 'no reason was given'}")


def _job_switch(method: str) -> Callable[[argparse.Namespace], int]:
    def run(options: argparse.Namespace) -> int:
        session: Session = options.session(options)
        ref = job_ref(options.job, session.url)
        changed = bool(session.call(method, {"jobRef": ref, "reason": options.reason}).get("changed"))
        session.show({"changed": changed}, "done" if changed else _unchanged(session, ref))
        return Exit.DONE

    return run


def _unchanged(session: Session, ref: Mapping[str, str]) -> str:
    pause = _pause(session.call("GetJob", ref))
    return f"already paused {pause}" if pause else "not paused"


def _job_abort(options: argparse.Namespace) -> int:
    session: Session = options.session(options)
    ref = job_ref(options.job, session.url)
    reply = session.call("AbortJob", {"jobRef": ref, "reason": options.reason})
    aborted = [f"abort requested: {job_name(ref)}/{number}" for number in reply.get("invocationIds", [])]
    text = "\n".join(aborted) or f"nothing to abort: {job_name(ref)} has no active invocation"
    session.show({"invocationIds": [], **reply}, text)
    return Exit.DONE


def _job_trigger(options: argparse.Namespace) -> int:
    session: Session = options.session(options)
    ref = job_ref(options.job, session.url)
    wanted = {"repo": options.repo, "ref": full_ref(options.ref), "revision": options.revision}
    if (options.repo or options.ref) and not options.revision:
        raise CommandError("--repo and --ref belong to --revision: pass it also", Exit.WRONG_USAGE)
    reply = session.act("TriggerJob", {"jobRef": ref, "requestId": options.request_id or fresh_key(), **wanted})
    request = Request([(ref, name) for name in reply.get("triggerIds", [])])
    return report(session, options, request, reply)


def _state(job: Mapping[str, Any]) -> str:
    return str(job.get("state", {}).get("uiStatus", ""))
