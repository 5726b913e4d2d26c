"""Cloud Build jobs and GitHub repositories in a local cloud in memory, from the push to the status of the commit."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from emulator.clock import AdjustableClock
from emulator.cloud_build import Build, Change, Fault, PlanRule, Script
from emulator.gitiles.git import git_environment
from emulator.gitiles.repository import Repository
from emulator.kept_state import kept_state
from emulator.local_cloud import LocalCloud
from emulator.options import Options
from emulator.start import start_local_cloud
from emulator.start_page import StartPage
from luci_scheduler.core.instants import SECOND
from tests.waiting import until

NAME = "example-org/widget"
REPO = f"https://github.com/{NAME}"
CONFIG = f"""
trigger {{ id: "pushes" gitiles {{ repo: "{REPO}" refs: "refs/heads/main" }} triggers: "steps" }}
job {{
  id: "steps"
  cloud_build {{ steps {{ name: "bash" script: "cat state; exit $(cat status)" }} }}
  triggering_policy {{ max_concurrent_invocations: 9 max_batch_size: 1 }}
}}
job {{ id: "trigger" cloud_build {{ location: "us-central1" trigger: "widget-ci" }} }}
"""
TRIGGERS = f"""
[triggers.widget-ci]
location = "us-central1"
repository = "{REPO}"
steps = [{{ name = "ubuntu", script = "echo trigger at $_REVISION of $_REPOSITORY; cat state" }}]
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the local cloud, with a config and a trigger."""
    folder = tmp_path_factory.mktemp("cloud")
    file = folder / "configs" / "widget" / "luci-scheduler.cfg"
    file.parent.mkdir(parents=True)
    file.write_text(CONFIG, encoding="utf-8")
    (folder / "triggers.toml").write_text(TRIGGERS, encoding="utf-8")
    return folder


def options(folder: Path, **changes: Any) -> Options:
    """Return the options of the local cloud; configs are read only at the start."""
    values = {"store": "memory", "cloud_build": True, "run_steps": True, "github": True, "clock": AdjustableClock()}
    return Options(folder=folder, sync_seconds=0, sweep_seconds=0, **{**values, **changes})


@pytest.fixture(scope="module")
def cloud(folder: Path) -> Iterator[LocalCloud]:
    """The local cloud."""
    with kept_state(folder) as kept, start_local_cloud(options(folder, kept=kept)) as cloud:
        cloud.repository(REPO)
        yield cloud


@pytest.fixture
def work(cloud: LocalCloud, tmp_path: Path) -> Repository:
    """A clone of the GitHub repository."""
    repository = Repository.create(tmp_path / "work", bare=False)
    run_git(repository.path, "pull", "--quiet", cloud.github.clone_url(NAME), "main", check=False)
    return repository


def run_git(path: Path, *words: str, check: bool = True) -> None:
    """Run git, which may speak http."""
    env = {**git_environment(), "GIT_ALLOW_PROTOCOL": "http"}
    subprocess.run(["git", "-C", str(path), *words], env=env, check=check, capture_output=True, timeout=60)


def push(cloud: LocalCloud, work: Repository, state: str, status: int = 0) -> str:
    """Commit to main, push, and return the commit's hash."""
    revision = work.commit(f"Be {state}", {"state": f"{state}\n", "status": f"{status}\n"}, at=time.time_ns())
    run_git(work.path, "push", "--quiet", cloud.github.clone_url(NAME), "refs/heads/main")
    return revision


def ended(cloud: LocalCloud, revision: str, job: str = "widget/steps") -> dict[str, Any]:
    """Wait for the end of the invocation of a commit, and return its page."""

    def look() -> Any:
        found = [one for one in cloud.invocations(job) if revision in one["debug_log"]]
        return found[0] if found and found[0]["final"] else None

    return until(look, f"{job} ends at {revision}")  # type: ignore[no-any-return]


def states(cloud: LocalCloud, revision: str) -> list[str]:
    """Return the states of a commit, oldest first."""
    return [status.state for status in cloud.github.statuses.of(NAME, revision)][::-1]


def iter_builds(cloud: LocalCloud, revision: str) -> Iterator[Build]:
    """Return the builds of a commit."""
    return (
        build for build in cloud.cloud_build.builds.newest_first() if build.substitutions.get("_REVISION") == revision
    )


def log(cloud: LocalCloud, page: dict[str, Any]) -> str:
    """Return the log of an invocation's build."""
    return requests.get(f"{page['view_url']}/log", timeout=20).text


def test_a_push_is_built_and_gets_its_status(cloud: LocalCloud, work: Repository) -> None:
    """The webhook announces the push, and nothing else does. A failing step fails invocation and commit."""
    events: list[str] = []
    publish = cloud.pubsub.publish

    def count(topic: str, *message: Any) -> str:
        events.append(topic.rpartition("/")[2])
        return publish(topic, *message)

    cloud.pubsub.publish = count  # type: ignore[method-assign]
    try:
        good, bad = push(cloud, work, "good"), push(cloud, work, "bad", 4)
        pages = [ended(cloud, revision) for revision in (good, bad)]
    finally:
        del cloud.pubsub.publish
    assert [page["status"] for page in pages] == ["SUCCEEDED", "FAILED"]
    assert ["good\n" in log(cloud, pages[0]), "bad\n" in log(cloud, pages[1])] == [True, True]
    assert "Build failed: USER_BUILD_STEP" in pages[1]["debug_log"]
    until(lambda: states(cloud, good)[-1:] == ["success"] and states(cloud, bad)[-1:] == ["failure"], "the statuses")
    assert events.count("gitiles-commit") == 2
    assert cloud.cloud_build.builds.doubled() == {}
    texts = [entry.text for entry in cloud.feed.after(0)]
    assert f"git push of main to {REPO}" in texts
    assert any(text.startswith(f"commit status failure on {bad[:12]} of {NAME}") for text in texts)
    assert any(f"at {bad[:12]} FAILURE after" in text for text in texts)


def test_a_lost_answer_is_found_again(cloud: LocalCloud, work: Repository) -> None:
    """The build of the lost answer is adopted after a minute, and no second build is made."""
    cloud.cloud_build.faults.add(Fault.lost_answer("create"))
    revision = push(cloud, work, "found")
    until(lambda: any(one["status"] == "RETRYING" for one in cloud.invocations("widget/steps")), "the failure")
    clock = cloud.clock
    assert isinstance(clock, AdjustableClock)
    clock.advance(120 * SECOND)
    page = ended(cloud, revision)
    assert page["status"] == "SUCCEEDED"
    assert "Found the build of an earlier attempt" in page["debug_log"]
    assert len(cloud.cloud_build.builds.by_invocation()[page["invocation_id"]]) == 1


def test_a_job_runs_a_trigger(cloud: LocalCloud, work: Repository) -> None:
    """The build runs the steps of the file, at the commit that an API caller names."""
    revision = push(cloud, work, "triggered")
    ended(cloud, revision)
    trigger = {"id": "mine", "gitiles": {"repo": REPO, "ref": "refs/heads/main", "revision": revision}}
    batch = {"jobs": [{"project": "widget", "job": "trigger"}], "trigger": trigger}
    url = f"{cloud.console_url}/prpc/scheduler.Scheduler/EmitTriggers"
    answer = requests.post(url, json={"batches": [batch]}, timeout=20)
    assert answer.status_code == 200, answer.text
    page = ended(cloud, revision, "widget/trigger")
    assert page["status"] == "SUCCEEDED", page["debug_log"]
    assert f"trigger at {revision} of {REPO}\ntriggered\n" in log(cloud, page)


def test_the_start_page(cloud: LocalCloud) -> None:
    """It links the servers, commits to GitHub with a webhook, and switches faults of Cloud Build."""
    before = len(cloud.github.deliveries.all())
    with StartPage(cloud) as page, requests.Session() as session:
        text = session.get(page.url, timeout=20).text
        assert cloud.cloud_build.url in text
        assert cloud.github.url in text
        token = re.search(r'name="token" value="([^"]+)"', text)[1]  # type: ignore[index]

        def post(path: str, **form: str) -> str:
            return session.post(f"{page.url}{path}", data={"token": token, **form}, timeout=20).text

        post("/switch", name="builds_fail", on="yes")
        assert "Cloud Build answers 503" in post("/switch", name="cloud_build_fail", on="no")
        answer = post("/commit", where=f"{REPO}@refs/heads/main")
        revision = re.search(r"Committed ([0-9a-f]{40})", answer)[1]  # type: ignore[index]
        assert ended(cloud, revision)["status"] == "FAILED"
        post("/switch", name="builds_fail", on="no")
    until(lambda: len(cloud.github.deliveries.all()) == before + 1, "the webhook")
    assert cloud.github.deliveries.all()[-1].status == 200


def test_the_state_is_kept(folder: Path, cloud: LocalCloud, work: Repository) -> None:
    """After a restart the builds and statuses are there, and pages link to the new address."""
    cloud.cloud_build.plans.add(PlanRule(Script((Change("WORKING", 0),))))
    revision = push(cloud, work, "kept")
    running = until(lambda: next(iter_builds(cloud, revision), None), "the build")
    cloud.cloud_build.plans.clear()
    until(lambda: states(cloud, revision), "the status")
    exported = cloud.optional.export_state({"cloud_build": {"urls": ["http://127.0.0.1:1"]}})
    other = folder.with_name("other")
    (other / "configs").mkdir(parents=True)
    builds = {"version": 1, "builds": [], "outputs": {}}
    with start_local_cloud(options(other, host_functions=False)) as later:
        later.optional.import_state({**builds, **exported})
        assert {build.id for build in later.cloud_build.builds.newest_first()} == {
            build.id for build in cloud.cloud_build.builds.newest_first()
        }
        (build,) = iter_builds(later, revision)
        assert (build.id, build.status) == (running.id, "INTERNAL_ERROR")
        assert later.github.statuses.all() == cloud.github.statuses.all()
        links = later.optional.links(exported)
        assert links[f"{cloud.cloud_build.url}/"] == f"{later.cloud_build.url}/"
        assert links["http://127.0.0.1:1/"] == f"{later.cloud_build.url}/"
        assert links["https://github.com/"] == f"{later.github.url}/"
    cloud.cloud_build.change_build(running.id, Change("SUCCESS", 0))
    ended(cloud, revision)
