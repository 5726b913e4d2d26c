"""The invariants of outputs: secrets, announcements and commits that were announced. Pure."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from emulator.storm.history import Push, Run
from emulator.storm.invariants import Invariant, Violation
from emulator.storm.run_checks import Film
from luci_scheduler.core.instants import Instant
from luci_scheduler.core.ref_sets import ref_set

__all__ = ["check_output"]


def check_output(film: Film) -> Iterator[Violation]:
    """Yield the violations in what the functions wrote for others."""
    yield from _secrets(film.run)
    yield from _silences(film)
    yield from _lost_commits(film)


def _secrets(run: Run) -> Iterator[Violation]:
    secrets = [*run.secrets, *_tokens(run)]
    for place, at, text in _texts(run):
        for secret in secrets:
            if secret in text:
                found = f"it holds a secret: …{text[max(0, text.index(secret) - 60) : text.index(secret)]}"
                yield Violation(Invariant.SECRET, at, place, found)


def _texts(run: Run) -> Iterator[tuple[str, Instant, str]]:
    """Yield every text that leaves the functions, except requests to Buildbucket, which carry a token by design."""
    history = run.history
    yield "log", run.ended, "\n".join(map(str, history.log))
    yield "answers of functions", run.ended, "\n".join(delivery.body for delivery in history.deliveries)
    yield "answers of the console", run.ended, "\n".join(answer.body for answer in history.answers)
    yield "announcements", run.ended, "\n".join(message.data for message in history.messages)
    yield "documents", run.ended, "\n".join(f"{path} {fields} {log}" for path, fields, log in run.store.kept())


def _tokens(run: Run) -> Iterator[str]:
    """Yield the tokens of notifications, plain and as Buildbucket gets them."""
    for request in run.history.requests:
        body = json.loads(request.request)
        if token := (body.get("notify") or {}).get("userData"):
            yield token
            yield base64.b64decode(token).decode()
        if token := (body.get("pubsub_callback") or {}).get("auth_token"):
            yield token


def _silences(film: Film) -> Iterator[Violation]:
    """Each start and each end was announced, unless the last release, which announces nothing, recorded it."""
    announced = {dict(message.attributes).get("event_id") for message in film.run.history.messages}
    for key, versions in film.versions.items():
        if key[0] != "invocation" or not _announces(film.run):
            continue
        for transition, at in _transitions([(version.at, version.record) for version in versions]):
            if f"{key[1]}/{key[2]}/{transition}" not in announced:
                yield Violation(
                    Invariant.ANNOUNCED, at, " ".join(map(str, key)), f"nothing announced that it {transition}"
                )


def _announces(run: Run) -> bool:
    return bool(run.history.messages)


def _transitions(versions: Sequence[tuple[Instant, Any]]) -> Iterator[tuple[str, Instant]]:
    before: Any = None
    for at, record in versions:
        if before is not None and before.status.is_initial and str(record.status) == "RUNNING":
            yield "started", at
        if record.status.is_final and (before is None or not before.status.is_final):
            yield "ended", at
        before = record


def _lost_commits(film: Film) -> Iterator[Violation]:
    """An announced commit left a trigger in each job that watched its ref from then on."""
    for push in film.run.history.pushes:
        is_wanted = push.published and push.revision not in film.run.history.lost
        for job_id, trigger_id in _wanted(film, push) if is_wanted else ():
            if ("trigger", job_id, trigger_id) not in film.ledger.documents:
                text = "it was announced, and the job has no trigger for it"
                yield Violation(Invariant.TRIGGER_ONCE, push.at, f"trigger {job_id} {trigger_id}", text)


def _wanted(film: Film, push: Push) -> Iterator[tuple[str, str]]:
    for key in film.versions:
        if key[0] == "watchers" and key[1] == push.repo and film.versions[key][0].at <= push.at:
            constant = _constant([version.record for version, end in film.spans(key) if end > push.at])
            for watcher in constant.values():
                if ref_set(tuple(watcher.refs)).covers(push.ref) and not _was_paused(film, key[1], watcher, push.at):
                    yield watcher.job_id, f"{watcher.repo}/+/{push.ref}@{push.revision}"


def _constant(versions: Sequence[Sequence[Any]]) -> Mapping[str, Any]:
    """Return the watchers without a path filter that are in every version, each by its text."""
    texts = [{str(watcher): watcher for watcher in version if not watcher.path_regexps} for version in versions]
    first = texts[0] if texts else {}
    return {text: watcher for text, watcher in first.items() if all(text in other for other in texts)}


def _was_paused(film: Film, repo: str, watcher: Any, since: Instant) -> bool:
    key = ("paused", repo, watcher.trigger_job_id)
    return key in film.versions and any(version.record for version, end in film.spans(key) if end > since)
