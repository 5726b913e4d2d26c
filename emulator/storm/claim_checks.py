"""The invariants of launches: due times, claims, pauses and requests. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

from emulator.storm.faults import Kind
from emulator.storm.invariants import Invariant, Violation
from emulator.storm.run_checks import SKEW, Film, Version
from luci_scheduler.core.instants import SECOND, Instant
from luci_scheduler.managers.registry import kind_of

__all__ = ["check_claims"]

_REQUESTS = ("buildbucket.ScheduleBuild", "buildbucket.v1.put", "cloud_build.create", "cloud_build.run")
_FOREIGN = frozenset({Kind.BUILD_ANSWER_BROKEN, Kind.EQUAL_SUFFIX})
"""With an answer about another's build, an attempt requests its own under a second ID."""


def check_claims(film: Film) -> Iterator[Violation]:
    """Yield the violations of the launches of a run."""
    for key, versions in film.versions.items():
        if key[0] == "invocation":
            for invariant, at, text in _wrong(versions):
                yield Violation(invariant, at, " ".join(map(str, key)), text)
    yield from _requests(film)


def _wrong(versions: Sequence[Version]) -> Iterator[tuple[Invariant, Instant, str]]:
    owner = None
    for version in versions:
        due, wanted = version.record.next_due, _earliest(version.record)
        if wanted is not None and due is not None and due != wanted:
            text = f"it is due {(due - wanted) / SECOND:+.1f} s from its earliest work"
            yield Invariant.OUTBOX, version.at, text
    for before, after in pairwise(versions):
        if before.record.claim_until is None or owner is None or before.record.attempts != owner[0]:
            owner = (before.record.attempts, before.commit.delivery)
        if _is_early(before.record, after):
            yield Invariant.PAUSE, after.at, f"attempt {after.record.attempts} began before it was due"
        if _breaks_claim(before.record, after, owner[1]):
            text = f"{after.commit.handler} ended attempt {before.record.attempts}, which another delivery had claimed"
            yield Invariant.CLAIM, after.at, text


def _earliest(invocation: Any) -> Instant | None:
    """Return the instant at which the earliest work of an invocation is due; None if it is undecided."""
    works = [] if invocation.cleanup is None else [invocation.cleanup.next_try]
    if invocation.status.is_final:
        works += [invocation.finished] * invocation.has_undispatched
    elif invocation.claim_until is not None:
        works.append(invocation.claim_until)
    elif invocation.abort_requested_at is not None:
        works.append(invocation.abort_requested_at)
    elif invocation.pending_timers:
        works += [timer.eta for timer in invocation.pending_timers]
    else:
        return None
    return min(works, default=None)


def _is_early(before: Any, after: Version) -> bool:
    """Whether an attempt began within the pause that the one before it had prescribed."""
    is_attempt = after.record.attempts > before.attempts > 0 and before.claim_until is None
    return is_attempt and before.status == "RETRYING" and before.next_due is not None and (
        after.at < before.next_due - SKEW
    )  # fmt: skip


def _breaks_claim(before: Any, after: Version, owner: int) -> bool:
    if after.record.abort_requested_by and not kind_of(after.record.task).is_multistage:
        return False  # an abort may end a launch that leaves nothing running
    lasts = before.claim_until is not None and after.at < before.claim_until - SKEW
    return lasts and after.record.claim_until != before.claim_until and after.commit.delivery != owner


def _requests(film: Film) -> Iterator[Violation]:
    """A delivery requests a build at most once for each attempt that it has claimed."""
    if any(fault.kind in _FOREIGN for fault in film.run.faults):
        return
    claims: Counter[int] = Counter()
    for key, versions in film.versions.items():
        attempts = 0
        for version in versions if key[0] == "invocation" else ():
            claims[version.commit.delivery] += version.record.attempts > attempts
            attempts = version.record.attempts
    asked: Counter[int] = Counter()
    for call in film.run.history.calls:
        if call.point.endswith(_REQUESTS):
            asked[call.delivery] += 1
            if asked[call.delivery] > claims[call.delivery]:
                text = f"request {asked[call.delivery]} of a delivery that claimed {claims[call.delivery]} attempts"
                yield Violation(Invariant.CLAIM, call.at, call.point, text)
