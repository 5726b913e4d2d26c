"""Repositories on disk: commits, refs, tags, and the git program that they use."""

from pathlib import Path

import pytest

from emulator.gitiles.commits import commit_to_json, read_commits, tree_diffs
from emulator.gitiles.git import GitError, git
from emulator.gitiles.projects import find_repository, projects
from emulator.gitiles.repository import EXECUTABLE, SUBMODULE, SYMLINK, Entry, Person, Repository
from luci_scheduler.core.instants import SECOND

AT = 1_773_756_297 * SECOND


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    """An empty bare repository."""
    return Repository.create(tmp_path / "nested" / "tint")


def files(repository: Repository, revision: str = "main") -> dict[str, str]:
    """Return the modes of the files of a revision."""
    lines = git(repository.path, "ls-tree", "-r", revision).decode().splitlines()
    return {line.split("\t")[1]: line.split(" ")[0] for line in lines}


class TestCommits:
    """Commits that a test makes."""

    def test_a_commit_changes_the_files_of_its_parent(self, repository: Repository) -> None:
        repository.commit("one\n", {"a": "1", "b/c": b"2"}, at=AT)
        second = repository.commit("two\n", {"a": None, "d": "3"}, at=AT)
        assert repository.resolve("main") == second
        assert set(files(repository)) == {"b/c", "d"}
        assert git(repository.path, "show", "main:b/c") == b"2"

    def test_files_have_modes(self, repository: Repository) -> None:
        target = repository.commit("base\n", {"x": "1"}, "other")
        entries = {
            "run": Entry(b"#!", EXECUTABLE),
            "link": Entry(b"run", SYMLINK),
            "sub": Entry(target.encode(), SUBMODULE),
            'odd "name"\\': "1",
        }
        repository.commit("modes\n", entries)
        modes = files(repository)
        assert (modes["run"], modes["link"], modes["sub"]) == ("100755", "120000", "160000")
        assert len(modes) == 4

    def test_author_committer_and_zone(self, repository: Repository) -> None:
        author, committer = Person("A", "a@x", -330), Person("", "c@x", 60)
        sha = repository.commit("m\n", {}, author=author, committer=committer, at=AT + SECOND - 1)
        raw = git(repository.path, "cat-file", "commit", sha).decode()
        assert "author A <a@x> 1773756297 -0530\n" in raw
        assert "committer  <c@x> 1773756297 +0100\n" in raw

    def test_a_merge_and_a_new_root(self, repository: Repository) -> None:
        base = repository.commit("base\n", {"a": "1"})
        side = repository.commit("side\n", {"b": "1"}, "side", parents=[base])
        merge = repository.commit("merge\n", {}, parents=[base, side])
        root = repository.commit("root\n", {"c": "1"}, parents=[])
        commits = read_commits(repository.path, [merge, root])
        assert [commit.parents for commit in commits] == [(base, side), ()]
        assert repository.resolve("main") == root

    def test_a_message_in_another_encoding(self, repository: Repository) -> None:
        sha = repository.commit("gr\xfcn\n".encode("latin-1"), {}, encoding="iso-8859-1")
        assert read_commits(repository.path, [sha])[0].message == "grün\n"


class TestRefs:
    """Refs and tags."""

    def test_refs_move_and_disappear(self, repository: Repository) -> None:
        first = repository.commit("one\n", {})
        second = repository.commit("two\n", {})
        repository.force_push("main", first)
        repository.force_push("refs/other/x", second)
        assert (repository.resolve("main"), repository.resolve("refs/other/x")) == (first, second)
        repository.delete_ref("refs/other/x")
        assert repository.resolve("refs/other/x") == ""
        with pytest.raises(GitError, match="no ref refs/other/x"):
            repository.delete_ref("refs/other/x")

    def test_branches_are_sorted(self, repository: Repository) -> None:
        sha = repository.commit("one\n", {})
        repository.force_push("a/b", sha)
        repository.tag("v1", sha)
        assert repository.branches() == ["refs/heads/a/b", "refs/heads/main"]

    def test_a_tag_with_a_message_is_an_object(self, repository: Repository) -> None:
        sha = repository.commit("one\n", {})
        assert repository.tag("light", sha) == sha
        tag = repository.tag("annotated", sha, "message", at=AT)
        assert tag != sha
        assert repository.resolve("refs/tags/annotated^{commit}") == sha

    def test_pruning_removes_unreachable_commits(self, repository: Repository) -> None:
        first = repository.commit("one\n", {})
        second = repository.commit("two\n", {})
        repository.force_push("main", first)
        assert repository.resolve(f"{second}^{{commit}}") == second
        repository.prune()
        assert repository.resolve(f"{second}^{{commit}}") == ""

    @pytest.mark.parametrize(
        ("ref", "valid"), [("refs/heads/a", True), ("refs/heads/a..b", False), ("refs/heads/a b", False)]
    )
    def test_the_names_that_git_accepts(self, repository: Repository, ref: str, *, valid: bool) -> None:
        assert repository.can_hold(ref) is valid


class TestReading:
    """Commits as JSON."""

    def test_times_are_in_utc_or_in_their_zone(self, repository: Repository) -> None:
        sha = repository.commit("m\n", {}, author=Person("A", "a@x", 90), at=AT)
        (commit,) = read_commits(repository.path, [sha])
        assert commit_to_json(commit, None, zones=False)["author"] == {
            "name": "A",
            "email": "a@x",
            "time": "Tue Mar 17 14:04:57 2026",
        }
        assert commit_to_json(commit, None, zones=True)["author"]["time"] == "Tue Mar 17 15:34:57 2026 +0130"

    def test_differences_of_each_kind(self, repository: Repository) -> None:
        text = "line\n" * 20
        repository.commit("one\n", {"gone": "1", "old": text, "changed": "1", "type": "1"})
        second = repository.commit(
            "two\n",
            {"gone": None, "old": None, "new": text, "changed": "2", "added": "x", "type": Entry(b"t", SYMLINK)},
        )
        diffs = tree_diffs(repository.path, read_commits(repository.path, [second]))[second]
        kinds = sorted((diff["type"], diff["old_path"], diff["new_path"]) for diff in diffs)
        assert kinds == [
            ("add", "/dev/null", "added"),
            ("add", "/dev/null", "type"),
            ("delete", "gone", "/dev/null"),
            ("delete", "type", "/dev/null"),
            ("modify", "changed", "changed"),
            ("rename", "old", "new"),
        ]
        assert next(diff for diff in diffs if diff["type"] == "rename")["score"] == 100

    def test_a_root_adds_its_files_and_a_merge_has_no_differences(self, repository: Repository) -> None:
        root = repository.commit("root\n", {"a": "1"})
        side = repository.commit("side\n", {"b": "1"}, "side", parents=[root])
        merge = repository.commit("merge\n", {"c": "1"}, parents=[root, side])
        diffs = tree_diffs(repository.path, read_commits(repository.path, [root, merge]))
        assert [diff["type"] for diff in diffs[root]] == ["add"]
        assert diffs[merge] == []

    def test_no_commits_need_no_git(self, tmp_path: Path) -> None:
        assert read_commits(tmp_path / "none", []) == []


class TestProjects:
    """Repositories below a folder."""

    def test_a_repository_is_found_by_its_name(self, tmp_path: Path) -> None:
        Repository.create(tmp_path / "plain")
        Repository.create(tmp_path / "a" / "bare.git")
        Repository.create(tmp_path / "work", bare=False)
        found = {
            name: find_repository(tmp_path, name)
            for name in ("plain", "plain.git", "a/bare", "a/bare.git", "work", "none")
        }
        assert {name: path and path.relative_to(tmp_path).as_posix() for name, path in found.items()} == {
            "plain": "plain",
            "plain.git": "plain",
            "a/bare": "a/bare.git",
            "a/bare.git": "a/bare.git",
            "work": "work",
            "none": None,
        }

    @pytest.mark.parametrize("name", ["", "..", "../plain", "a/../plain", ".hidden", "a//plain", "./plain"])
    def test_a_name_cannot_leave_the_folder(self, tmp_path: Path, name: str) -> None:
        Repository.create(tmp_path / "root" / "plain")
        Repository.create(tmp_path / "plain")
        Repository.create(tmp_path / "root" / ".hidden")
        assert find_repository(tmp_path / "root", name) is None

    def test_the_project_list_has_descriptions(self, tmp_path: Path) -> None:
        Repository.create(tmp_path / "b.git")
        described = Repository.create(tmp_path / "a" / "c")
        (described.path / "description").write_text("About c\n", encoding="utf-8")
        Repository.create(tmp_path / ".hidden")
        assert projects(tmp_path, "https://h/") == {
            "a/c": {"name": "a/c", "clone_url": "https://h/a/c", "description": "About c"},
            "b": {"name": "b", "clone_url": "https://h/b"},
        }


class TestGit:
    """The git program."""

    def test_an_error_has_the_text_of_git(self, repository: Repository) -> None:
        with pytest.raises(GitError, match="Not a valid object name"):
            git(repository.path, "cat-file", "-t", "nothing")

    def test_a_missing_program_is_explained(self, repository: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PATH", "/nowhere")
        with pytest.raises(GitError, match="git is not installed"):
            git(repository.path, "status")

    def test_the_users_settings_do_not_matter(
        self, repository: Repository, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        (tmp_path / ".gitconfig").write_text("[user]\n  name = Me\n", encoding="utf-8")
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.setenv("GIT_DIR", "/nowhere")
        assert b"user.name" not in git(repository.path, "config", "--list")
