"""Builds that outlive their server: exported as JSON, and imported by a later server."""

import json
from typing import Any

import pytest

from emulator.buildbucket import BuildbucketServer, BuilderConfig, BuilderId, Outcome
from emulator.buildbucket.testing import MemoryPublisher, ScriptedEntropy
from emulator.clock import SteppedClock
from luci_scheduler.core.instants import HOUR, SECOND
from tests.unit.emulator.buildbucket.support import COMMIT, START, schedule

NOTIFY = {"pubsubTopic": "projects/project-1/topics/builds", "userData": "dG9rZW4="}


@pytest.fixture
def later(publisher: MemoryPublisher) -> BuildbucketServer:
    """A server that starts an hour after the one of the fixture ``server``."""
    return BuildbucketServer(SteppedClock(START + HOUR), publisher, life_cycle="manual", entropy=ScriptedEntropy())


def moved(server: BuildbucketServer) -> dict[str, Any]:
    """Return the state of a server as it arrives after a way through a file."""
    return json.loads(json.dumps(server.export_state()))


def test_an_ended_build_comes_back_as_it_was(server: BuildbucketServer, later: BuildbucketServer) -> None:
    server.add_builder(BuilderId("p", "b", "x"), BuilderConfig({"a": 1}, frozenset({"a"}), next_number=4))
    change = {"host": "h", "project": "r", "change": 1, "patchset": 2}
    fields = {"properties": {"a": [2]}, "tags": [{"key": "k", "value": "v"}], "gerritChanges": [change]}
    build_id = int(schedule(server, gitilesCommit=COMMIT, notify=NOTIFY, **fields)["id"])
    server.start_build(build_id)
    server.outputs.add(build_id).write("all is wéll\n".encode())
    ended = server.end_build(build_id, Outcome("FAILURE", summary="2 tests failed", output_properties={"n": 1}))
    later.import_state(moved(server))
    assert later.builds.get(build_id) == ended
    assert later.builds.get_by_number(BuilderId("p", "b", "x"), 4) == ended
    output = later.outputs.get(build_id)
    assert output is not None
    assert output.read().text == "all is wéll\n"


@pytest.mark.parametrize(
    ("started", "summary"),
    [
        (True, "The local cloud stopped while this build ran."),
        (False, "The local cloud stopped before this build started."),
    ],
)
def test_a_build_that_had_not_ended_ends_at_the_import(
    server: BuildbucketServer, later: BuildbucketServer, publisher: MemoryPublisher, *, started: bool, summary: str
) -> None:
    build_id = int(schedule(server, notify=NOTIFY)["id"])
    if started:
        server.start_build(build_id)
    publisher.messages.clear()
    state = moved(server)
    for _ in range(2):
        later.import_state(state)
        build = later.builds.get(build_id)
        assert build is not None
        assert (build.status, build.outcome and build.outcome.summary) == ("INFRA_FAILURE", summary)
        assert build.end_time == START + HOUR
        (message,) = publisher.messages
        assert message.json()["buildPubsub"]["build"]["status"] == "INFRA_FAILURE"
        assert message.json()["userData"] == "dG9rZW4="


def test_only_the_latest_builds_are_kept(
    server: BuildbucketServer, later: BuildbucketServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("emulator.buildbucket.kept._MOST", 2)
    ids = []
    for _ in range(3):
        ids.append(int(schedule(server)["id"]))
        server.clock.advance(SECOND)
    later.import_state(moved(server))
    assert [later.builds.get(build_id) is not None for build_id in ids] == [False, True, True]


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        ({"version": 2}, "have the version 2 instead of 1"),
        ({"builds": [{}]}, "cannot be read: KeyError"),
        ({"outputs": []}, "cannot be read: AttributeError"),
    ],
)
def test_a_state_that_cannot_be_read_adds_nothing(
    server: BuildbucketServer, later: BuildbucketServer, damage: dict[str, Any], reason: str
) -> None:
    schedule(server)
    with pytest.raises(ValueError, match=reason):
        later.import_state({**moved(server), **damage})
    assert list(later.builds.newest_first()) == []
