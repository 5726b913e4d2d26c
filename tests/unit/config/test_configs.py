"""Reading and syncing ``luci-scheduler.cfg``."""

import itertools
import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest
from structlog.testing import capture_logs

from emulator.clock import SteppedClock
from emulator.memory.queue import MemoryQueue
from emulator.memory.store import MemoryStore
from luci_scheduler.config.config_rules import ConfigRules
from luci_scheduler.config.folder import FolderSource, read_folder
from luci_scheduler.config.reader import ConfigError, read_config
from luci_scheduler.config.sync import sync_project, sync_sources
from luci_scheduler.config.validator import validate
from luci_scheduler.core.commit_event import CommitEvent
from luci_scheduler.core.errors import PermanentError, TransientError
from luci_scheduler.core.identifiers import JobId
from luci_scheduler.core.instants import HOUR, MILLISECOND, Instant
from luci_scheduler.core.job import Flavor, Job, TriggeringPolicy
from luci_scheduler.core.project_record import ProjectRecord
from luci_scheduler.engine.jobs import pause_job, put_job, resume_job
from luci_scheduler.ports import ConfigFile, QueueTask, Store, Version, Versioned, Write
from luci_scheduler.settings import ConfigSourceSetting
from tests.unit.engine.world import World, config

FOLDER = os.environ.get("LUCI_CONFIGS", "")
REAL = sorted(Path(FOLDER).glob("*.cfg")) if FOLDER else []
SAMPLE = (Path(__file__).parent / "sample.cfg").read_text(encoding="utf-8")

GOOD = """
trigger: < id:"t" gitiles < repo:"https://r.googlesource.com/x.git" refs:"refs/heads/main" > triggers:"a" triggers:"b" >
job { id: "a" acl_sets: "default" buildbucket { server: "s" bucket: "luci.p.ci" builder: "a" } }
job { id: "b" disabled: true schedule: "with 10m interval" noop {} }
"""

WRONG = {
    "invalid-cobalt-2016-12-task-field.cfg": [(13, 'has no field named "task"')],
    "invalid-flutter-2019-07-unknown-Kind.cfg": [(143, 'has no field named "Kind"')],
    "invalid-gyp-2017-10-server-url.cfg": [(line, "should be just a host, not a URL") for line in (36, 47, 58)],
    "invalid-infra-2018-09-duplicate-id.cfg": [(89, 'duplicate id "infra-continuous-trusty-64"')],
    "invalid-openscreen-2018-09-dangling.cfg": [(25, 'referencing unknown job "linux64_debug"')],
}
"""The first problem of each real file that was committed by mistake."""


@pytest.mark.skipif(not REAL, reason="LUCI_CONFIGS names no folder with real configs")
@pytest.mark.parametrize("path", REAL or [None], ids=lambda path: path.name if path else "none")
def test_real_configs(path: Path) -> None:
    """Files that were committed by mistake are refused at the line of their problem; all others are read."""
    content = path.read_bytes()
    found = [(error.line, error.message) for error in validate(content, project="p").errors]
    expected = WRONG.get(path.name, [])
    assert path.name.startswith("invalid-") == bool(expected)
    assert [line for line, _ in found] == [line for line, _ in expected]
    assert all(part in message for (_, message), (_, part) in zip(found, expected, strict=True))
    if not expected:
        assert len(read_config("p", content).jobs) <= 200


def test_jobs_and_watchers() -> None:
    """Definitions become jobs; gitiles triggers become watchers under the normalized URL; disabled ones are omitted."""
    config = read_config("p", GOOD, "rev")
    assert set(config.jobs) == {"p/t", "p/a"}
    assert config.jobs[JobId("p/t")].flavor is Flavor.TRIGGER
    assert config.jobs[JobId("p/a")].revision == "rev"
    (watcher,) = config.watchers["https://r.googlesource.com/x"]
    assert (watcher.job_id, watcher.repo) == ("p/a", "https://r.googlesource.com/x.git")
    assert [warning.line for warning in config.warnings] == [3, 3]


def test_the_sample() -> None:
    """The reader reads every field."""
    jobs = read_config("thing", SAMPLE).jobs
    mac, windows = jobs[JobId("thing/mac-rel")], jobs[JobId("thing/Windows (x64)")]
    assert mac.policy.kind == "LOGARITHMIC_BATCHING"
    assert (mac.policy.log_base, mac.policy.max_concurrent_invocations) == (pytest.approx(1.7), 3)
    assert mac.realm == "ci"
    assert mac.task.fields["tags"] == ["a:b", "c:d"]
    assert (windows.policy.kind, windows.policy.pending_timeout) == ("NEWEST_FIRST", HOUR + 5)
    assert jobs[JobId("thing/linux-rel")].policy == TriggeringPolicy()
    assert jobs[JobId("thing/linux-rel")].task.fields["bucket"] == "luci.thing.ci"
    nightly, source = jobs[JobId("thing/nightly")], jobs[JobId("thing/nightly-source")]
    assert (nightly.flavor, nightly.schedule, nightly.policy.max_batch_size) == (Flavor.PERIODIC, "0 3 * * *", 1)
    assert source.triggered_jobs == ("thing/nightly",)
    refs = jobs[JobId("thing/main-gitiles")].task.fields["refs"]
    assert refs == ["refs/heads/main", r"regexp:refs/branch-heads/\d+", "regexp:refs/heads/(release|beta)-.+"]


def test_problems_have_their_place() -> None:
    """The error about an invalid config lists all errors, each with its place."""
    with pytest.raises(ConfigError) as raised:
        read_config("p", 'job {\n id: "a" }\ntrigger { id: "t" noop {}\n triggers: "x" }')
    assert [str(problem) for problem in raised.value.problems] == [
        'luci-scheduler.cfg:1: job "a": can\'t find a recognized task definition inside Job',
        'luci-scheduler.cfg:4: trigger "t": referencing unknown job "x" in \'triggers\' field',
    ]
    assert str(raised.value).count("\n") == 1


def test_a_sync_changes_changed_jobs_and_disables_removed_jobs() -> None:
    """A new revision alone writes no job. A removed job is disabled. A broken config is reported only."""
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


class _Busy:
    """A store with slow calls, in which one of the jobs changes every 300 ms, as builds start and end."""

    def __init__(self, store: MemoryStore, clock: SteppedClock, job_ids: Sequence[JobId]) -> None:
        self._store, self._clock, self._job_ids = store, clock, itertools.cycle(job_ids)
        self._next = clock.now()

    def _pass(self, milliseconds: int) -> None:
        self._clock.advance(milliseconds * MILLISECOND)
        while self._next <= self._clock.now():
            found = self._store.job(next(self._job_ids))
            assert found is not None
            self._store.commit([put_job(found.value, found, "busy")])
            self._next = Instant(self._next + 300 * MILLISECOND)

    def enqueue(self, queue: MemoryQueue, task: QueueTask) -> None:
        self._pass(15)
        MemoryQueue.enqueue(queue, task)

    def job(self, job_id: JobId) -> Versioned[Job] | None:
        self._pass(20)
        return self._store.job(job_id)

    def found_jobs(self, job_ids: Sequence[JobId]) -> Sequence[Versioned[Job]]:
        self._pass(100)
        return self._store.found_jobs(job_ids)

    def commit(self, writes: Sequence[Write]) -> Sequence[Version]:
        self._pass(50)
        return self._store.commit(writes)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


def test_a_config_of_a_busy_project_becomes_active() -> None:
    """No job may change between the read and the commit, so all jobs are read at once, after the slow work."""
    names = tuple(f"job{number}" for number in range(60))
    world = World(config(names))
    busy = _Busy(world.store, world.clock, [JobId(f"proj/{name}") for name in names[:7]])
    runtime = replace(world.runtime, store=cast("Store", busy))
    world.queue.enqueue = partial(busy.enqueue, world.queue)  # type: ignore[method-assign]
    text = config(names, policy='schedule: "0 0 1 1 *" triggering_policy { max_concurrent_invocations: 2 }')
    assert sync_project(runtime, ConfigFile("proj", text, "busy"), "sync") == 60
    ticks = Counter(task.payload["job"] for task in world.queue.tasks if task.kind == "cron")
    assert ticks == {f"proj/{name}": 1 for name in names}


def test_a_paused_trigger_stays_paused_at_any_repository() -> None:
    """It stays paused when it moves to another repository, and when it is removed and defined again."""
    runtime = World("").runtime
    store, repos = runtime.store, [f"https://r.googlesource.com/{name}" for name in ("x", "y")]

    def paused(repo: str) -> list[bool]:
        return [watcher.paused for watcher in store.watchers(repo)]

    text = (
        """job { id: "a" noop {} } trigger { id: "t" gitiles { repo: "REPO" refs: "refs/heads/main" } triggers: "a" }"""
    )
    sync_project(runtime, ConfigFile("p", text.replace("REPO", repos[0]), "1"), "k")
    assert paused(repos[0]) == [False]
    pause_job(runtime, JobId("p/t"), "user:a@b.c", "why", "k1")
    assert paused(repos[0]) == [True]
    sync_project(runtime, ConfigFile("p", text.replace("REPO", repos[1]), "2"), "k")
    assert (paused(repos[0]), paused(repos[1])) == ([], [True])
    sync_project(runtime, ConfigFile("p", "", "3"), "k")
    sync_project(runtime, ConfigFile("p", text.replace("REPO", repos[1]), "4"), "k")
    assert paused(repos[1]) == [True]
    resume_job(runtime, JobId("p/t"), "user:a@b.c", "go on", "k2")
    assert paused(repos[1]) == [False]
    sync_project(runtime, ConfigFile("p", text.replace("REPO", repos[0]), "5"), "k")
    assert (paused(repos[0]), paused(repos[1])) == ([False], [])


def test_a_disabled_definition_disables_its_job() -> None:
    """``disabled`` disables a job; without it the job returns with its old record."""
    runtime = World("").runtime
    store = runtime.store
    text = 'job { id: "a" noop {} }'
    sync_project(runtime, ConfigFile("p", text, "1"), "k")
    assert sync_project(runtime, ConfigFile("p", text.replace("noop", "disabled: true noop"), "2"), "k") == 1
    job = store.job(JobId("p/a"))
    assert job is not None
    assert not job.value.enabled
    assert sync_project(runtime, ConfigFile("p", text, "3"), "k") == 1
    job = store.job(JobId("p/a"))
    assert job is not None
    assert (job.value.enabled, job.value.definition.revision) == (True, "3")


def test_the_same_problems_are_written_once() -> None:
    """Every sync finds the same problems in a broken config, and writes the record only if they change."""
    runtime = World("").runtime
    store = runtime.store
    sync_project(runtime, ConfigFile("p", GOOD, "1"), "k")
    for file in [ConfigFile("p", "job {", "2")] * 3 + [ConfigFile("p", "", "", error="HTTP 503")] * 3:
        sync_project(runtime, file, "k")
    project = store.project("p")
    assert project is not None
    assert (project.value.commits, project.value.problems) == (3, ("HTTP 503",))
    assert sync_project(runtime, ConfigFile("p", GOOD, "1"), "k") == 0
    project = store.project("p")
    assert project is not None
    assert (project.value.problems, project.value.revision) == ((), "1")


def test_a_record_holds_a_limited_number_of_problems() -> None:
    """The record keeps the first fifty problems and the number of the rest."""
    runtime = World("").runtime
    store = runtime.store
    sync_project(runtime, ConfigFile("p", "job { noop {} }\n" * 150, "1"), "k")
    project = store.project("p")
    assert project is not None
    assert len(project.value.problems) == 51
    assert project.value.problems[-1] == "and 100 more"


def _old_bucket(number: int, more: str = "") -> str:
    return f'job {{ id: "{number}" {more} buildbucket {{ server: "s" bucket: "luci.p.ci" builder: "b" }} }}\n'


def test_warnings_are_stored_with_the_active_config() -> None:
    """They are stored in the same commit, with line and path. An unchanged or broken config does not change them."""
    runtime = World("").runtime
    store = runtime.store

    def record() -> ProjectRecord:
        found = store.project("p")
        assert found is not None
        return found.value

    with capture_logs() as logs:
        sync_project(runtime, ConfigFile("p", _old_bucket(1) + _old_bucket(2), "1"), "k")
    assert [entry["first_warning"] for entry in logs if entry["event"] == "config_synced"] == [record().warnings[0]]
    assert (record().commits, record().problems, record().warning_count) == (1, (), 2)
    assert record().warnings[1].startswith('luci-scheduler.cfg:2: warning: job "2" / task: the bucket name "luci.p.ci"')
    before = record()
    sync_project(runtime, ConfigFile("p", _old_bucket(1) + _old_bucket(2), "1"), "k")
    assert record() == before
    sync_project(runtime, ConfigFile("p", "job {", "2"), "k")
    assert record().problems
    assert record().warnings == before.warnings
    sync_project(runtime, ConfigFile("p", GOOD.replace("luci.p.ci", "ci").replace('acl_sets: "default"', ""), "3"), "k")
    assert (record().problems, record().warnings, record().warning_count) == ((), (), 0)


def test_warnings_of_a_huge_config_are_bounded() -> None:
    """Their number and length are bounded for any file, so the record has room for the names of the jobs."""
    runtime = World("").runtime
    text = "".join(_old_bucket(number, f'acl_sets: "{"x" * 900}"') for number in range(150))
    sync_project(runtime, ConfigFile("p", text, "1"), "k")
    sync_project(runtime, ConfigFile("p", text + f'job {{ id: "{"y" * 5000}" noop {{}} }}', "2"), "k")
    project = runtime.store.project("p")
    assert project is not None
    assert (project.value.revision, len(project.value.warnings), project.value.warning_count) == ("1", 51, 300)
    assert project.value.warnings[-1] == "and 250 more"
    (problem,) = project.value.problems
    assert problem.endswith("yyy...")
    assert max(map(len, (problem, *project.value.warnings))) <= 503


def test_a_config_with_an_unknown_target_becomes_active_if_the_rules_allow_it() -> None:
    """The target is omitted, as in the original: it becomes neither a job nor a watcher."""
    text = GOOD.replace('triggers:"b"', 'triggers: "gone"')
    world = World("")
    app = replace(world.app, config_sources=[_Source(ConfigFile("p", text, "1"))])
    app.sync("k")
    found = world.store.project("p")
    assert found is not None
    assert found.value.revision == ""
    assert "referencing unknown job" in found.value.problems[0]
    replace(app, settings=replace(app.settings, lenient_triggers=True)).sync("k")
    found = world.store.project("p")
    assert found is not None
    assert (found.value.revision, found.value.problems) == ("1", ())
    assert any("referencing unknown job" in warning for warning in found.value.warnings)
    trigger = world.store.job(JobId("p/t"))
    assert trigger is not None
    assert trigger.value.definition.triggered_jobs == (JobId("p/a"),)
    assert [watcher.job_id for watcher in world.store.watchers("https://r.googlesource.com/x")] == ["p/a"]


@pytest.mark.skipif(not REAL, reason="LUCI_CONFIGS names no folder with real configs")
def test_a_real_config_with_an_unknown_target() -> None:
    """The original accepted this config."""
    content = (Path(FOLDER) / "invalid-openscreen-2018-09-dangling.cfg").read_bytes()
    config = read_config("p", content, rules=ConfigRules(lenient_triggers=True))
    assert config.jobs
    assert any("referencing unknown job" in str(warning) for warning in config.warnings)


def test_the_limit_of_a_projects_invocations_is_a_setting() -> None:
    """A config above the limit changes nothing, and the problem names the line."""
    world = World("")
    app = replace(world.app, config_sources=[_Source(ConfigFile("p", GOOD, "1"))])
    replace(app, settings=replace(app.settings, project_active_invocations=1)).sync("k")
    found = world.store.project("p")
    assert found is not None
    assert found.value.job_ids == ()
    assert "may have 2 invocations at a time, at most 1 are allowed" in found.value.problems[0]
    app.sync("k")
    assert len(world.store.projects()[0].job_ids) == 2


class _Source:
    def __init__(self, *files: ConfigFile) -> None:
        self.files = files
        self.told: list[str] = []

    def configs(self, active_revision: Callable[[str], str]) -> Sequence[ConfigFile]:
        self.told = [active_revision(file.project) for file in self.files]
        return self.files


class _Store(MemoryStore):
    """A store that refuses one project: its documents are too large, or the store is unavailable."""

    error: Exception | None = None

    def commit(self, writes: Sequence[Write]) -> Sequence[Version]:
        if self.error and any(getattr(getattr(write, "job", None), "id", "").startswith("bad/") for write in writes):
            raise self.error
        return super().commit(writes)

    def problems(self, project: str) -> tuple[str, ...]:
        found: Versioned[ProjectRecord] | None = self.project(project)
        return found.value.problems if found else ("no record",)


def test_one_projects_error_does_not_stop_the_others() -> None:
    """Unreadable, broken, too large for the store: the other projects become active; each record has its problems."""
    store = _Store()
    runtime = replace(World("").runtime, store=store)
    store.error = PermanentError("a document would exceed the limit")
    source = _Source(
        ConfigFile("a", "", "", error="HTTP 503"),
        ConfigFile("b", "job {", "1"),
        ConfigFile("bad", GOOD, "1"),
        ConfigFile("good", GOOD, "1"),
    )
    sync_sources(runtime, [source], "k")
    assert store.problems("a") == ("HTTP 503",)
    assert store.problems("b")[0].startswith("luci-scheduler.cfg:1: ")
    assert "cannot be stored" in store.problems("bad")[0]
    assert store.job(JobId("bad/a")) is None
    assert store.problems("good") == ()
    assert store.job(JobId("good/a")) is not None


def test_a_failing_store_is_reported_after_the_other_projects() -> None:
    """The caller gets the error, for a redelivery, after all other projects are active."""
    store = _Store()
    runtime = replace(World("").runtime, store=store)
    store.error = TransientError("unavailable")
    source = _Source(ConfigFile("bad", GOOD, "1"), ConfigFile("good", GOOD, "1"))
    with pytest.raises(TransientError):
        sync_sources(runtime, [source], "k")
    assert store.problems("bad") == ("no record",)
    assert store.problems("good") == ()


def test_sources_can_request_the_active_revision() -> None:
    """A project with problems counts as not active, so its config is read again."""
    runtime = World("").runtime
    source = _Source(ConfigFile("p", GOOD, "1"), ConfigFile("q", "job {", "1"))
    sync_sources(runtime, [source], "k")
    sync_sources(runtime, [source], "k")
    assert source.told == ["1", ""]


def test_the_first_of_two_sources_of_a_project_wins() -> None:
    """Otherwise the two configs would alternate."""
    runtime = World("").runtime
    store = runtime.store
    first, second = _Source(ConfigFile("p", GOOD, "1")), _Source(ConfigFile("p", "", "2"))
    for _ in range(2):
        sync_sources(runtime, [first, second], "k")
    project = store.project("p")
    assert project is not None
    assert (project.value.revision, project.value.commits) == ("1", 1)


def test_a_project_without_a_source_loses_its_jobs(tmp_path: Path) -> None:
    """No job goes while a source is unreadable or if all configs vanish at once. A returning config is applied."""
    world = World("")
    runtime, store, held = world.runtime, world.store, FolderSource(tmp_path)
    unread = FolderSource(tmp_path / "not-there")
    for project in ("a", "b"):
        (tmp_path / project).mkdir()
        (tmp_path / project / "luci-scheduler.cfg").write_text(GOOD, encoding="utf-8")

    def enabled(project: str) -> bool:
        found = store.job(JobId(f"{project}/a"))
        assert found is not None
        return found.value.enabled

    def commits(project: str) -> int:
        record = store.project(project)
        assert record is not None
        return record.value.commits

    sync_sources(runtime, [held, _Source(ConfigFile("proj", GOOD, "1"))], "k")
    (tmp_path / "a").rename(tmp_path.with_name("away"))
    with pytest.raises(PermanentError, match="does not exist"):
        sync_sources(runtime, [held, unread], "k")
    sync_sources(runtime, [FolderSource(tmp_path.with_name("away"))], "k")
    assert enabled("a")
    assert enabled("b")
    for _ in range(2):
        sync_sources(runtime, [held], "k")
        assert not enabled("a")
        assert not enabled("proj")
        assert enabled("b")
        assert (commits("a"), commits("b")) == (2, 1)
    tmp_path.with_name("away").rename(tmp_path / "a")
    sync_sources(runtime, [held], "k")
    assert enabled("a")


def test_a_project_with_an_unchanged_config_counts_as_present() -> None:
    """A source that sees an unchanged revision does not return the file."""
    runtime = World("").runtime

    class Unchanged:
        def configs(self, active_revision: Callable[[str], str]) -> list[ConfigFile]:
            return [] if active_revision("p") == "1" else [ConfigFile("p", GOOD, "1")]

    for _ in range(2):
        sync_sources(runtime, [Unchanged(), _Source(ConfigFile("p", "", "2"))], "k")
    job = runtime.store.job(JobId("p/a"))
    assert job is not None
    assert job.value.enabled


def test_each_subfolder_with_a_config_is_a_project(tmp_path: Path) -> None:
    """Each subfolder with a config is a project. Its revision is given or a hash. Unreadable files are reported."""
    for project, content in {"a": b"job {}", "b": b"\xff"}.items():
        (tmp_path / project).mkdir()
        (tmp_path / project / "luci-scheduler.cfg").write_bytes(content)
    (tmp_path / "empty").mkdir()
    (tmp_path / "odd" / "luci-scheduler.cfg").mkdir(parents=True)
    files = FolderSource(tmp_path).configs(lambda _: "")
    assert [(file.project, file.text, bool(file.error)) for file in files] == [
        ("a", b"job {}", False),
        ("b", b"\xff", False),
        ("odd", "", True),
    ]
    assert len(files[0].revision) == 40
    assert {file.revision for file in read_folder(tmp_path, "r1")} == {"r1", ""}


def test_a_commit_to_the_configs_queues_a_sync() -> None:
    """A commit to a branch with a config queues a sync; any other commit does not."""
    source = ConfigSourceSetting("gitiles", "proj", repo="https://r.googlesource.com/a/configs.git")
    world = World("", config_sources=(source,))
    repo = "https://r.googlesource.com/configs"
    world.app.note_config_changes([CommitEvent(repo, "refs/heads/other", "a" * 40)])
    world.app.note_config_changes([CommitEvent("https://r.googlesource.com/code", "refs/heads/main", "a" * 40)])
    assert world.queue.tasks == []
    world.app.note_config_changes([CommitEvent(repo, "refs/heads/main", "a" * 40)])
    assert [task.kind for task in world.queue.tasks] == ["sync"]


class _Configs:
    """A source with the configs of some projects."""

    def __init__(self, *files: ConfigFile) -> None:
        self._files = files

    def configs(self, active_revision: Any) -> list[ConfigFile]:
        """Return the configs."""
        return list(self._files)


_FOREIGN = 'trigger { id: "t" gitiles { repo: "https://github.com/x/y" refs: "refs/heads/main" } }'


def test_a_paused_trigger_of_another_host_does_not_affect_other_projects() -> None:
    """Such a repository is valid, as in the original. The trigger can be paused, and other projects sync."""
    runtime = World("").runtime
    sync_project(runtime, ConfigFile("p", _FOREIGN, "1"), "k")
    pause_job(runtime, JobId("p/t"), "user:a@b.c", "why", "k1")
    files = (
        ConfigFile("p", _FOREIGN + ' job { id: "a" noop {} }', "2"),
        ConfigFile("q", 'job { id: "a" noop {} }', "1"),
    )
    sync_sources(runtime, [_Configs(*files)], "k2")
    assert [runtime.store.project(name).value.revision for name in "pq"] == ["2", "1"]  # type: ignore[union-attr]


def test_an_internal_error_in_one_project_does_not_stop_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """The others become active, and the sync fails, so that an alert fires."""
    runtime = World("").runtime
    text = 'job { id: "a" noop {} }'
    monkeypatch.setattr("luci_scheduler.config.sync.read_config", _broken_for("p", read_config))
    with pytest.raises(TransientError, match="internal error in the sync of project p"):
        sync_sources(runtime, [_Configs(ConfigFile("p", text, "1"), ConfigFile("q", text, "1"))], "k")
    assert runtime.store.project("p") is None
    assert runtime.store.project("q") is not None


def _broken_for(name: str, read: Any) -> Any:
    def broken(project: str, *args: Any, **more: Any) -> Any:
        if project == name:
            raise ZeroDivisionError
        return read(project, *args, **more)

    return broken
