"""The catalog of faults: each kind with the points where it can happen, its rate, and the meaning of its amount.

A point names a place in the run. ``<handler>/<service>.<method>/<before or after>`` is a call of a handler, for example
``on_task launch/buildbucket.ScheduleBuild/before``. ``platform/<what>`` is the platform or its users, for example
``platform/task timer``. `kinds_at` returns the kinds of a point.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from typing import Self

__all__ = ["GENTLE", "KINDS", "Fault", "Kind", "Spec", "kinds_at"]


class Kind(StrEnum):
    """A kind of fault. `KINDS` describes each."""

    CRASH_BEFORE = "crash-before"
    CRASH_AFTER = "crash-after"
    STALL = "stall"
    INSTANCE_CRASH = "instance-crash"
    COLD_START = "cold-start"
    CLOCK_SKEW = "clock-skew"
    EQUAL_SUFFIX = "equal-suffix"

    STORE_UNAVAILABLE = "store-unavailable"
    STORE_QUOTA = "store-quota"
    STORE_ABORTED = "store-aborted"
    STORE_HANG = "store-hang"
    STORE_ANSWER_LOST = "store-answer-lost"
    STORE_FALSE_CONFLICT = "store-false-conflict"
    STORE_LATE_LANDING = "store-late-landing"
    STORE_READ_FAILED = "store-read-failed"
    STORE_OUTAGE = "store-outage"
    STORE_SLOW = "store-slow"

    BUILD_UNAVAILABLE = "build-unavailable"
    BUILD_QUOTA = "build-quota"
    BUILD_DENIED = "build-denied"
    BUILD_PROXY = "build-proxy"
    BUILD_HANG = "build-hang"
    BUILD_LATE_LANDING = "build-late-landing"
    BUILD_ANSWER_LOST = "build-answer-lost"
    BUILD_ANSWER_LATE = "build-answer-late"
    BUILD_ANSWER_BROKEN = "build-answer-broken"
    BUILD_STALE = "build-stale"
    BUILD_SEARCH_LAG = "build-search-lag"
    BUILD_LIST_LAG = "build-list-lag"
    BUILD_ID_FORGOTTEN = "build-id-forgotten"
    BUILD_EMPTY_PAGE = "build-empty-page"
    BUILD_OUTAGE = "build-outage"

    ENQUEUE_REFUSED = "enqueue-refused"
    ENQUEUE_HANG = "enqueue-hang"
    ENQUEUE_ANSWER_LOST = "enqueue-answer-lost"
    ENQUEUE_SLOW = "enqueue-slow"
    TASK_EARLY = "task-early"
    TASK_LATE = "task-late"
    TASK_LOST = "task-lost"
    TASK_DOUBLED = "task-doubled"
    QUEUE_PURGED = "queue-purged"
    QUEUE_PAUSED = "queue-paused"

    NOTICE_LOST = "notice-lost"
    NOTICE_LATE = "notice-late"
    NOTICE_DOUBLED = "notice-doubled"
    EVENT_LATE = "event-late"
    EVENT_DOUBLED = "event-doubled"
    PUBLISH_REFUSED = "publish-refused"
    PUBLISH_ANSWER_LOST = "publish-answer-lost"

    HOST_UNAVAILABLE = "host-unavailable"
    HOST_QUOTA = "host-quota"
    HOST_HANG = "host-hang"
    HOST_LAG = "host-lag"
    HOST_OUTAGE = "host-outage"
    HOST_RENAMED = "host-renamed"
    FORCE_PUSH = "force-push"

    CONFIG_UNREADABLE = "config-unreadable"
    CONFIG_SLOW = "config-slow"
    CONFIG_CHANGE = "config-change"
    POLICY_CHANGE = "policy-change"
    JOB_REMOVED = "job-removed"
    PAUSE = "pause"
    ABORT = "abort"
    ABORT_JOB = "abort-job"
    TRIGGER = "trigger"
    RERUN = "rerun"
    BACKFILL = "backfill"
    KEY_ROTATION = "key-rotation"
    OLD_VERSION = "old-version"


@dataclass(frozen=True, slots=True)
class Spec:
    """What a kind does, and where."""

    says: str
    """One line for people."""
    at: str
    """A pattern of the points where it can happen."""
    rate: float
    """The share of the occasions in a storm of rate 1."""
    low: int = 0
    high: int = 0
    """The bounds of the amount, both inclusive."""
    amount: str = ""
    """The meaning of the amount; empty: it has none."""


_BEFORE = r"(on_\w+|console)[^/]*/{}/before"
_AFTER = r"(on_\w+|console)[^/]*/{}/after"
_ANY = r"[^/]+"
_MINUTE = "platform/minute"
_USERS = "platform/users"
_BB = r"(buildbucket|cloud_build)\.[^/]+"
_LISTS = r"(buildbucket\.(SearchBuilds|v1\.search)|cloud_build\.list)"
_STORE = r"store\.commit"
_READ = r"store\.(?!commit)[^/]+"
_ADD = r"queue\.enqueue [^/]+"
_HOST = r"(gitiles|github)\.[^/]+"
_TOPIC = r"topic\.publish"
_TAKEN = r"(topic\.publish|github\.status)"

KINDS: dict[Kind, Spec] = {
    Kind.CRASH_BEFORE: Spec("the process dies before a call", _BEFORE.format(_ANY), 0.004),
    Kind.CRASH_AFTER: Spec("the process dies after a call has landed", _AFTER.format(_ANY), 0.004),
    Kind.STALL: Spec(
        "the process stands still beyond a launch's lease", _AFTER.format(_ANY), 0.002, 60, 200, "seconds"
    ),
    Kind.INSTANCE_CRASH: Spec(
        "an instance dies with everything that it handles", _MINUTE, 0.01, 0, 255, "selects the instance"
    ),
    Kind.COLD_START: Spec("an idle instance starts anew", _MINUTE, 0.02, 0, 255, "selects the instance"),
    Kind.CLOCK_SKEW: Spec("the clock of an instance is wrong", "platform/instance", 0.5, -5000, 5000, "milliseconds"),
    Kind.EQUAL_SUFFIX: Spec(
        "an instance draws the millisecond and the suffix of another invocation",
        "platform/suffix", 0.05,
    ),
    Kind.STORE_UNAVAILABLE: Spec("the store refuses a commit for now", _BEFORE.format(_STORE), 0.01),
    Kind.STORE_QUOTA: Spec("the store refuses a commit for its quota", _BEFORE.format(_STORE), 0.003),
    Kind.STORE_ABORTED: Spec("the store aborts a commit for contention", _BEFORE.format(_STORE), 0.01),
    Kind.STORE_HANG: Spec("a commit hangs until its limit and never lands", _BEFORE.format(_STORE), 0.003),
    Kind.STORE_ANSWER_LOST: Spec("a commit lands, and its answer is lost", _AFTER.format(_STORE), 0.01),
    Kind.STORE_FALSE_CONFLICT: Spec(
        "a commit lands, and the caller reads that it was aborted", _AFTER.format(_STORE), 0.01
    ),
    Kind.STORE_LATE_LANDING: Spec(
        "a commit hangs until its limit, and lands after it", _BEFORE.format(_STORE), 0.003, 1, 30_000, "milliseconds"
    ),
    Kind.STORE_READ_FAILED: Spec("a read fails, with its quick repetitions", _BEFORE.format(_READ), 0.005),
    Kind.STORE_OUTAGE: Spec("the store is down", _MINUTE, 0.003, 1, 60, "minutes"),
    Kind.STORE_SLOW: Spec(
        "a commit is slow, and lands", _BEFORE.format(_STORE), 0.01, 100, 8_000, "milliseconds until it lands"
    ),
    Kind.BUILD_UNAVAILABLE: Spec("a build service is unavailable for a call", _BEFORE.format(_BB), 0.02),
    Kind.BUILD_QUOTA: Spec(
        "a build service refuses a call for its quota", _BEFORE.format(_BB), 0.01,
        0, 90, "Retry-After in seconds; 0: none",
    ),
    Kind.BUILD_DENIED: Spec("a build service itself denies a call for good", _BEFORE.format(_BB), 0.002),
    Kind.BUILD_PROXY: Spec(
        "a proxy answers in a build service's place, without its code", _BEFORE.format(_BB), 0.01, 0, 5,
        "selects 400, 401, 403, 404, 429 or 502",
    ),
    Kind.BUILD_HANG: Spec("a call of a build service hangs until its limit and never lands", _BEFORE.format(_BB), 0.01),
    Kind.BUILD_LATE_LANDING: Spec(
        "a call of a build service hangs until its limit, and lands after it", _BEFORE.format(_BB), 0.01,
        1, 4_000, "milliseconds after the limit, tenfold for the run of a trigger",
    ),
    Kind.BUILD_ANSWER_LOST: Spec(
        "a call of a build service lands, and its answer is lost", _AFTER.format(_BB), 0.02,
        0, 1, "0: the connection breaks; 1: the caller waits until its limit",
    ),
    Kind.BUILD_ANSWER_LATE: Spec(
        "a call of a build service lands, and its answer is slow", _AFTER.format(_BB), 0.02,
        1_000, 80_000, "milliseconds",
    ),
    Kind.BUILD_ANSWER_BROKEN: Spec(
        "a call of a build service lands, and a proxy spoils its answer", _AFTER.format(_BB), 0.005, 0, 3,
        "selects no JSON, an empty object (of a list: array), status 403 without a code, or status 400 without one",
    ),
    Kind.BUILD_STALE: Spec(
        "a build is shown as it was", _AFTER.format(r"(buildbucket\.(GetBuild|v1\.get)|cloud_build\.get)"), 0.05,
        1, 120, "seconds ago",
    ),
    Kind.BUILD_SEARCH_LAG: Spec(
        "a search does not show the newest builds", _AFTER.format(_LISTS), 0.3, 1, 45, "seconds of lag",
    ),
    Kind.BUILD_LIST_LAG: Spec(
        "a list of Cloud Build hides builds for longer than a launch pauses", _AFTER.format(r"cloud_build\.list"), 0.1,
        61, 240, "seconds of lag",
    ),
    Kind.BUILD_ID_FORGOTTEN: Spec(
        "the cache of v1 loses a request ID", _BEFORE.format(r"buildbucket\.v1\.put"), 0.3
    ),
    Kind.BUILD_EMPTY_PAGE: Spec(
        "a list of Cloud Build begins with an empty page", _BEFORE.format(r"cloud_build\.list"), 0.1
    ),
    Kind.BUILD_OUTAGE: Spec("the build services are down", _MINUTE, 0.003, 1, 60, "minutes"),
    Kind.ENQUEUE_REFUSED: Spec("the queue refuses a task", _BEFORE.format(_ADD), 0.01),
    Kind.ENQUEUE_HANG: Spec("the queue does not answer, and takes no task", _BEFORE.format(_ADD), 0.002),
    Kind.ENQUEUE_ANSWER_LOST: Spec("the queue takes a task, and its answer is lost", _AFTER.format(_ADD), 0.01),
    Kind.ENQUEUE_SLOW: Spec(
        "the queue takes a task, and its answer is slow", _AFTER.format(_ADD), 0.01, 100, 8_000, "milliseconds"
    ),
    Kind.TASK_EARLY: Spec("a task comes early", "platform/task .*", 0.05, 1, 900, "milliseconds"),
    Kind.TASK_LATE: Spec("a task comes late", "platform/task .*", 0.1, 1, 600_000, "milliseconds"),
    Kind.TASK_LOST: Spec("a task never comes", "platform/task .*", 0.02),
    Kind.TASK_DOUBLED: Spec(
        "a task comes twice", "platform/task .*", 0.05, 0, 300_000, "milliseconds to the copy; 0: at once"
    ),
    Kind.QUEUE_PURGED: Spec("all tasks of the queue are purged", _MINUTE, 0.005),
    Kind.QUEUE_PAUSED: Spec("the queue is paused", _MINUTE, 0.005, 1, 30, "minutes"),
    Kind.NOTICE_LOST: Spec("a build's notification never comes", "platform/notice", 0.1),
    Kind.NOTICE_LATE: Spec(
        "a build's notification comes late, behind later ones", "platform/notice", 0.1, 1, 900_000, "milliseconds"
    ),
    Kind.NOTICE_DOUBLED: Spec(
        "a build's notification comes twice", "platform/notice", 0.1, 0, 300_000, "milliseconds to the copy"
    ),
    Kind.EVENT_LATE: Spec(
        "a commit's event comes late, behind later ones", "platform/event", 0.1, 1, 900_000, "milliseconds"
    ),
    Kind.EVENT_DOUBLED: Spec(
        "a commit's event comes twice", "platform/event", 0.1, 0, 300_000, "milliseconds to the copy"
    ),
    Kind.PUBLISH_REFUSED: Spec("an announcement is refused for now", _BEFORE.format(_TOPIC), 0.02),
    Kind.PUBLISH_ANSWER_LOST: Spec(
        "an announcement or a commit status is sent, and its answer is lost", _AFTER.format(_TAKEN), 0.02
    ),
    Kind.HOST_UNAVAILABLE: Spec("the repository host is unavailable for a call", _BEFORE.format(_HOST), 0.02),
    Kind.HOST_QUOTA: Spec(
        "the repository host refuses a call for its quota", _BEFORE.format(_HOST), 0.01,
        0, 90, "Retry-After in seconds; 0: none",
    ),
    Kind.HOST_HANG: Spec("a call of the repository host hangs until its limit", _BEFORE.format(_HOST), 0.005),
    Kind.HOST_LAG: Spec(
        "a mirror of the repository host shows an earlier state", _BEFORE.format(_HOST), 0.1, 1, 300, "seconds ago"
    ),
    Kind.HOST_OUTAGE: Spec("the repository host is down", _MINUTE, 0.003, 1, 60, "minutes"),
    Kind.HOST_RENAMED: Spec("a repository is renamed, and its old address redirects", "platform/github", 0.03),
    Kind.FORCE_PUSH: Spec("a branch is reset to its parent and pushed again", _USERS, 0.01),
    Kind.CONFIG_UNREADABLE: Spec("the source of configs fails", _BEFORE.format(r"configs\.\w+"), 0.01),
    Kind.CONFIG_SLOW: Spec(
        "the source of configs answers late with an old text", _AFTER.format(r"configs\.\w+"), 0.02,
        1_000, 120_000, "milliseconds",
    ),
    Kind.CONFIG_CHANGE: Spec("the config of a job changes", _USERS, 0.02, 0, 255, "selects the job and the change"),
    Kind.POLICY_CHANGE: Spec("the triggering policy of a job changes", _USERS, 0.02, 0, 255, "selects job and policy"),
    Kind.JOB_REMOVED: Spec(
        "a job is removed from the config, and added again after a while", _USERS, 0.02, 0, 1 << 20,
        "selects the job and the seconds until it comes back",
    ),
    Kind.PAUSE: Spec(
        "a job is paused, and resumed after a while", _USERS, 0.03, 0, 1 << 20,
        "selects the job and the seconds until it is resumed",
    ),
    Kind.ABORT: Spec("a person aborts an invocation", _USERS, 0.05, 0, 255, "selects the invocation"),
    Kind.ABORT_JOB: Spec("a person aborts all invocations of a job", _USERS, 0.02, 0, 255, "selects the job"),
    Kind.TRIGGER: Spec("a person triggers a job", _USERS, 0.05, 0, 255, "selects the job"),
    Kind.RERUN: Spec("a person runs an ended invocation again", _USERS, 0.03, 0, 255, "selects the invocation"),
    Kind.BACKFILL: Spec("a person backfills a job", _USERS, 0.02, 0, 255, "selects the job"),
    Kind.KEY_ROTATION: Spec("the key of the notifications' tokens is rotated", _USERS, 0.01),
    Kind.OLD_VERSION: Spec(
        "an instance runs the functions of the last release", "platform/instance", 0.3, 0, 0
    ),
}  # fmt: skip
"""All kinds, in the order in which points draw them."""


GENTLE = frozenset(
    {
        Kind.CLOCK_SKEW,
        Kind.COLD_START,
        Kind.EQUAL_SUFFIX,
        Kind.STORE_ABORTED,
        Kind.STORE_FALSE_CONFLICT,
        Kind.STORE_SLOW,
        Kind.BUILD_STALE,
        Kind.BUILD_SEARCH_LAG,
        Kind.BUILD_ID_FORGOTTEN,
        Kind.BUILD_EMPTY_PAGE,
        Kind.ENQUEUE_SLOW,
        Kind.ENQUEUE_ANSWER_LOST,
        Kind.TASK_EARLY,
        Kind.TASK_DOUBLED,
        Kind.NOTICE_DOUBLED,
        Kind.NOTICE_LATE,
        Kind.NOTICE_LOST,
        Kind.EVENT_LATE,
        Kind.EVENT_DOUBLED,
        Kind.PUBLISH_REFUSED,
        Kind.PUBLISH_ANSWER_LOST,
        Kind.HOST_LAG,
        Kind.HOST_RENAMED,
        Kind.FORCE_PUSH,
        Kind.CONFIG_UNREADABLE,
        Kind.CONFIG_SLOW,
        Kind.CONFIG_CHANGE,
        Kind.POLICY_CHANGE,
        Kind.JOB_REMOVED,
        Kind.PAUSE,
        Kind.ABORT,
        Kind.ABORT_JOB,
        Kind.TRIGGER,
        Kind.RERUN,
        Kind.BACKFILL,
    }
)
"""The kinds that neither lose work nor delay it for minutes, so that the sweep has nothing to do."""


@dataclass(frozen=True, slots=True)
class Fault:
    """A past or planned fault at the ``nth`` occurrence of a point, counted from 0."""

    kind: Kind
    point: str
    nth: int
    amount: int = 0
    """Its meaning depends on the kind: see `Spec.amount`."""

    def __str__(self) -> str:
        """Return ``kind@point#nth=amount``, which `parse` reads."""
        return f"{self.kind}@{self.point}#{self.nth}={self.amount}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read what `__str__` writes.

        Raises:
            ValueError: the text is no fault.
        """
        match = re.fullmatch(r"([a-z-]+)@(.+)#(\d+)=(-?\d+)", text)
        if match is None:
            raise ValueError(f"a fault reads kind@point#nth=amount: {text!r}")
        return cls(Kind(match[1]), match[2], int(match[3]), int(match[4]))


@cache
def kinds_at(point: str) -> Sequence[Kind]:
    """Return the kinds that can happen at a point, in the order of the catalog."""
    return tuple(kind for kind, spec in KINDS.items() if re.fullmatch(spec.at, point))
