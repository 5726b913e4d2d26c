"""Parts of chaos: keys of calls, tripwires, chaos, kills, and the config of its jobs."""

import json
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, cast

import pytest

from emulator.chaos.faults import SERVERS, Chaos, Disturber, Outages, freezes, kills
from emulator.chaos.network import Network, Tripwire, pass_on, thrice
from emulator.chaos.relays import Call, CutError, HttpResponse
from emulator.chaos.report import Report, is_quiet, job_config, trigger_id

OK = HttpResponse(200, (), b"")


def push(message_id: str, server: str = "on_gitiles_commit") -> Call:
    """Return the delivery of a message."""
    return Call(server, "topic", json.dumps({"message": {"messageId": message_id}}).encode())


def task(name: str = "t", method: str = "timer") -> Call:
    """Return the delivery of a task."""
    return Call("on_task", method, b"{}", {"x-cloudtasks-taskname": name})


class Sender:
    """Counts how often a call is sent, and returns responses in order."""

    def __init__(self, *responses: HttpResponse) -> None:
        self.responses = list(responses)
        self.count = 0
        self._lock = threading.Lock()

    def __call__(self) -> HttpResponse:
        """Send."""
        with self._lock:
            self.count += 1
            return self.responses.pop(0) if self.responses else OK


class TestKeys:
    """The ID of a delivered message or task."""

    @pytest.mark.parametrize(
        ("call", "key"),
        [
            (push("17"), "17"),
            (task("q/t"), "q/t"),
            (Call("console", "m", b"{}"), ""),
            (Call("console", "m", b""), ""),
            (Call("console", "m", b"[]"), ""),
            (Call("console", "m", b'{"message": null}'), ""),
            (Call("console", "m", b"\xff"), ""),
        ],
    )
    def test_a_key(self, call: Call, key: str) -> None:
        assert call.key() == key


class TestTripwire:
    """A cut at a given call."""

    def trip(self, when: str, number: int = 1) -> tuple[Tripwire, list[str]]:
        """Return a tripwire of timer tasks, and the list of its actions."""
        acted: list[str] = []
        return Tripwire("on_task", "timer", when, lambda: acted.append("acted"), number), acted

    @pytest.mark.parametrize(("when", "sent"), [("before", 0), ("after", 1)])
    def test_it_cuts_before_or_after_the_server_sees_the_call(self, when: str, sent: int) -> None:
        tripwire, acted = self.trip(when)
        sender = Sender()
        with pytest.raises(CutError):
            tripwire(task(), sender)
        assert (sender.count, acted, tripwire.tripped.is_set()) == (sent, ["acted"], True)

    def test_it_acts_once_at_the_given_call(self) -> None:
        tripwire, acted = self.trip("before", number=3)
        sender = Sender()
        results = []
        for _ in range(5):
            try:
                results.append(tripwire(task(), sender).status)
            except CutError:
                results.append(0)
        assert (results, acted) == ([200, 200, 0, 200, 200], ["acted"])

    @pytest.mark.parametrize("call", [task(method="launch"), push("1"), Call("console", "timer", b"")])
    def test_other_calls_pass(self, call: Call) -> None:
        tripwire, acted = self.trip("before")
        assert (tripwire(call, Sender()), acted) == (OK, [])

    def test_a_call_that_the_server_did_not_see_does_not_count_as_completed(self) -> None:
        """The tripwire waits for the next call then."""
        tripwire, acted = self.trip("after")

        def broken() -> HttpResponse:
            raise CutError

        with pytest.raises(CutError):
            tripwire(task(), broken)
        assert acted == []
        with pytest.raises(CutError):
            tripwire(task(), Sender())
        assert acted == ["acted"]


class TestRepetition:
    """Deliveries in three copies."""

    def test_messages_and_tasks_are_delivered_three_times(self) -> None:
        sender = Sender()
        assert (thrice(push("1"), sender), sender.count) == (OK, 3)

    @pytest.mark.parametrize("call", [Call("buildbucket", "ScheduleBuild", b"{}"), Call("console", "page", b"")])
    def test_other_calls_are_sent_once(self, call: Call) -> None:
        sender = Sender()
        assert (thrice(call, sender), sender.count) == (OK, 1)

    def test_a_call_passes_unchanged(self) -> None:
        sender = Sender(HttpResponse(409, (), b""))
        assert (pass_on(task(), sender).status, sender.count) == (409, 1)


class TestNetwork:
    """Counts of deliveries, without servers."""

    def deliver(self, network: Network, call: Call, sender: Callable[[], HttpResponse]) -> HttpResponse:
        """Deliver a call through the network."""
        return network._carry(call, sender)

    def test_a_success_counts_as_accepted(self) -> None:
        network = Network()
        self.deliver(network, push("1"), Sender())
        self.deliver(network, push("2"), Sender(HttpResponse(500, (), b"")))
        self.deliver(network, push("3"), Sender(HttpResponse(299, (), b"")))
        self.deliver(network, push("4"), Sender(HttpResponse(300, (), b"")))
        assert network.taken("on_gitiles_commit") == {"1", "3"}
        assert network.taken("on_task") == set()
        assert network.deliveries == {"1": 1, "2": 1, "3": 1, "4": 1}

    def test_copies_count_as_deliveries_and_one_call(self) -> None:
        network = Network(thrice)
        self.deliver(network, task("t"), Sender())
        assert (network.deliveries["t"], network.calls["on_task", "timer"]) == (3, 1)

    def test_calls_of_other_servers_are_counted_by_method(self) -> None:
        network = Network()
        self.deliver(network, Call("buildbucket", "GetBuild", b"{}"), Sender())
        assert (dict(network.calls), dict(network.deliveries)) == ({("buildbucket", "GetBuild"): 1}, {})

    def test_a_cut_call_is_counted_but_not_accepted(self) -> None:
        network = Network(Tripwire("on_task", "timer", "after", lambda: None))
        with pytest.raises(CutError):
            self.deliver(network, task("t"), Sender())
        assert (network.deliveries["t"], network.taken("on_task")) == (1, set())


class Draws(random.Random):
    """Draws the given numbers in order."""

    def __init__(self, *numbers: float) -> None:
        super().__init__(0)
        self._numbers = list(numbers)

    def random(self) -> float:
        """Return the next number."""
        return self._numbers.pop(0)


class TestChaos:
    """Deliveries and responses that are lost, and deliveries that are repeated."""

    @pytest.mark.parametrize(
        ("call", "draws", "sent"),
        [
            (task(), (0.05, 0.2, 0.1), 1),
            (task(), (0.049, 0.0, 0.0), 0),
            (task(), (0.9, 0.19, 0.9), 3),
            (push("1", "on_build_completion"), (0.19, 0.9, 0.9), 0),
            (push("1", "on_build_completion"), (0.2, 0.9, 0.9), 1),
            (push("1", "on_gitiles_commit"), (0.0, 0.9, 0.9), 1),
            (task(method="sync"), (0.0, 0.9, 0.9), 1),
            (task(method="sweep"), (0.0, 0.9, 0.9), 1),
        ],
    )
    def test_lost_and_repeated_deliveries(self, call: Call, draws: tuple[float, ...], sent: int) -> None:
        """A lost delivery looks successful to its sender; commits, syncs and sweeps are never lost."""
        sender = Sender()
        assert Chaos(Draws(*draws))(call, sender).status == 200
        assert sender.count == sent

    def test_a_lost_response(self) -> None:
        sender = Sender()
        with pytest.raises(CutError):
            Chaos(Draws(0.9, 0.9, 0.09))(task(), sender)
        assert sender.count == 1

    def test_calls_that_deliver_nothing_are_left_alone(self) -> None:
        """They draw no numbers, so that the seed decides about deliveries only."""
        assert Chaos(Draws())(Call("firestore", "Commit", b""), Sender()) == OK
        assert Chaos(Draws())(Call("console", "page", b""), Sender()) == OK


class TestDisturber:
    """Killed functions."""

    def kill(self, seed: int, times: int = 3) -> tuple[list[str], Disturber]:
        """Run a disturber to its end; return the killed functions."""
        killed: list[str] = []
        killer = Disturber(random.Random(seed), times, 0, kills(killed.append))  # noqa: S311 - a seed is the point
        killer._stopping.wait = lambda _seconds: False  # type: ignore[method-assign]
        assert killer.is_done == (times == 0)
        killer.start()
        killer._thread.join(60)
        return killed, killer

    def test_it_kills_one_function_or_all_but_the_console(self) -> None:
        killed, killer = self.kill(1, times=20)
        assert (killer.done, killer.is_done) == (20, True)
        assert set(killed) == {"on_gitiles_commit", "on_build_completion", "on_task"}
        assert len(killed) > 20

    def test_the_seed_decides(self) -> None:
        assert self.kill(1)[0] == self.kill(1)[0]
        assert self.kill(1, times=10)[0] != self.kill(2, times=10)[0]

    def test_a_stopped_disturber_kills_no_more(self) -> None:
        killed: list[str] = []
        killer = Disturber(random.Random(1), 3, 1_000, kills(killed.append))  # noqa: S311 - a seed is the point
        killer.start()
        killer.stop()
        assert (killed, killer.is_done) == ([], False)
        assert killer.seconds > 100

    def test_an_emulator_is_frozen_and_continues(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The process is stopped for a drawn time."""
        events: list[object] = []

        @contextmanager
        def frozen() -> Iterator[None]:
            events.append("stopped")
            yield
            events.append("continues")

        monkeypatch.setattr("emulator.chaos.faults.time.sleep", events.append)
        emulator: Any = SimpleNamespace(frozen=frozen)
        (freeze,) = freezes([emulator], random.Random(1))  # noqa: S311
        freeze()
        assert (events[0], events[2]) == ("stopped", "continues")
        assert 0.5 <= cast("float", events[1]) <= 3.0


class TestOutages:
    """Dead servers, which come back with their data."""

    def test_a_dead_server_gets_no_call(self) -> None:
        """Other servers do."""
        outages = Outages()
        outages.begin("firestore", 1_000)
        chaos, sender = Chaos(random.Random(1), outages), Sender()  # noqa: S311
        with pytest.raises(CutError):
            chaos(Call("firestore", "Commit", b""), sender)
        assert sender.count == 0
        assert chaos(Call("buildbucket", "GetBuild", b""), sender) is OK
        outages.begin("firestore", 0)
        assert chaos(Call("firestore", "Commit", b""), sender) is OK

    def test_a_running_call_lands_without_a_response(self) -> None:
        """The server dies after it did the work."""
        outages = Outages()

        def send() -> HttpResponse:
            outages.begin("buildbucket", 1_000)
            return OK

        with pytest.raises(CutError):
            Chaos(random.Random(1), outages)(Call("buildbucket", "ScheduleBuild", b""), send)  # noqa: S311

    def test_a_dead_queue_delivers_nothing(self) -> None:
        """Messages of Pub/Sub still arrive."""
        outages = Outages()
        outages.begin("cloud_tasks", 1_000)
        assert outages.cut(task())
        assert not outages.cut(push("1"))

    def test_each_server_can_die(self) -> None:
        outages = Outages()
        for act in outages.actions(random.Random(1)):  # noqa: S311
            act()
        assert all(outages.cut(Call(server, "m", b"")) for server in SERVERS)


class TestReport:
    """The parts of a report."""

    @pytest.mark.parametrize(
        ("fields", "holds"),
        [
            ({}, True),
            ({"lost": ("a",)}, False),
            ({"duplicated": ("a",)}, False),
            ({"unfinished": 1}, False),
            ({"unsuccessful": 1}, False),
        ],
    )
    def test_a_report_passes_without_faults(self, fields: dict[str, Any], *, holds: bool) -> None:
        values: dict[str, Any] = {"unfinished": 0, "unsuccessful": 0, "lost": (), "duplicated": (), **fields}
        assert Report(invocations=1, builds=1, **values).holds is holds

    def test_the_id_of_a_trigger(self) -> None:
        assert trigger_id("https://h/r", "refs/heads/main", "abc") == "https://h/r/+/refs/heads/main@abc"

    def test_the_config_has_a_trigger_per_repository_and_its_jobs(self) -> None:
        assert job_config("bb.example", "refs/heads/main", {"https://h/a": ["x", "y"], "https://h/b": ["z"]}).split(
            "\n"
        ) == [
            (
                'trigger { id: "poller0" schedule: "triggered" gitiles { repo: "https://h/a" refs: "refs/heads/main" }'
                ' triggers: "x" triggers: "y" }'
            ),
            'job { id: "x" buildbucket { server: "bb.example" bucket: "ci" builder: "x" } }',
            'job { id: "y" buildbucket { server: "bb.example" bucket: "ci" builder: "y" } }',
            (
                'trigger { id: "poller1" schedule: "triggered" gitiles { repo: "https://h/b" refs: "refs/heads/main" }'
                ' triggers: "z" }'
            ),
            'job { id: "z" buildbucket { server: "bb.example" bucket: "ci" builder: "z" } }',
        ]

    @pytest.mark.parametrize(
        ("pages", "quiet"),
        [
            ({"jobs/p/a": {"active_invocations": []}, "jobs/p/b": {"active_invocations": []}}, True),
            ({"jobs/p/a": {"active_invocations": []}, "jobs/p/b": {"active_invocations": [1]}}, False),
            ({"jobs/p/a": {"active_invocations": []}}, False),
        ],
        ids=["no invocation", "an active one", "no page"],
    )
    def test_jobs_are_quiet_without_active_invocations(self, pages: dict[str, Any], *, quiet: bool) -> None:
        assert is_quiet(SimpleNamespace(page=pages.get), ["p/a", "p/b"]) is quiet  # type: ignore[arg-type]
