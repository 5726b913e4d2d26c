"""``luci-scheduler invocations``, ``invocation`` and ``logs``: the history of a job, and one invocation."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from luci_scheduler.cli.documents import (
    cause_text,
    document,
    fact_lines,
    history_table,
    invocation_name,
    job_name,
    moment,
    page_of,
    took,
)
from luci_scheduler.cli.errors import CommandError, Exit
from luci_scheduler.cli.follow import Request, add_follow, follow_log, report
from luci_scheduler.cli.job_commands import (
    JOB_HELP,
    add_paging,
    add_reason,
    add_request_id,
    add_verb,
    fresh_key,
    hint_at_more,
    pages,
)
from luci_scheduler.cli.session import Session, invocation_ref, job_ref
from luci_scheduler.cli.tables import plain

__all__ = ["add_commands"]

_INVOCATION_HELP = "PROJECT/JOB/NUMBER, or the address of the invocation's page"
_TARGET_HELP = "an invocation, or a job for its latest invocation; the address of a page also works"
_RESULTS = ("failed", "succeeded", "aborted", "running", "retrying", "starting")
_FOLLOW_LOG = "write the log until the invocation's end; the exit code is that of its result"
_FOLLOW_RERUN = "write the log of the new invocation until its end; the exit code is that of its result"


def add_commands(nouns: Any) -> None:
    """Add this module's nouns to the parser."""
    _add_invocations(nouns)
    _add_invocation(nouns)
    parser = nouns.add_parser("logs", help="write the log of an invocation, or of a job's latest invocation")
    parser.add_argument("target", metavar="JOB_OR_INVOCATION", help=_TARGET_HELP)
    add_follow(parser, _FOLLOW_LOG)
    parser.set_defaults(run=_logs)


def _add_invocations(nouns: Any) -> None:
    parser = nouns.add_parser(
        "invocations", help="list a job's invocations with commit, cause and result, newest first"
    )
    parser.add_argument("job", metavar="JOB", help=JOB_HELP)
    parser.add_argument("--result", choices=_RESULTS, help="list only invocations with this result")
    add_paging(parser, "invocations", 20)
    parser.set_defaults(run=_invocations)


def _add_invocation(nouns: Any) -> None:
    verbs = nouns.add_parser("invocation", help="show, follow, abort or rerun an invocation").add_subparsers(
        metavar="VERB", required=True
    )
    argument = ("invocation", _INVOCATION_HELP)
    show = "show an invocation: its result and the reason, its commit, cause and triggers"
    add_verb(verbs, "show", show, argument, _invocation_show)
    verb = add_verb(verbs, "log", "write an invocation's debug log", argument, _invocation_log)
    add_follow(verb, _FOLLOW_LOG)
    verb = add_verb(verbs, "abort", "abort an invocation, and cancel its build", argument, _invocation_abort)
    add_reason(verb, "invocation")
    verb = add_verb(
        verbs, "rerun", "emit an invocation's triggers again; a running build goes on", argument, _invocation_rerun
    )
    add_request_id(verb)
    add_follow(verb, _FOLLOW_RERUN)


def _invocations(options: argparse.Namespace) -> int:
    session: Session = options.session(options)
    request = {"jobRef": job_ref(options.job, session.url), "status": str(options.result or "").upper()}
    found, cursor = pages(session, options, "GetHistory", request, "invocations")
    session.show({"invocations": document(found), "nextCursor": cursor}, history_table(session, found))
    hint_at_more(session, cursor)
    return Exit.DONE


def _invocation_show(options: argparse.Namespace) -> int:
    session: Session = options.session(options)
    found = session.call("DescribeInvocation", invocation_ref(options.invocation, session.url))
    item = found["invocation"]
    name = invocation_name(item["invocationRef"])
    start, end = item.get("startedTs"), item.get("finishedTs")
    facts = {
        "invocation": name,
        "status": item.get("status", ""),
        "reason": _reason(found),
        "started": moment(start),
        "finished": moment(end),
        "took": took(start, end),
        "attempts": str(found.get("attempts", "")),
        "cause": cause_text(found.get("cause", {})),
        "commit": _commit(found),
        "config": item.get("configRevision", ""),
        "build": item.get("viewUrl", "") or "-",
        "page": page_of(session.url, name),
    }
    lines = fact_lines(facts)
    if triggers := found.get("triggers"):
        lines += ["", _trigger_table(session, triggers)]
    if (more := int(found.get("triggerCount", 0)) - len(triggers or [])) > 0:
        lines.append(f"and {more} older trigger{'' if more == 1 else 's'}")
    session.show({**document(found), "url": page_of(session.url, name)}, "\n".join(lines))
    return Exit.DONE


def _reason(found: Mapping[str, Any]) -> str:
    """Return why an invocation failed, was aborted, or is tried again."""
    status, summary = found["invocation"].get("status", ""), found.get("summary", "")
    if who := found.get("abortRequestedBy", "").removeprefix("user:"):
        is_over = found["invocation"].get("final")
        said = f"abort{'ed' if is_over else ' requested'} by {who}: {found.get('abortReason') or 'no reason was given'}"
        return f"{said}\n{summary}" if summary else said
    if status == "RETRYING":
        return f"{summary or 'the last attempt failed'}\nnext attempt at {moment(found.get('nextAttemptTs'))}"
    if status == "FAILED":
        return summary or "not known: the log has it"
    return str(summary)


def _commit(found: Mapping[str, Any]) -> str:
    commit = found.get("commit")
    if not commit:
        return ""
    place = f"{commit.get('revision', '')} on {commit.get('ref', '')} of {commit.get('repo', '')}"
    subject, others = commit.get("subject", ""), int(commit.get("otherCommits", 0))
    lines = [place, f"{subject} ({commit.get('author', '')})" if subject else ""]
    lines.append(f"with {others} older commit{'' if others == 1 else 's'}" if others else "")
    return "\n".join(filter(None, lines))


def _trigger_table(session: Session, triggers: list[dict[str, Any]]) -> str:
    rows = [
        [item.get("title", "") or item["id"], cause_text(item.get("cause", {})), moment(item.get("createdTs"))]
        for item in triggers
    ]
    return session.table(["TRIGGER", "CAUSE", "CREATED"], rows)


def _invocation_log(options: argparse.Namespace) -> int:
    session: Session = options.session(options)
    return _write_log(session, options, invocation_ref(options.invocation, session.url))


def _logs(options: argparse.Namespace) -> int:
    session: Session = options.session(options)
    return _write_log(session, options, _target(session, options.target))


def _target(session: Session, text: str) -> Mapping[str, Any]:
    """Return the InvocationRef of an invocation, or of the latest invocation of a job."""
    try:
        return invocation_ref(text, session.url)
    except CommandError as error:
        try:
            ref = job_ref(text, session.url)
        except CommandError:
            raise error from None
    latest = session.call("GetHistory", {"jobRef": ref, "pageSize": 1}).get("invocations", [])
    if not latest:
        raise CommandError(f"{plain(job_name(ref))} has had no invocation yet", Exit.FAILED)
    found: Mapping[str, Any] = latest[0]["invocation"]["invocationRef"]
    session.progress(f"invocation {invocation_name(found)}")
    return found


def _write_log(session: Session, options: argparse.Namespace, ref: Mapping[str, Any]) -> int:
    if options.follow:
        code = follow_log(session, options, ref)
        if options.json:
            session.show_document(document(session.call("GetInvocationLog", ref)))
        return code
    reply = session.call("GetInvocationLog", ref)
    session.say(str(reply.get("debugLog", "")), end="")
    session.show_document(document(reply))
    return Exit.DONE


def _invocation_abort(options: argparse.Namespace) -> int:
    session: Session = options.session(options)
    ref = invocation_ref(options.invocation, session.url)
    reply = session.call("AbortInvocation", {"invocationRef": ref, "reason": options.reason})
    aborted = bool(reply.get("invocationIds"))
    text = "abort requested" if aborted else "nothing to abort: the invocation is over"
    session.show({"invocationIds": [], **reply}, f"{text}: {invocation_name(ref)}")
    return Exit.DONE


def _invocation_rerun(options: argparse.Namespace) -> int:
    session: Session = options.session(options)
    ref, key = invocation_ref(options.invocation, session.url), options.request_id or fresh_key()
    reply = session.act("RerunInvocation", {"invocationRef": ref, "requestId": key})
    request = Request([(ref["jobRef"], name) for name in reply.get("triggerIds", [])])
    return report(session, options, request, reply)
