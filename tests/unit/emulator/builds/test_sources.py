"""The sources of Cloud Build builds."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from emulator.builds.sources import Sources
from emulator.cloud_build.builds import Build, Place
from emulator.errors import LocalCloudError
from emulator.gitiles.repository import Repository

REPO = "https://github.com/example-org/Widget"


@pytest.fixture
def sources(tmp_path: Path) -> Sources:
    """Two commits on main and a tag at the first."""
    repository = Repository.create(tmp_path / "github.com" / "example-org" / "widget")
    self = Sources(tmp_path, lambda host, project: f"http://local.invalid/{host}/{project}")
    repository.commit("One", {"file": "one"})
    repository.force_push("refs/tags/v1", repository.resolve("refs/heads/main"))
    repository.commit("Two", {"file": "two"})
    return self


def build(source: Any, **substitutions: str) -> Build:
    """Return a build with a source."""
    members = {"source": source} if source else {}
    return Build(Place("p", "global"), 1, 0, {"id": "i", "status": "QUEUED", "substitutions": substitutions, **members})


def content(sources: Sources, folder: Path, wanted: Build) -> str:
    """Check a source out, and return the content of its file."""
    place = sources(wanted)
    folder.mkdir()
    subprocess.run(place.prepare, cwd=folder, env=dict(place.prepare_env), check=True)
    return (folder / "file").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("revision", "text"),
    [("", "two"), ("main", "two"), ("refs/heads/main", "two"), ("v1", "one"), ("refs/tags/v1", "one"), ("HASH", "two")],
)
def test_a_public_repository(sources: Sources, tmp_path: Path, revision: str, text: str) -> None:
    """A branch, a tag, a full ref and a hash are found; the case of the repository's name does not count."""
    revision = sources.resolve(REPO, "refs/heads/main") if revision == "HASH" else revision
    wanted = build({"gitSource": {"url": f"{REPO}.git", "revision": revision}})
    assert content(sources, tmp_path / "work", wanted) == text


def test_a_connected_repository_is_that_of_the_commit(sources: Sources, tmp_path: Path) -> None:
    """The local cloud has no connections."""
    source = {"connectedRepository": {"repository": "projects/p/x", "revision": "v1"}}
    assert content(sources, tmp_path / "work", build(source, _REPOSITORY=REPO)) == "one"
    with pytest.raises(LocalCloudError, match="no connected repositories: give the job a commit"):
        sources(build(source))


def test_a_build_without_a_source(sources: Sources) -> None:
    """Its folder is empty, and its log says so."""
    place = sources(build(None))
    assert (place.prepare, place.notes) == ((), ("This build has no source, so its folder is empty.",))


@pytest.mark.parametrize(
    ("url", "revision", "reason"),
    [
        (
            "https://github.com/example-org/other",
            "main",
            "no repository https://github.com/example-org/other: push to http",
        ),
        (REPO, "gone", "has no refs/heads/gone"),
        (REPO, "refs/heads/gone", "has no refs/heads/gone"),
    ],
)
def test_a_missing_source(sources: Sources, url: str, revision: str, reason: str) -> None:
    """The error says where to put it, or which ref is missing."""
    with pytest.raises(LocalCloudError) as caught:
        sources(build({"gitSource": {"url": url, "revision": revision}}))
    assert reason in str(caught.value)
    assert sources.resolve(url, "refs/heads/gone") == ""
