"""``luci-scheduler commit explain`` and ``backfill``: explain commits, and run jobs for commits that they missed."""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping
from typing import Any

from luci_scheduler.cli.documents import document, job_name, moment
from luci_scheduler.cli.follow import Request, add_follow, report
from luci_scheduler.cli.job_commands import add_request_id, fresh_key, full_ref
from luci_scheduler.cli.session import Exit, Session, job_ref, show_table

__all__ = ["add_commands"]

_HASH = re.compile(r"[0-9a-fA-F]{40}")


def add_commands(nouns: Any) -> None:
    """Add this module's nouns to the parser."""
    _add_explain(nouns)
    _add_backfill(nouns)


def _add_explain(nouns: Any) -> None:
    verbs = nouns.add_parser("commit", help="explain a commit").add_subparsers(metavar="VERB", required=True)
    parser = verbs.add_parser(
        "explain", help="explain the outcome of a commit in every job that watches its repository"
    )
    parser.add_argument(
        "revision", metavar="REVISION", help="the commit: a hash or its first digits, a branch, a tag, HEAD~2"
    )
    parser.add_argument("--repo", required=True, metavar="URL", help="the commit's repository, as configs name it")
    parser.add_argument("--ref", default="", help="the ref on which the commit landed, such as main (default: any ref)")
    parser.set_defaults(run=_explain)


def _add_backfill(nouns: Any) -> None:
    parser = nouns.add_parser(
        "backfill",
        help="run jobs for a range of commits; without --yes only list the commits",
        description="Emit one trigger for each commit after FROM, up to and including TO. "
        "Without --yes the command only lists the commits.",
    )
    parser.add_argument(
        "first", metavar="FROM", help="the commit before the first commit of the range; a hash, a name or HEAD~9"
    )
    parser.add_argument("last", metavar="TO", help="the last commit of the range; a hash, a name or HEAD")
    parser.add_argument("--repo", required=True, metavar="URL", help="the repository, as configs name it")
    parser.add_argument("--ref", required=True, help="the ref, such as main or refs/heads/main")
    parser.add_argument(
        "--job", required=True, action="append", dest="jobs", metavar="JOB", help="PROJECT/JOB; repeatable"
    )
    parser.add_argument("--yes", action="store_true", help="emit the triggers")
    add_request_id(parser)
    add_follow(
        parser, "with --yes: write the logs of the invocations until their ends; the worst result is the exit code"
    )
    parser.set_defaults(run=_backfill)


def _explain(options: argparse.Namespace) -> int:
    session: Session = options.session(options)
    request = {"repo": options.repo, "revision": options.revision, "ref": full_ref(options.ref)}
    reply = session.call("ExplainCommit", request)
    explanations = reply.get("explanations", [])
    rows = [[job_name(item["jobRef"]), item.get("reason", ""), item.get("sentence", "")] for item in explanations]
    text = show_table(["JOB", "REASON", "EXPLANATION"], rows) if rows else "no visible job watches the repository"
    session.show(document(reply), text)
    return Exit.DONE if explanations else Exit.FAILED


def _backfill(options: argparse.Namespace) -> int:
    session: Session = options.session(options)
    session.words = {"from_revision": "FROM", "to_revision": "TO"}
    request = {
        "jobs": [job_ref(job, session.url) for job in options.jobs],
        "repo": options.repo,
        "ref": full_ref(options.ref),
        "fromRevision": options.first,
        "toRevision": options.last,
    }
    if not options.yes:
        plan = session.call("BackfillCommits", {**request, "preview": True})
        return _show_plan(session, plan)
    if not all(map(_HASH.fullmatch, (options.first, options.last))):
        # A branch may move before the next attempt, which must have the same effect. Hashes do not move.
        plan = session.call("BackfillCommits", {**request, "preview": True})
        request |= {"fromRevision": plan["fromRevision"], "toRevision": plan["toRevision"]}
    reply = session.act("BackfillCommits", {**request, "requestId": options.request_id or fresh_key()})
    if not reply.get("commits"):
        return _show_plan(session, reply)
    session.say(_plan_text(reply, "triggers emitted"))
    triggers = [(job["jobRef"], name) for job in reply.get("jobs", []) for name in job.get("triggerIds", [])]
    return report(session, options, Request(triggers), reply)


def _show_plan(session: Session, plan: Mapping[str, Any]) -> int:
    """Show the commits of a backfill that has emitted nothing."""
    if not plan.get("commits"):
        session.show(document(plan), "the range is empty: check that FROM is older than TO")
        return Exit.FAILED
    session.show(document(plan), _plan_text(plan, "nothing emitted; add --yes to emit the triggers"))
    return Exit.DONE


def _plan_text(reply: Mapping[str, Any], result: str) -> str:
    commits = reply["commits"]
    rows = [[item["revision"], moment(item.get("committedTs"))] for item in commits]
    jobs = [": ".join(filter(None, (job_name(job["jobRef"]), job.get("note", "")))) for job in reply.get("jobs", [])]
    count = f"{len(commits)} commit{'' if len(commits) == 1 else 's'}"
    return "\n".join([show_table(["COMMIT", "COMMITTED"], rows), *jobs, f"{count}: {result}"])
