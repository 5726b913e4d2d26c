"""The tutorial for GitHub and Cloud Build works as written, from the first push to the rerun."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.reader import Reader, reading
from tests.waiting import until

TUTORIAL = (Path(__file__).parents[2] / "docs" / "tutorial-github.md").read_text(encoding="utf-8")
CONFIG = "../my-cloud/configs/hello/luci-scheduler.cfg"


@pytest.fixture(name="gate")
def _gate(tmp_path: Path) -> Path:
    """A file whose existence ends long builds, in the place of seconds: a busy machine cannot change the order."""
    return tmp_path / "gate"


@pytest.fixture(name="user")
def _user(tmp_path: Path, gate: Path) -> Iterator[Reader]:
    """A reader who has a repository and a config: `up` runs."""
    wait = f"until test -e {gate}; do sleep 0.1; done"
    user = Reader(TUTORIAL, tmp_path, ("8080", "8081"), {"sleep 5": wait})
    user.run("mkdir ../hello")
    user.run("mkdir -p ../my-cloud")
    user.save(CONFIG, user.block('trigger {\n  id: "main"'))
    with reading(user, "luci-scheduler local up --folder"):
        yield user


def _ends(user: Reader, job: str, result: str, number: int = 1) -> None:
    """Wait for the number of builds of a job that ended with a result."""
    user.waits_for(rf"(?s)(?:{job}(?: at [0-9a-f]{{12}})? {result} after.*?){{{number}}}")


@pytest.mark.timeout(300)
def test_the_tutorial(user: Reader, gate: Path) -> None:
    """A failure and its correction, with statuses; a batch, a schedule, a path filter, a pause, a backfill, a rerun."""
    user.run("git remote add local")
    _ends(user, "hello/test", "FAILURE")
    user.waits_for(r"commit status failure on [0-9a-f]{12} of ada/hello: scheduler/hello/test")
    user.run("echo hello > greeting.txt")
    _ends(user, "hello/test", "SUCCESS")
    user.waits_for(r"commit status success on [0-9a-f]{12} of ada/hello: scheduler/hello/test")

    user.run("echo 'sleep 5' >> build.sh")
    user.run("export LUCI_SCHEDULER_URL")
    until(lambda: "pending       3\n" in user.shell("luci-scheduler job show hello/test"), "three commits wait")
    gate.touch()
    _ends(user, "hello/test", "SUCCESS", 3)
    assert "+2  Change 3" in user.run("export LUCI_SCHEDULER_URL")

    user.save(CONFIG, user.block('trigger {\n  id: "docs-changed"'))
    user.waits_for("config +the config of hello is in force: 5 jobs, 0 warnings")
    assert "with status SUCCEEDED" in user.run("luci-scheduler job trigger hello/nightly")
    user.run("mkdir docs")
    _ends(user, "hello/docs", "SUCCESS")
    _ends(user, "hello/test", "SUCCESS", 4)

    explained = user.run("luci-scheduler commit explain HEAD\nluci-scheduler commit explain HEAD~1")
    assert "2 SUCCEEDED" in explained
    assert "PATH_FILTERED" in explained
    user.run("luci-scheduler job pause hello/test")
    _ends(user, "hello/docs", "SUCCESS", 2)
    assert "paused by dev@localhost (the server moves)" in user.run(
        "luci-scheduler commit explain HEAD\nluci-scheduler job"
    )

    assert "with status SUCCEEDED" in user.run("luci-scheduler backfill HEAD~3 HEAD")
    number = user.shell("luci-scheduler invocations hello/docs").split("\n")[1].split()[0]
    assert "with status SUCCEEDED" in user.run("luci-scheduler invocations hello/docs", NUMBER=number)
