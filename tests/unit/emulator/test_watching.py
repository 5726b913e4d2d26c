"""Watching a git repository of the user: finding it, asking for it, and serving it in place."""

from __future__ import annotations

import io
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from emulator import watching
from emulator.cli import main
from emulator.errors import LocalCloudError
from emulator.gitiles import git as git_module
from emulator.gitiles.git import GitError
from emulator.gitiles.projects import find_repository
from emulator.gitiles.refs import read_refs
from emulator.options import Options
from emulator.watching import UserRepository, choose_repository, find_repository_of, watch
from luci_scheduler.config.config_rules import ConfigRules
from luci_scheduler.config.folder import FILE
from luci_scheduler.config.reader import read_config
from luci_scheduler.core.identifiers import JobId
from tests.unit.emulator.gitiles.git_client import GitClient

RULES = ConfigRules()


@pytest.fixture(name="work")
def _work(tmp_path: Path) -> GitClient:
    """A work tree with one commit."""
    work = GitClient(tmp_path / "My App")
    work.commit()
    return work


def _found(path: Path) -> UserRepository:
    found = find_repository_of(path)
    assert found is not None
    return found


def test_a_repository_is_found_from_every_folder_in_it(work: GitClient, tmp_path: Path) -> None:
    """Its name becomes part of its address. A second work tree shares its refs and objects."""
    expected = UserRepository(work.folder, work.folder / ".git", "my-app", "https://local.googlesource.com/my-app")
    (work.folder / "src" / "deep").mkdir(parents=True)
    assert find_repository_of(work.folder) == find_repository_of(work.folder / "src" / "deep") == expected
    work.run("worktree", "add", "--quiet", str(tmp_path / "Second"), "-b", "second")
    second = _found(tmp_path / "Second")
    assert (second.place, second.git_folder, second.name) == (tmp_path / "Second", work.folder / ".git", "second")
    work.run("clone", "--quiet", "--bare", ".", str(tmp_path / "bare.git"))
    bare = _found(tmp_path / "bare.git")
    assert (bare.place, bare.git_folder, bare.name) == (tmp_path / "bare.git", tmp_path / "bare.git", "bare")


def test_no_repository_is_found_elsewhere(tmp_path: Path) -> None:
    """Neither in a plain folder, nor in a missing one, nor in a file."""
    (tmp_path / "file").write_text("")
    assert [find_repository_of(tmp_path / name) for name in (".", "missing", "file")] == [None, None, None]


@pytest.mark.parametrize(
    ("origin", "repo"),
    [
        ("https://dawn.googlesource.com/dawn", "https://dawn.googlesource.com/dawn"),
        ("https://dawn.googlesource.com/a/tint.git", "https://dawn.googlesource.com/tint"),
        ("git@github.com:Me/App.git", "https://github.com/me/app"),
        ("https://github.com/Me/App/", "https://github.com/me/app"),
        ("https://github.com/me", "https://local.googlesource.com/my-app"),
        ("https://evil.example.com/x", "https://local.googlesource.com/my-app"),
    ],
)
def test_a_clone_of_a_commit_host_keeps_its_address(work: GitClient, origin: str, repo: str) -> None:
    """So that a config that names it works unchanged."""
    work.run("remote", "add", "origin", origin)
    assert _found(work.folder).repo == repo


def test_the_wanted_repository_is_watched_without_a_question(work: GitClient, tmp_path: Path) -> None:
    """A folder without one is an error that says what to do."""
    assert choose_repository(work.folder, tmp_path, _never, _never) == _found(work.folder)
    with pytest.raises(LocalCloudError, match=f"{tmp_path} is in no git repository: run git init there"):
        choose_repository(tmp_path, work.folder, _never, _never)
    with pytest.raises(LocalCloudError, match="missing is in no git repository: there is no such folder, so name"):
        choose_repository(tmp_path / "missing", work.folder, _never, _never)


@pytest.mark.parametrize("answer", [True, False])
def test_the_repository_around_the_current_folder_is_offered(work: GitClient, answer: bool) -> None:
    """On a terminal as a question."""
    asked: list[str] = []
    found = choose_repository(None, work.folder, lambda question: bool(asked.append(question)) or answer, _never)
    assert found == (_found(work.folder) if answer else None)
    assert asked == [f"Start a build for each commit in {work.folder}?"]


def test_without_a_terminal_one_line_names_the_option(work: GitClient, tmp_path: Path) -> None:
    """Outside repositories there is none, and none for the source of the local cloud itself."""
    said: list[str] = []
    assert choose_repository(None, work.folder, None, said.append) is None
    assert said == [f"{work.folder} is a git repository: with --watch {work.folder} each of its commits starts a build"]
    for here in (tmp_path, Path(watching.__file__).parent):
        assert choose_repository(None, here, _never, _never) is None


def test_a_missing_git_matters_only_if_it_is_wanted(
    work: GitClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The offer is left out; the option is refused with the remedy."""
    monkeypatch.setenv("PATH", "/nowhere")
    assert choose_repository(None, work.folder, _never, _never) is None
    with pytest.raises(LocalCloudError, match="git is not installed: install it"):
        choose_repository(work.folder, tmp_path, _never, _never)


def test_a_repository_of_another_user_is_refused(
    work: GitClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As git does, because its settings could start programs."""
    monkeypatch.setitem(git_module._ENVIRONMENT, "GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    sentence = f"{work.folder}.* belongs to another user, and git does not trust it: clone it"
    with pytest.raises(GitError, match=sentence):
        choose_repository(work.folder, tmp_path, _never, _never)
    assert choose_repository(None, work.folder, _never, _never) is None


def test_a_watched_repository_is_served_in_place(work: GitClient, tmp_path: Path) -> None:
    """The local cloud's folders get a link and a valid config; the repository gets nothing."""
    before = {path: path.stat().st_mtime_ns for path in work.folder.rglob("*")}
    found, repositories, configs = _found(work.folder), tmp_path / "repositories", tmp_path / "configs"
    said = watch(found, repositories, configs, rules=RULES, is_ours=True)
    assert said == f"watching {work.folder} as {found.repo}: each commit on a branch starts my-app/build"
    served = find_repository(repositories / "local.googlesource.com", "my-app")
    assert served is not None
    assert read_refs(served) == {"refs/heads/main": work.run("rev-parse", "HEAD")}
    config = read_config("my-app", (configs / "my-app" / FILE).read_text(), rules=RULES)
    (watcher,) = config.watchers[found.repo]
    assert watcher.refs == ("regexp:refs/heads/.*",)
    assert {path: path.stat().st_mtime_ns for path in work.folder.rglob("*")} == before


@pytest.mark.parametrize("command", ["", 'printf "%s\\n" ü\n\tmake'])
def test_a_clone_of_github_gets_a_job_of_cloud_build(work: GitClient, tmp_path: Path, command: str) -> None:
    """Its step is the command of all builds."""
    work.run("remote", "add", "origin", "git@github.com:Ada/Hello.git")
    found, configs = _found(work.folder), tmp_path / "configs"
    said = watch(found, tmp_path / "repositories", configs, rules=RULES, is_ours=True, command=command)
    assert (
        said == f"watching {work.folder} as https://github.com/ada/hello: each commit on a branch starts my-app/build"
    )
    assert find_repository(tmp_path / "repositories" / "github.com", "ada/hello") is not None
    config = read_config("my-app", (configs / "my-app" / FILE).read_text(encoding="utf-8"), rules=RULES)
    assert config.warnings == ()
    task = config.jobs[JobId("my-app/build")].task
    steps = [{"name": "ubuntu", "script": command or 'echo "testing $COMMIT_SHA"'}]
    assert (task.kind, task.fields) == ("cloud_build", {"steps": steps})


def test_watching_again_changes_nothing(work: GitClient, tmp_path: Path) -> None:
    """The user's changes of the config stay. A repository that has moved is found again."""
    repositories, configs = tmp_path / "repositories", tmp_path / "configs"
    watch(_found(work.folder), repositories, configs, rules=RULES, is_ours=True)
    file = configs / "my-app" / FILE
    file.write_text(file.read_text().replace('builder: "my-app"', 'builder: "mine"'))
    text = file.read_text()
    watch(_found(work.folder), repositories, configs, rules=RULES, is_ours=True)
    (tmp_path / "elsewhere").mkdir()
    moved = work.folder.rename(tmp_path / "elsewhere" / "My App")
    said = watch(_found(moved), repositories, configs, rules=RULES, is_ours=True)
    assert said == f"watching {moved} as https://local.googlesource.com/my-app, as the configs in {configs} name it"
    assert file.read_text() == text


def test_the_users_own_configs_stay_as_they_are(work: GitClient, tmp_path: Path) -> None:
    """The line says which address they may name."""
    configs = tmp_path / "configs"
    configs.mkdir()
    said = watch(_found(work.folder), tmp_path / "repositories", configs, rules=RULES, is_ours=False)
    assert said.endswith(f"no config in {configs} names it: add a gitiles trigger with this address")
    assert list(configs.iterdir()) == []


def test_another_repository_with_the_same_address_is_named(work: GitClient, tmp_path: Path) -> None:
    """So is a config of the same name, and a folder that cannot be written."""
    found, repositories, configs = _found(work.folder), tmp_path / "repositories", tmp_path / "configs"
    GitClient(repositories / "local.googlesource.com" / "my-app")
    with pytest.raises(LocalCloudError, match="is another repository with the address https://local"):
        watch(found, repositories, configs, rules=RULES, is_ours=True)
    (configs / "my-app").mkdir(parents=True)
    (configs / "my-app" / FILE).write_text('job { id: "x" noop {} }')
    with pytest.raises(LocalCloudError, match="names another repository: add a gitiles trigger for https://local"):
        watch(found, tmp_path / "others", configs, rules=RULES, is_ours=True)
    (tmp_path / "file").write_text("")
    with pytest.raises(LocalCloudError, match=r"cannot be written: .*; name another folder"):
        watch(found, tmp_path / "file", configs, rules=RULES, is_ours=True)


def _never(_: str) -> bool:
    raise AssertionError("neither asked nor said")


class _Terminal(io.StringIO):
    """Standard input of a user at a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture(name="up")
def _up(monkeypatch: pytest.MonkeyPatch, work: GitClient, tmp_path: Path) -> Callable[..., list[str]]:
    """Return the command ``up`` in the repository; it returns the folder's configs, and starts nothing."""
    monkeypatch.setattr("emulator.up.until_stopped", lambda *_: 0)
    monkeypatch.chdir(work.folder)

    def run(*arguments: str, typed: io.StringIO | None = None) -> list[str]:
        monkeypatch.setattr("sys.stdin", typed or io.StringIO())
        if typed:
            monkeypatch.setattr("sys.stderr.isatty", lambda: True)
        folder = tmp_path / "cloud"
        assert main(["up", "--store", "memory", "--folder", str(folder), *arguments]) == 0
        return sorted(path.name for path in (folder / "configs").iterdir())

    return run


def test_up_watches_the_named_repository(up: Callable[..., list[str]], capsys: pytest.CaptureFixture[str]) -> None:
    """Its config takes the place of the sample."""
    assert up("--watch", ".") == ["my-app"]
    assert "each commit on a branch starts my-app/build" in capsys.readouterr().err


def test_up_serves_github_for_its_clone(up: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    """And Cloud Build. A port alone says so too, because a config that needs the server may come later."""
    started: list[Options] = []
    monkeypatch.setattr("emulator.up.until_stopped", lambda options, _form: int(bool(started.append(options))))
    up("--no-watch")
    up("--no-watch", "--github-port", "8081", "--cloud-build-port", "8082")
    subprocess.run(["git", "remote", "add", "origin", "https://github.com/ada/hello"], check=True)
    assert up("--watch", ".", "--build", "make test") == ["my-app", "sample"]
    assert [(options.github, options.cloud_build) for options in started] == [
        (False, False), (True, True), (True, True),
    ]  # fmt: skip


def test_up_knows_its_folder_in_full(
    up: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Git shows sentences that name it in terminals with another current folder."""
    started: list[Options] = []
    monkeypatch.setattr("emulator.up.until_stopped", lambda options, _form: int(bool(started.append(options))))
    monkeypatch.chdir(tmp_path)
    up("--no-watch", "--folder", "cloud")
    assert [options.folder for options in started] == [tmp_path / "cloud"]


def test_up_watches_nothing_if_it_must_not(up: Callable[..., list[str]], capsys: pytest.CaptureFixture[str]) -> None:
    """And says nothing about it."""
    assert up("--no-watch") == ["sample"]
    assert "git repository" not in capsys.readouterr().err


def test_up_names_the_option_without_a_terminal(
    up: Callable[..., list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    """In a script, for example."""
    assert up() == ["sample"]
    assert "is a git repository: with --watch" in capsys.readouterr().err


@pytest.mark.parametrize(("typed", "configs"), [("y\n", ["my-app"]), ("n\n", ["sample"]), ("", ["sample"])])
def test_up_asks_at_a_terminal(up: Callable[..., list[str]], typed: str, configs: list[str]) -> None:
    """No answer means no."""
    assert up(typed=_Terminal(typed)) == configs
