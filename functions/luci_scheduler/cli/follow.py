"""Following: from a request's triggers to their invocations, and from an invocation to its end."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from luci_scheduler.cli.documents import document, invocation_name, job_name, page_of
from luci_scheduler.cli.errors import CommandError, Exit
from luci_scheduler.cli.session import Session

__all__ = ["Request", "add_follow", "add_patience", "follow_log", "report"]

_PAUSE = 2.0  # seconds between two questions, at most
_FIRST_PAUSE = 0.25  # while a new trigger is on its way, which takes a second
_FIRST_TRIES = 12  # three seconds, then a command that does not follow ends
_MOST_TRIGGERS = 100  # of one question
_OUTAGE = 60.0
_PATIENCE = 6 * 3600.0
_RESULTS = {"SUCCEEDED": Exit.DONE, "ABORTED": Exit.ABORTED}
_WORST = (Exit.DONE, Exit.DISCARDED, Exit.ABORTED, Exit.FAILED)

T = TypeVar("T")


@dataclass(slots=True)
class Request:
    """The triggers that a request emitted, with their outcomes as far as they are known."""

    triggers: Sequence[tuple[Mapping[str, str], str]]
    """JobRef and trigger ID of each trigger, oldest first."""
    outcomes: dict[tuple[str, str], Mapping[str, Any]] = field(default_factory=dict)
    """Job and trigger ID → a TriggerState."""

    @property
    def waiting(self) -> list[tuple[Mapping[str, str], str]]:
        """The triggers that have neither started an invocation nor been discarded."""
        return [one for one in self.triggers if self._state(one) not in ("TAKEN", "DISCARDED")]

    @property
    def is_pending(self) -> bool:
        """Whether every waiting trigger has reached its job."""
        return all(self._state(one) == "PENDING" for one in self.waiting)

    @property
    def discarded(self) -> list[str]:
        """The reasons of the triggers that start nothing."""
        return [item.get("reason", "") for item in self.outcomes.values() if item.get("state") == "DISCARDED"]

    @property
    def invocations(self) -> list[dict[str, Any]]:
        """The InvocationRefs of the invocations that took triggers, each once, in the order of the triggers."""
        taken = [(ref, self.outcomes.get((job_name(ref), name), {})) for ref, name in self.triggers]
        refs = [
            {"jobRef": dict(ref), "invocationId": item["invocationId"]} for ref, item in taken if "invocationId" in item
        ]
        return list({invocation_name(ref): ref for ref in refs}.values())

    def learn(self, session: Session) -> None:
        """Ask for the outcomes of the waiting triggers: one call for each job and hundred triggers."""
        by_job: dict[str, list[tuple[Mapping[str, str], str]]] = {}
        for ref, name in self.waiting:
            by_job.setdefault(job_name(ref), []).append((ref, name))
        for job, waiting in by_job.items():
            for start in range(0, len(waiting), _MOST_TRIGGERS):
                part = waiting[start : start + _MOST_TRIGGERS]
                request = {"jobRef": part[0][0], "triggerIds": [name for _, name in part]}
                for item in session.call("GetTriggers", request).get("triggers", []):
                    self.outcomes[(job, item["triggerId"])] = item

    def _state(self, one: tuple[Mapping[str, str], str]) -> str:
        return str(self.outcomes.get((job_name(one[0]), one[1]), {}).get("state", "UNKNOWN"))


def add_follow(parser: argparse.ArgumentParser, help_text: str) -> None:
    """Add ``--follow`` and the limits of its patience."""
    parser.add_argument("--follow", action="store_true", help=help_text)
    add_patience(parser)


def add_patience(parser: argparse.ArgumentParser) -> None:
    """Add the limits of following."""
    parser.add_argument(
        "--patience",
        type=float,
        default=_PATIENCE,
        metavar="SECONDS",
        help="with --follow: give up after this time, with exit code 8 (default: %(default).0f)",
    )
    parser.add_argument(
        "--outage",
        type=float,
        default=_OUTAGE,
        metavar="SECONDS",
        help="with --follow: the longest outage of the console after its first answer (default: %(default).0f)",
    )


def report(session: Session, options: argparse.Namespace, request: Request, about: Mapping[str, Any]) -> int:
    """Show what a request has emitted, and with ``--follow`` follow it to its end.

    Args:
        session: the session.
        options: the parsed arguments; uses ``follow``, ``patience`` and ``outage``.
        request: the emitted triggers.
        about: the API's reply; a JSON document begins with it.

    Returns:
        The exit code; with ``--follow`` that of the worst result.
    """
    word = "already emitted" if about.get("repeated") else "emitted"
    session.say("\n".join(f"{word} {name}" for _, name in request.triggers))
    code = Exit.DONE
    if options.follow:
        code = _follow(session, options, request)
    else:
        _learn_briefly(session, request)
        _say_outcome(session, request)
    session.show_document({**document(about), **_document(session, request)})
    return code


def _document(session: Session, request: Request) -> dict[str, Any]:
    names = [invocation_name(ref) for ref in request.invocations]
    return {
        "outcomes": [document(item) for item in request.outcomes.values()],
        "invocations": [{"name": name, "url": page_of(session.url, name)} for name in names],
    }


def _learn_briefly(session: Session, request: Request) -> None:
    """Wait for the invocations for three seconds, or until the triggers wait in their jobs."""
    was_pending = False
    for _ in range(_FIRST_TRIES):
        try:
            request.learn(session)
        except CommandError as error:
            session.progress(f"the triggers are emitted, but their invocations are not known: {error}")
            return
        if not request.waiting or (was_pending and request.is_pending):
            return
        was_pending = request.is_pending
        session.pause(_FIRST_PAUSE)


def _say_outcome(session: Session, request: Request) -> None:
    lines = [
        f"invocation {invocation_name(ref)}\n{page_of(session.url, invocation_name(ref))}"
        for ref in request.invocations
    ]
    lines += [f"discarded: {reason}" for reason in dict.fromkeys(request.discarded)]
    for job in dict.fromkeys(job_name(ref) for ref, _ in request.waiting):
        lines.append(f"pending: the job's policy starts it later\n{page_of(session.url, job)}")
    session.say("\n".join(lines))


def _follow(session: Session, options: argparse.Namespace, request: Request) -> Exit:
    """Follow every invocation of a request to its end, one after the other; return the worst result."""
    codes, done = [Exit.DONE], set[str]()
    try:
        while True:
            _patiently(session, options, lambda: request.learn(session))
            fresh = [ref for ref in request.invocations if invocation_name(ref) not in done]
            for ref in fresh:
                name = invocation_name(ref)
                session.say(f"invocation {name}\n{page_of(session.url, name)}")
                codes.append(follow_log(session, options, ref))
                done.add(name)
            if not request.waiting and not fresh:
                break
            if not fresh:
                session.pause(_PAUSE if request.is_pending else _FIRST_PAUSE)
    except KeyboardInterrupt as interrupt:
        raise CommandError("stopped following: the request goes on", Exit.INTERRUPTED) from interrupt
    for reason in dict.fromkeys(request.discarded):
        session.progress(f"discarded: {reason}")
        codes.append(Exit.DISCARDED)
    return max(codes, key=_WORST.index)


def follow_log(session: Session, options: argparse.Namespace, ref: Mapping[str, Any]) -> Exit:
    """Write an invocation's log until its end, and return the exit code of its result.

    Raises:
        CommandError: the console does not answer for too long, the patience ends, or the user interrupts.
    """
    name, written, pause = invocation_name(ref), "", _FIRST_PAUSE
    try:
        while True:
            reply = _patiently(session, options, lambda: session.call("GetInvocationLog", ref))
            log = str(reply.get("debugLog", ""))
            session.say(_new_part(written, log), end="")
            pause, written = (_FIRST_PAUSE if log != written else min(_PAUSE, 2 * pause)), log
            if reply["invocation"].get("final"):
                status = str(reply["invocation"].get("status", ""))
                code = _RESULTS.get(status, Exit.FAILED)
                session.progress(f"{name}: {status}{_why(session, ref) if code else ''}")
                return code
            session.pause(pause)
    except KeyboardInterrupt as interrupt:
        text = f"stopped following, and {name} goes on: luci-scheduler logs --follow {name}"
        raise CommandError(text, Exit.INTERRUPTED) from interrupt


def _why(session: Session, ref: Mapping[str, Any]) -> str:
    """Return the first line about why an invocation has failed; empty if it is not known."""
    try:
        lines = str(session.call("DescribeInvocation", ref).get("summary", "")).strip().splitlines()
    except CommandError:
        return ""
    return f": {lines[0]}" if lines else ""


def _patiently(session: Session, options: argparse.Namespace, call: Callable[[], T]) -> T:
    """Make a call, and repeat it through an outage; only after the console has answered once in this session."""
    silent_since: float | None = None
    while True:
        if session.elapsed() > options.patience:
            limit = f"--patience ({options.patience:g} s)"
            text = f"the invocation did not end within {limit}: follow again, or raise --patience"
            raise CommandError(text, Exit.IMPATIENT)
        try:
            return call()
        except CommandError as error:
            if error.code != Exit.UNAVAILABLE or not session.has_answered:
                raise
            silent_since = session.elapsed() if silent_since is None else silent_since
            if session.elapsed() - silent_since >= options.outage:
                raise
        session.pause(_PAUSE)


def _new_part(before: str, now: str) -> str:
    """Return the part of a log that is not written yet.

    A huge log has lost its middle; then everything after the last written line is new.
    """
    if now.startswith(before):
        return now[len(before) :]
    last = before.rstrip("\n").rpartition("\n")[2]
    _, found, rest = now.rpartition(f"{last}\n")
    return rest if found else now
