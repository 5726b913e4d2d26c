"""A Cloud Build job for commits of GitHub, on every page, in the API and in the command: names, links and actions."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from emulator.memory.gitiles import MemoryGitiles
from luci_scheduler.core.commit_event import parse_commit_events
from luci_scheduler.core.commit_hosts import DEFAULT_HOSTS
from luci_scheduler.engine.commit import on_commits
from luci_scheduler.ports import CloudBuildError
from tests.unit.api.support import OWNER, Client
from tests.unit.cli.support import run
from tests.unit.managers.cloud_build.cloud import DENIED, THROTTLED, CloudWorld
from tests.unit.web.support import Visitor

OPERATOR = "scheduler.Operator"
REPO = "https://github.com/Team/App"
MAIN = "refs/heads/main"
OTHERS = re.compile(r"Buildbucket|Gitiles", re.IGNORECASE)
"""Names of services that such a job never reaches."""
OURS = re.compile(r"gitiles: <|buildset:commit/gitiles/\S+|gitiles_ref:\S+|gitiles-commit")
"""LUCI's own words in a config and in tags."""


class Messages:
    """A topic that keeps its messages."""

    def __init__(self) -> None:
        self.sent: list[dict[str, Any]] = []

    def publish(self, _: object, data: bytes) -> None:
        """Keep a message."""
        self.sent.append(json.loads(data))


class Setup:
    """A world whose only job builds commits of a GitHub repository."""

    def __init__(self) -> None:
        self.git, self.topic = MemoryGitiles(DEFAULT_HOSTS), Messages()
        (self.base,) = self.git.push(MAIN)
        self.world = CloudWorld(repo=REPO, gitiles=self.git, topic=self.topic)
        self.visitor, self.client = Visitor(self.world), Client(self.world)

    def commit(self) -> str:
        """Push a commit and deliver its event; return its hash."""
        (revision,) = self.git.push(MAIN)
        event = json.dumps({"repo": REPO, "ref": MAIN, "revision": revision}).encode()
        on_commits(self.world.runtime, parse_commit_events(event, DEFAULT_HOSTS), self.world.clock.now(), revision)
        return revision

    @property
    def page(self) -> str:
        """The path of the newest invocation's page."""
        return f"/jobs/proj/job/{self.world.invocation.id}"

    def texts(self, revision: str) -> Iterator[tuple[str, str]]:
        """Return each page and each answer about a commit: its address and its text."""
        paths = ["/", "/jobs/proj", "/jobs/proj/job", self.page, "/jobs/proj/poller"]
        paths += [f"/commits?repo={REPO}&revision={revision}", f"/grid/proj?repo={REPO}&ref={MAIN}"]
        paths += [f"/backfill/proj/job?repo={REPO}&ref={MAIN}&from=main~1&to=main"]
        yield from ((path, self.visitor.page(path).text) for path in paths)
        job = {"project": "proj", "job": "job"}
        invocation = {"jobRef": job, "invocationId": str(self.world.invocation.id)}
        asked = {
            "ExplainCommit": {"repo": REPO, "revision": revision},
            "DescribeInvocation": invocation,
            "GetInvocationLog": invocation,
            "GetHistory": {"jobRef": job},
            "DescribeJob": job,
        }
        for method, message in asked.items():
            found = self.client.call(method, message, OWNER, OPERATOR)
            for trigger in found.get("triggers", ()):
                trigger.pop("kind")  # the name of a payload in the API
            yield method, json.dumps(found)

    def links(self, path: str) -> set[str]:
        """Return the addresses of other sites on a page."""
        found = (element.attributes.get("href", "") for element in self.visitor.page(path).all("a"))
        return {link for link in found if link.startswith("http")}


@pytest.fixture(name="setup")
def _setup() -> Setup:
    return Setup()


def _fail(setup: Setup) -> str:
    """Let the build of a commit fail, and return the commit."""
    revision = setup.commit()
    setup.world.cloud.finish("FAILURE", failureInfo={"type": "USER_BUILD_STEP", "detail": "step 0 exited with 1"})
    setup.world.announce_build()
    return revision


def _refused(error: CloudBuildError) -> Callable[[Setup], str]:
    """Return a function that delivers a commit whose build Cloud Build refuses."""

    def deliver(setup: Setup) -> str:
        setup.world.cloud.faults["create"] = [error]
        return setup.commit()

    return deliver


CASES: dict[str, tuple[Callable[[Setup], str], str, str]] = {
    "running": (Setup.commit, "RUNNING", "Build statusQUEUED"),
    "failed": (_fail, "FAILED", "Build failed: USER_BUILD_STEP - step 0 exited with 1"),
    "refused": (_refused(DENIED), "FAILED", "PERMISSION_DENIED: The caller does not have permission"),
    "throttled": (_refused(THROTTLED), "RETRYING", "Next attempt: "),
}


@pytest.mark.parametrize("case", CASES)
def test_no_text_names_another_service(setup: Setup, case: str) -> None:
    """LUCI's words in a config and in tags are not names of services. The invocation's page says why."""
    happen, status, said = CASES[case]
    revision = happen(setup)
    assert str(setup.world.invocation.status) == status
    for where, text in setup.texts(revision):
        assert OTHERS.search(OURS.sub("", text)) is None, where
    assert said in setup.visitor.page(setup.page).text


def test_links_lead_to_cloud_build_and_github(setup: Setup) -> None:
    """The build and its log are a page of Cloud Build; commits, branches and ranges are pages of GitHub."""
    revision = setup.commit()
    (build,) = setup.world.cloud.builds.values()
    assert setup.links(setup.page) == {build["logUrl"], f"{REPO}/commit/{revision}"}
    assert build["logUrl"] in setup.links("/jobs/proj/job")
    assert setup.links(f"/commits?repo={REPO}&revision={revision}") == {f"{REPO}/commit/{revision}"}
    assert setup.links(f"/grid/proj?repo={REPO}&ref={MAIN}") == {f"{REPO}/tree/main"}
    assert setup.links(f"/backfill/proj/job?repo={REPO}&ref={MAIN}&from=main~1&to=main") == {
        f"{REPO}/compare/{setup.base}...{revision}"
    }


def test_announcements_name_the_build_and_the_reason(setup: Setup) -> None:
    """A reader of the topic gets the build's page, the commit and the failure."""
    revision = _fail(setup)
    setup.world.tick(1)
    (build,) = setup.world.cloud.builds.values()
    started, ended = sorted(setup.topic.sent, key=lambda item: item["event"], reverse=True)
    common = {"kind": "cloud_build", "repo": REPO, "revision": revision, "buildLink": build["logUrl"]}
    for message, more in (
        (started, {"transition": "started"}),
        (ended, {"transition": "first_failure", "summary": "Build failed: USER_BUILD_STEP - step 0 exited with 1"}),
    ):
        assert {name: message.get(name) for name in {**common, **more}} == {**common, **more}


def _abort_on_page(setup: Setup) -> None:
    action = f"/actions/abortInvocation/proj/job/{setup.world.invocation.id}"
    answer = setup.visitor.submit(setup.page, action, reason="enough")
    assert "It also cancels a running build." in setup.visitor.page(answer.headers["Location"]).text


def _abort_by_call(setup: Setup) -> None:
    ref = {"jobRef": {"project": "proj", "job": "job"}, "invocationId": str(setup.world.invocation.id)}
    setup.client.call("AbortInvocation", ref)


def _abort_by_command(setup: Setup) -> None:
    name = f"proj/job/{setup.world.invocation.id}"
    assert run(setup.world, "invocation", "abort", name, "--reason", "enough").code == 0


@pytest.mark.parametrize("abort", [_abort_on_page, _abort_by_call, _abort_by_command])
def test_an_abort_cancels_the_build(setup: Setup, abort: Callable[[Setup], None]) -> None:
    """The invocation ends as aborted, and its page says who requested it."""
    setup.commit()
    abort(setup)
    setup.world.tick(1)
    assert setup.world.cloud.statuses == ["CANCELLED"]
    assert str(setup.world.invocation.status) == "ABORTED"
    assert f"Abort requested by {OWNER}" in setup.visitor.page(setup.page).text


def _rerun_on_page(setup: Setup) -> None:
    setup.visitor.submit(setup.page, f"/actions/rerunInvocation/proj/job/{setup.world.invocation.id}")


def _rerun_by_call(setup: Setup) -> None:
    ref = {"jobRef": {"project": "proj", "job": "job"}, "invocationId": str(setup.world.invocation.id)}
    setup.client.call("RerunInvocation", {"invocationRef": ref, "requestId": "r"}, OWNER, OPERATOR)


def _rerun_by_command(setup: Setup) -> None:
    assert run(setup.world, "invocation", "rerun", f"proj/job/{setup.world.invocation.id}").code == 0


@pytest.mark.parametrize("rerun", [_rerun_on_page, _rerun_by_call, _rerun_by_command])
def test_a_rerun_waits_for_the_running_build(setup: Setup, rerun: Callable[[Setup], None]) -> None:
    """The first build goes on. Its end starts a second build of the same commit."""
    revision = setup.commit()
    rerun(setup)
    setup.world.tick(1)
    assert setup.world.cloud.statuses == ["QUEUED"]
    setup.world.cloud.finish()
    setup.world.announce_build()
    setup.world.tick(1)
    assert setup.world.cloud.statuses == ["SUCCESS", "QUEUED"]
    built = [build["substitutions"]["COMMIT_SHA"] for build in setup.world.cloud.builds.values()]
    assert built == [revision, revision]


def _backfill_on_page(setup: Setup, _: str) -> None:
    page = f"/backfill/proj/job?repo={REPO}&ref={MAIN}&from=main~2&to=main"
    setup.visitor.submit(page, "/actions/backfillJob/proj/job")


def _backfill_by_call(setup: Setup, last: str) -> None:
    wanted = {"jobs": [{"project": "proj", "job": "job"}], "repo": REPO, "ref": MAIN}
    wanted |= {"fromRevision": setup.base, "toRevision": last, "requestId": "b"}
    setup.client.call("BackfillCommits", wanted, OWNER, OPERATOR)


def _backfill_by_command(setup: Setup, _: str) -> None:
    assert run(setup.world, "backfill", "main~2", "main", "--job", "proj/job", "--yes").code == 0


@pytest.mark.parametrize("backfill", [_backfill_on_page, _backfill_by_call, _backfill_by_command])
def test_a_backfill_builds_each_commit(setup: Setup, backfill: Callable[[Setup, str], None]) -> None:
    """Without a running build it starts at once; the policy of the job decides which commits share a build."""
    first, second = setup.git.push(MAIN, 2)
    backfill(setup, second)
    for _ in range(4):
        setup.world.tick(10)
        if setup.world.cloud.builds:
            setup.world.cloud.finish()
            setup.world.announce_build(message=f"m{len(setup.world.cloud.builds)}")
    taken = [item.payload["revision"] for one in setup.world.invocations() for item in one.incoming_triggers]
    assert sorted(taken) == sorted([first, second])
    assert set(setup.world.cloud.statuses) == {"SUCCESS"}
