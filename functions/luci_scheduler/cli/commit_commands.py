"""``luci-scheduler commit explain`` and ``backfill``: what became of commits, and jobs run for commits they missed."""

from __future__ import annotations

import argparse
from typing import Any

from luci_scheduler.cli.job_commands import fresh_key, moment
from luci_scheduler.cli.session import Exit, Session, job_ref, show_table

__all__ = ["add_commands"]


def add_commands(nouns: Any) -> None:
    """Add the nouns to the parser of nouns."""
    verbs = nouns.add_parser("commit", help="one commit").add_subparsers(metavar="VERB", required=True)
    parser = verbs.add_parser("explain", help="say of every watching job what became of a commit, and why")
    parser.add_argument("revision", metavar="REVISION", help="the commit's full ID")
    parser.add_argument("--repo", required=True, metavar="URL", help="its repository, as configs name it")
    parser.add_argument("--ref", default="", help="where it landed (default: on whichever ref)")
    parser.set_defaults(run=_explain)

    parser = nouns.add_parser(
        "backfill",
        help="run jobs for a range of commits; only shows what would happen, unless told --yes",
        description="Emit a trigger for each commit behind FROM up to TO. Without --yes it is only shown what would be emitted.",
    )
    parser.add_argument("first", metavar="FROM", help="the commit before the first one of the range")
    parser.add_argument("last", metavar="TO", help="the last commit of the range")
    parser.add_argument("--repo", required=True, metavar="URL", help="the repository, as configs name it")
    parser.add_argument("--ref", required=True, help="the ref, such as refs/heads/main")
    parser.add_argument(
        "--job",
        required=True,
        action="append",
        dest="jobs",
        metavar="JOB",
        help="PROJECT/JOB; may be given several times",
    )
    parser.add_argument("--yes", action="store_true", help="do it")
    parser.add_argument(
        "--request-id", default="", metavar="KEY", help="the same key again has no second effect (default: a fresh one)"
    )
    parser.set_defaults(run=_backfill)


def _explain(options: argparse.Namespace) -> int:
    session: Session = options.session(options)
    reply = session.call("ExplainCommit", {"repo": options.repo, "revision": options.revision, "ref": options.ref})
    explanations = reply.get("explanations", [])
    rows = [
        [
            f"{item['jobRef'].get('project')}/{item['jobRef'].get('job')}",
            item.get("reason", ""),
            item.get("sentence", ""),
        ]
        for item in explanations
    ]
    text = (
        show_table(["JOB", "REASON", "WHAT BECAME OF IT"], rows)
        if rows
        else "no job that can be seen watches the repository"
    )
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
    commits = reply.get("commits", [])
    if not commits:
        session.show(reply, "the range is empty: is FROM older than TO?")
        return Exit.FAILED
    lines = [
        show_table(["COMMIT", "COMMITTED"], [[item["revision"], moment(item.get("committedTs"))] for item in commits])
    ]
    for job in reply.get("jobs", []):
        ref, note = job["jobRef"], job.get("note", "")
        lines.append(f"{ref['project']}/{ref['job']}{f': {note}' if note else ''}")
    count = f"{len(commits)} commit{'' if len(commits) == 1 else 's'}"
    lines.append(
        f"{count}: triggers emitted" if reply.get("emitted") else f"{count}: nothing emitted; say --yes to do it"
    )
    session.show(reply, "\n".join(lines))
    return Exit.DONE
