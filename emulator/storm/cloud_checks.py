"""The invariants of builds of Cloud Build, which recognizes no repeated request. Pure.

A second build may come into being only if a list hid the first one from the look-up of the next attempt, which came at
least a minute after the request. It is canceled by its own first message, or by the next check of the invocation.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from emulator.storm.faults import Kind
from emulator.storm.history import Build, Call, Delivery
from emulator.storm.invariants import Invariant, Violation
from emulator.storm.ledger import Key
from emulator.storm.run_checks import SKEW, Film, Version, by_invocation
from emulator.storm.scripts import CLOUD_HOST
from luci_scheduler.core.instants import MINUTE, SECOND, Instant

__all__ = ["check_cloud_builds"]

_PAUSE = MINUTE - SKEW
"""The least pause between a request and the look-up of the next attempt, as it may appear."""
_REQUESTS = ("/cloud_build.create", "/cloud_build.run")
_LIST = "/cloud_build.list"
_CHECKS = ("on_task timer", "on_cloud_build")
_ANSWERED = range(200, 300)


@dataclass(frozen=True, slots=True)
class _Attempt:
    """An attempt of a launch, from its claim to the next commit of its delivery about the invocation."""

    number: int
    since: Instant
    requests: Sequence[Call]
    lists: Sequence[Call]


@dataclass(slots=True)
class _Facts:
    """What the checks of all invocations look up."""

    film: Film
    denied: Collection[int]
    """The deliveries in which Cloud Build denied a call for good."""
    hidden: Collection[tuple[int, str]]
    """Delivery and build, for each build that the last list of a delivery hid."""
    deliveries: dict[int, Delivery]
    stalled: Collection[tuple[str, int]]
    """Point and occurrence of each call that had landed when its process stood still."""

    @classmethod
    def of(cls, film: Film) -> _Facts:
        """Collect the facts of a run."""
        history = film.run.history
        denials = {(fault.point, fault.nth) for fault in film.run.faults if fault.kind is Kind.BUILD_DENIED}
        denied = {call.delivery for call in history.calls if (f"{call.point}/before", call.before) in denials}
        hidden = {(listing.delivery, build) for listing in history.listings for build in listing.hidden}
        stalled = {
            (fault.point.removesuffix("/after"), fault.nth)
            for fault in film.run.faults
            if fault.kind is Kind.STALL and fault.point.endswith("/after")
        }
        return cls(film, denied, hidden, {delivery.number: delivery for delivery in history.deliveries}, stalled)


def check_cloud_builds(film: Film) -> Iterator[Violation]:
    """Yield the violations of the builds of Cloud Build."""
    facts = _Facts.of(film)
    for key, builds in by_invocation(film.run).items():
        if builds[0].server == CLOUD_HOST and key in film.versions:
            for invariant, at, text in _wrong(facts, key, builds):
                yield Violation(invariant, at, " ".join(map(str, key)), text)


def _wrong(facts: _Facts, key: Key, builds: Sequence[Build]) -> Iterator[tuple[Invariant, Instant, str]]:
    versions = facts.film.versions[key]
    for at, text in _doubled(facts, builds):
        yield Invariant.ONE_BUILD, at, text
    attempts = list(_attempts(facts.film, versions))
    for before, after in pairwise(attempts):
        yield from _hasty(facts, before, after)
    settled = next((version for version in versions if _recorded(version)), None)
    if settled is not None:
        for build in builds:
            if build.id != _recorded(settled):
                for at, text in _left(facts, versions, settled.at, build):
                    yield Invariant.LOST_BUILD, at, text
            elif text := _canceled(facts, versions[-1].record, build):
                yield Invariant.END, build.ended or facts.film.run.ended, text


def _recorded(version: Version) -> str:
    return str(version.record.task_data.get("build_id", ""))


def _doubled(facts: _Facts, builds: Sequence[Build]) -> Iterator[tuple[Instant, str]]:
    """A build was created beside a live one, although the list before the request showed that one."""
    for place, build in enumerate(builds):
        for other in builds[:place]:
            is_live = other.ended is None or other.ended > build.created
            if is_live and (build.delivery, other.id) not in facts.hidden:
                yield build.created, f"build {build.id} was created while build {other.id} was live, and known"


def _attempts(film: Film, versions: Sequence[Version]) -> Iterator[_Attempt]:
    known = 0
    for place, version in enumerate(versions):
        number = version.record.attempts
        if number > known:
            own = (other.at for other in versions[place + 1 :] if other.commit.delivery == version.commit.delivery)
            calls = _calls(film, version.commit.delivery, version.at, next(own, film.run.ended))
            requests = [call for call in calls if call.point.endswith(_REQUESTS)]
            yield _Attempt(number, version.at, requests, [call for call in calls if call.point.endswith(_LIST)])
        known = number


def _calls(film: Film, delivery: int, since: Instant, until: Instant) -> Sequence[Call]:
    return [call for call in film.run.history.calls if call.delivery == delivery and since <= call.at <= until]


def _hasty(facts: _Facts, before: _Attempt, after: _Attempt) -> Iterator[tuple[Invariant, Instant, str]]:
    """A further attempt requests a build without a look-up, or begins too soon after the last request."""
    request = next(iter(after.requests), None)
    if request is not None and not any(call.ended <= request.at for call in after.lists):
        yield Invariant.ONE_BUILD, request.at, f"attempt {after.number} requested a build without a look-up"
    ended = max((_over(facts, call) for call in before.requests), default=Instant(0))
    if (after.requests or after.lists) and after.since - ended < _PAUSE:
        text = f"attempt {after.number} began {(after.since - ended) / SECOND:.1f} s after the request before it"
        yield Invariant.PAUSE, after.since, text


def _over(facts: _Facts, call: Call) -> Instant:
    """Return when a request was over. If it landed before its process stood still, it was over at once."""
    return call.at if call.after is not None and (call.point, call.after) in facts.stalled else call.ended


def _left(facts: _Facts, versions: Sequence[Version], settled: Instant, build: Build) -> Iterator[tuple[Instant, str]]:
    """A second build outlived a message about it, or a check of its invocation that could see it."""
    notices = facts.film.run.history.notices
    for delivery in facts.film.run.history.deliveries:
        is_handled = notices.get(delivery.key) == build.id and delivery.code in _ANSWERED
        if is_handled and delivery.began >= settled and delivery.number not in facts.denied:
            at = delivery.ended or facts.film.run.ended
            if _lived(build, at):
                yield at, f"build {build.id} outlived its own message {delivery.key}"
    for version in versions:
        number = version.commit.delivery
        can_see = (number, build.id) not in facts.hidden and facts.deliveries[number].began > build.created
        is_check = version.at > settled and _is_check(facts, version)
        if is_check and can_see and number not in facts.denied and _lived(build, version.at):
            yield version.at, f"build {build.id} outlived a check of its invocation"


def _is_check(facts: _Facts, version: Version) -> bool:
    """Whether a commit is that of a check which looks for further builds.

    The message of a further build only decides about that build.
    """
    about = facts.film.run.history.notices.get(facts.deliveries[version.commit.delivery].key, _recorded(version))
    return version.commit.handler in _CHECKS and version.record.attempts > 1 and about == _recorded(version)


def _lived(build: Build, at: Instant) -> bool:
    return build.created < at and (build.ended is None or build.ended > at)


def _canceled(facts: _Facts, invocation: Any, build: Build) -> str:
    """Return how a handler canceled the kept build without a request for it; empty if none did."""
    if invocation.abort_requested_by or not build.canceled_by:
        return ""
    handlers = {facts.deliveries[number].handler for number in build.canceled_by}
    wrong = [name for name in sorted(handlers) if name in _CHECKS or name == "on_task launch"]
    return f"its own build {build.id} was canceled by {wrong[0]}" if wrong else ""
