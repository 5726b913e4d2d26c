"""Reading and syncing ``luci-scheduler.cfg``."""

import os
from pathlib import Path

import pytest

from luci_scheduler.config.reader import ConfigError, read_config
from luci_scheduler.config.sync import ConfigFile, sync_project
from luci_scheduler.core.identifiers import JobId
from luci_scheduler.core.job import Flavor
from tests.unit.engine.world import World

FOLDER = os.environ.get("LUCI_CONFIGS", "")
REAL = sorted(Path(FOLDER).glob("*.cfg")) if FOLDER else []

GOOD = """
trigger: < id: "t" gitiles < repo: "https://r.googlesource.com/x.git" refs: "refs/heads/main" > triggers: "a" triggers: "b" >
job { id: "a" acl_sets: "default" buildbucket { server: "s" bucket: "luci.p.ci" builder: "a" } }
job { id: "b" disabled: true schedule: "with 10m interval" noop {} }
"""


@pytest.mark.skipif(not REAL, reason="LUCI_CONFIGS names no folder with real configs")
@pytest.mark.parametrize("path", REAL or [None], ids=lambda path: path.name if path else "none")
def test_real_configs(path: Path) -> None:
    """Files that were committed by mistake are refused with a place, all others are read."""
    text = path.read_text(encoding="utf-8")
    if path.name.startswith("invalid-"):
        with pytest.raises(ConfigError) as raised:
            read_config("p", text)
        assert raised.value.problems
    else:
        assert len(read_config("p", text).jobs) <= 200


def test_jobs_and_watchers() -> None:
    """Definitions become jobs, gitiles triggers become watchers under the normalised URL; disabled ones are left out."""
    config = read_config("p", GOOD, "rev")
    assert set(config.jobs) == {"p/t", "p/a"}
    assert config.jobs[JobId("p/t")].flavor is Flavor.TRIGGER
    assert config.jobs[JobId("p/a")].revision == "rev"
    (watcher,) = config.watchers["https://r.googlesource.com/x"]
    assert (watcher.job_id, watcher.repo) == ("p/a", "https://r.googlesource.com/x.git")


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("job {", "line 1"),
        ('job { id: "a" nonsense: 1 }', "line 1, column 15"),
        ('job { id: "a" }', "job a: can't find a recognized task definition"),
        ("job { noop {} }", "missing 'id' field"),
        ('job { id: "a/b" noop {} }', "is not valid value for 'id' field"),
        ('job { id: "a" noop {} } job { id: "a" noop {} }', 'duplicate id "a"'),
        ('trigger { id: "t" noop {} triggers: "x" }', 'referencing unknown job "x"'),
        ('job { id: "a" buildbucket { server: "https://s" builder: "b" } }', "should be just a host"),
    ],
)
def test_problems_have_their_place(text: str, place: str) -> None:
    """Every problem tells where it is."""
    with pytest.raises(ConfigError) as raised:
        read_config("p", text)
    assert any(place in problem for problem in raised.value.problems)


def test_sync_changes_what_changed_and_disables_what_went() -> None:
    """A new revision alone writes no job; a removed job is disabled; a broken config changes nothing and is told."""
    runtime = World("").runtime
    store = runtime.store
    assert sync_project(runtime, ConfigFile("p", GOOD, "1"), "k") == 2
    assert sync_project(runtime, ConfigFile("p", GOOD, "1"), "k") == 0
    assert sync_project(runtime, ConfigFile("p", GOOD + "# note\n", "2"), "k") == 0
    job = store.job(JobId("p/a"))
    assert job is not None
    assert job.value.definition.revision == "1"
    sync_project(runtime, ConfigFile("p", "job {", "3"), "k")
    project = store.project("p")
    assert project is not None
    assert (project.value.revision, bool(project.value.problems)) == ("2", True)
    assert len(store.watchers("https://r.googlesource.com/x")) == 1
    assert sync_project(runtime, ConfigFile("p", "", "4"), "k") == 2
    job = store.job(JobId("p/a"))
    assert job is not None
    assert not job.value.enabled
    assert store.watchers("https://r.googlesource.com/x") == []
