"""SearchBuilds on the store: predicates, pages and access."""

import random
from typing import Any

import pytest

from emulator.buildbucket.builders import BuilderConfig
from emulator.buildbucket.builds import BuildSpec, Outcome
from emulator.buildbucket.identifiers import BuilderId
from emulator.buildbucket.plans import Manual
from emulator.buildbucket.service import Service
from emulator.buildbucket.testing import MemoryPublisher
from emulator.buildbucket.v2_search import search
from emulator.buildbucket.validation import InvalidError
from emulator.clock import SteppedClock
from luci_scheduler.core.instants import SECOND

START = 1_700_000_000 * SECOND
CALLER = "project:p"


class World:
    """Builds with names in the order of their creation, one second apart."""

    def __init__(self) -> None:
        self.clock = SteppedClock(START)
        self.service = Service(self.clock, random.Random(1), MemoryPublisher(), "h", Manual())  # noqa: S311
        self.names: dict[int, str] = {}
        self.ids: dict[str, int] = {}

    def add(self, name: str, builder: str = "linux", bucket: str = "ci", **fields: Any) -> None:
        """Add a build."""
        spec = BuildSpec(
            "v2", BuilderId("p", bucket, builder), fields.pop("created_by", CALLER), BuilderConfig(), **fields
        )
        build, _ = self.service.store.create(spec)
        self.names[build.id], self.ids[name] = name, build.id
        self.clock.advance(SECOND)

    def search(self, caller: str = CALLER, **request: Any) -> tuple[list[str], str]:
        """Return the names of a page, and its token."""
        builds, token = search(self.service.store, self.service.registry, request, caller)
        return [self.names[build.id] for build in builds], token

    def found(self, **predicate: Any) -> str:
        """Return the names that match a predicate, newest first."""
        return "".join(self.search(predicate=predicate)[0])


@pytest.fixture
def world() -> World:
    """A world with four builds."""
    world = World()
    world.add("a", tags=(("k", "v"), ("buildset", "patch/gerrit/h/1/2")))
    world.add("b", builder="mac", tags=(("k", "v"), ("l", "w")))
    world.add("c", bucket="try", created_by="user:x@y", experiments=("luci.e",))
    world.add("d", experimental=True)
    world.service.store.end(world.ids["a"], START, Outcome("SUCCESS"))
    world.service.store.start(world.ids["b"], START)
    return world


@pytest.mark.parametrize(
    ("predicate", "names"),
    [
        ({}, "cba"),
        ({"builder": {"project": "p"}}, "cba"),
        ({"builder": {"project": "p", "bucket": "ci"}}, "ba"),
        ({"builder": {"project": "p", "bucket": "ci", "builder": "mac"}}, "b"),
        ({"builder": {"project": "q"}}, ""),
        ({"status": "SUCCESS"}, "a"),
        ({"status": "STARTED"}, "b"),
        ({"status": "ENDED_MASK"}, "a"),
        ({"tags": [{"key": "k", "value": "v"}]}, "ba"),
        ({"tags": [{"key": "k", "value": "v"}, {"key": "l", "value": "w"}]}, "b"),
        ({"tags": [{"key": "k"}]}, ""),
        ({"createdBy": "x@y"}, "c"),
        ({"createdBy": "project:p"}, "ba"),
        ({"gerritChanges": [{"host": "h", "change": 1, "patchset": 2}]}, "a"),
        ({"gerritChanges": [{"host": "h", "change": 1, "patchset": 3}]}, ""),
        ({"createTime": {"startTime": START + SECOND}}, "cb"),
        ({"createTime": {"endTime": START + SECOND}}, "a"),
        ({"createTime": {"startTime": START + SECOND, "endTime": START + 2 * SECOND}}, "b"),
        ({"includeExperimental": True}, "dcba"),
        ({"experiments": ["+luci.non_production"]}, "d"),
        ({"experiments": ["+luci.e"]}, "c"),
        ({"experiments": ["-luci.e"]}, "ba"),
        ({"childOf": 1}, ""),
        ({"descendantOf": 1}, ""),
    ],
)
def test_a_predicate(world: World, predicate: dict[str, Any], names: str) -> None:
    assert world.found(**predicate) == names


def test_a_range_of_ids_extends_from_the_oldest_to_the_newest(world: World) -> None:
    """The larger ID is the older build."""
    ids = world.ids
    assert world.found(build={"startBuildId": ids["b"], "endBuildId": ids["c"]}) == "cb"
    assert world.found(build={"startBuildId": ids["b"]}) == "cb"
    assert world.found(build={"endBuildId": ids["b"]}) == "ba"


@pytest.mark.parametrize(
    ("request_fields", "reason"),
    [
        ({"pageSize": -1}, "page_size cannot be negative"),
        ({"pageToken": "x"}, "invalid page_token"),
        ({"predicate": {"builder": {"builder": "b"}}}, "builder: bucket is required when builder is specified"),
        ({"predicate": {"builder": {"bucket": "b"}}}, "builder: project is required when bucket is specified"),
        ({"predicate": {"experiments": ["x"]}}, 'experiment "x" must begin with + or -'),
        (
            {"predicate": {"build": {"startBuildId": 1}, "createTime": {"startTime": 1}}},
            "predicate.build: only one of build and create_time is allowed",
        ),
    ],
)
def test_a_malformed_request(world: World, request_fields: dict[str, Any], reason: str) -> None:
    with pytest.raises(InvalidError) as caught:
        world.search(**request_fields)
    assert str(caught.value) == reason


def test_pages_follow_each_other(world: World) -> None:
    """A full last page has a token, too."""
    first, token = world.search(pageSize=2)
    second, end = world.search(pageSize=2, pageToken=token)
    assert (first, second, end) == (["c", "b"], ["a"], "")
    assert world.search(pageSize=3)[1] == f"id>{world.ids['a']}"


def test_a_page_has_100_builds_by_default_and_1000_at_most() -> None:
    world = World()
    for number in range(1001):
        world.add(str(number))
    assert [len(world.search(pageSize=size)[0]) for size in (0, 5000)] == [100, 1000]


def test_builds_of_a_closed_bucket_are_hidden(world: World) -> None:
    world.service.registry.close_bucket("p/try", allowed=frozenset({"user:x@y"}))
    assert world.search(CALLER)[0] == ["b", "a"]
    assert world.search("user:x@y")[0] == ["c", "b", "a"]
