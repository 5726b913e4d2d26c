"""The check whether a commit has landed, against real repositories through the real client."""

from pathlib import Path

import pytest

from emulator.gitiles import GitilesServer, Repository
from luci_scheduler.adapters.gitiles import GitilesClient, host_urls
from luci_scheduler.adapters.http import sessions
from luci_scheduler.adapters.system import SystemClock
from luci_scheduler.core.commit_event import CommitEvent
from luci_scheduler.core.instants import SECOND
from luci_scheduler.engine.commit import has_landed
from luci_scheduler.ports import GitilesError

HOST = "sample.googlesource.com"
MAIN = "refs/heads/main"
AT = 1_773_756_297 * SECOND


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    """A repository with one commit on its main branch."""
    repository = Repository.create(tmp_path / "tint")
    repository.commit("base", {"a": "1"}, at=AT)
    return repository


@pytest.fixture
def client(server: GitilesServer) -> GitilesClient:
    """A client of a server with the repository."""
    return GitilesClient(
        host_urls({HOST: server.url}),
        sessions(authenticated=False),
        30 * SECOND,
        authenticated=False,
        clock=SystemClock(),
    )


def _landed(client: GitilesClient, ref: str, revision: str) -> bool:
    return has_landed(client, CommitEvent(f"https://{HOST}/tint", ref, revision))


def test_commits_that_a_ref_leads_to_have_landed(repository: Repository, client: GitilesClient) -> None:
    """The head and its ancestors have landed; a commit of another ref lands with a merge or a move of the ref."""
    base = repository.resolve("main")
    head = repository.commit("more", {"a": "2"}, at=AT + SECOND)
    review = repository.commit("unreviewed", {"b": "1"}, "refs/changes/01/1/1", at=AT + 2 * SECOND)
    assert [_landed(client, MAIN, revision) for revision in (base, head, review)] == [True, True, False]
    assert _landed(client, "refs/changes/01/1/1", review)
    repository.force_push(MAIN, review)
    assert _landed(client, MAIN, review)


def test_a_tag_names_its_object_and_its_commit(repository: Repository, client: GitilesClient) -> None:
    """Both the object of an annotated tag and its commit are on the tag."""
    base = repository.resolve("main")
    tag = repository.tag("v1", base, "a release", at=AT)
    assert tag != base
    assert [_landed(client, "refs/tags/v1", revision) for revision in (tag, base)] == [True, True]


@pytest.mark.parametrize(("ref", "revision"), [(MAIN, "f" * 40), ("refs/heads/none", "")])
def test_a_missing_commit_or_ref_is_an_error(
    repository: Repository, client: GitilesClient, ref: str, revision: str
) -> None:
    """The check fails with an error, and does not report a landed commit."""
    with pytest.raises(GitilesError) as caught:
        _landed(client, ref, revision or repository.resolve("main"))
    assert (caught.value.code, caught.value.transient) == ("NOT_FOUND", False)
