"""The command: its calls of the API, its output, and its exit codes."""

import io
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from emulator.memory.gitiles import MemoryGitiles
from emulator.replay.cli import main as replay
from luci_scheduler.cli.errors import CommandError, Exit
from luci_scheduler.cli.main import main
from luci_scheduler.cli.session import Session, invocation_ref, job_ref
from luci_scheduler.cli.tables import show_table
from luci_scheduler.core.commit_event import gitiles_trigger
from luci_scheduler.core.identifiers import InvocationId
from luci_scheduler.core.instants import format_rfc3339
from luci_scheduler.core.log_lines import CUT
from luci_scheduler.core.trigger_record import TriggerRecord
from luci_scheduler.ports import BuildbucketError, CreateTrigger, UpdateInvocation
from tests.unit.api.support import ADMIN, OWNER, READER, STRANGER, world_for
from tests.unit.cli.support import Console, in_turn, run, run_on, says
from tests.unit.engine.world import JOB, REPO, World, config

MAIN = "refs/heads/main"


def _running(**more: Any) -> World:
    world = world_for(**more)
    world.commit()
    world.queue.purge()
    return world


def test_tables_for_people_and_json_for_programs() -> None:
    """Text and JSON list the same jobs."""
    world = _running()
    ran = run(world, "jobs", "proj")
    assert ran.code == 0
    columns = "JOB STATE PAUSED RESULT ENDED COMMIT SUBJECT AUTHOR CAUSE SCHEDULE"
    assert ran.out.splitlines()[0].split() == columns.split()
    row = ["proj/job", "RUNNING", "no", "-", "-", "-", "-", "-", "-", "triggered"]
    assert row in [line.split() for line in ran.out.splitlines()]
    for words in (("jobs", "proj"), ("jobs",)):
        document = run(world, *words, "--json").document
        assert [item["job"]["jobRef"]["job"] for item in document["jobs"]] == ["job", "poller"]
        assert document["nextCursor"] == ""


def test_a_job_and_its_invocations() -> None:
    """Invocations are shown, listed over several pages, and named by number or by the address of the page."""
    world = world_for()
    for number in range(53):
        world.commit("abcdef0123456789"[number % 16], f"m{number}")
        world.finish()
        world.notify(f"n{number}")
    found = run(world, "invocations", "proj/job", "--limit", "60", "--json").document["invocations"]
    numbers = [item["invocation"]["invocationRef"]["invocationId"] for item in found]
    assert len(set(numbers)) == len(numbers) == len(world.invocations()) <= 60
    assert len(run(world, "invocations", "proj/job", "--limit", "3").out.splitlines()) == 4
    assert "state         " in run(world, "job", "show", "proj/job").out
    for name in (f"proj/job/{numbers[0]}", f"http://localhost/jobs/proj/job/{numbers[0]}"):
        assert "status      SUCCEEDED" in run(world, "invocation", "show", name).out


@pytest.mark.parametrize(
    ("arguments", "who", "code"),
    [
        (("job", "show", "proj/none"), "", Exit.NOT_FOUND),
        (("job", "show", "proj/job"), STRANGER, Exit.NOT_FOUND),
        (("job", "pause", "proj/job"), READER, Exit.NOT_ALLOWED),
        (("job", "pause", "proj"), "", Exit.WRONG_USAGE),
        (("invocation", "show", "proj/job/x"), "", Exit.WRONG_USAGE),
        (("invocation", "show", "proj/job/1"), "", Exit.NOT_FOUND),
        (("invocations", "proj/job", "--limit", "0"), "", Exit.WRONG_USAGE),
        (("commit", "explain", "a" * 40, "--repo", "https://q.googlesource.com/x"), "", Exit.FAILED),
    ],
)
def test_exit_codes(arguments: tuple[str, ...], who: str, code: int) -> None:
    """Missing, forbidden and misused arguments have different exit codes."""
    world = _running()
    assert run(world, *arguments, **({"who": who} if who else {})).code == code


@pytest.mark.parametrize(
    ("arguments", "subject"),
    [(("job", "show", "proj/none"), "proj/none"), (("invocation", "show", "proj/job/1"), "proj/job/1")],
)
def test_an_error_names_the_missing_object(
    arguments: tuple[str, ...], subject: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The API's text does not name the job or invocation, so the command does."""
    run(_running(), *arguments)
    assert capsys.readouterr().err.startswith(f"luci-scheduler: {subject}: not found: no such ")


def test_a_project_without_visible_jobs_is_reported(capsys: pytest.CaptureFixture[str]) -> None:
    """The API answers with an empty list, which alone would not show a mistyped name."""
    assert run(_running(), "jobs", "prj").code == Exit.NOT_FOUND
    text = "luci-scheduler: no job in the project prj, or no permission to see its jobs; did you mean proj?\n"
    assert capsys.readouterr().err == text


def test_actions_leave_their_reason() -> None:
    """A job is paused, resumed and aborted."""
    world = _running()
    assert run(world, "job", "pause", "proj/job", "--reason", "too red").code == 0
    found = world.store.job("proj/job")
    assert found
    assert (found.value.paused, found.value.change_reason) == (True, "too red")
    assert run(world, "job", "resume", "proj/job").code == 0
    number = world.invocations()[0].id
    assert run(world, "invocation", "abort", f"proj/job/{number}", "--reason", "stuck").code == 0
    world.tick(1)
    assert world.invocations()[0].status == "ABORTED"
    assert world.invocations()[0].abort_reason == "stuck"


def test_the_author_and_reason_of_a_pause_are_shown() -> None:
    """The reason is shown while the job is paused; a second pause changes nothing, and the command says so."""
    world = _running()
    assert "paused        no\n" in run(world, "job", "show", "proj/job").out
    assert "change" not in run(world, "job", "show", "proj/job", "--json").document
    assert run(world, "job", "resume", "proj/job").out == "not paused\n"
    assert run(world, "job", "pause", "proj/job", "--reason", "too\x1b red").out == "done\n"
    since = format_rfc3339(world.clock.now())
    world.tick(60)
    shown = run(world, "job", "show", "proj/job", who=READER)
    assert f"paused        by {OWNER} since {since}: too  red\n" in shown.out
    again = run(world, "job", "pause", "proj/job", "--reason", "another one", who=ADMIN)
    assert (again.code, again.out) == (0, f"already paused by {OWNER} since {since}: too  red\n")
    assert run(world, "job", "pause", "proj/job", "--json").document == {"changed": False}
    document = run(world, "job", "show", "proj/job", "--json").document
    assert document["job"]["paused"] is True
    assert document["change"] == {
        "who": f"user:{OWNER}",
        "reason": "too\x1b red",
        "when": since,
    }
    assert run(world, "job", "resume", "proj/job", "--json").document == {"changed": True}
    assert "paused        no\n" in run(world, "job", "show", "proj/job").out
    (running,) = world.invocations()
    assert run(world, "job", "abort", "proj/job", "--json").document == {"invocationIds": [str(running.id)]}


@pytest.mark.parametrize("verb", ["trigger", "rerun", "backfill"])
def test_a_lost_response_has_no_second_effect(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The request is sent again with the same key, a few times; then the command prints the key."""
    world, arguments = _world_to_act_in(verb)
    before = len(world.invocations())
    pauses: list[float] = []
    assert run(world, *arguments, lost=2, pause=pauses.append).code == 0
    assert pauses[:2] == [1, 3]
    _settle(world)
    effect = len(world.invocations()) - before
    assert effect == (2 if verb == "backfill" else 1)
    assert run(world, *arguments, lost=99).code == Exit.UNAVAILABLE
    *progress, message = [line for line in capsys.readouterr().err.splitlines() if "not known" not in line]
    assert [line.rpartition(": ")[2] for line in progress] == [
        f"retrying with the same key in {pause} s" for pause in (1, 3, 1, 3)
    ]
    key = message.partition("repeat it with --request-id ")[2]
    assert run(world, *arguments, "--request-id", key).code == 0
    _settle(world)
    assert len(world.invocations()) - before == 2 * effect


def test_a_refusal_after_a_lost_response_prints_the_key(capsys: pytest.CaptureFixture[str]) -> None:
    """The first request may have succeeded before the token expired; a refusal alone is final."""
    for codes, has_key in ((("14", "16"), True), (("16",), False)):
        post = in_turn(*[Console(500, "no", X_Prpc_Grpc_Code=code) for code in codes])
        arguments = ("job", "trigger", "p/j", "--url", "http://localhost", "--request-id", "k")
        assert run_on(post, *arguments) == Exit.NOT_ALLOWED
        assert ("repeat it with --request-id k" in capsys.readouterr().err) == has_key


def test_an_interrupted_request_prints_its_key(capsys: pytest.CaptureFixture[str]) -> None:
    """An interrupted request may have succeeded."""

    def interrupt(_: float) -> None:
        raise KeyboardInterrupt

    ran = run(_running(), "job", "trigger", "proj/job", "--request-id", "my key", lost=1, pause=interrupt)
    assert ran.code == Exit.INTERRUPTED
    assert "repeat it with --request-id 'my key'" in capsys.readouterr().err


def _world_to_act_in(verb: str) -> tuple[World, tuple[str, ...]]:
    gitiles = MemoryGitiles()
    hashes = gitiles.push(MAIN, 3)
    world = world_for(
        config(("job",), "triggering_policy { max_concurrent_invocations: 99 max_batch_size: 1 }"), gitiles
    )
    assert run(world, "job", "trigger", "proj/job").code == 0
    world.tick(2)
    return world, {
        "trigger": ("job", "trigger", "proj/job"),
        "rerun": ("invocation", "rerun", f"proj/job/{world.invocations()[0].id}"),
        "backfill": ("backfill", hashes[0], hashes[-1], "--repo", REPO, "--ref", MAIN, "--job", "proj/job", "--yes"),
    }[verb]


@pytest.mark.parametrize("verb", ["trigger", "rerun", "backfill"])
def test_five_times_at_once_with_one_key_has_one_effect(verb: str) -> None:
    """The same key has one effect; another key, or no key, has one more."""
    world, arguments = _world_to_act_in(verb)
    before = len(world.invocations())
    with ThreadPoolExecutor(5) as pool:
        for ran in pool.map(lambda _: run(world, *arguments, "--request-id", "k"), range(5)):
            assert ran.code == 0
    _settle(world)
    effect = len(world.invocations()) - before
    assert effect == (2 if verb == "backfill" else 1)
    assert run(world, *arguments).code == 0
    _settle(world)
    assert len(world.invocations()) - before == 2 * effect


def _settle(world: World) -> None:
    for number in range(10):
        world.tick(2, f"t{number}")


def test_errors_of_a_backfill_name_the_words_of_the_usage(capsys: pytest.CaptureFixture[str]) -> None:
    """The API's names of the fields are not those of the command."""
    world = world_for(config(), MemoryGitiles())
    for words, name in ((("a..b", "HEAD"), "FROM"), (("HEAD", "a..b"), "TO")):
        assert run(world, "backfill", *words, "--repo", REPO, "--ref", MAIN, "--job", "proj/job").code == 2
        error = capsys.readouterr().err
        assert f"{name} " in error
        assert "_revision" not in error


def test_backfill_without_yes_only_lists() -> None:
    """A preview emits nothing."""
    gitiles = MemoryGitiles()
    hashes = gitiles.push(MAIN, 3)
    world = world_for(config(), gitiles)
    ran = run(world, "backfill", hashes[0], hashes[-1], "--repo", REPO, "--ref", MAIN, "--job", "proj/job")
    assert ran.code == 0
    assert hashes[1][:10] in ran.out
    assert "2 commits: nothing emitted; add --yes to emit the triggers" in ran.out
    assert not world.queue.tasks


def test_the_preview_of_a_backfill_shows_what_ran_and_is_filtered() -> None:
    """Subjects, authors, and the commits that ran or that the path filter excludes."""
    gitiles = MemoryGitiles()
    hashes = gitiles.push(MAIN, 3)
    world = world_for(config().replace(f'refs: "{MAIN}"', f'refs: "{MAIN}" path_regexps: "docs/.*"'), gitiles)
    trigger = gitiles_trigger(REPO, MAIN, hashes[2], world.clock.now())
    world.store.commit([CreateTrigger(TriggerRecord(JOB, trigger, InvocationId(7), resolved=world.clock.now()))])
    ran = run(world, "backfill", hashes[0], hashes[-1], "--repo", REPO, "--ref", MAIN, "--job", "proj/job")
    rows = [line for line in ran.out.splitlines() if line.startswith(tuple(item[:10] for item in hashes))]
    assert [" ".join(row.split()[2:]) for row in rows] == [
        "Change 1 Ada Author path filter",
        "Change 2 Ada Author ran, path filter",
    ]


@pytest.mark.parametrize("more", [(), ("--yes",), ("--json",), ("--json", "--yes")])
def test_an_empty_backfill_fails(more: tuple[str, ...]) -> None:
    """A reversed range has no commits: the command says so, and does not suggest --yes, which would change nothing."""
    gitiles = MemoryGitiles()
    hashes = gitiles.push(MAIN, 3)
    world = world_for(config(), gitiles)
    ran = run(world, "backfill", hashes[-1], hashes[0], "--repo", REPO, "--ref", MAIN, "--job", "proj/job", *more)
    assert ran.code == Exit.FAILED
    assert "--yes" not in ran.out
    assert "--json" in more or "the range is empty: check that FROM is older than TO" in ran.out
    assert not world.queue.tasks


def test_the_reason_that_a_commit_runs() -> None:
    """The command shows the API's sentence."""
    world = _running()
    ran = run(world, "commit", "explain", "a" * 40, "--repo", REPO)
    assert ran.code == 0
    assert str(world.invocations()[0].id) in ran.out
    assert "INVOCATION" in ran.out


def test_the_log_is_followed_to_its_end() -> None:
    """Each line is written once; the exit code is the invocation's result."""
    world = _running()
    name = f"proj/job/{world.invocations()[0].id}"
    plain = run(world, "invocation", "log", name)
    assert (plain.code, plain.out) == (0, world.log())

    def end(_: float) -> None:
        world.finish("FAILURE")
        world.notify("n1")

    followed = run(world, "invocation", "log", name, "--follow", pause=end)
    assert (followed.code, followed.out) == (1, world.log())
    assert run(world, "invocation", "log", name, "--json").document["debugLog"] == world.log()


def test_a_followed_log_outlasts_an_outage_of_a_minute() -> None:
    """After its first answer, the command repeats unanswered calls for a minute; then it gives up."""
    world = _running()
    name = f"proj/job/{world.invocations()[0].id}"
    pauses: list[float] = []

    def end(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 31:
            world.finish()
            world.notify("n1")

    followed = run(world, "invocation", "log", name, "--follow", pause=end, answered=1, lost=30)
    assert (followed.code, followed.out) == (0, world.log())
    assert sum(pauses) == 60.25
    world = _running()
    name = f"proj/job/{world.invocations()[0].id}"
    for more, code in (((), Exit.UNAVAILABLE), (("--outage", "10"), Exit.UNAVAILABLE), (("--patience", "9"), 8)):
        assert run(world, "invocation", "log", name, "--follow", *more, answered=1, lost=99).code == code


def test_before_the_first_answer_an_outage_is_an_error_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    """A wrong address must not look like an outage that may end."""
    world, pauses = _running(), list[float]()
    name = f"proj/job/{world.invocations()[0].id}"
    assert run(world, "logs", name, "--follow", lost=1, pause=pauses.append).code == Exit.UNAVAILABLE
    assert run(world, "invocation", "log", "proj/job/1", "--follow").code == Exit.NOT_FOUND
    capsys.readouterr()
    for words in (("logs", name, "--follow"), ("job", "trigger", "proj/job", "--follow")):
        assert main([*words, "--url", "http://127.0.0.1:1"], {}) == Exit.UNAVAILABLE
        error = capsys.readouterr().err
        assert "no console can be reached at http://127.0.0.1:1, because there is no connection: start one" in error
        assert "may have happened" not in error
    assert pauses == []


def test_a_log_is_followed_through_one_outage_after_another() -> None:
    """Every answer starts a new minute."""
    world = _running()
    name = f"proj/job/{world.invocations()[0].id}"
    replies = [{"invocation": {}, "debugLog": "a\n"}] * 3
    replies.append({"invocation": {"final": True, "status": "SUCCEEDED"}, "debugLog": "a\nb\n"})
    script = [
        answer for reply in replies for answer in [*[Console(503, "no", X_Prpc_Grpc_Code="14")] * 20, says(reply)]
    ]
    out, post = io.StringIO(), in_turn(*script[20:])
    options = ("invocation", "log", name, "--follow", "--url", "http://localhost")
    assert main(options, {}, lambda given: Session(given, post, lambda _: None, out)) == 0
    assert out.getvalue() == "a\nb\n"


def test_a_config_is_compared(tmp_path: Path) -> None:
    """The diff has new, removed and changed jobs, and both values of each field; the same config has no changes."""
    world = world_for(config(("job", "b")))
    file = tmp_path / "luci-scheduler.cfg"
    file.write_text(config(("job", "b")), encoding="utf-8")
    ran = run(world, "config", "diff", str(file), "--project", "proj")
    assert (ran.code, "no changes" in ran.out) == (0, True)
    file.write_text(
        config(("job", "c")).replace('bucket: "ci" builder: "job"', 'bucket: "try" builder: "job"'), encoding="utf-8"
    )
    ran = run(world, "config", "diff", str(file), "--project", "proj")
    assert ran.code == 1
    assert ran.out.splitlines()[0] == "active: rev1"
    assert "- proj/b" in ran.out
    assert "+ proj/c" in ran.out
    assert '    task.bucket: "ci" -> "try"' in ran.out
    changes = run(world, "config", "diff", str(file), "--project", "proj", "--json").document["changes"]
    assert [item["change"] for item in changes] == ["removed", "added", "changed", "changed"]
    assert run(world, "config", "diff", str(tmp_path / "none"), "--project", "proj").code == 2


def test_a_config_with_errors_is_not_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The problems are those of `config validate`, with the given file name; no call is made."""
    file = tmp_path / "mine.cfg"
    file.write_text('job {\n  id: "a"\n}\n', encoding="utf-8")
    console = Console(X_Prpc_Grpc_Code="0")
    assert run_on(console, "config", "diff", str(file), "--project", "proj", "--url", "http://localhost") == Exit.FAILED
    message = capsys.readouterr().err
    assert f'{file}:1: job "a": can\'t find' in message
    assert "luci-scheduler.cfg" not in message
    assert console.sent == {}


def test_a_replay_of_an_export_gives_the_same_log(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """`invocation log` and `replay --log` of the export write the same bytes, so `diff` finds nothing."""
    world = world_for()
    world.buildbucket.faults = [BuildbucketError("INTERNAL", "HTTP 502: bad", transient=True)]
    world.commit()
    world.tick(10)
    world.tick(61)
    world.finish("FAILURE")
    world.notify("n1")
    name = f"proj/job/{world.invocations()[0].id}"
    folder = tmp_path / "x"
    assert run(world, "export", name, "--out", str(folder), who=READER).code == 0
    logged = run(world, "invocation", "log", name, who=READER).out
    assert logged.endswith("with status FAILED\n")
    assert "(attempt 2)" in logged
    capfd.readouterr()
    assert replay([str(folder / "scenario.json"), "--log", "--store", "memory"]) == 0
    assert capfd.readouterr().out == logged
    assert run(world, "export", name, "--out", str(tmp_path / "y"), who=STRANGER).code == Exit.NOT_FOUND
    assert not (tmp_path / "y").exists()


def test_export_refuses_unsuitable_invocations(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An invocation whose log was cut cannot be exported; the reason is one line."""
    world = world_for()
    world.commit()
    found = world.store.invocation(JOB, world.invocations()[0].id)
    assert found is not None
    world.store.commit([UpdateInvocation(found.value, found.version, f"{CUT}\n", replaces_log=True)])
    name = f"proj/job/{found.value.id}"
    assert run(world, "export", name, "--out", str(tmp_path)).code == 1
    assert "its log was so long that its middle was cut out" in capsys.readouterr().err


def test_an_export_says_what_it_assumes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The lines about open facts go to standard error, so that a script reads the result alone."""
    world = world_for(config(policy="triggering_policy { max_concurrent_invocations: 1 }"))
    for place, revision in enumerate("abc"):
        world.commit(revision, f"m{place}")
    world.finish()
    world.notify("n1")
    name = f"proj/job/{world.invocations()[0].id}"
    ran = run(world, "export", name, "--out", str(tmp_path))
    assert "assumption: The 2 triggers arrive together" in capsys.readouterr().err
    assert ran.out.startswith("exported; to replay")
    assert "assumptions" in run(world, "export", name, "--out", str(tmp_path), "--json").document
    assert "assumption:" not in capsys.readouterr().err


def test_names_of_jobs_and_invocations() -> None:
    """A job or invocation is named by its ID or by the address of its page."""
    console = "https://C.example.com:443/"
    assert job_ref("https://c.example.com/jobs/p/a%20b", console) == {"project": "p", "job": "a b"}
    assert invocation_ref("p/j/12", console) == {"jobRef": {"project": "p", "job": "j"}, "invocationId": "12"}
    for bad in ("p", "p/j/k", "/p//j", "https://c.example.com/"):
        with pytest.raises(CommandError, match="a job is PROJECT/JOB"):
            job_ref(bad, console)


@pytest.mark.parametrize(
    "page",
    ["https://staging.example.com", "http://c.example.com", "https://c.example.com:8443", "https://c.example.com@x"],
)
@pytest.mark.parametrize(
    "arguments",
    [
        ("job", "show", "PAGE"),
        ("job", "pause", "PAGE"),
        ("job", "trigger", "PAGE"),
        ("invocations", "PAGE"),
        ("invocation", "show", "PAGE/1"),
        ("invocation", "log", "PAGE/1"),
        ("invocation", "abort", "PAGE/1"),
        ("invocation", "rerun", "PAGE/1"),
        ("export", "PAGE/1"),
        ("backfill", "a", "b", "--repo", REPO, "--ref", MAIN, "--job", "PAGE"),
    ],
)
def test_a_page_of_another_console_is_refused(
    page: str, arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    """The configured console gets no request: its job of that name is a different job."""
    console = Console(X_Prpc_Grpc_Code="0")
    words = [word.replace("PAGE", f"{page}/jobs/p/j") for word in arguments]
    assert run_on(console, *words, "--url", "https://c.example.com", "--token", "t") == Exit.WRONG_USAGE
    assert "is not a page of the console" in capsys.readouterr().err
    assert console.sent == {}


def test_a_table_shows_no_control_characters() -> None:
    """Text from outside cannot control the terminal."""
    assert show_table(["A"], [["x\x1b[31m\ny"]]).splitlines() == ["A", "x [31m y"]


@pytest.mark.parametrize(
    ("console", "code"),
    [
        (Console(302, "sign in", Location="https://accounts.example.com"), Exit.NOT_ALLOWED),
        (Console(200, "<html>"), Exit.UNAVAILABLE),
        (Console(200, "<html>", X_Prpc_Grpc_Code="0"), Exit.FAILED),
        (Console(503, "busy", X_Prpc_Grpc_Code="14"), Exit.UNAVAILABLE),
        (Console(401, "no", X_Prpc_Grpc_Code="16"), Exit.NOT_ALLOWED),
    ],
)
def test_responses_of_other_servers(console: Any, code: int, capsys: pytest.CaptureFixture[str]) -> None:
    """Proxies, sign-in pages and outages have their own errors, which never contain the token."""
    assert run_on(console, "jobs", "--url", "https://c.example.com", "--token", "canary-token") == code
    captured = capsys.readouterr()
    assert "canary-token" not in captured.out + captured.err
    assert console.sent["Authorization"] == "Bearer canary-token"


@pytest.mark.parametrize(
    ("arguments", "reply"),
    [
        (("jobs", "p"), {"jobs": 5}),
        (("jobs", "p"), {"jobs": [{"job": {"jobRef": "x"}}]}),
        (("login", "--token", "t"), {"identity": "user:a@example.com", "seesSome": True, "jobs": 5}),
        (("invocations", "p/j"), {"invocations": [None]}),
    ],
)
def test_a_document_of_another_shape_gives_one_line(
    arguments: tuple[str, ...], reply: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """A console of another version, or another server, causes no traceback."""
    assert run_on(says(reply), *arguments, LUCI_SCHEDULER_URL="http://localhost") == Exit.FAILED
    error = capsys.readouterr().err
    assert "an answer cannot be understood (" in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("host", ["a..b", "x" * 64 + ".example"])
def test_an_invalid_host_gives_one_line(host: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The error has no traceback."""
    arguments = ["jobs", "--url", f"https://{host}"]
    assert main(arguments, {"LUCI_SCHEDULER_TOKEN": "t"}) == Exit.UNAVAILABLE
    assert capsys.readouterr().err.count("\n") == 1


def test_an_unreadable_path_gives_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    """An unreadable path has the same error as a missing file."""
    assert main(["config", "validate", "x" * 5000], {}) == Exit.WRONG_USAGE
    assert capsys.readouterr().err.count("\n") == 1


def test_a_closed_pipe_is_not_an_error() -> None:
    """The command ends quietly, as in ``luci-scheduler completion bash | true``."""
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "luci_scheduler.cli.main", "completion", "bash"]
    with subprocess.Popen(command, stdout=write, stderr=subprocess.PIPE) as process:
        os.close(write)
        error = process.communicate(timeout=60)[1]
    assert (process.returncode, error) == (0, b"")
