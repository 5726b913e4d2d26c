"""``luci-scheduler login`` and ``logout``: a person or a service account signs in at a console."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from luci_scheduler.cli import credentials
from luci_scheduler.cli.credentials import Saved
from luci_scheduler.cli.errors import CommandError, Exit
from luci_scheduler.cli.front_end import FrontEnd, front_end
from luci_scheduler.cli.session import Session

__all__ = ["add_commands", "describe_caller"]

_CLOUD_RUN_HOSTS = ".run.app"
"""The end of the addresses of Cloud Run's services: https://cloud.google.com/run/docs/triggering/https-request"""


def add_commands(nouns: Any) -> None:
    """Add ``login`` and ``logout`` to the parser."""
    parser = nouns.add_parser(
        "login",
        help="sign in at a console, and show who you are and what you may do",
        description="Sign in at a console, and show who you are and what you may do. "
        "Later commands without --token use this login.",
    )
    parser.add_argument(
        "--client",
        type=Path,
        metavar="FILE",
        help="JSON file of an OAuth client of type Desktop app, for a console behind Identity-Aware Proxy",
    )
    parser.add_argument(
        "--service-account",
        default="",
        metavar="EMAIL",
        help="service account to impersonate; its ID token has the audience of --audience",
    )
    parser.set_defaults(run=_login)
    leave = nouns.add_parser("logout", help="forget the login at a console, with its refresh token")
    leave.set_defaults(run=_logout)


def _login(options: argparse.Namespace) -> int:
    session: Session = options.session(options)
    answer = session.knock()
    front = front_end(answer.status_code, answer.headers)
    if front is FrontEnd.OTHER:
        raise CommandError(
            f"{session.url} answers HTTP {answer.status_code}, and not as a console: "
            "use the address of `terraform output -raw console_url`"
        )
    if not options.token and not session.is_local:
        saved = _choose(options, front, session.url)
        credentials.token_of(saved)  # a login without a token is not kept
        credentials.save(session.url, saved)
        session.sign_in(saved)
    caller = session.call("WhoAmI", {})
    jobs = len(session.call("GetJobs", {}, "scheduler.Scheduler").get("jobs", [])) if caller.get("seesSome") else 0
    session.show({"frontEnd": str(front), **caller, "visibleJobs": jobs}, describe_caller(caller, jobs))
    return Exit.DONE if caller.get("seesSome") else Exit.FAILED


def _choose(options: argparse.Namespace, front: FrontEnd, url: str) -> Saved:
    if options.client:
        return credentials.consent(options.client)
    if options.service_account:
        audience = options.audience or url
        return Saved("service-account", {"account": options.service_account, "audience": audience})
    if front is FrontEnd.IAP:
        raise CommandError(
            "this console is behind Identity-Aware Proxy, which accepts a person's token only from an OAuth client of "
            "console.programmatic_clients: make a client of type Desktop app, add its ID there, "
            "and pass its file with --client FILE (or --service-account EMAIL --audience ID)",
            Exit.NOT_ALLOWED,
        )
    _require_checked(front, url)
    return Saved("gcloud")


def _require_checked(front: FrontEnd, url: str) -> None:
    """Refuse to send gcloud's token to a server that could use it elsewhere.

    Its audience is gcloud's client, so every console behind Cloud Run's check accepts it. Only Cloud Run's check
    removes its signature. That check stands at the service's own address, which Terraform prints.

    Raises:
        CommandError: another server would receive the token.
    """
    if front is FrontEnd.CLOUD_RUN and (urlsplit(url).hostname or "").endswith(_CLOUD_RUN_HOSTS):
        return
    raise CommandError(
        f"no check of Cloud Run stands before {url}, so gcloud's token, which opens other consoles, is not sent there: "
        "use the address of `terraform output -raw console_url`, --service-account EMAIL, --client FILE, or --token",
        Exit.NOT_ALLOWED,
    )


def describe_caller(caller: dict[str, Any], jobs: int) -> str:
    """Return a sentence about the caller and their rights, or about the one thing that is missing."""
    who = str(caller.get("identity", "")).removeprefix("user:")
    if problem := caller.get("policyProblem"):
        return f"signed in as {who}; {problem}"
    if "@" not in who:
        return "not signed in: the console takes you for anonymous; pass --token or --service-account"
    if caller.get("isAdmin"):
        return f"signed in as {who}; you are an administrator; {_count(jobs)} visible"
    if caller.get("seesSome"):
        return f"signed in as {who}; {_count(jobs)} visible"
    return (
        f"signed in as {who}; you may see no job: add user:{who} to console.admins, "
        "or grant a role in console.access, and apply"
    )


def _count(jobs: int) -> str:
    return "1 job is" if jobs == 1 else f"{jobs} jobs are"


def _logout(options: argparse.Namespace) -> int:
    session: Session = options.session(options)
    if not session.url:
        raise CommandError("no console URL: pass --url or set LUCI_SCHEDULER_URL", Exit.WRONG_USAGE)
    was_there = credentials.forget(session.url)
    text = f"signed out at {session.url}" if was_there else f"there was no login at {session.url}"
    session.show({"wasSignedIn": was_there}, text)
    return Exit.DONE
