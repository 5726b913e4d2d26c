"""The lists and facts that the command shows, and the names that it proposes."""

from __future__ import annotations

import io
import json
import os
import shlex
import time
from pathlib import Path

import pytest

from emulator.memory.gitiles import MemoryGitiles
from luci_scheduler.cli import completion
from luci_scheduler.cli.documents import document, took
from luci_scheduler.cli.errors import Exit
from luci_scheduler.cli.main import main
from luci_scheduler.cli.names import nearest
from luci_scheduler.cli.session import Session
from luci_scheduler.core.commit_event import CommitEvent
from luci_scheduler.core.identifiers import JobId
from luci_scheduler.core.job import Job, JobDefinition, TaskDefinition
from luci_scheduler.core.project_record import JOB_LAYOUT, ProjectRecord
from luci_scheduler.engine.commit import on_commit
from luci_scheduler.ports import BuildbucketError, GitilesError, PutProject
from tests.unit.api.support import ADMIN, OWNER, READER, STRANGER, Client, put_job, world_for
from tests.unit.cli.support import Console, run, run_on
from tests.unit.engine.world import REPO, World, config

MAIN = "refs/heads/main"


def _committed(world: World, revision: str, key: str) -> None:
    on_commit(world.runtime, CommitEvent(REPO, MAIN, revision), world.clock.now(), key)


def _red(world: World, key: str = "n1") -> None:
    world.finish("FAILURE")
    for build in world.buildbucket.builds.values():
        build["summaryMarkdown"] = "2 tests failed\n\n    test_add"
    world.notify(key)


def _world() -> tuple[World, list[str]]:
    """A world with a failed invocation of the first two commits, and a running one of the last."""
    gitiles = MemoryGitiles()
    hashes = gitiles.push(MAIN, 3)
    world = world_for(config(), gitiles)
    _committed(world, hashes[0], "a")
    _red(world)
    _committed(world, hashes[1], "b")
    _committed(world, hashes[2], "c")
    return world, hashes


def test_a_failure_has_its_reason_commit_and_cause() -> None:
    """The first lines of `invocation show` have the result and its reason."""
    world, hashes = _world()
    failed = world.invocations()[-1]
    shown = run(world, "invocation", "show", f"proj/job/{failed.id}", who=READER).out.splitlines()
    assert shown[:5] == [
        f"invocation  proj/job/{failed.id}",
        "status      FAILED",
        "reason      2 tests failed",
        "",
        "                test_add",
    ]
    assert f"commit      {hashes[0]} on {MAIN} of {REPO}" in shown
    assert "cause       commit" in shown
    assert shown[-2].split() == ["TRIGGER", "CAUSE", "CREATED"]
    found = run(world, "invocation", "show", f"proj/job/{failed.id}", "--json").document
    assert found["invocation"]["started"].endswith("Z")
    assert "startedTs" not in json.dumps(found)
    assert found["url"] == f"http://localhost/jobs/proj/job/{failed.id}"


def test_a_retry_and_an_abort_have_their_reasons() -> None:
    """A retry says when the next attempt is; an abort says by whom and why."""
    world = world_for()

    def fail() -> None:
        raise BuildbucketError("UNAVAILABLE", "HTTP 502", transient=True)

    world.buildbucket.on_schedule = fail
    world.commit()
    name = f"proj/job/{world.invocations()[0].id}"
    shown = run(world, "invocation", "show", name).out
    assert "reason      " in shown
    assert "HTTP 502" in shown
    assert "next attempt at 2026-03-01T12:00:" in shown
    run(world, "invocation", "abort", name, "--reason", "no more")
    for number in range(3):
        world.tick(30, f"t{number}")
    assert f"reason      aborted by {OWNER}: no more" in run(world, "invocation", "show", name).out


def test_lists_have_commit_cause_and_result() -> None:
    """One row for each invocation or job; a result selects rows."""
    world, hashes = _world()
    rows = [line.split() for line in run(world, "invocations", "proj/job").out.splitlines()]
    assert rows[0] == ["INVOCATION", "STATUS", "STARTED", "TOOK", "COMMIT", "SUBJECT", "AUTHOR", "CAUSE"]
    assert [row[1] for row in rows[1:]] == ["RUNNING", "FAILED"]
    assert hashes[0][:10] in rows[2]
    assert [row[1] for row in _rows(world, "--result", "failed")] == ["FAILED"]
    assert _rows(world, "--result", "aborted") == []
    listed = run(world, "jobs", "proj", "--filter", "failing").out.splitlines()
    assert len(listed) == 2
    assert listed[1].split()[:4] == ["proj/job", "RUNNING", "no", "FAILED"]
    assert hashes[0][:10] in listed[1]


def _rows(world: World, *words: str) -> list[list[str]]:
    return [line.split() for line in run(world, "invocations", "proj/job", *words).out.splitlines()[1:]]


def test_a_long_list_has_cursors(capsys: pytest.CaptureFixture[str]) -> None:
    """Every entry is in one part; the command says how the list continues, and --all has all of it."""
    world, _ = _world()
    for number in range(4):
        _red(world, f"x{number}")
        _committed(world, f"{number}" * 40, f"d{number}")
    everything = [row[0] for row in _rows(world, "--all")]
    seen, cursor = [], ""
    while True:
        part = run(world, "invocations", "proj/job", "--limit", "2", "--cursor", cursor, "--json").document
        seen += [item["invocation"]["invocationRef"]["invocationId"] for item in part["invocations"]]
        cursor = part["nextCursor"]
        if not cursor:
            break
    assert seen == everything
    run(world, "invocations", "proj/job", "--limit", "1")
    assert "there are more: continue with --cursor " in capsys.readouterr().err
    first = run(world, "jobs", "proj", "--limit", "1", "--json").document
    rest = run(world, "jobs", "proj", "--cursor", first["nextCursor"], "--json").document
    names = [item["job"]["jobRef"]["job"] for item in (*first["jobs"], *rest["jobs"])]
    assert (names, rest["nextCursor"]) == (["job", "poller"], "")
    assert run(world, "invocations", "proj/job", "--cursor", "zzz").code == Exit.WRONG_USAGE
    assert run(world, "jobs", "--cursor", "x").code == Exit.WRONG_USAGE


def test_a_job_shows_what_it_does_and_what_waits() -> None:
    """Task, policy, triggers in both directions, pending triggers, and the next run."""
    world, hashes = _world()
    shown = run(world, "job", "show", "proj/job").out
    for line in (
        "task          buildbucket bucket=ci builder=job server=cr-buildbucket.appspot.com",
        "policy        GREEDY_BATCHING: at most 1 at a time, up to 1000 triggers in each",
        "triggered by  proj/poller",
        "next run      with the next trigger",
        f"pending       1\n              {hashes[2]}, since ",
        "page          http://localhost/jobs/proj/job",
    ):
        assert line in shown, shown
    poller = run(world, "job", "show", "proj/poller").out
    assert "triggers      proj/job\n" in poller
    assert f"task          gitiles refs={MAIN} repo={REPO}" in poller
    run(world, "job", "pause", "proj/job")
    assert "next run      none while it is paused" in run(world, "job", "show", "proj/job").out


def test_a_task_with_messages_is_shown_in_one_line() -> None:
    """Fields of messages are in braces, as in the config; a list has commas."""
    steps = """cloud_build {
      timeout_sec: 60
      steps { name: "ubuntu" script: "sh build.sh" }
      steps { name: "git" args: "fetch" args: "origin" }
    }"""
    shown = run(
        world_for(f'job {{ id: "job" acls {{ role: READER granted_to: "all" }} {steps} }}'), "job", "show", "proj/job"
    )
    line = (
        "task          cloud_build steps={name=ubuntu script='sh build.sh'},{args=fetch,origin name=git} timeout_sec=60"
    )
    assert line in shown.out, shown.out


def test_logs_of_a_job_are_those_of_its_latest_invocation(capsys: pytest.CaptureFixture[str]) -> None:
    """An invocation and the address of a page also work; a job without invocations is an error."""
    world, _ = _world()
    latest = world.invocations()[0]
    assert run(world, "logs", "proj/job").out == world.log()
    assert f"invocation proj/job/{latest.id}\n" in capsys.readouterr().err
    for name in (f"proj/job/{latest.id}", f"http://localhost/jobs/proj/job/{latest.id}"):
        assert run(world, "logs", name).out == world.log()
    assert run(world, "logs", "proj/poller").code == Exit.FAILED
    assert run(world, "logs", "proj").code == Exit.WRONG_USAGE


@pytest.mark.parametrize(
    ("words", "near"),
    [
        (("jobs", "porj"), "; did you mean proj?"),
        (("jobs", "zzz"), "; the projects are proj"),
        (("job", "show", "proj/jbo"), "; did you mean proj/job?"),
        (("job", "trigger", "porj/job"), "; did you mean proj?"),
        (("logs", "proj/POLLER"), "; did you mean proj/poller?"),
        (("invocation", "show", "proj/jb/7"), "; did you mean proj/job?"),
        (("invocations", "proj/none-of-them"), "permission to see it"),
    ],
)
def test_a_missing_name_has_the_nearest_names(
    words: tuple[str, ...], near: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The exit code is that of a missing object, in lists too."""
    world = world_for()
    assert run(world, *words).code == Exit.NOT_FOUND
    assert capsys.readouterr().err.endswith(f"{near}\n")


def test_a_stranger_is_told_no_names(capsys: pytest.CaptureFixture[str]) -> None:
    """Names are as visible as jobs."""
    world = world_for()
    assert run(world, "job", "show", "proj/jbo", who=STRANGER).code == Exit.NOT_FOUND
    assert "did you mean" not in capsys.readouterr().err
    world.store.counts.clear()
    assert Client(world).call("GetNames", {"project": "proj"}, STRANGER, "scheduler.Operator") == {}
    assert world.counted() == "0R/0W/0c"


def test_a_caller_of_another_realm_sees_neither_job_nor_history() -> None:
    """The project is visible, and the job is not: every method answers as if it did not exist."""
    grants = [{"project": "proj", "realm": "ci", "role": "READER", "to": ["allUsers"]}]
    world = world_for(access=json.dumps({"version": 1, "grants": grants}))
    world.commit()
    (invocation,) = world.invocations()
    (trigger,) = invocation.incoming_triggers
    client, ref = Client(world), {"project": "proj", "job": "job"}
    for method, request in {
        "DescribeJob": ref,
        "GetHistory": {"jobRef": ref},
        "DescribeInvocation": {"jobRef": ref, "invocationId": str(invocation.id)},
        "GetTriggers": {"jobRef": ref, "triggerIds": [trigger.id]},
    }.items():
        answer = client.post(method, request, READER, "scheduler.Operator")
        assert (answer.status_code, "no such job" in answer.get_data(as_text=True)) == (404, True), method
    for method in ("GetNames", "ListJobs"):
        assert client.call(method, {"project": "proj"}, READER, "scheduler.Operator") == {}


def test_names_are_bounded_and_cheap() -> None:
    """One read for a caller who sees the whole project, for any number of jobs."""
    world = world_for(config(tuple(f"j{number}" for number in range(60))))
    world.store.counts.clear()
    names = Client(world).call("GetNames", {"project": "proj"}, OWNER, "scheduler.Operator")["names"]
    assert (len(names), world.counted()) == (61, "1R/0W/0c")
    assert Client(world).call("GetNames", {"project": "a/b"}, OWNER, "scheduler.Operator") == {}


@pytest.mark.parametrize(
    ("words", "near"),
    [
        (["jbos"], "there is no 'jbos'; did you mean jobs?"),
        (["job", "trigerr", "p/j"], "there is no 'trigerr'; did you mean trigger?"),
        (["logs", "p/j", "--folow"], "unexpected argument: --folow; did you mean --follow?"),
        (["logs", "p/j", "more"], "unexpected argument: more"),
    ],
)
def test_a_mistyped_word_has_the_nearest_word(words: list[str], near: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Wrong usage is exit code 2, before any call."""
    console = Console()
    with pytest.raises(SystemExit, match="2"):
        run_on(console, *words, "--url", "http://localhost")
    assert capsys.readouterr().err.splitlines()[-1].endswith(near)
    assert console.sent == {}


@pytest.mark.parametrize(("words", "code", "shown"), [
    (["--version"], 0, "luci-scheduler 0."),
    (["help"], 0, "usage: luci-scheduler [-h]"),
    (["help", "job", "show"], 0, "usage: luci-scheduler job show"),
    ([], 2, "usage: luci-scheduler [-h]"),
    (["job"], 2, "usage: luci-scheduler job [-h]"),
])  # fmt: skip
def test_help_and_version(words: list[str], code: int, shown: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A missing word shows the words that can follow."""
    with pytest.raises(SystemExit, match=str(code)):
        main(words, {})
    captured = capsys.readouterr()
    assert (captured.err if code else captured.out).startswith(shown)


def test_documents_have_readable_times() -> None:
    """Only the members of instants change; texts with such an ending stay."""
    given = {"aTs": "1772366401000000", "list": [{"startedTs": "0"}], "id": "7", "Ts": {"x": 1}}
    assert document(given) == {"a": "2026-03-01T12:00:01Z", "list": [{"started": "-"}], "id": "7", "Ts": {"x": 1}}
    seconds = (0.2, 9.9, 10, 64, 3725)
    assert [took(1_000_000, 1_000_000 + round(item * 1e6)) for item in seconds] == [
        "0.2s",
        "9.9s",
        "10s",
        "1m04s",
        "1h02m",
    ]
    assert took(0, 5) == took(5, 0) == "-"


def test_nearest_names() -> None:
    """The case does not matter, and a far name is none."""
    assert nearest("LINUX-rel", ["linux-rel", "mac-rel", "win"]) == ["linux-rel"]
    assert nearest("zzz", ["linux-rel"]) == []


class TestCompletedNames:
    """The names that a shell completes."""

    @pytest.fixture(autouse=True)
    def _cache(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    def test_projects_and_jobs(self, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
        """They are kept for a minute, for each console and caller, in files that only their owner may read."""
        world = world_for()
        capsys.readouterr()  # the log of the sync
        for word, names in (("", ["proj/"]), ("pr", ["proj/"]), ("x", []), ("proj/", ["proj/job", "proj/poller"])):
            assert run(world, "complete-names", word).code == 0
            assert capsys.readouterr().out.splitlines() == names
        files = list((tmp_path / "luci-scheduler").iterdir())
        assert {file.stat().st_mode & 0o777 for file in files} == {0o600}
        assert run(world, "complete-names", "proj/p", lost=9).code == 0
        assert capsys.readouterr().out == "proj/poller\n"
        for file in files:
            os.utime(file, (time.time() - 61,) * 2)
        run(world, "complete-names", "proj/p", lost=9)
        run(world, "complete-names", "proj/", "--token", "t", who=STRANGER)
        assert capsys.readouterr().out == ""

    def test_a_hostile_console_runs_no_command(
        self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Bash expands the words that it completes, so a name with a substitution is left out."""
        names = [
            "p(1) x",
            "p$(id)",
            "p`id`",
            "p$HOME",
            'p"',
            "p'",
            "p\\",
            "p;id",
            "p\nid",
            "p\x1b[2J",
            "p<(id)",
            "p{1,2}",
        ]
        monkeypatch.setattr(completion, "cached_names", lambda *_: names)
        world = world_for()
        capsys.readouterr()  # the log of the sync
        for word in ("p", "proj/p"):
            assert run(world, "complete-names", word).code == 0
        assert capsys.readouterr().out.splitlines() == ["p(1) x/", "proj/p(1) x"]

    def test_a_failure_is_silent(self, capsys: pytest.CaptureFixture[str]) -> None:
        """A shell must not print errors between the words of a person."""
        for words in ((), ("--url", "http://127.0.0.1:1"), ("--url", "ftp://x")):
            assert main(["complete-names", "p", *words], {}) == 0
        captured = capsys.readouterr()
        assert captured.out + captured.err == ""

    def test_a_silent_console_is_given_up(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """After the limit the process ends, even if the console has not answered."""
        monkeypatch.setattr(completion, "LIMIT", 0.01)
        left = completion.threading.Event()

        def make() -> Session:
            assert left.wait(60)
            raise OSError

        assert completion.complete_names(make, "", "p", left.set) == 0


def test_the_describing_methods_have_bounded_reads() -> None:
    """The length of the history does not matter."""
    world, _ = _world()
    for number in range(30):
        _red(world, f"x{number}")
        _committed(world, f"{number:040x}", f"d{number}")
    client, ref = Client(world), {"project": "proj", "job": "job"}
    named = {"jobRef": ref, "invocationId": str(world.invocations()[0].id)}
    for method, request, most in (
        # The project's record, three counts and two jobs: the record names the repositories that need no further read.
        ("ListJobs", {"project": "proj"}, 6),
        ("DescribeJob", ref, 25),
        ("GetHistory", {"jobRef": ref, "pageSize": 5}, 8),
        ("GetHistory", {"jobRef": ref, "pageSize": 5, "status": "FAILED"}, 8),
        ("DescribeInvocation", named, 3),
    ):
        world.store.counts.clear()
        client.call(method, request, READER, "scheduler.Operator")
        assert world.store.counts["R"] <= most, (method, world.store.counts)


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_lists_fit_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal of 80 characters no line of the history is longer; a pipe gets every column."""
    world, _ = _world()
    assert "CAUSE" in run(world, "invocations", "proj/job").out
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr("tests.unit.cli.support.io.StringIO", _Terminal)
    lines = run(world, "invocations", "proj/job").out.splitlines()
    assert len(lines) > 1
    assert max(map(len, lines)) <= 80


def test_a_commit_is_explained_without_its_repository() -> None:
    """The configs leave one choice. Failures come first, with the summary of the build; the last line counts."""
    world, hashes = _world()
    lines = run(world, "commit", "explain", hashes[0]).out.splitlines()
    assert lines[0].startswith(hashes[0])
    assert lines[2].split()[:2] == ["proj/job", "INVOCATION"]
    assert lines[2].endswith("FAILED. 2 tests failed")
    assert lines[-1] == "1 FAILED"


def test_two_repositories_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    """The error names the choices to a caller who sees the projects."""
    text = config() + config().replace('"job"', '"job2"').replace('"poller"', '"poller2"').replace(REPO, f"{REPO}2")
    world = world_for(text)
    assert run(world, "commit", "explain", "a" * 40).code == Exit.WRONG_USAGE
    assert f"repo must be given: the projects watch {REPO}, {REPO}2" in capsys.readouterr().err
    assert run(world, "commit", "explain", "a" * 40, who=STRANGER).code == Exit.WRONG_USAGE
    assert REPO not in capsys.readouterr().err


def test_a_backfill_finds_repository_and_ref() -> None:
    """The job's config names them; the table has subjects, authors and, in a preview, the commits that ran before."""
    world, hashes = _world()
    shown = run(world, "backfill", hashes[0], "HEAD", "--job", "proj/job").out.splitlines()
    assert shown[0].split() == ["COMMIT", "COMMITTED", "SUBJECT", "AUTHOR", "BEFORE"]
    assert shown[1].startswith(hashes[1][:10])
    assert shown[1].endswith("ran")
    emitted = run(world, "backfill", hashes[0], "HEAD", "--job", "proj/job", "--yes")
    assert emitted.code == Exit.DONE
    assert emitted.out.splitlines()[0].split() == ["COMMIT", "COMMITTED", "SUBJECT", "AUTHOR"]


def test_the_host_of_a_repository_is_down(capsys: pytest.CaptureFixture[str]) -> None:
    """The error says which server did not answer, and what to do."""
    world, _ = _world()

    def down(_: str) -> None:
        raise GitilesError("UNAVAILABLE", "HTTP 503", transient=True)

    assert isinstance(world.runtime.gitiles, MemoryGitiles)
    world.runtime.gitiles.before_call = down
    assert run(world, "commit", "explain", "HEAD").code == Exit.UNAVAILABLE
    text = capsys.readouterr().err
    assert f"the host of {REPO} did not answer (UNAVAILABLE: HTTP 503): give the whole hash, or try again" in text


def test_empty_lists_say_so() -> None:
    """A list without entries is a sentence, not a line of names of columns."""
    world = world_for()
    assert run(world, "jobs", "proj", "--filter", "failing").out == "no jobs\n"
    assert run(world, "invocations", "proj/job").out == "no invocations\n"


def test_a_cursor_can_be_pasted(capsys: pytest.CaptureFixture[str]) -> None:
    """The hint quotes a cursor with blanks and brackets for the shell."""
    world = world_for(config(("a (dbg)", "c")))
    run(world, "jobs", "proj", "--limit", "1")
    err = capsys.readouterr().err
    (cursor,) = shlex.split(err.partition("--cursor ")[2].partition(", or")[0])
    assert cursor.endswith("a (dbg)")
    assert run(world, "jobs", "proj", "--limit", "5", "--cursor", cursor).code == Exit.DONE


def test_the_jobs_of_all_projects(capsys: pytest.CaptureFixture[str]) -> None:
    """Failed jobs of any project come first; the command names the projects of which it shows a part."""
    world, _ = _world()
    world.finish("FAILURE")
    for name in ("aaa/one", "aaa/two"):
        put_job(world, Job(JobId(name), JobDefinition(TaskDefinition("noop", {}))))
    record = ProjectRecord("aaa", "r", job_ids=(JobId("aaa/one"), JobId("aaa/two")), job_layout=JOB_LAYOUT)
    world.store.commit([PutProject(record, None)])
    lines = run(world, "jobs", "--limit", "1", who=ADMIN).out.splitlines()
    assert [line.split()[0] for line in lines] == ["JOB", "proj/job", "aaa/one"]
    assert "there are more in aaa, proj: name the PROJECT, or list them with --all" in capsys.readouterr().err
    assert len(run(world, "jobs", "--all", who=ADMIN).out.splitlines()) > 3
    assert "there are more" not in capsys.readouterr().err
