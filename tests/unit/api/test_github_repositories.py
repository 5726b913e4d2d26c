"""Jobs that watch a repository on GitHub: every entrance, page and rule that knows repositories.

Each test runs with a host that only the settings name, too: code that does not get the hosts would not know it.
"""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest
from structlog.testing import capture_logs

from emulator.memory.gitiles import MemoryGitiles
from luci_scheduler.api.backfill import Backfill, backfill_commits
from luci_scheduler.api.commit_titles import commit_titles
from luci_scheduler.api.commit_trigger import WantedCommit, trigger_at_commit
from luci_scheduler.api.errors import ApiError
from luci_scheduler.api.explain import explain_commit
from luci_scheduler.api.explanation import Reason
from luci_scheduler.api.grid import GridQuery, grid_of
from luci_scheduler.api.triggering import Batch, emit_triggers
from luci_scheduler.core.commit_event import gitiles_trigger, parse_commit_events
from luci_scheduler.core.commit_hosts import DEFAULT_HOSTS, CommitHosts, ConfiguredHost, HostKind
from luci_scheduler.core.errors import MalformedError
from luci_scheduler.core.identifiers import JobId
from luci_scheduler.core.trigger import Trigger
from luci_scheduler.engine.commit import on_commits
from luci_scheduler.engine.jobs import pause_job
from luci_scheduler.settings import ConfigSourceSetting
from tests.unit.api.support import OWNER, Client, context, world_for
from tests.unit.cli.support import run
from tests.unit.engine.world import JOB, REPO, World, config

MAIN = "refs/heads/main"
POLLER = JobId("proj/poller")
OWN_HOSTS = CommitHosts({"git.example.com": ConfiguredHost(HostKind.GITHUB, "https://git.example.com/api/v3")})


class Setup:
    """A world whose only repository is on a GitHub host."""

    def __init__(self, host: str, text: str = "", refs: str = "") -> None:
        self.hosts = DEFAULT_HOSTS if host in DEFAULT_HOSTS.configured else OWN_HOSTS
        self.page = f"https://{host}/Team/App"
        self.spelling = f"{self.page}.git"
        self.other = f"https://{host}/team/APP"
        self.git = MemoryGitiles(self.hosts)
        (self.base,) = self.git.push(MAIN)
        text = (text or config()).replace(REPO, self.spelling)
        if refs:
            text = text.replace(f'refs: "{MAIN}"', refs)
        self.world = world_for(text, self.git, commit_hosts=self.hosts)

    def publish(self, revision: str, repo: str = "") -> None:
        """Deliver a commit event."""
        document = {"repo": repo or self.other, "ref": MAIN, "revision": revision}
        events = parse_commit_events(json.dumps(document).encode(), self.hosts)
        on_commits(self.world.runtime, events, self.world.clock.now(), f"commit-{revision}")

    def taken(self) -> list[Trigger]:
        """Return the triggers that invocations of the job have taken, oldest first."""
        return [trigger for item in self.world.invocations()[::-1] for trigger in item.incoming_triggers]

    def revisions(self) -> list[str]:
        """Return the commits of these triggers."""
        return [str(trigger.payload["revision"]) for trigger in self.taken()]

    def run(self, minutes: int = 20) -> None:
        """Let time pass; builds succeed."""
        for _ in range(minutes):
            self.world.tick(60)
            for build in list(self.world.buildbucket.builds):
                self.world.finish(build_id=build)


@pytest.fixture(params=["github.com", "git.example.com"])
def setup(request: pytest.FixtureRequest) -> Setup:
    """A world with the default host, and one with a host of the settings."""
    return Setup(str(request.param))


POLLING = config().replace('schedule: "triggered" gitiles', 'schedule: "with 30s interval" gitiles')


def test_an_event_in_another_spelling_starts_the_build(setup: Setup) -> None:
    """The case of owner and name does not count. The trigger has the config's spelling, and links to the commit."""
    (revision,) = setup.git.push(MAIN)
    requests: list[Any] = []
    schedule = setup.world.buildbucket._ScheduleBuild
    setup.world.buildbucket._ScheduleBuild = lambda request: requests.append(request) or schedule(request)  # type: ignore[method-assign, func-returns-value]
    setup.publish(revision)
    (trigger,) = setup.taken()
    assert trigger.id == f"{setup.spelling}/+/{MAIN}@{revision}"
    assert trigger.url == f"{setup.page}/commit/{revision}"
    assert trigger.payload == {"repo": setup.spelling, "ref": MAIN, "revision": revision}
    host = setup.page.split("/")[2]
    assert requests[0]["gitilesCommit"] == {"host": host, "project": "team/app", "id": revision, "ref": MAIN}
    (invocation,) = setup.world.invocations()
    assert f"buildset:commit/gitiles/{host}/team/app/+/{revision}" in invocation.tags
    assert invocation.properties == {"revision": revision, "branch": MAIN, "repository": setup.spelling}


def test_the_event_and_the_poll_of_a_commit_are_one_trigger() -> None:
    """A webhook only makes the poll's trigger come earlier."""
    setup = Setup("github.com", POLLING)
    setup.world.tick(31)
    (revision,) = setup.git.push(MAIN)
    setup.publish(revision)
    setup.run(5)
    assert setup.revisions().count(revision) == 1


def test_an_event_that_waits_for_its_commit(setup: Setup) -> None:
    """The deferred task reads the repository as the event did."""
    setup.git.heads[MAIN] = setup.base
    (revision,) = setup.git.push("refs/heads/topic", parents=[setup.base])
    setup.publish(revision)
    assert setup.taken() == []
    explained = explain_commit(context(setup.world), setup.other, revision)
    assert [item.reason for item in explained.explanations] == [Reason.WAITING_FOR_COMMIT]
    setup.git.heads[MAIN] = revision
    setup.run(5)
    assert setup.revisions() == [revision]


def test_a_paused_trigger_ignores_events(setup: Setup) -> None:
    """The mark is stored under the same name of the repository as the watchers."""
    pause_job(setup.world.runtime, POLLER, "user:a@example.com", "stop", "k")
    (revision,) = setup.git.push(MAIN)
    with capture_logs() as logs:
        setup.publish(revision)
    assert "commit_watcher_paused" in {entry["event"] for entry in logs}
    assert setup.taken() == []


def test_an_unknown_host_is_refused() -> None:
    """Its events are malformed."""
    setup = Setup("git.example.com")
    with pytest.raises(MalformedError, match=r"'repo': only \.googlesource\.com repos are supported"):
        setup.publish("a" * 40, "https://github.com/team/app")


def test_emitted_triggers(setup: Setup) -> None:
    """A caller of the API may send them in any spelling."""
    (revision,) = setup.git.push(MAIN)
    trigger = gitiles_trigger(setup.other, MAIN, revision, setup.world.clock.now(), setup.hosts)
    emit_triggers(context(setup.world), [Batch(trigger, (JOB,))])
    setup.run(2)
    assert setup.revisions() == [revision]
    with pytest.raises(ApiError, match="refs/"):
        emit_triggers(
            context(setup.world),
            [Batch(gitiles_trigger(setup.other, "main", revision, setup.world.clock.now()), (JOB,))],
        )


def test_a_job_is_triggered_for_a_named_commit(setup: Setup) -> None:
    """Branches, short hashes and steps are names; the repository and the ref follow from the config."""
    first, second = setup.git.push(MAIN, 2)
    emitted = trigger_at_commit(context(setup.world), JOB, WantedCommit("", "", "main~1"), "r1")
    trigger_at_commit(context(setup.world), JOB, WantedCommit(setup.other, MAIN, second[:12]), "r2")
    setup.run(3)
    assert setup.revisions() == [first, second]
    assert emitted.trigger_ids[0].startswith(f"{setup.spelling}/+/{MAIN}@{first}#trigger:")
    assert {trigger.url for trigger in setup.taken()} == {f"{setup.page}/commit/{name}" for name in (first, second)}


def test_a_backfill_takes_the_first_parent_line(setup: Setup) -> None:
    """A merged pull request is one commit of the range, and a preview filters it by all its changes."""
    inner = setup.git.push("refs/heads/topic", 2, parents=[setup.base])
    (direct,) = setup.git.push(MAIN)
    merge = setup.git.merge(MAIN, [inner[-1]])
    wanted = Backfill((JOB,), setup.other, MAIN, setup.base[:10], "main")
    preview = backfill_commits(context(setup.world), wanted, preview=True)
    assert [commit.id for commit in preview.commits] == [direct, merge]
    backfill_commits(context(setup.world), wanted, preview=False, request_id="r")
    setup.run(3)
    assert setup.revisions() == [direct, merge]


def test_a_poll_of_a_merged_pull_request_gives_one_trigger() -> None:
    """Its inner commits were never the head of the branch, and the path filter sees all its changes."""
    text = POLLING.replace(f'refs: "{MAIN}"', f'refs: "{MAIN}" path_regexps: "src/.+"')
    setup = Setup("github.com", text)
    setup.world.tick(31)
    inner = setup.git.push("refs/heads/topic", 2, parents=[setup.base], diff=[("docs/a", "docs/a")])
    merge = setup.git.merge(MAIN, [inner[-1]], diff=[("src/a.c", "src/a.c"), ("docs/a", "docs/a")])
    setup.run(3)
    assert setup.revisions() == [merge]


def test_a_commit_with_unknown_changes_passes_every_filter() -> None:
    """Any path may be among them. The poll's log says so, and a commit event has the same rule."""
    text = POLLING.replace(f'refs: "{MAIN}"', f'refs: "{MAIN}" path_regexps: "src/.+"')
    setup = Setup("github.com", text)
    setup.world.tick(31)
    (cut,) = setup.git.push(MAIN, diff=[("docs/a", "docs/a")] * 3000, diff_cut=True)
    (plain,) = setup.git.push(MAIN, diff=[("docs/a", "docs/a")])
    (matching,) = setup.git.push(MAIN, diff=[("src/a", "src/a")], diff_cut=True)
    setup.run(3)
    assert setup.revisions() == [cut, matching]
    log = setup.world.log(POLLER)
    assert f'NOTE: emitting trigger "{cut}" although only 3000 of its changes are known' in log
    assert f'skipping commit "{plain}"' in log
    assert f'NOTE: emitting trigger "{matching}"' not in log
    event = Setup("github.com", config().replace(f'refs: "{MAIN}"', f'refs: "{MAIN}" path_regexps: "src/.+"'))
    (cut,) = event.git.push(MAIN, diff=[("docs/a", "docs/a")], diff_cut=True)
    event.publish(cut)
    assert event.revisions() == [cut]


def test_a_commit_without_files_is_no_merge_on_github() -> None:
    """There, a merge has its changes against its first parent. Only a commit without changes has no files."""
    text = POLLING.replace(f'refs: "{MAIN}"', f'refs: "{MAIN}" path_regexps: "src/.+"')
    setup = Setup("github.com", text)
    setup.run(1)
    (revision,) = setup.git.push(MAIN, diff=[])
    setup.run(1)
    (explanation,) = explain_commit(context(setup.world), setup.other, revision).explanations
    assert explanation.reason is Reason.PATH_FILTERED
    assert explanation.sentence == "It changed no files, so it does not pass the job's path filter."


def test_a_commit_with_unknown_changes_says_so_everywhere() -> None:
    """The page, its JSON, the API and the command name the rule by which the commit ran."""
    text = config().replace(f'refs: "{MAIN}"', f'refs: "{MAIN}" path_regexps: "src/.+"')
    setup = Setup("github.com", text)
    (cut,) = setup.git.push(MAIN, diff=[("docs/a", "docs/a"), ("docs/b", "docs/b")], diff_cut=True)
    (whole,) = setup.git.push(MAIN, diff=[("docs/a", "docs/a")])
    setup.publish(cut)
    setup.publish(whole)
    note = (
        "The repository's host lists only 2 of its changes. "
        "Any path may be among the others, so the commit passes every path filter."
    )
    client = Client(setup.world)
    for revision, expected, reason in ((cut, note, "INVOCATION"), (whole, "", "PATH_FILTERED")):
        asked = {"repo": setup.other, "revision": revision}
        answer = client.call("ExplainCommit", asked, service="scheduler.Operator")
        assert (answer["commit"].get("note", ""), answer["explanations"][0]["reason"]) == (expected, reason)
        path = f"/commits?repo={setup.other}&revision={revision}"
        page = client.http(path, who=OWNER, method="GET", Accept="text/html").get_data(as_text=True)
        assert ("passes every path filter" in page) == bool(expected)
        document = client.http(f"{path}&format=json", who=OWNER, method="GET").get_json()
        assert document["commit"]["note"] == expected
        shown = run(setup.world, "commit", "explain", revision, "--repo", setup.other).out
        assert ("passes every path filter" in shown) == bool(expected)


def test_pages_show_the_spelling_of_the_config(setup: Setup) -> None:
    """A visitor who names no repository sees it as the config writes it, and not in lower case."""
    (revision,) = setup.git.push(MAIN)
    client = Client(setup.world)
    for path in (f"/commits?revision={revision}", "/grid/proj"):
        text = client.http(path, who=OWNER, method="GET", Accept="text/html").get_data(as_text=True)
        assert setup.page in text
        assert setup.page.lower() not in text


def test_a_hidden_repository_is_a_possible_reason(setup: Setup) -> None:
    """GitHub gives one answer about a missing commit and about a repository that it hides."""
    (missing,) = explain_commit(context(setup.world), setup.other, "f" * 40).explanations
    assert missing.reason == Reason.NOT_SERVED
    assert missing.sentence.endswith("GitHub also answers so if the credentials may not read the repository.")


def test_explanations_and_grids(setup: Setup) -> None:
    """In any spelling, and with links to GitHub's pages."""
    (revision,) = setup.git.push(MAIN)
    setup.publish(revision)
    (explanation,) = explain_commit(context(setup.world), setup.other, "main").explanations
    assert (explanation.job_id, explanation.reason) == (JOB, Reason.INVOCATION)
    grid = grid_of(context(setup.world), GridQuery("proj", setup.other, MAIN))
    assert [commit.id for commit in grid.commits] == [revision, setup.base]
    assert grid.cells[revision, JOB].state != "NONE"
    titles = commit_titles(context(setup.world), [(setup.spelling, revision)])
    assert [title.subject for title in titles.values()] == ["Change 1"]


@pytest.mark.parametrize(
    ("path", "link"),
    [
        ("/commits?repo={other}&revision=main", "{other}/commit/{revision}"),
        ("/grid/proj?repo={other}&ref=refs/heads/main", "{other}/tree/main"),
        (
            "/backfill/proj/job?repo={other}&ref=refs/heads/main&from={base}&to=main",
            "{other}/compare/{base}...{revision}",
        ),
    ],
)
def test_pages_link_to_github(setup: Setup, path: str, link: str) -> None:
    """A commit, a branch and a range have pages there."""
    (revision,) = setup.git.push(MAIN)
    values = {"other": setup.other, "revision": revision, "base": setup.base}
    answer = Client(setup.world).http(path.format(**values), who=OWNER, method="GET", Accept="text/html")
    assert answer.status_code == 200, answer.data
    assert f'href="{link.format(**values)}"' in answer.get_data(as_text=True)


def test_a_commit_to_the_configs_branch_causes_a_sync(setup: Setup) -> None:
    """The source names the repository in its own spelling."""
    source: Any = {"kind": "github", "project": "proj", "repo": setup.spelling}
    world = World("", commit_hosts=setup.hosts, config_sources=(ConfigSourceSetting(**source),))
    event = {"repo": setup.other, "ref": MAIN, "revision": "a" * 40}
    world.app.note_config_changes(parse_commit_events(json.dumps(event).encode(), setup.hosts))
    assert Counter(task.kind for task in world.queue.tasks) == {"sync": 1}
