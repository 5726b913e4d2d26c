"""The files of builds: checkouts of real repositories."""

import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from emulator.buildbucket.builders import BuilderConfig
from emulator.buildbucket.builds import Build, BuildSpec
from emulator.buildbucket.identifiers import BuilderId
from emulator.building.workplace import Workplace
from emulator.builds.checkouts import Checkouts
from emulator.errors import LocalCloudError
from emulator.gitiles import Repository
from luci_scheduler.core.identifiers import JobId
from luci_scheduler.core.watcher import Watcher

HOST, PROJECT = "dawn.googlesource.com", "deep/dawn"
REPO = f"https://{HOST}/{PROJECT}"
URL = "http://127.0.0.1:1"


def build(commit: Mapping[str, Any] | None = None) -> Build:
    """Return a build of the job p/j."""
    tags = (("scheduler_job_id", "p/j"),)
    spec = BuildSpec("v2", BuilderId("p", "b", "x"), "c", BuilderConfig(), tags=tags, gitiles_commit=commit)
    return Build(7, spec, None, 0, 0, 0, "t")


def commit(revision: str = "", **fields: str) -> dict[str, str]:
    """Return a commit of the repository."""
    return {"host": HOST, "project": PROJECT, **({"id": revision} if revision else {}), **fields}


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    """An empty repository."""
    return Repository.create(tmp_path / HOST / PROJECT)


def checkouts(folder: Path, *watched: tuple[str, str]) -> Checkouts:
    """Return the checkouts for a job that watches pairs of a repository and a ref."""
    watchers = [Watcher(JobId("p/j"), JobId("p/t"), repo, (ref,)) for repo, ref in watched]
    return Checkouts(
        folder, lambda host, project: f"{URL}/{host}/{project}", lambda job: watchers if job == "p/j" else []
    )


def prepare(place: Workplace, folder: Path) -> None:
    """Make the checkout in an empty folder."""
    folder.mkdir()
    subprocess.run(place.prepare, cwd=folder, env=dict(place.prepare_env), check=True, timeout=60)


def git(folder: Path, *arguments: str) -> str:
    """Return the output of git in a folder."""
    ran = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=True, timeout=60)
    return ran.stdout.strip()


def test_each_build_has_the_files_of_its_commit(tmp_path: Path, repository: Repository) -> None:
    """Two builds of two commits, of which the first is on no branch any more."""
    old = repository.commit("old", {"file": "old\n"})
    new = repository.commit("new", {"file": "new\n"}, parents=[])
    make = checkouts(tmp_path)
    for revision, name in ((old, "old"), (new, "new")):
        place = make(build(commit(revision, ref="refs/heads/main")))
        assert place.commit == commit(revision, ref="refs/heads/main")
        assert place.notes == (f"Checkout of {revision}, of {REPO}",)
        prepare(place, tmp_path / name)
        assert (tmp_path / name / "file").read_text() == f"{name}\n"
        assert git(tmp_path / name, "rev-parse", "HEAD") == revision
        assert git(tmp_path / name, "remote", "get-url", "origin") == f"{URL}/{HOST}/{PROJECT}"
        assert git(tmp_path / name, "status", "--porcelain") == ""
    assert git(repository.path, "worktree", "list").count("\n") == 0


def test_a_commit_without_a_hash_is_the_head_of_its_ref(tmp_path: Path, repository: Repository) -> None:
    revision = repository.commit("old", {"file": "old\n"}, "refs/heads/release")
    place = checkouts(tmp_path)(build(commit(ref="refs/heads/release")))
    assert place.commit["id"] == revision
    with pytest.raises(LocalCloudError, match="has no refs/heads/gone"):
        checkouts(tmp_path)(build(commit(ref="refs/heads/gone")))


@pytest.mark.parametrize(
    ("given", "error"),
    [
        (
            commit("a" * 40, project="other"),
            f"has no repository https://{HOST}/other: push to {URL}/{HOST}/other, or put",
        ),
        (commit("a" * 40, host=".."), "the local cloud has no repository"),
        (commit("--upload-pack=x"), "is neither the whole hash of a commit nor the full name of a ref"),
    ],
)
def test_a_build_that_has_no_files(tmp_path: Path, repository: Repository, given: dict[str, str], error: str) -> None:
    with pytest.raises(LocalCloudError, match=error):
        checkouts(tmp_path)(build(given))


class TestWithoutACommit:
    """A build that was triggered by hand runs at the head of the branch that its job watches."""

    @pytest.mark.parametrize("ref", ["refs/heads/main", "regexp:refs/heads/.*", "regexp:refs/heads/ma.n"])
    def test_the_head_of_the_watched_branch(self, tmp_path: Path, repository: Repository, ref: str) -> None:
        repository.commit("a", {"file": "a"}, "other")
        revision = repository.commit("a", {"file": "a"})
        place = checkouts(tmp_path, (REPO, ref))(build())
        assert place.commit == commit(revision, ref="refs/heads/main")
        note = f"This build names no commit. Checkout of {revision}, the head of refs/heads/main, of {REPO}"
        assert place.notes == (note,)

    def test_a_branch_that_is_the_only_watched_one(self, tmp_path: Path, repository: Repository) -> None:
        repository.commit("a", {"file": "a"})
        revision = repository.commit("b", {"file": "b"}, "release/1")
        assert checkouts(tmp_path, (REPO, "regexp:refs/heads/release/.*"))(build()).commit["id"] == revision

    @pytest.mark.parametrize(
        "watched",
        [
            [],
            [(REPO, "refs/heads/gone")],
            [(REPO, "regexp:refs/heads/release/.*")],
            [(REPO, "refs/heads/main"), (f"https://{HOST}/other", "refs/heads/main")],
            [("https://example.com/x", "refs/heads/main")],
        ],
    )
    def test_no_single_branch_means_an_empty_folder(
        self, tmp_path: Path, repository: Repository, watched: list[tuple[str, str]]
    ) -> None:
        for branch in ("main", "release/1", "release/2"):
            repository.commit("a", {"file": branch}, branch)
        Repository.create(tmp_path / HOST / "other").commit("a", {"file": "a"})
        place = checkouts(tmp_path, *watched)(build())
        assert (place.commit, place.prepare) == ({}, ())
        assert "its folder is empty: trigger the job for a commit" in place.notes[0]
