"""The functions' log becomes entries of the feed."""

import json
from typing import Any

import pytest

from emulator.clock import SteppedClock
from emulator.feed import Feed
from emulator.function_log import FunctionLog


class _Log:
    """A log, and the texts of the entries that it has posted."""

    def __init__(self, speed: float = 1.0) -> None:
        self.feed = Feed(SteppedClock(0).now)
        self.seconds = 0.0
        self.log = FunctionLog(self.feed, "http://c", lambda: speed, lambda: self.seconds)

    def say(self, message: str, **members: Any) -> list[tuple[str, str, str]]:
        """Log an event, and return kind, text and link of each new entry."""
        before = len(self.feed.after(0))
        self.log.read(json.dumps({"severity": "INFO", "message": message, **members}))
        return [(entry.kind, entry.text, entry.link) for entry in self.feed.after(before)]


@pytest.fixture(name="log")
def _log() -> _Log:
    return _Log()


def test_a_config_in_force(log: _Log) -> None:
    """The entry counts jobs and warnings, shows the first warning, and links to the project."""
    warned = {"project": "p", "revision": "r", "jobs": 2, "jobs_changed": 1, "first_warning": "f:3: warning: w"}
    ((_, one, _),) = log.say("config_synced", **warned, warnings=1)
    assert one.endswith("2 jobs, 1 warning: p/f:3: warning: w")
    ((_, two, _),) = log.say("config_synced", **warned, warnings=2)
    assert two.endswith("2 jobs, 2 warnings, of which the first is p/f:3: warning: w")
    said = log.say("config_synced", project="p", revision="r", jobs=2, jobs_changed=1, warnings=1)
    assert said == [("config", "the config of p is in force: 2 jobs, 1 warning", "http://c/jobs/p")]


def test_a_problem_is_posted_once_until_it_changes(log: _Log) -> None:
    """Each sync logs it again, once a minute."""
    problems = ["luci-scheduler.cfg:7: bad", "luci-scheduler.cfg:9: bad"]
    text = "p/luci-scheduler.cfg:7: bad (and 1 more problem); the last valid config of p stays in force"
    assert log.say("config_invalid", project="p", problems=problems) == [("config_problem", text, "http://c/jobs/p")]
    assert log.say("config_invalid", project="p", problems=problems) == []
    assert len(log.say("config_invalid", project="p", problems=problems[1:])) == 1
    log.say("config_synced", project="p", revision="r", jobs=1, jobs_changed=0, warnings=0)
    assert len(log.say("config_invalid", project="p", problems=problems[1:])) == 1


def test_a_removed_config_is_one_entry(log: _Log) -> None:
    """The functions log both the removal and the activation of an empty config."""
    ((kind, text, _),) = log.say("config_gone", project="p", jobs=3)
    assert (kind, text) == ("config", "the config of p is gone, so 3 jobs of it will not run any more")
    assert log.say("config_synced", project="p", revision="", jobs=0, jobs_changed=3, warnings=0) == []


def test_a_failed_invocation_links_to_its_page(log: _Log) -> None:
    """A success is no entry: the build has one."""
    facts = {"job_id": "p/j", "invocation_id": "12", "kind": "buildbucket", "seconds": 2.6}
    said = log.say("invocation_finished", status="FAILED", **facts)
    assert said == [("failure", "p/j FAILED after 3 s", "http://c/jobs/p/j/12")]
    assert log.say("invocation_finished", status="SUCCEEDED", **facts) == []


def test_a_failure_is_one_entry(log: _Log) -> None:
    """The failure of an invocation's build is enough. Other failures of the invocation are entries of their own."""
    log.feed.post("failure", "p/ci/j FAILURE after 1.0 s: 2 tests failed", build="7", invocation="12")
    facts = {"job_id": "p/j", "kind": "buildbucket", "status": "FAILED", "seconds": 2.6}
    assert log.say("invocation_finished", invocation_id="12", **facts) == []
    assert len(log.say("invocation_finished", invocation_id="13", **facts)) == 1


def test_only_the_first_of_many_failed_polls_is_posted(log: _Log) -> None:
    """A poller may fail every ten seconds. After a success, its next failure is news."""
    facts = {"job_id": "p/poll", "invocation_id": "1", "kind": "gitiles", "seconds": 0.1}
    assert [item[1] for item in log.say("invocation_finished", status="FAILED", **facts)] == [
        "the poll p/poll FAILED after 0 s"
    ]
    assert log.say("invocation_finished", status="FAILED", **facts) == []
    log.say("invocation_finished", status="SUCCEEDED", **facts)
    assert len(log.say("invocation_finished", status="FAILED", **facts)) == 1


def test_a_failed_launch_says_whether_it_is_tried_again(log: _Log) -> None:
    """The reason is Buildbucket's."""
    ((kind, text, link),) = log.say("launch_failed", job_id="p/j", invocation_id="1", kind="buildbucket", error="502")
    assert (kind, text) == ("problem", "the launch of p/j failed and is tried again: 502")
    assert link == "http://c/jobs/p/j/1"
    ((_, text, _),) = log.say("launch_refused", job_id="p/j", invocation_id="1", kind="buildbucket", error="no")
    assert text == "the launch of p/j failed: no"


def test_commits_that_start_nothing_are_explained(log: _Log) -> None:
    """The entry links to the page of the commit."""
    commit = {"repo": "https://h/r", "ref": "refs/heads/x", "revision": "a" * 40}
    ((kind, text, link),) = log.say("commit_unwatched", **commit)
    assert (kind, text) == ("note", "no job watches refs/heads/x of https://h/r")
    assert link.startswith("http://c/commits?repo=https%3A%2F%2Fh%2Fr&revision=aaaa")
    assert "no path filter accepts" in log.say("commit_filtered", watchers=1, **commit)[0][1]
    assert "was dropped: why" in log.say("commit_discarded", jobs=1, reason="why", **commit)[0][1]


def test_a_machine_that_does_not_keep_up_is_reported_once_a_minute() -> None:
    """Lateness counts only where time runs faster than real time."""
    fast = _Log(speed=600)
    late = {"job_id": "p/j", "lateness_ms": 41_000}
    ((kind, text, _),) = fast.say("tick_came", **late)
    assert kind == "problem"
    assert "does not keep up: a timer of p/j came 41 s late at 600 times the real speed" in text
    assert fast.say("timer_came", **late) == []
    fast.seconds += 61
    assert len(fast.say("timer_came", **late)) == 1
    assert fast.say("tick_came", job_id="p/j", lateness_ms=9_000) == []
    assert _Log(speed=1).say("tick_came", **late) == []


def test_a_defect_names_the_function(log: _Log) -> None:
    """Its stack is in the log."""
    ((kind, text, _),) = log.say("unexpected_error", function="on_task")
    assert (kind, text) == ("problem", "on_task has a defect (unexpected_error); its log has the stack")


@pytest.mark.parametrize(
    "line",
    [
        "",
        "plain text",
        "{broken",
        "{}",
        '{"message": "config_synced"}',
        '{"message": "invocation_finished"}',
        '{"message": "config_invalid", "project": "p", "problems": []}',
    ],
)
def test_other_lines_are_ignored(log: _Log, line: str) -> None:
    """In memory the functions log from their own threads, so reading never raises."""
    log.log.read(line)
    assert log.feed.after(0) == []
