"""Notifications of builds, and their faults."""

import json
from typing import Any

import pytest
from google.api_core.exceptions import NotFound

from emulator.cloud_build import NotificationFault
from emulator.cloud_build.notifications import notification_fault_from_json
from luci_scheduler.core.instants import SECOND
from tests.unit.emulator.cloud_build.support import Bench, sample


def test_a_message(bench: Bench) -> None:
    """The data is the build; the attributes are its ID and status, and no others. The topic is the project's."""
    build = bench.create()
    (message,) = bench.publisher.messages
    assert message.topic == "projects/example-project/topics/cloud-builds"
    assert message.json() == build
    wanted = sample("pubsub-queued.message.json")["attributes"]
    assert message.attributes.keys() == wanted.keys()
    assert message.attributes == {"buildId": build["id"], "status": "QUEUED"}


def run(bench: Bench, *faults: NotificationFault) -> list[str]:
    """Run a build to its end under faults, and return the announced statuses."""
    for fault in faults:
        bench.service.notifier.add_fault(fault)
    bench.create()
    bench.advance(5)
    return bench.announced()


@pytest.mark.parametrize(
    ("faults", "statuses"),
    [
        ([NotificationFault("drop")], ["WORKING", "SUCCESS"]),
        ([NotificationFault("drop", times=None)], []),
        ([NotificationFault("drop", "SUCCESS")], ["QUEUED", "WORKING"]),
        ([NotificationFault("drop", job="other/*", times=None)], ["QUEUED", "WORKING", "SUCCESS"]),
        ([NotificationFault("duplicate", "W*")], ["QUEUED", "WORKING", "WORKING", "SUCCESS"]),
        ([NotificationFault("duplicate", value=2)], ["QUEUED"] * 3 + ["WORKING", "SUCCESS"]),
        ([NotificationFault("hold", "WORKING")], ["QUEUED", "SUCCESS", "WORKING"]),
    ],
)
def test_faults(bench: Bench, faults: list[NotificationFault], statuses: list[str]) -> None:
    """Messages are lost, doubled, and out of order."""
    assert run(bench, *faults) == statuses


def test_a_late_message_shows_the_status_of_its_change(bench: Bench) -> None:
    """So a late WORKING may follow SUCCESS."""
    assert run(bench, NotificationFault("delay", "WORKING", value=60 * SECOND)) == ["QUEUED", "SUCCESS"]
    bench.advance(60)
    late = bench.publisher.messages[-1]
    assert (late.attributes["status"], json.loads(late.data)["status"]) == ("WORKING", "WORKING")


def test_held_messages_are_released_with_the_faults(bench: Bench) -> None:
    """Nothing is lost by a fault that is removed."""
    assert run(bench, NotificationFault("hold", "SUCCESS")) == ["QUEUED", "WORKING"]
    bench.service.notifier.clear_faults()
    assert bench.announced() == ["QUEUED", "WORKING", "SUCCESS"]


def test_without_the_topic_nothing_complains(bench: Bench) -> None:
    """The messages are lost for good, whether the topic is missing or a fault says so."""
    bench.service.notifier.topic_missing = True
    assert run(bench) == []
    bench.service.notifier.clear_faults()
    errors: list[Exception] = [LookupError("none"), NotFound("none")]

    def publish(*_: object) -> None:
        raise errors.pop()

    bench.publisher.publish = publish  # type: ignore[method-assign]
    build_id = bench.create()["id"]
    bench.advance(0.2)
    assert (bench.get(build_id)["status"], bench.service.notifier.lost) == ("WORKING", 5)


def test_a_failure_of_the_publisher_is_repeated(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    """The message comes a second later, and the failure is in the log."""
    bench.publisher.failures = 1
    bench.create()
    assert bench.announced() == []
    bench.advance(0.2)
    assert bench.announced() == ["WORKING"]
    bench.advance(5)
    assert sorted(bench.announced()) == ["QUEUED", "SUCCESS", "WORKING"]
    assert "publishing that build" in caplog.text


@pytest.mark.parametrize(
    "value", [{}, {"effect": "lose"}, {"effect": "drop", "colour": 1}, {"effect": "delay", "value": 1}]
)
def test_bad_faults(value: dict[str, Any]) -> None:
    """They are refused; a delay is a duration."""
    with pytest.raises((TypeError, ValueError)):
        notification_fault_from_json(value)
    assert notification_fault_from_json({"effect": "delay", "value": "1.5s"}).value == 1_500_000_000
