"""Real builds in a local cloud in memory: a failing test is found, repaired, and found to be repaired."""

import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from emulator.buildbucket.builds import Build
from emulator.buildbucket.identifiers import BuilderId
from emulator.errors import LocalCloudError
from emulator.feed import Entry
from emulator.local_cloud import LocalCloud
from emulator.options import Options
from emulator.start import start_local_cloud
from tests.waiting import until

REPO, REF, SERVER = "https://dawn.googlesource.com/dawn", "refs/heads/main", "cr-buildbucket.appspot.com"
LATER = "buildbucket.example.com"
CONFIG = """
trigger {{ id: "commits" gitiles {{ repo: "{repo}" refs: "regexp:refs/heads/.*" }} triggers: "{job}" }}
job {{
  id: "{job}"
  buildbucket {{ server: "{server}" bucket: "ci" builder: "{job}" properties: "mode:fast" }}
  triggering_policy {{ max_concurrent_invocations: 9 max_batch_size: 1 }}
}}
"""
# The build waits until the test lets it go on, so that two commits are in flight at once.
SCRIPT = 'echo "$REVISION $REPOSITORY $REF $PROPERTY_MODE in $(cat state)"; while [ ! -e "$GO" ]; do sleep 0.01; done\n'
FAILING = {"state": "broken\n", "build.sh": f"{SCRIPT}echo 'test_add: 1 + 1 is 3'\necho '1 test failed'\nexit 1\n"}
REPAIRED = {"state": "repaired\n", "build.sh": f"{SCRIPT}echo 'all tests pass'\n"}


def write_config(cloud_folder: Path, project: str, **values: str) -> None:
    """Write the config of a project."""
    file = cloud_folder / "configs" / project / "luci-scheduler.cfg"
    file.parent.mkdir(parents=True)
    file.write_text(CONFIG.format(**{"repo": REPO, "server": SERVER, **values}))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder of the local cloud, with a config and the commands of builders."""
    folder = tmp_path / "cloud"
    write_config(folder, "dawn", job="linux")
    rows = f'"later/*/*" = "sleep 60"\n"*" = {{ command = "sh build.sh", env = {{ GO = "{folder}/go" }} }}\n'
    (folder / "builders.toml").write_text(f"parallel = 4\n[builders]\n{rows}")
    return folder


@pytest.fixture
def cloud(folder: Path) -> Iterator[LocalCloud]:
    """The local cloud; configs are read only when a test says so."""
    options = Options(folder=folder, store="memory", check_interval_seconds=60, sync_seconds=0, sweep_seconds=0)
    with start_local_cloud(options) as cloud:
        yield cloud


def commit(cloud: LocalCloud, files: dict[str, str]) -> str:
    """Commit files and announce the commit."""
    revision = cloud.repository(REPO).commit("Change <b>it</b>", files, at=time.time_ns())
    cloud.publish_commit(REPO, REF, revision)
    return revision


def call(cloud: LocalCloud, method: str, **request: Any) -> None:
    """Call a method of the console's API."""
    answer = requests.post(f"{cloud.console_url}/prpc/{method}", json=request, timeout=20)
    assert answer.status_code == requests.codes.ok, answer.text


def build_of(cloud: LocalCloud, revision: str, status: str = "") -> Build | None:
    """Return the build of a commit, if it has the status."""
    for build in cloud.buildbucket.builds.newest_first():
        named = (build.spec.gitiles_commit or {}).get("id") == revision
        if named and status in ("", build.status):
            return build
    return None


def output(cloud: LocalCloud, build: Build) -> str:
    """Return the output of a build so far."""
    return requests.get(f"{cloud.buildbucket.url}/build/{build.id}/log", timeout=20).text


def entries(cloud: LocalCloud, kind: str, build: Build) -> list[Entry]:
    """Return the entries of the feed about a build; they may come after the end of its invocation."""

    def look() -> list[Entry]:
        named = [entry for entry in cloud.feed.after(0) if entry.fields.get("build") == str(build.id)]
        return [entry for entry in named if entry.kind == kind]

    return until(look, f"an entry {kind} about build {build.id}")


def test_two_commits_in_flight_each_run_their_own_files(cloud: LocalCloud, folder: Path) -> None:
    """The first commit fails and the second repairs it. Invocation, page and feed agree on both."""
    broken, repaired = commit(cloud, FAILING), commit(cloud, REPAIRED)
    for revision, state in ((broken, "broken"), (repaired, "repaired")):
        build: Any = until(lambda revision=revision: build_of(cloud, revision, "STARTED"))
        line = f"{revision} {REPO} {REF} fast in {state}\n"
        until(lambda build=build, line=line: line in output(cloud, build), "output while the build runs")
    (folder / "go").touch()
    failed: Any = until(lambda: build_of(cloud, broken, "FAILURE"))
    passed: Any = until(lambda: build_of(cloud, repaired, "SUCCESS"))
    how = r"The command ended with status 1 after .* s\."
    lines = r"    .* in broken\n    test_add: 1 \+ 1 is 3\n    1 test failed"
    assert re.fullmatch(f"{how}\n\n{lines}", failed.outcome.summary)
    until(lambda: {"SUCCEEDED", "FAILED"} == {item["status"] for item in cloud.invocations("dawn/linux")})
    page = requests.get(f"{cloud.buildbucket.url}/build/{failed.id}", timeout=20).text
    (invocation,) = (item for item in cloud.invocations("dawn/linux") if item["status"] == "FAILED")
    assert f'<a href="{cloud.console_url}/jobs/dawn/linux/{invocation["invocation_id"]}">' in page
    assert f'<a href="{cloud.gitiles.url}/dawn.googlesource.com/dawn/+/{broken}">' in page
    assert "Change &lt;b&gt;it&lt;/b&gt;" in page
    (started,), (ended,) = entries(cloud, "build_started", failed), entries(cloud, "failure", failed)
    assert started.text == f"dawn/ci/linux at {broken[:12]} started"
    assert ended.text.startswith(f"dawn/ci/linux at {broken[:12]} FAILURE after ")
    assert ended.text.endswith(": 1 test failed")
    assert ended.link == f"{cloud.buildbucket.url}/build/{failed.id}"
    (done,) = entries(cloud, "build_ended", passed)
    assert (done.fields["status"], done.fields["builder"]) == ("SUCCESS", "dawn/ci/linux")


def test_any_server_that_a_config_names_later_is_local_and_an_abort_ends_the_command(
    cloud: LocalCloud, folder: Path
) -> None:
    """Nothing of a local cloud calls another machine."""
    write_config(folder, "later", job="mac", server=LATER)
    cloud.sync()
    commit(cloud, {"state": "x\n"})

    def started() -> Build | None:
        builder = BuilderId("later", "ci", "mac")
        builds = cloud.buildbucket.builds.newest_first()
        return next((item for item in builds if item.spec.builder == builder and item.status == "STARTED"), None)

    build: Any = until(started)
    (invocation,) = cloud.invocations("later/mac")
    job = {"project": "later", "job": "mac"}
    call(cloud, "scheduler.Scheduler/AbortInvocation", jobRef=job, invocationId=invocation["invocation_id"])
    ended: Any = until(lambda: (found := cloud.buildbucket.builds.get(build.id)) and found.ended and found)
    assert ended.status == "CANCELED"


def test_a_build_that_was_triggered_by_hand_runs_at_the_head_of_the_watched_branch(
    cloud: LocalCloud, folder: Path
) -> None:
    (folder / "go").touch()
    head = commit(cloud, {"state": "x\n", "build.sh": SCRIPT})
    call(cloud, "scheduler.Operator/TriggerJob", jobRef={"project": "dawn", "job": "linux"}, requestId="by-hand")
    build: Any = until(
        lambda: next(
            (b for b in cloud.buildbucket.builds.newest_first() if not b.spec.gitiles_commit and b.ended), None
        )
    )
    assert build.status == "SUCCESS", output(cloud, build)
    assert f"Checkout of {head}, the head of {REF}, of {REPO}\n{head} {REPO} {REF} fast in x\n" in output(cloud, build)


@pytest.mark.parametrize(("text", "error"), [(None, "there is no file"), ("x", "is not TOML")])
def test_a_bad_file_of_builders_is_an_error_at_the_start(tmp_path: Path, text: str | None, error: str) -> None:
    file = tmp_path / "b.toml"
    if text is not None:
        file.write_text(text)
    with pytest.raises(LocalCloudError, match=error), start_local_cloud(Options(store="memory", builders=file)):
        pass
