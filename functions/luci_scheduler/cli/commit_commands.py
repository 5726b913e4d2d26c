"""``luci-scheduler commit explain`` and ``backfill``: explain commits, and run jobs for commits that they missed."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from luci_scheduler.cli.job_commands import add_request_id, fresh_key, moment
from luci_scheduler.cli.session import Exit, Session, job_ref, show_table

__all__ = ["add_commands"]


def add_commands(nouns: Any) -> None:
    """Add this module's nouns to the parser."""
    _add_explain(nouns)
    _add_backfill(nouns)


def _add_explain(nouns: Any) -> None:
    verbs = nouns.add_parser("commit", help="explain a commit").add_subparsers(metavar="VERB", required=True)
    parser = verbs.add_parser(
        "explain", help="explain the outcome of a commit in every job that watches its repository"
    )
    parser.add_argument("revision", metavar="REVISION", help="the commit's full hash")
    parser.add_argument("--repo", required=True, metavar="URL", help="the commit's repository, as configs name it")
    parser.add_argument("--ref", default="", help="the ref on which the commit landed (default: any ref)")
    parser.set_defaults(run=_explain)


def _add_backfill(nouns: Any) -> None:
    parser = nouns.add_parser(
        "backfill",
        help="run jobs for a range of commits; without --yes only list the commits",
        description="Emit one trigger for each commit after FROM, up to and including TO. "
        "Without --yes the command only lists the commits.",
    )
    parser.add_argument("first", metavar="FROM", help="the commit before the first commit of the range")
    parser.add_argument("last", metavar="TO", help="the last commit of the range")
    parser.add_argument("--repo", required=True, metavar="URL", help="the repository, as configs name it")
    parser.add_argument("--ref", required=True, help="the ref, such as refs/heads/main")
    parser.add_argument(
        "--job", required=True, action="append", dest="jobs", metavar="JOB", help="PROJECT/JOB; repeatable"
    )
    parser.add_argument("--yes", action="store_true", help="emit the triggers")
    add_request_id(parser)
    parser.set_defaults(run=_backfill)


def _explain(options: argparse.Namespace) -> int:
    session: Session = options.session(options)
    reply = session.call("ExplainCommit", {"repo": options.repo, "revision": options.revision, "ref": options.ref})
    explanations = reply.get("explanations", [])
    rows = [[_name(item["jobRef"]), item.get("reason", ""), item.get("sentence", "")] for item in explanations]
    text = show_table(["JOB", "REASON", "EXPLANATION"], rows) if rows else "no visible job watches the repository"
    session.show(reply, text)
    return Exit.DONE if explanations else Exit.FAILED


def _backfill(options: argparse.Namespace) -> int:
    session: Session = options.session(options)
    request = {
        "jobs": [job_ref(job, session.url) for job in options.jobs],
        "repo": options.repo,
        "ref": options.ref,
        "fromRevision": options.first,
        "toRevision": options.last,
        "preview": not options.yes,
        "requestId": options.request_id or fresh_key(),
    }
    reply = session.act("BackfillCommits", request) if options.yes else session.call("BackfillCommits", request)
    if not reply.get("commits"):
        session.show(reply, "the range is empty: check that FROM is older than TO")
        return Exit.FAILED
    session.show(reply, _backfill_text(reply))
    return Exit.DONE


def _backfill_text(reply: Mapping[str, Any]) -> str:
    commits = reply["commits"]
    rows = [[item["revision"], moment(item.get("committedTs"))] for item in commits]
    jobs = [": ".join(filter(None, (_name(job["jobRef"]), job.get("note", "")))) for job in reply.get("jobs", [])]
    count = f"{len(commits)} commit{'' if len(commits) == 1 else 's'}"
    result = "triggers emitted" if reply.get("emitted") else "nothing emitted; add --yes to emit the triggers"
    return "\n".join([show_table(["COMMIT", "COMMITTED"], rows), *jobs, f"{count}: {result}"])


def _name(ref: Mapping[str, str]) -> str:
    return f"{ref.get('project')}/{ref.get('job')}"
