"""A new task kind and a new policy take one file each and one entry in a registry; everything else follows."""

import ast
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from emulator.memory.gitiles import MemoryGitiles
from luci_scheduler.api.schema import fields_of
from luci_scheduler.config.validator import validate
from luci_scheduler.core.commit_event import CommitEvent
from luci_scheduler.core.identifiers import JobId
from luci_scheduler.core.instants import SECOND
from luci_scheduler.core.invocation import Status
from luci_scheduler.core.policy import registry as policies
from luci_scheduler.core.trigger import PayloadKind
from luci_scheduler.engine.commit import on_commit
from luci_scheduler.managers import registry as kinds
from luci_scheduler.web.presentation import status_of
from tests.unit.api.support import OWNER, Client, world_for
from tests.unit.engine.world import REPO, World
from tests.unit.managers.drop_all import DropAll
from tests.unit.managers.echo import EchoKind
from tests.unit.web.support import Visitor

MAIN = "refs/heads/main"
ECHO, DROP = JobId("proj/echo"), JobId("proj/drop")
CONFIG = f"""
trigger {{
  id: "poller"
  schedule: "triggered"
  gitiles {{ repo: "{REPO}" refs: "{MAIN}" }}
  triggers: "echo"
  triggers: "drop"
}}
job {{ id: "echo" echo {{ text: "hello" times: 2 }} }}
job {{ id: "drop" triggering_policy {{ kind: DROP_ALL }} noop {{}} }}
"""
REASON = "the policy DROP_ALL discarded it, as it drops every trigger"


@pytest.fixture(autouse=True)
def _registered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Add the kind and the policy as a developer would: one entry in each list."""
    monkeypatch.setattr(kinds, "KINDS", (*kinds.KINDS, EchoKind()))
    monkeypatch.setattr(policies, "POLICIES", (*policies.POLICIES, DropAll))


def _committed() -> tuple[World, str]:
    """Return a world in which one commit was delivered and its tasks ran, and the commit's hash."""
    gitiles = MemoryGitiles()
    (revision,) = gitiles.push(MAIN, 1)
    world = world_for(CONFIG, gitiles)
    world.clock.advance(SECOND)
    on_commit(world.runtime, CommitEvent(REPO, MAIN, revision), world.clock.now(), "commit")
    world.tick(1)
    return world, revision


def _explained(world: World, revision: str) -> dict[str, dict[str, Any]]:
    request = {"repo": REPO, "revision": revision, "ref": MAIN}
    reply = Client(world).call("ExplainCommit", request, OWNER, "scheduler.Operator")
    return {item["jobRef"]["job"]: item for item in reply["explanations"]}


def test_a_config_with_the_new_kind_and_policy_is_valid() -> None:
    """The reader keeps the fields of both."""
    world = world_for(CONFIG)
    echo, drop = (world.store.job(name) for name in (ECHO, DROP))
    assert echo is not None
    assert drop is not None
    task = echo.value.definition.task
    assert (task.kind, dict(task.fields)) == ("echo", {"text": "hello", "times": 2})
    assert drop.value.definition.policy.kind == "DROP_ALL"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('job {\n id: "x"\n echo {\n  times: 1\n }\n}', "F:3: job \"x\" / task: field 'text' is required"),
        (
            'job {\n id: "x"\n echo {\n  text: "a"\n  times: 101\n }\n}',
            "F:5: job \"x\" / task: 'times' must be from 0 to 100, got 101",
        ),
        ('trigger { id: "t"\n echo { text: "a" } }', 'F:2: Message type "Trigger" has no field named "echo".'),
        ('job {\n id: "x" echo {\n  tone: 1 } }', 'F:3: Message type "EchoTask" has no field named "tone".'),
        (
            'job {\n id: "x"\n noop {}\n echo { text: "a" }\n}',
            'F:4: job "x": only one field with task definition must be set, at least two are given (noop, echo)',
        ),
        (
            'job {\n id: "x" noop {}\n triggering_policy {\n  kind: DROP_ALL\n  max_batch_size: 2\n }\n}',
            'F:5: job "x" / triggering_policy: DROP_ALL starts nothing: remove max_batch_size',
        ),
    ],
)
def test_a_bad_config_is_refused_with_its_line(text: str, problem: str) -> None:
    """The rules are those of the kind and of the policy; the parser knows their fields."""
    (error,) = validate(text, file="F").errors
    assert str(error).startswith(problem)


def test_the_page_of_the_project_shows_the_problem() -> None:
    """The last good config stays active."""
    world = world_for(CONFIG)
    world.sync('job {\n id: "echo"\n echo {}\n}')
    assert (
        "luci-scheduler.cfg:3: job \"echo\" / task: field 'text' is required" in Visitor(world).page("/jobs/proj").text
    )
    echo = world.store.job(ECHO)
    assert echo is not None
    assert echo.value.enabled


def test_the_job_launches_and_ends() -> None:
    """The manager writes into the debug log. The launch blocks, so it ran in a separate queue task."""
    world, _ = _committed()
    (invocation,) = world.invocations(ECHO)
    assert invocation.status is Status.SUCCEEDED
    assert world.log(ECHO).splitlines() == [
        "[12:00:01.000] New invocation is queued and will start shortly",
        "[12:00:02.000] Starting the invocation (attempt 1)",
        "[12:00:03.000] Echo: hello",
        "[12:00:04.000] Echo: hello",
        "[12:00:04.000] Invocation finished in 3s with status SUCCEEDED",
    ]


def test_a_permanent_error_fails_the_invocation() -> None:
    """The manager has logged why."""
    world = world_for('job { id: "echo" schedule: "continuously" echo { text: "\\a" } }')
    for _ in range(3):
        world.tick(1)
    assert world.invocations(ECHO)[-1].status is Status.FAILED
    assert "The text has characters that cannot be printed" in world.log(ECHO, -1)


def test_pages_show_the_job_and_the_invocation() -> None:
    """The definition, the policy and the kind's own row in the summary."""
    world, _ = _committed()
    visitor, (invocation,) = Visitor(world), world.invocations(ECHO)
    assert 'echo: <\n  text: "hello"\n  times: 2\n>' in visitor.page("/jobs/proj/echo").text
    assert "kind: DROP_ALL\nmax_concurrent_invocations: 1" in visitor.page("/jobs/proj/drop").text
    page = visitor.page(f"/jobs/proj/echo/{invocation.id}")
    assert [item.inside[1].text for item in page.all("div") if item.text.startswith("Echo")] == ["hello"]
    assert "Echo: hello" in page.text
    assert visitor.json(f"/jobs/proj/echo/{invocation.id}")["task"] == {"echo": {"text": "hello", "times": 2}}


def test_explain_reports_both() -> None:
    """The API and the page about a commit use the kind's verb and the policy's reason."""
    world, revision = _committed()
    (invocation,) = world.invocations(ECHO)
    explained = _explained(world, revision)
    assert explained["echo"]["sentence"] == f"It was echoed in invocation {invocation.id}: SUCCEEDED."
    assert (explained["drop"]["reason"], explained["drop"]["sentence"]) == (
        "DISCARDED",
        f"It was discarded: {REASON}.",
    )
    visitor, path = Visitor(world), f"/commits?repo={REPO}&revision={revision}"
    assert f"It was discarded: {REASON}." in visitor.page(path).text
    assert f"It was echoed in invocation {invocation.id}" in str(visitor.json(path)["jobs"])


def test_the_policy_discards_with_its_reason() -> None:
    """Nothing starts; the marker and the triage log say why."""
    world, revision = _committed()
    assert world.invocations(DROP) == []
    (record,) = world.store.triggers([(DROP, f"{REPO}/+/{MAIN}@{revision}")])
    assert record.discarded == REASON
    assert "1 triggers discarded, according to policy" in world.store.triage_log(DROP)


def test_an_unknown_policy_is_greedy() -> None:
    """A job may have the policy of a newer version; LUCI's default policy serves it."""
    assert policies.policy_class("KIND_OF_TOMORROW").kind == "GREEDY_BATCHING"
    assert policies.policy_class("DROP_ALL") is DropAll


def test_a_backfill_forecasts_with_the_policy() -> None:
    """The preview says that nothing would start."""
    gitiles = MemoryGitiles()
    hashes = gitiles.push(MAIN, 3)
    request = {
        "jobs": [{"project": "proj", "job": "drop"}],
        "repo": REPO,
        "ref": MAIN,
        "fromRevision": hashes[0],
        "toRevision": hashes[-1],
        "preview": True,
    }
    reply = Client(world_for(CONFIG, gitiles)).call("BackfillCommits", request, OWNER, "scheduler.Operator")
    assert reply["jobs"][0]["note"] == "No invocations: the job's policy, DROP_ALL, discards all 2 triggers."


def test_a_kind_declares_whether_it_has_several_stages(monkeypatch: pytest.MonkeyPatch) -> None:
    """A task of one stage works while it starts, so pages show it as running."""
    world, _ = _committed()
    starting = replace(world.invocations(ECHO)[0], status=Status.STARTING)
    assert status_of(starting) is Status.RUNNING
    monkeypatch.setattr(EchoKind, "is_multistage", True)
    assert status_of(starting) is Status.STARTING


def test_every_kind_of_trigger_is_a_payload_of_the_api() -> None:
    """Kinds of triggers are independent of task kinds: one for each payload in the API, and one without a payload."""
    payloads = {field.name for field in fields_of("Trigger") if field.is_payload}
    assert {*payloads, PayloadKind.NONE} == set(PayloadKind)


def test_the_guide_shows_these_files() -> None:
    """Every Python block in the guide is part of one of the two files."""
    guide = Path("docs/how-to/add-a-task-kind.md").read_text(encoding="utf-8")
    files = [Path(__file__).with_name(name).read_text(encoding="utf-8") for name in ("echo.py", "drop_all.py")]
    blocks = re.findall(r"```python\n(.*?)```", guide, re.DOTALL)
    assert len(blocks) > 5
    assert [block for block in blocks if not any(block in file for file in files)] == []


def test_no_other_module_compares_names_of_kinds_or_policies() -> None:
    """All differences between kinds, and between policies, are in their own modules."""
    source = Path("functions/luci_scheduler")
    names = {kind.name for kind in kinds.KINDS} | {policy.kind for policy in policies.POLICIES}
    found = [
        f"{path}: {comparison}"
        for folder in ("adapters", "api", "cli", "config", "core", "engine", "web")
        for path in (source / folder).rglob("*.py")
        for comparison in _comparisons(path.read_text(encoding="utf-8"), names)
    ]
    assert found == []


def test_a_comparison_with_a_name_is_found() -> None:
    """The test above fails for these conditions."""
    source = "a = kind == 'noop'\nb = kind in ('noop', 'x')\nmatch kind:\n    case 'noop':\n        pass"
    assert len(list(_comparisons(source, {"noop"}))) == 3
    assert list(_comparisons("a = kind == 'x'\nb = 'noop'", {"noop"})) == []


def _comparisons(source: str, names: set[str]) -> Iterator[str]:
    """Yield the comparisons of a module that contain one of the names."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.Compare, ast.match_case)) and names & set(_texts(node)):
            yield ast.unparse(node)


def _texts(node: ast.Compare | ast.match_case) -> list[object]:
    part = node.pattern if isinstance(node, ast.match_case) else node
    return [item.value for item in ast.walk(part) if isinstance(item, ast.Constant) and isinstance(item.value, str)]
