"""Gitiles jobs: the log, the triggers and the record of a poll, for each behavior of the original."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
from structlog.testing import capture_logs

from emulator.clock import SteppedClock
from emulator.memory.gitiles import MemoryGitiles
from emulator.memory.queue import MemoryQueue
from emulator.memory.system import SeededEntropy
from luci_scheduler.core.era import Era
from luci_scheduler.core.errors import PermanentError, TransientError
from luci_scheduler.core.identifiers import InvocationId, JobId
from luci_scheduler.core.instants import MINUTE, SECOND, parse_rfc3339
from luci_scheduler.core.invocation import Invocation, Status
from luci_scheduler.core.job import TaskDefinition
from luci_scheduler.core.pattern_budget import PatternBudget
from luci_scheduler.core.poller_record import PollerRecord
from luci_scheduler.core.ref_sets import ref_set
from luci_scheduler.managers.controller import CallCache, Controller
from luci_scheduler.managers.environment import Environment, Polling
from luci_scheduler.managers.gitiles import poll, repository
from luci_scheduler.managers.gitiles.manager import GitilesManager
from luci_scheduler.ports import GitilesError, Versioned

JOB = JobId("proj/poller")
REPO = "https://r.googlesource.com/a/repo.git"
NORMAL = "https://r.googlesource.com/repo"
MAIN, DEV = "refs/heads/main", "refs/heads/dev"
GONE = "0" * 39 + "1"


class Polls:
    """A gitiles job that a test polls directly. It stores the results of a poll, as the engine's commit would."""

    def __init__(self, refs: Sequence[str] = (MAIN,), polling: Polling | None = None, **fields: Any) -> None:
        self.git = MemoryGitiles()
        self.clock = SteppedClock(parse_rfc3339("2026-03-01T12:00:00Z"))
        self.found: Versioned[PollerRecord] | None = None
        self.reads = 0
        self.fields = {"repo": REPO, "refs": list(refs), **fields}
        self.manager = GitilesManager(
            Environment(
                buildbucket=None,  # type: ignore[arg-type]  # no build is made
                fetch=None,  # type: ignore[arg-type]  # no URL is fetched
                gitiles=self.git,
                pollers=self,
                app_id="app",
                hostname="app.example.com",
                token_secrets=("secret",),
                polling=polling or Polling(),
            )
        )
        self.answers = CallCache()
        self.controller = self.fresh()

    def poller(self, job_id: JobId) -> Versioned[PollerRecord] | None:
        """Return the record; implements the port ``Pollers``."""
        assert job_id == JOB
        self.reads += 1
        return self.found

    def fresh(self) -> Controller:
        """Return a controller of a new invocation within the same delivery."""
        task = TaskDefinition("gitiles", self.fields)
        invocation = Invocation(InvocationId(7), JOB, self.clock.now(), task, triggered_jobs=(JobId("proj/job"),))
        self.controller = Controller(invocation, self.clock, SeededEntropy(), MemoryQueue(), self.answers)
        return self.controller

    def poll(self, *, same_delivery: bool = False) -> list[str]:
        """Poll, store the results, and return the log lines without time stamps."""
        if not same_delivery:
            self.answers = CallCache()
        controller = self.fresh()
        self.git.calls.clear()
        try:
            self.manager.launch(controller)
        finally:
            self.lines = [line[15:] if line.startswith("[") else line for line in controller.log_text.splitlines()]
        assert controller.invocation.status is Status.SUCCEEDED
        if controller.poller is not None:
            assert controller.poller.version == (self.found.version if self.found else None)
            self.found = Versioned(controller.poller.record, controller.poller.record.commits)
        return self.lines

    @property
    def emitted(self) -> list[str]:
        """Return the commits of the last poll's triggers, in order."""
        return [trigger.title for trigger in self.controller.result().outgoing_triggers]

    @property
    def known(self) -> Mapping[str, str]:
        """Return the known refs."""
        assert self.found is not None
        return self.found.value.known

    def fails(self, kind: type[Exception]) -> list[str]:
        """Poll, assert that the poll fails and stores nothing, and return the log lines."""
        before = self.found
        with pytest.raises(kind):
            self.poll()
        assert self.found is before
        assert self.controller.poller is None
        assert self.controller.invocation.status is Status.STARTING
        return self.lines

    def fail(self, *calls: str, code: str = "UNAVAILABLE") -> None:
        """Make all calls whose name starts with one of ``calls`` fail from now on."""

        def before(call: str) -> None:
            if call.startswith(calls):
                raise GitilesError(code, "HTTP 503", transient=True)

        self.git.before_call = before


def short(lines: Sequence[str]) -> list[str]:
    """Return lines without the first lines of every poll and without lines about single triggers."""
    return [line for line in lines if not line.startswith(("Repo: ", "Fetched refs: ", "Emitting a trigger "))]


def test_the_first_poll_emits_the_tips_of_new_refs() -> None:
    """Each ref gets one trigger, regardless of its history. The test compares every log line."""
    polls = Polls([MAIN, r"regexp:refs/heads/release-\d+"])
    main = polls.git.push(MAIN, 5)[-1]
    release = polls.git.push("refs/heads/release-1")[-1]
    polls.git.push("refs/heads/other")
    assert polls.poll() == [
        f"Repo: {REPO}, Refs: [{MAIN} regexp:refs/heads/release-\\d+]",
        "Fetched refs: 0 from datastore, 2 from gitiles",
        f"Ref {MAIN} is new: {main}",
        f"Emitting a trigger {REPO}/+/{MAIN}@{main}",
        f"Ref refs/heads/release-1 is new: {release}",
        f"Emitting a trigger {REPO}/+/refs/heads/release-1@{release}",
        "All 2 changed refs processed",
        "Dispatching triggers (2 of them) to the following jobs:",
        "  proj/job",
        "Saved 2 known refs",
    ]
    assert polls.git.calls == ["refs refs/heads", f"log {main} n=1", f"log {release} n=1"]
    assert polls.found is not None
    assert polls.found.value == PollerRecord(
        JOB, NORMAL, {MAIN: main, "refs/heads/release-1": release}, (MAIN, r"regexp:refs/heads/release-\d+"), 1
    )
    assert polls.controller.mutations == 1  # the save of its own; the closing one is the engine's


def test_new_commits_become_triggers_oldest_first() -> None:
    """Each trigger has the committer's time and its place; its ID spells the repository as the config does."""
    polls = Polls()
    polls.git.push(MAIN)
    polls.poll()
    old = polls.git.heads[MAIN]
    first, second, third = polls.git.push(MAIN, 3)
    assert short(polls.poll()) == [
        f"Ref {MAIN} updated: {old} => {third}",
        "All 1 changed refs processed",
        "Dispatching triggers (3 of them) to the following jobs:",
        "  proj/job",
        "Saved 1 known refs",
    ]
    assert polls.git.calls == ["refs refs/heads", f"log {old}..{third} n=50"]
    triggers = polls.controller.result().outgoing_triggers
    assert [trigger.title for trigger in triggers] == [first, second, third]
    assert [trigger.order_in_batch for trigger in triggers] == [0, 1, 2]
    assert len({trigger.created for trigger in triggers}) == 3
    assert triggers[0].id == f"{REPO}/+/{MAIN}@{first}"
    assert triggers[0].url == f"{REPO}/+/{first}"
    assert triggers[0].payload == {"repo": REPO, "ref": MAIN, "revision": first}
    assert (triggers[0].job_id, triggers[0].invocation_id) == (JOB, 7)


def test_nothing_new_writes_nothing() -> None:
    """A poll of an unchanged repository logs one line and changes only the invocation."""
    polls = Polls()
    polls.git.push(MAIN)
    polls.poll()
    assert polls.poll() == [
        f"Repo: {REPO}, Refs: [{MAIN}]",
        "Fetched refs: 1 from datastore, 1 from gitiles",
        "No changes detected",
    ]
    assert polls.controller.poller is None
    assert polls.controller.mutations == 0
    assert polls.git.calls == ["refs refs/heads"]


def test_sixty_commits_give_fifty_triggers_and_report_ten_skipped(capsys: pytest.CaptureFixture[str]) -> None:
    """The newest fifty get triggers. The invocation's log and the service's log give the number of skipped commits."""
    polls = Polls()
    polls.git.push(MAIN)
    polls.poll()
    hashes = polls.git.push(MAIN, 60)
    lines = polls.poll()
    assert polls.emitted == hashes[10:]
    assert f"Ref {MAIN}: skipped 10 commits older than the newest 50" in lines
    assert polls.known == {MAIN: hashes[-1]}
    event = capsys.readouterr().out
    assert "commits_skipped" in event
    assert "skipped=10" in event


def test_a_failed_count_of_skipped_commits_is_harmless() -> None:
    """A failure does not affect the triggers of the newest commits."""
    polls = Polls()
    polls.git.push(MAIN)
    polls.poll()
    old, hashes = polls.git.heads[MAIN], polls.git.push(MAIN, 60)
    polls.fail(f"log {old}..{hashes[-1]} n=1000")
    assert f"Ref {MAIN}: skipped at least 1 commits older than the newest 50" in polls.poll()
    assert polls.emitted == hashes[10:]


def test_exactly_fifty_commits_skip_none() -> None:
    """A full page without a next page is the whole range."""
    polls = Polls()
    polls.git.push(MAIN)
    polls.poll()
    hashes = polls.git.push(MAIN, 50)
    assert not any("skipped" in line for line in polls.poll())
    assert polls.emitted == hashes


def test_the_third_busy_ref_waits() -> None:
    """After a hundred triggers, a poll examines no ref that might add fifty more; the next poll continues there."""
    names = ["refs/heads/a", "refs/heads/b", "refs/heads/c"]
    polls = Polls(names)
    for name in names:
        polls.git.push(name)
    polls.poll()
    hashes = {name: polls.git.push(name, 50) for name in names}
    lines = short(polls.poll())
    assert lines[2:4] == [
        "Emitted 100 triggers, postponing the rest",
        "2 changed refs processed, 1 refs not yet examined",
    ]
    assert polls.emitted == hashes["refs/heads/a"] + hashes["refs/heads/b"]
    assert [trigger.order_in_batch for trigger in polls.controller.result().outgoing_triggers] == list(range(100))
    polls.poll()
    assert polls.emitted == hashes["refs/heads/c"]


def test_the_limit_is_also_logged_after_the_last_ref() -> None:
    """The limit may be reached at the last ref, so that no refs are left."""
    names = ["refs/heads/a", "refs/heads/b"]
    polls = Polls(names)
    for name in names:
        polls.git.push(name)
    polls.poll()
    for name in names:
        polls.git.push(name, 50)
    assert short(polls.poll())[2:4] == ["Emitted 100 triggers, postponing the rest", "All 2 changed refs processed"]


def test_limits_are_settings() -> None:
    """A ref that may exceed a poll's limit does not block the other refs forever."""
    polls = Polls([DEV, MAIN], Polling(commits_per_ref=3, commits_per_poll=1))
    polls.git.push(DEV)
    polls.git.push(MAIN)
    polls.poll()
    assert len(polls.emitted) == 1
    polls.poll()
    assert polls.known == polls.git.heads


def test_a_force_push_emits_the_new_head() -> None:
    """The old head is gone, so the new commits are unknown; only the head gets a trigger."""
    polls = Polls()
    polls.git.push(MAIN, 3)
    polls.poll()
    old = polls.git.heads[MAIN]
    polls.git.forget(old)
    (head,) = polls.git.push(MAIN, parents=[])
    assert short(polls.poll())[:3] == [
        f"Ref {MAIN} updated: {old} => {head}",
        f"Ref {MAIN}: log old..new is not found, investigating further...",
        f"Ref {MAIN}: force push detected; emitting trigger for new head",
    ]
    assert polls.git.calls[1:] == [f"log {old}..{head} n=50", f"log {head} n=1", f"log {old} n=1"]
    assert polls.emitted == [head]
    assert polls.known == {MAIN: head}


def test_a_force_push_to_another_branch_emits_the_commits_outside_the_old_one() -> None:
    """The old head still exists, so this is an ordinary range."""
    polls = Polls()
    base, old = polls.git.push(MAIN, 2)
    polls.poll()
    new = polls.git.push(MAIN, 2, parents=[base])
    polls.poll()
    assert polls.emitted == new
    assert old not in polls.emitted


def test_a_force_push_backwards_emits_nothing() -> None:
    """No commit is new, but the record has the new head."""
    polls = Polls()
    base = polls.git.push(MAIN, 3)[0]
    polls.poll()
    old, polls.git.heads[MAIN] = polls.git.heads[MAIN], base
    assert short(polls.poll()) == [
        f"Ref {MAIN} updated: {old} => {base}",
        "All 1 changed refs processed",
        "Saved 1 known refs",
    ]
    assert polls.emitted == []
    assert polls.known == {MAIN: base}


def test_deleted_and_unwatched_refs_are_forgotten() -> None:
    """Each counts as a change; a ref that returns is new."""
    polls = Polls([r"regexp:refs/heads/[ab]"])
    for name in ("a", "b"):
        polls.git.push(f"refs/heads/{name}")
    polls.poll()
    kept = polls.git.heads.pop("refs/heads/b")
    assert short(polls.poll()) == ["Ref refs/heads/b deleted", "All 1 changed refs processed", "Saved 1 known refs"]
    polls.git.heads["refs/heads/b"] = kept
    polls.poll()
    assert polls.emitted == [kept]
    polls.fields = {**polls.fields, "refs": ["refs/heads/b"]}
    assert short(polls.poll()) == [
        "Ref refs/heads/a is no longer watched",
        "All 1 changed refs processed",
        "Saved 1 known refs",
    ]
    assert polls.known == {"refs/heads/b": kept}


def test_a_configured_ref_that_is_missing_fails_the_poll() -> None:
    """The log names the missing entries and the existing refs; the record does not change."""
    polls = Polls([MAIN, DEV, r"regexp:refs/heads/x\d"])
    (head,) = polls.git.push(MAIN)
    assert polls.fails(PermanentError)[1:] == [
        "Fetched refs: 0 from datastore, 1 from gitiles",
        rf"The following configured refs didn't match a single actual ref: [{DEV} regexp:refs/heads/x\d]",
        f'Hint: have you granted read access to LUCI Scheduler on relevant refs in "{REPO}"',
        "Resolved refs from gitiles:",
        f'map["{MAIN}":"{head}"]?',
        "",
        "Error fetching state of the world: 2 unresolved refs",
    ]


def test_a_bad_repository_fails_the_poll_without_further_log_lines() -> None:
    """Such a repository is valid in a config."""
    polls = Polls(repo="https://example.com/repo")
    assert polls.fails(PermanentError) == [f"Repo: https://example.com/repo, Refs: [{MAIN}]"]


def test_listing_errors_fail_the_poll() -> None:
    """This includes transient errors: the next scheduled poll tries again."""
    polls = Polls()
    polls.fail("refs")
    assert polls.fails(PermanentError)[1:] == ["Error fetching state of the world: UNAVAILABLE: HTTP 503"]


def test_a_failing_store_causes_a_retry_of_the_poll() -> None:
    """A failed read of the store is retried, unlike a failed listing."""
    polls = Polls()

    def poller(job_id: JobId) -> None:
        raise TransientError("the store is away")

    polls.poller = poller  # type: ignore[method-assign]
    assert polls.fails(TransientError)[1:] == ["Error fetching state of the world: the store is away"]


def test_slow_listings_are_abandoned_after_a_minute() -> None:
    """The limit is for all listings of a poll together."""
    polls = Polls([MAIN, "refs/tags/t", "refs/x/y"])
    polls.git.before_call = lambda _: polls.clock.advance(40 * 10**9)
    assert "DEADLINE_EXCEEDED" in polls.fails(PermanentError)[1]


NOT_FOUND_ROWS = {
    "new head not there": (
        lambda call, old, head: call in (f"log {old}..{head} n=50", f"log {head} n=1"),
        "Ref {ref}: failed to fetch even log of just new rev {head} NOT_FOUND: HTTP 404",
    ),
    "a fluke": (
        lambda call, old, head: call == f"log {old}..{head} n=50",
        "Ref {ref}: weirdly, log({old}) and log({head}) work, but not log({old}..{head})",
    ),
}


@pytest.mark.parametrize("row", NOT_FOUND_ROWS)
def test_a_range_that_is_not_found(row: str) -> None:
    """Unless it is a force push, the next attempt may succeed."""
    polls = Polls()
    polls.git.push(MAIN)
    polls.poll()
    old, (head,) = polls.git.heads[MAIN], polls.git.push(MAIN)
    hits, line = NOT_FOUND_ROWS[row]

    def before(call: str) -> None:
        if hits(call, old, head):
            raise GitilesError("NOT_FOUND", "HTTP 404", transient=False)

    polls.git.before_call = before
    assert polls.fails(TransientError)[3:] == [
        f"Ref {MAIN}: log old..new is not found, investigating further...",
        line.format(ref=MAIN, old=old, head=head),
        "no progress made due to NOT_FOUND: HTTP 404",
    ]


def test_an_error_about_the_old_head() -> None:
    """The poll cannot know whether it was a force push, so the next attempt tries again."""
    polls = Polls()
    polls.git.push(MAIN)
    polls.poll()
    old, (head,) = polls.git.heads[MAIN], polls.git.push(MAIN)

    def before(call: str) -> None:
        if call.startswith(f"log {old}.."):
            raise GitilesError("NOT_FOUND", "HTTP 404", transient=False)
        if call.startswith(f"log {old} "):
            raise GitilesError("UNAVAILABLE", "HTTP 503", transient=True)

    polls.git.before_call = before
    assert polls.fails(TransientError)[-2:] == [
        f"Ref {MAIN}: failed to fetch log of just old rev {old}: UNAVAILABLE: HTTP 503",
        "no progress made due to UNAVAILABLE: HTTP 503",
    ]
    assert head not in polls.emitted


def test_a_new_ref_whose_head_is_not_served_yet() -> None:
    """The next attempt may succeed."""
    polls = Polls()
    polls.git.heads[MAIN] = GONE
    assert polls.fails(TransientError)[2:] == [
        f"Ref {MAIN} is new: {GONE}",
        f"Ref {MAIN}: log of first rev {GONE} not found",
        "no progress made due to NOT_FOUND: HTTP 404: Requested entity was not found",
    ]


def test_an_error_before_any_progress_is_retried() -> None:
    """The error comes before any change."""
    polls = Polls()
    polls.git.push(MAIN)
    polls.poll()
    old, (head,) = polls.git.heads[MAIN], polls.git.push(MAIN)
    polls.fail("log")
    assert polls.fails(TransientError)[2:] == [
        f"Ref {MAIN} updated: {old} => {head}",
        f"Ref {MAIN}: failed to fetch log between old {old} and new {head} revs",
        "no progress made due to UNAVAILABLE: HTTP 503",
    ]


def test_an_error_after_progress_ends_the_poll() -> None:
    """The poll keeps its results; the next poll examines the failing ref and the refs after it."""
    names = ["refs/heads/a", "refs/heads/b", "refs/heads/c"]
    polls = Polls(names)
    for name in names:
        polls.git.push(name)
    polls.poll()
    before = dict(polls.known)
    for name in names:
        polls.git.push(name)
    polls.fail(f"log {before['refs/heads/b']}")
    assert short(polls.poll())[2:5] == [
        (
            f"Ref refs/heads/b: failed to fetch log between old {before['refs/heads/b']} "
            f"and new {polls.git.heads['refs/heads/b']} revs"
        ),
        "ignoring error UNAVAILABLE: HTTP 503 as transient",
        "1 changed refs processed, 2 refs not yet examined",
    ]
    assert polls.known == {**before, "refs/heads/a": polls.git.heads["refs/heads/a"]}


def test_slow_logs_of_one_ref_are_abandoned_after_a_minute() -> None:
    """The limit is for all log requests of a ref together."""
    polls = Polls()
    polls.git.push(MAIN)
    polls.poll()
    polls.git.forget(polls.git.heads[MAIN])
    polls.git.push(MAIN, parents=[])
    polls.git.before_call = lambda call: polls.clock.advance(2 * MINUTE if call.startswith("log") else 0)
    assert "the ref's logs took more than a minute" in polls.fails(TransientError)[-1]


def test_a_poll_of_a_slow_server_makes_progress() -> None:
    """After a minute the poll keeps its results, and the next poll continues."""
    names = [f"refs/heads/{name}" for name in "abcd"]
    polls = Polls(names)
    for name in names:
        polls.git.push(name)
    polls.git.before_call = lambda call: polls.clock.advance(25 * SECOND if call.startswith("log") else 0)
    assert short(polls.poll())[3:5] == [
        "Emitted 3 triggers, postponing the rest",
        "3 changed refs processed, 1 refs not yet examined",
    ]
    polls.poll()
    assert polls.known == polls.git.heads


class TestTags:
    """Tags that a changed set of refs covers for the first time are not new; tags that are pushed later are."""

    TAGS = r"regexp:refs/tags/.+"

    def test_existing_tags_give_no_trigger(self) -> None:
        """Neither the first poll nor a changed config triggers them, and no poll requests their logs."""
        polls = Polls([MAIN])
        (head,) = polls.git.push(MAIN)
        polls.poll()
        polls.git.heads["refs/tags/v1"] = head
        polls.fields = {**polls.fields, "refs": [MAIN, self.TAGS]}
        assert short(polls.poll()) == [
            f"Ref refs/tags/v1 is new: {head}",
            "Tag refs/tags/v1 newly matched but already existed",
            "All 1 changed refs processed",
            "Saved 2 known refs",
        ]
        assert polls.git.calls == ["refs refs/heads", "refs refs/tags"]
        polls.git.heads["refs/tags/v2"] = head
        polls.poll()
        assert polls.emitted == [head]

    def test_known_tags_outside_the_stored_set_are_mentioned(self) -> None:
        """The lines have no further effect."""
        polls = Polls([self.TAGS])
        (head,) = polls.git.push("refs/tags/v1")
        polls.found = Versioned(PollerRecord(JOB, NORMAL, {"refs/tags/v1": head}, ()), 0)
        assert short(polls.poll()) == ["Tag refs/tags/v1 newly matched but already existed", "No changes detected"]

    def test_in_2021_tags_were_ordinary_refs(self) -> None:
        """In 2021, the first poll emitted a trigger for each tag."""
        polls = Polls([self.TAGS], Polling(era=Era.V1))
        (head,) = polls.git.push("refs/tags/v1")
        assert not any(line.startswith("Tag ") for line in polls.poll())
        assert polls.emitted == [head]

    def test_one_poll_handles_any_number_of_tags(self) -> None:
        """One poll handles any number of tags."""
        polls = Polls([self.TAGS])
        for number in range(120):
            polls.git.push(f"refs/tags/v{number}")
        assert short(polls.poll())[-2:] == ["All 120 changed refs processed", "Saved 120 known refs"]
        assert polls.emitted == []


def test_refs_that_cost_too_much_to_compare_end_the_poll(monkeypatch: pytest.MonkeyPatch) -> None:
    """The poll reports that and stores nothing. The cost is counted in operations, not in time."""
    polls = Polls(["regexp:refs/heads/(a?){900}(a){900}x", MAIN])
    polls.git.push(MAIN)
    for number in range(20):
        polls.git.push(f"refs/heads/b{number}{'b' * 50}")
    monkeypatch.setattr(repository, "POLL_REF_UNITS", 1_000_000)
    with pytest.raises(PermanentError, match=f"the patterns of 'refs' cost too much for the refs of {REPO}: simplify"):
        polls.poll()
    with pytest.raises(PermanentError, match="cost too much"):
        polls.manager.idle(polls.fresh())
    monkeypatch.setattr(repository, "POLL_REF_UNITS", 10_000_000)
    with pytest.raises(PermanentError, match="1 unresolved refs"):
        polls.poll()


def test_expensive_lookups_of_missing_entries_end_the_poll(monkeypatch: pytest.MonkeyPatch) -> None:
    """To find entries without refs, the poll compares each pattern with each ref once more."""
    refs = ["regexp:refs/heads/.+", *(f"regexp:refs/heads/x{number}.y" for number in range(5))]
    polls = Polls(refs)
    heads = [f"refs/heads/b{number}" for number in range(20)]
    for ref in heads:
        polls.git.push(ref)
    listing, looking = PatternBudget(10**9), PatternBudget(10**9)
    assert all(ref_set(tuple(refs)).covers(ref, listing) for ref in heads)
    assert len(ref_set(tuple(refs)).missing(heads, looking)) == 5
    assert listing.spent < looking.spent
    monkeypatch.setattr(repository, "POLL_REF_UNITS", listing.spent)
    with pytest.raises(PermanentError, match="the patterns of 'refs' cost too much"):
        polls.poll()
    monkeypatch.setattr(repository, "POLL_REF_UNITS", looking.spent)
    with pytest.raises(PermanentError, match="5 unresolved refs"):
        polls.poll()


class TestPathFilters:
    """Path filters: commits that change no matching path get no trigger."""

    CODE, DOCS = (("a.c", "a.c"),), (("docs/x", "docs/x"),)

    def polls(self, era: Era = Era.V2) -> Polls:
        """Return a job that watches C files."""
        return Polls([MAIN], Polling(era=era), path_regexps=[r".+\.c"], path_regexps_exclude=["third_party/.+"])

    def test_a_commit_that_costs_too_much_is_skipped(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Each commit has its own budget. The poll's log and a structured log event name a commit that exceeds it."""
        monkeypatch.setattr(poll, "PATH_UNITS", 500_000)
        polls = Polls([MAIN], path_regexps=["(a?){900}(a){900}x", r".+\.c"])
        polls.git.push(MAIN, diff=self.CODE)
        polls.poll()
        (large,) = polls.git.push(MAIN, diff=[("", "b" * 100)] * 3)
        (code,) = polls.git.push(MAIN, diff=self.CODE)
        with capture_logs() as logs:
            lines = polls.poll()
        assert polls.emitted == [code]
        assert (
            f'skipping commit "{large}" on "{MAIN}" because the path filters cost too much for it: simplify them'
            in lines
        )
        logged = [line for line in logs if line["event"] == "patterns_too_costly"]
        assert [(line["project"], line["ref"], line["revision"]) for line in logged] == [("proj", MAIN, large)]

    def test_commits_are_skipped(self) -> None:
        """The poll requests diffs, logs each skipped commit, and advances the ref."""
        polls = self.polls()
        polls.git.push(MAIN, diff=self.CODE)
        polls.poll()
        (code,) = polls.git.push(MAIN, diff=self.CODE)
        (docs,) = polls.git.push(MAIN, diff=self.DOCS)
        (none,) = polls.git.push(MAIN, diff=())
        (excluded,) = polls.git.push(MAIN, diff=[("", "third_party/b.c")])
        lines = polls.poll()
        assert polls.emitted == [code]
        for commit in (docs, none, excluded):
            assert f'skipping commit "{commit}" on "{MAIN}" because didn\'t match path filters' in lines
        assert polls.git.calls[1].endswith(" n=50 diffs")
        assert polls.known == {MAIN: excluded}

    @pytest.mark.parametrize("era", [Era.V2, Era.V1])
    def test_the_filter_applies_to_a_new_ref_today_but_not_in_2021(self, era: Era) -> None:
        """In 2021, its tip got a trigger regardless of the filter."""
        polls = self.polls(era)
        (docs,) = polls.git.push(MAIN, diff=self.DOCS)
        lines = polls.poll()
        note = (
            f'NOTE: emitting trigger "{docs}" on tip of "{MAIN}" even though didn\'t match path filters because new ref'
        )
        assert (note in lines, polls.emitted) == ((True, [docs]) if era is Era.V1 else (False, []))

    @pytest.mark.parametrize("era", [Era.V2, Era.V1])
    def test_the_filter_applies_to_a_force_pushed_head_today_but_not_in_2021(self, era: Era) -> None:
        """In 2021, the poll fetched the head without its diff."""
        polls = self.polls(era)
        polls.git.push(MAIN, diff=self.CODE)
        polls.poll()
        polls.git.forget(polls.git.heads[MAIN])
        (head,) = polls.git.push(MAIN, parents=[], diff=self.CODE)
        polls.poll()
        assert polls.emitted == ([head] if era is Era.V1 else [])
        assert polls.known == {MAIN: head}

    def test_in_2021_a_full_page_emitted_at_least_its_tip(self) -> None:
        """In 2021, the poll assumed that the unexamined commits might match."""
        polls = self.polls(Era.V1)
        polls.git.push(MAIN, diff=self.CODE)
        polls.poll()
        tip = polls.git.push(MAIN, 50, diff=self.DOCS)[-1]
        assert any(line.endswith("because not all commits were examined") for line in polls.poll())
        assert polls.emitted == [tip]
        (code, *_) = polls.git.push(MAIN, diff=self.CODE)
        polls.git.push(MAIN, 49, diff=self.DOCS)
        polls.poll()
        assert polls.emitted == [code]


class TestBackfill:
    """With backfill enabled, no commit is skipped: later polls trigger the rest."""

    def test_a_long_range_is_triggered_oldest_first(self) -> None:
        """Commits that are pushed meanwhile follow later; each commit gets one trigger."""
        polls = Polls([MAIN], Polling(commits_per_ref=4, commits_per_poll=8, backfill=True))
        polls.git.push(MAIN)
        polls.poll()
        old, hashes = polls.git.heads[MAIN], polls.git.push(MAIN, 10)
        assert f"Ref {MAIN}: 6 newer commits are left to the next polls" in polls.poll()
        taken = polls.emitted
        assert taken == hashes[:4]
        assert polls.known == {MAIN: old}
        later = polls.git.push(MAIN, 3)
        for _ in range(3):
            assert not polls.manager.idle(self.fresh(polls))
            polls.poll()
            taken += polls.emitted
        assert taken == hashes + later
        assert polls.known == {MAIN: later[-1]}
        assert polls.manager.idle(self.fresh(polls))

    @staticmethod
    def fresh(polls: Polls) -> Controller:
        """Return the controller of another delivery."""
        polls.answers = CallCache()
        return polls.fresh()

    def test_merges_are_triggered_once(self) -> None:
        """The log interleaves commits of side branches with those of the main branch."""
        polls = Polls([MAIN], Polling(commits_per_ref=3, commits_per_poll=6, backfill=True))
        (base,) = polls.git.push(MAIN)
        polls.poll()
        side = polls.git.push("refs/heads/side", 4, parents=[base])
        main = polls.git.push(MAIN, 4)
        merge = polls.git.push(MAIN, parents=[main[-1], side[-1]])
        taken: list[str] = []
        for _ in range(3):
            polls.poll()
            taken += polls.emitted
        assert sorted(taken) == sorted(side + main + merge)

    def test_a_range_that_a_force_push_removed_is_abandoned(self) -> None:
        """Only the new head gets a trigger, because the range is unknown."""
        polls = Polls([MAIN], Polling(commits_per_ref=2, commits_per_poll=4, backfill=True))
        polls.git.push(MAIN)
        polls.poll()
        gone = [polls.git.heads[MAIN], *polls.git.push(MAIN, 5)]
        polls.poll()
        polls.git.forget(*gone)
        (head,) = polls.git.push(MAIN, parents=[])
        polls.poll()
        assert polls.emitted == [head]
        assert polls.known == {MAIN: head}
        assert polls.found is not None
        assert polls.found.value.backlog == {}

    def test_a_deleted_ref_leaves_no_backlog(self) -> None:
        """Otherwise polls would never be idle again."""
        polls = Polls(["regexp:refs/heads/.*"], Polling(commits_per_ref=2, commits_per_poll=4, backfill=True))
        polls.git.push(MAIN)
        polls.git.push(DEV)
        polls.poll()
        polls.git.push(DEV, 5)
        polls.poll()
        assert polls.found is not None
        assert set(polls.found.value.backlog) == {DEV}
        del polls.git.heads[DEV]
        polls.poll()
        assert polls.found.value.backlog == {}
        assert polls.manager.idle(self.fresh(polls))

    def test_a_target_that_a_force_push_removed_is_replaced(self) -> None:
        """If the old revision still exists, the commits up to the current head get triggers."""
        polls = Polls([MAIN], Polling(commits_per_ref=2, commits_per_poll=4, backfill=True))
        (base,) = polls.git.push(MAIN)
        polls.poll()
        gone = polls.git.push(MAIN, 5)
        polls.poll()
        polls.git.forget(*gone)
        new = polls.git.push(MAIN, 3, parents=[base])
        taken: list[str] = []
        for _ in range(2):
            polls.poll()
            taken += polls.emitted
        assert taken == new
        assert polls.known == {MAIN: new[-1]}

    def test_a_ref_that_moved_back_keeps_its_range(self) -> None:
        """The head has not changed, but the range still has commits without triggers."""
        polls = Polls([MAIN], Polling(commits_per_ref=2, commits_per_poll=4, backfill=True))
        (base,) = polls.git.push(MAIN)
        polls.poll()
        hashes = polls.git.push(MAIN, 4)
        polls.poll()
        polls.git.heads[MAIN] = base
        assert not polls.manager.idle(self.fresh(polls))
        polls.poll()
        assert polls.emitted == hashes[2:]
        polls.poll()
        assert polls.emitted == []
        assert polls.known == {MAIN: base}

    def test_an_error_leaves_the_range_unchanged(self) -> None:
        """The next attempt continues at the same place."""
        polls = Polls([MAIN], Polling(commits_per_ref=2, commits_per_poll=4, backfill=True))
        polls.git.push(MAIN)
        polls.poll()
        hashes = polls.git.push(MAIN, 5)
        polls.poll()
        polls.fail("log")
        polls.fails(TransientError)
        polls.git.before_call = lambda _: None
        polls.poll()
        assert polls.emitted == hashes[2:4]


class TestIdle:
    """``idle``: whether a tick needs an invocation."""

    def test_it_predicts_the_poll(self) -> None:
        """It is true exactly if the poll would find no changes; the poll does not repeat its calls."""
        polls = Polls()
        polls.git.push(MAIN)
        for change, is_idle in (
            (lambda: None, False),
            (lambda: None, True),
            (lambda: polls.git.push(MAIN), False),
            (lambda: None, True),
            (lambda: setattr(polls, "fields", {**polls.fields, "repo": NORMAL}), True),
            (lambda: setattr(polls, "fields", {**polls.fields, "repo": f"{NORMAL}2"}), False),
        ):
            change()
            polls.answers = CallCache()
            polls.git.calls.clear()
            assert polls.manager.idle(polls.fresh()) is is_idle
            assert polls.git.calls == ["refs refs/heads"]
            lines = polls.poll(same_delivery=True)
            assert "refs refs/heads" not in polls.git.calls
            assert ("No changes detected" in lines) is is_idle

    def test_it_costs_one_read(self) -> None:
        """It also costs one listing for each folder of refs."""
        polls = Polls([MAIN, "refs/tags/v1"])
        polls.git.push(MAIN)
        polls.git.push("refs/tags/v1")
        polls.poll()
        polls.reads = 0
        polls.git.calls.clear()
        polls.answers = CallCache()
        assert polls.manager.idle(polls.fresh())
        assert (polls.reads, polls.git.calls) == (1, ["refs refs/heads", "refs refs/tags"])

    def test_missing_refs_are_work_to_do(self) -> None:
        """Every poll of such a job fails visibly."""
        polls = Polls([MAIN])
        polls.found = Versioned(PollerRecord(JOB, NORMAL, {}, (MAIN,)), 0)
        assert not polls.manager.idle(polls.fresh())

    def test_errors_are_raised(self) -> None:
        """The engine treats the error as work to do."""
        polls = Polls()
        polls.fail("refs")
        with pytest.raises(TransientError):
            polls.manager.idle(polls.fresh())


def test_another_repository_starts_from_scratch() -> None:
    """Another spelling of the same repository keeps the record."""
    polls = Polls()
    polls.git.push(MAIN)
    polls.poll()
    polls.fields = {**polls.fields, "repo": NORMAL}
    assert "No changes detected" in polls.poll()
    polls.fields = {**polls.fields, "repo": f"{NORMAL}2"}
    assert "Fetched refs: 0 from datastore, 1 from gitiles" in polls.poll()
    assert polls.emitted == [polls.git.heads[MAIN]]
    assert polls.found is not None
    assert (polls.found.value.repo, polls.found.value.commits) == (f"{NORMAL}2", 2)


def test_a_lost_race_is_decided_again_with_the_same_responses() -> None:
    """The record is read again, Gitiles is not; commits that another poll triggered get no second trigger."""
    polls = Polls()
    polls.git.push(MAIN)
    polls.poll()
    (head,) = polls.git.push(MAIN)
    polls.poll()
    assert polls.emitted == [head]
    assert polls.found is not None
    assert "No changes detected" in polls.poll(same_delivery=True)
    assert polls.git.calls == []


def test_a_stored_set_with_a_bad_pattern_matches_nothing() -> None:
    """An older version may have stored such a pattern."""
    polls = Polls()
    (head,) = polls.git.push(MAIN)
    polls.found = Versioned(replace(PollerRecord(JOB, NORMAL, {MAIN: head}), refs=("regexp:(",)), 0)
    assert "No changes detected" in polls.poll()
