"""``luci-scheduler jobs``, ``job``, ``invocations`` and ``invocation``: inspect and act over the API."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from typing import Any

from luci_scheduler.adapters.system import SystemEntropy
from luci_scheduler.cli.session import CommandError, Exit, Session, invocation_ref, job_ref, plain, show_table
from luci_scheduler.core.instants import MICROSECOND, Instant, format_rfc3339

__all__ = ["add_commands", "add_request_id", "fresh_key", "moment"]

_SCHEDULER = "scheduler.Scheduler"
_RECENT = 10
_FOLLOW_SECONDS = 2.0
_FOLLOW_MISSES = 30  # in a row: about a minute without an answer
_JOB_HELP = "PROJECT/JOB, or the address of the job's page"
_INVOCATION_HELP = "PROJECT/JOB/NUMBER, or the address of the invocation's page"


def add_commands(nouns: Any) -> None:
    """Add this module's nouns to the parser."""
    _add_jobs(nouns)
    _add_job(nouns)
    _add_invocations(nouns)
    _add_invocation(nouns)


def _add_jobs(nouns: Any) -> None:
    parser = nouns.add_parser("jobs", help="list the jobs of a project, or of all projects")
    parser.add_argument(
        "project", nargs="?", default="", metavar="PROJECT", help="the project (default: all visible projects)"
    )
    parser.set_defaults(run=_jobs)


def _add_job(nouns: Any) -> None:
    verbs = nouns.add_parser("job", help="show, pause, resume, abort or trigger a job").add_subparsers(
        metavar="VERB", required=True
    )
    argument = ("job", _JOB_HELP)
    _add_verb(verbs, "show", "show a job's state and its latest invocations", argument, _job_show)
    pause = "pause a job: discard pending triggers, accept no more, let invocations end"
    _add_reason(_add_verb(verbs, "pause", pause, argument, _job_switch("PauseJob")), "job")
    resume = "resume a job, which then accepts triggers again"
    _add_reason(_add_verb(verbs, "resume", resume, argument, _job_switch("ResumeJob")), "job")
    abort = "abort all active invocations of a job"
    _add_reason(_add_verb(verbs, "abort", abort, argument, _job_abort), "invocations")
    verb = _add_verb(verbs, "trigger", "trigger a job now", argument, _job_trigger)
    add_request_id(verb)


def _add_invocations(nouns: Any) -> None:
    parser = nouns.add_parser("invocations", help="list a job's invocations, newest first")
    parser.add_argument("job", metavar="JOB", help=_JOB_HELP)
    parser.add_argument(
        "--limit", type=int, default=20, metavar="N", help="the largest number of invocations (default: %(default)s)"
    )
    parser.set_defaults(run=_invocations)


def _add_invocation(nouns: Any) -> None:
    verbs = nouns.add_parser("invocation", help="show, follow, abort or rerun an invocation").add_subparsers(
        metavar="VERB", required=True
    )
    argument = ("invocation", _INVOCATION_HELP)
    _add_verb(verbs, "show", "show an invocation", argument, _invocation_show)
    verb = _add_verb(verbs, "log", "write an invocation's debug log", argument, _invocation_log)
    verb.add_argument(
        "--follow",
        action="store_true",
        help="continue until the end, even through outages of a minute; then exit with 0 for success, otherwise 1",
    )
    verb = _add_verb(verbs, "abort", "abort an invocation", argument, _invocation_abort)
    _add_reason(verb, "invocation")
    verb = _add_verb(verbs, "rerun", "emit an invocation's triggers again", argument, _invocation_rerun)
    add_request_id(verb)


def _add_verb(
    verbs: Any, name: str, summary: str, argument: tuple[str, str], run: Callable[[argparse.Namespace], int]
) -> argparse.ArgumentParser:
    """Add a verb with one argument, given as a pair of name and help."""
    parser: argparse.ArgumentParser = verbs.add_parser(name, help=summary)
    parser.add_argument(argument[0], metavar=argument[0].upper(), help=argument[1])
    parser.set_defaults(run=run)
    return parser


def _add_reason(parser: argparse.ArgumentParser, shown_with: str) -> None:
    parser.add_argument("--reason", default="", help=f"the reason, shown with the {shown_with}")


def add_request_id(parser: argparse.ArgumentParser) -> None:
    """Add the option for the idempotency key of an action."""
    parser.add_argument(
        "--request-id",
        default="",
        metavar="KEY",
        help="idempotency key; a repeated key has no second effect (default: a new key)",
    )


def fresh_key() -> str:
    """Return an idempotency key that no request had before."""
    return f"cli-{SystemEntropy().nonce():016x}"


def moment(microseconds: Any) -> str:
    """Format an instant of the API for people; a hyphen if there is none."""
    value = int(microseconds or 0)
    return format_rfc3339(Instant(value * MICROSECOND)) if value else "-"


def _jobs(options: argparse.Namespace) -> int:
    session: Session = options.session(options)
    jobs = session.call("GetJobs", {"project": options.project}, _SCHEDULER).get("jobs", [])
    rows = [
        [_name(job["jobRef"]), _state(job), "yes" if job.get("paused") else "no", job.get("schedule", "")]
        for job in jobs
    ]
    if options.project and not jobs:
        session.progress(plain(f"no job in the project {options.project}, or no permission to see its jobs"))
    session.show({"jobs": jobs}, show_table(["JOB", "STATE", "PAUSED", "SCHEDULE"], rows))
    return Exit.DONE


def _job_show(options: argparse.Namespace) -> int:
    session: Session = options.session(options)
    ref = job_ref(options.job, session.url)
    details = session.call("GetJob", ref)
    job = details["job"]
    page = session.call("GetInvocations", {"jobRef": ref, "pageSize": _RECENT}, _SCHEDULER)
    invocations = page.get("invocations", [])
    lines = [
        f"job       {_name(ref)}",
        f"state     {_state(job)}",
        f"paused    {_pause(details) or 'no'}",
        f"schedule  {job.get('schedule', '')}",
        "",
        _invocation_table(invocations),
    ]
    session.show({**details, "invocations": invocations}, "\n".join(lines))
    return Exit.DONE


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
    session.call("AbortJob", {"jobRef": job_ref(options.job, session.url), "reason": options.reason})
    session.show({}, "done")
    return Exit.DONE


def _job_trigger(options: argparse.Namespace) -> int:
    session: Session = options.session(options)
    request = {"jobRef": job_ref(options.job, session.url), "requestId": options.request_id or fresh_key()}
    _show_triggers(session, session.act("TriggerJob", request))
    return Exit.DONE


def _invocations(options: argparse.Namespace) -> int:
    session: Session = options.session(options)
    if options.limit < 1:
        raise CommandError("--limit must be at least 1", Exit.WRONG_USAGE)
    found: list[dict[str, Any]] = []
    cursor = ""
    while len(found) < options.limit:
        request = {
            "jobRef": job_ref(options.job, session.url),
            "cursor": cursor,
            "pageSize": min(50, options.limit - len(found)),
        }
        page = session.call("GetInvocations", request, _SCHEDULER)
        found += page.get("invocations", [])
        cursor = page.get("nextCursor", "")
        if not cursor:
            break
    session.show({"invocations": found, "nextCursor": cursor}, _invocation_table(found))
    return Exit.DONE


def _invocation_show(options: argparse.Namespace) -> int:
    session: Session = options.session(options)
    found = session.call("GetInvocation", invocation_ref(options.invocation, session.url), _SCHEDULER)
    ref = found["invocationRef"]
    lines = [
        f"invocation  {_name(ref['jobRef'])}/{ref['invocationId']}",
        f"status      {found.get('status', '')}",
        f"started     {moment(found.get('startedTs'))}",
        f"finished    {moment(found.get('finishedTs'))}",
        f"started by  {found.get('triggeredBy', '') or '-'}",
        f"config      {found.get('configRevision', '')}",
        f"build       {found.get('viewUrl', '') or '-'}",
    ]
    session.show(found, "\n".join(lines))
    return Exit.DONE


def _invocation_log(options: argparse.Namespace) -> int:
    session: Session = options.session(options)
    ref = invocation_ref(options.invocation, session.url)
    misses = _FOLLOW_MISSES if options.follow else 0
    reply = _get_log(session, ref, misses)
    if options.json and not options.follow:
        session.show(reply, "")
        return Exit.DONE
    written = ""
    while True:
        log = str(reply.get("debugLog", ""))
        session.write(_new_part(written, log))
        written = log
        if not options.follow:
            return Exit.DONE
        if reply["invocation"].get("final"):
            return Exit.DONE if reply["invocation"].get("status") == "SUCCEEDED" else Exit.FAILED
        session.pause(_FOLLOW_SECONDS)
        reply = _get_log(session, ref, misses)


def _get_log(session: Session, ref: Mapping[str, Any], misses: int) -> dict[str, Any]:
    """Return a log, retrying this many times while the console does not answer."""
    for _ in range(misses):
        try:
            return session.call("GetInvocationLog", ref)
        except CommandError as error:
            if error.code != Exit.UNAVAILABLE:
                raise
        session.pause(_FOLLOW_SECONDS)
    return session.call("GetInvocationLog", ref)


def _new_part(before: str, now: str) -> str:
    """Return the part of a log that is not written yet.

    A huge log has lost its middle; then everything after the last written line is new.
    """
    if now.startswith(before):
        return now[len(before) :]
    last = before.rstrip("\n").rpartition("\n")[2]
    _, found, rest = now.rpartition(f"{last}\n")
    return rest if found else now


def _invocation_abort(options: argparse.Namespace) -> int:
    session: Session = options.session(options)
    session.call(
        "AbortInvocation", {"invocationRef": invocation_ref(options.invocation, session.url), "reason": options.reason}
    )
    session.show({}, "done")
    return Exit.DONE


def _invocation_rerun(options: argparse.Namespace) -> int:
    session: Session = options.session(options)
    ref, key = invocation_ref(options.invocation, session.url), options.request_id or fresh_key()
    _show_triggers(session, session.act("RerunInvocation", {"invocationRef": ref, "requestId": key}))
    return Exit.DONE


def _show_triggers(session: Session, reply: Mapping[str, Any]) -> None:
    session.show(
        reply, "\n".join(f"emitted {name}" for name in reply.get("triggerIds", [])) or "no triggers were emitted"
    )


def _name(ref: Mapping[str, str]) -> str:
    return f"{ref.get('project', '')}/{ref.get('job', '')}"


def _state(job: Mapping[str, Any]) -> str:
    return str(job.get("state", {}).get("uiStatus", ""))


def _invocation_table(invocations: list[dict[str, Any]]) -> str:
    rows = [
        [
            str(item["invocationRef"]["invocationId"]),
            item.get("status", ""),
            moment(item.get("startedTs")),
            moment(item.get("finishedTs")),
            item.get("triggeredBy", "") or "-",
        ]
        for item in invocations
    ]
    return show_table(["INVOCATION", "STATUS", "STARTED", "FINISHED", "STARTED BY"], rows)
