"""``luci-scheduler commit explain`` and ``backfill``: explain commits, and run jobs for commits that they missed."""

from __future__ import annotations

import argparse
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from luci_scheduler.cli.documents import document, job_name, second, short_hash, title
from luci_scheduler.cli.errors import Exit
from luci_scheduler.cli.follow import Request, add_follow, report
from luci_scheduler.cli.job_commands import add_request_id, fresh_key, full_ref
from luci_scheduler.cli.session import Session, job_ref

__all__ = ["add_commands"]

_HASH = re.compile(r"[0-9a-fA-F]{40}([0-9a-fA-F]{24})?")
_REPO_HELP = "the repository, as configs name it (default: the only repository that {} watch)"
_ORDER = ("FAILED", "OVERRUN", "ABORTED", "RUNNING", "RETRYING", "STARTING", "", "SUCCEEDED")  # failures come first


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
    parser.add_argument("--repo", default="", metavar="URL", help=_REPO_HELP.format("the projects"))
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
    parser.add_argument("--repo", default="", metavar="URL", help=_REPO_HELP.format("the jobs"))
    parser.add_argument(
        "--ref", default="", help="the ref, such as main (default: the only ref that the jobs watch, or the branch TO)"
    )
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
    text = _outcomes(session, reply) if explanations else "no visible job watches the repository"
    session.show(document(reply), text)
    return Exit.DONE if explanations else Exit.FAILED


def _outcomes(session: Session, reply: Mapping[str, Any]) -> str:
    """Return the commit, a table with failures first, and the number of jobs with each outcome."""
    found = sorted(reply["explanations"], key=lambda item: _ORDER.index(_status(item)))
    rows = [[job_name(item["jobRef"]), item.get("reason", ""), _sentence(item)] for item in found]
    counts = Counter(_status(item) or item.get("reason", "") for item in found)
    total = ", ".join(f"{number} {name}" for name, number in counts.items())
    commit = reply.get("commit", {})
    about = [commit.get("revision", ""), commit.get("subject", ""), commit.get("author", "")]
    table = session.table(["JOB", "REASON", "EXPLANATION"], rows)
    note = [commit["note"]] if commit.get("note") else []
    return "\n".join([", ".join(filter(None, about)), *note, table, total])


def _status(item: Mapping[str, Any]) -> str:
    """Return the status of the invocation that took a commit; empty without one, or with an unknown one."""
    status = str(item.get("status", ""))
    return status if status in _ORDER else ""


def _sentence(item: Mapping[str, Any]) -> str:
    return " ".join(filter(None, (item.get("sentence", ""), item.get("summary", ""))))


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
    session.say(_plan_text(session, reply, "triggers emitted", is_preview=False))
    triggers = [(job["jobRef"], name) for job in reply.get("jobs", []) for name in job.get("triggerIds", [])]
    return report(session, options, Request(triggers), reply)


def _show_plan(session: Session, plan: Mapping[str, Any]) -> int:
    """Show the commits of a backfill that has emitted nothing."""
    if not plan.get("commits"):
        session.show(document(plan), "the range is empty: check that FROM is older than TO")
        return Exit.FAILED
    session.show(
        document(plan), _plan_text(session, plan, "nothing emitted; add --yes to emit the triggers", is_preview=True)
    )
    return Exit.DONE


def _plan_text(session: Session, reply: Mapping[str, Any], result: str, *, is_preview: bool) -> str:
    """Return the commits of a backfill; only a preview knows which of them ran before."""
    commits, own = reply["commits"], reply.get("jobs", [])
    columns = ["COMMIT", "COMMITTED", "SUBJECT", "AUTHOR", *(["BEFORE"] if is_preview else [])]
    rows = [_commit_row(item, own)[: len(columns)] for item in commits]
    jobs = [": ".join(filter(None, (job_name(job["jobRef"]), job.get("note", "")))) for job in own]
    count = f"{len(commits)} commit{'' if len(commits) == 1 else 's'}"
    return "\n".join([session.table(columns, rows), *jobs, f"{count}: {result}"])


def _commit_row(item: Mapping[str, Any], jobs: Sequence[Mapping[str, Any]]) -> list[str]:
    revision = item["revision"]
    subject, author = title(item.get("subject", ""), item.get("author", ""))
    return [short_hash(revision), second(item.get("committedTs")), subject, author, _before(revision, jobs)]


def _before(revision: str, jobs: Sequence[Mapping[str, Any]]) -> str:
    """Return whether a commit ran before, and whether a path filter excludes it; for several jobs in how many."""
    counts = {"ran": "ran", "path filter": "filtered"}
    found = {words: sum(revision in job.get(member, []) for job in jobs) for words, member in counts.items()}
    return (
        ", ".join(f"{words}{f' ({n} of {len(jobs)} jobs)' if len(jobs) > 1 else ''}" for words, n in found.items() if n)
        or "-"
    )
