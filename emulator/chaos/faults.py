"""Faults from one random source: lost and repeated deliveries, killed functions, dead and frozen servers."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar, cast

from emulator.chaos.relays import Call, CutError, HttpResponse
from emulator.official import OfficialEmulator
from emulator.supervisor import FUNCTIONS

__all__ = ["SERVERS", "Chaos", "Disturber", "Outages", "freezes", "kills"]

T = TypeVar("T")
Action = Callable[[], None]

SERVERS = ("firestore", "cloud_tasks", "buildbucket")
"""The servers that `Outages` can take away: calls of the functions reach them through a relay."""
_TAKEN = HttpResponse(200, (), b"")
"""A response that makes a queue or subscription count the delivery as handled."""

# Fractions of calls. A message is lost only if the scheduler promises to work without it: Pub/Sub and Cloud Tasks
# deliver at least once, but Buildbucket may never send a notification, and the sweep replaces lost tasks.
_REPEATED = 0.2
_UNANSWERED = 0.1
_LOST = {"on_build_completion": 0.2, "on_task": 0.05}
_COPIES = 3
_NEVER_LOST = frozenset(
    {"sync", "sweep"}
)  # Cloud Scheduler calls again a minute later; losing these would only prolong the test
_DOWN_SECONDS = (0.5, 3.0)
_FROZEN_SECONDS = (0.5, 3.0)


class Outages:
    """Servers that died and come back with their data.

    Calls to a dead server find no connection. A call that was running when the server died has landed, but its caller
    gets no response. A dead Cloud Tasks also learns no result of its deliveries.
    """

    def __init__(self) -> None:
        self._until: dict[str, float] = {}

    def begin(self, server: str, seconds: float) -> None:
        """Let a server be dead for some seconds."""
        self._until[server] = time.monotonic() + seconds

    def actions(self, entropy: random.Random) -> list[Action]:
        """Return one action for each server."""
        return [partial(self._begin_any, server, random.Random(entropy.random())) for server in SERVERS]  # noqa: S311

    def _begin_any(self, server: str, entropy: random.Random) -> None:
        self.begin(server, entropy.uniform(*_DOWN_SECONDS))

    def cut(self, call: Call) -> bool:
        """Return whether a call has no connection now."""
        is_task = "x-cloudtasks-taskname" in call.headers
        return self._is_dead(call.server) or (is_task and self._is_dead("cloud_tasks"))

    def _is_dead(self, server: str) -> bool:
        return time.monotonic() < self._until.get(server, 0.0)


class Chaos:
    """An `Interfere` that repeats deliveries to functions, loses them, and loses their responses.

    Args:
        entropy: decides about each delivery.
        outages: the dead servers, which get and answer no calls.
    """

    def __init__(self, entropy: random.Random, outages: Outages | None = None) -> None:
        self._entropy = entropy
        self._outages = outages or Outages()
        self._lock = threading.Lock()

    def __call__(self, call: Call, send: Callable[[], T]) -> T:
        """Deliver a call once, three times or never, and return or lose its response."""
        if self._outages.cut(call):
            raise CutError
        response = self._disturbed(call, send)
        if self._outages.cut(call):
            raise CutError
        return response

    def _disturbed(self, call: Call, send: Callable[[], T]) -> T:
        if call.server not in FUNCTIONS or not call.key():
            return send()
        with self._lock:
            lost, repeated, unanswered = (self._entropy.random() for _ in range(3))
        if call.method not in _NEVER_LOST and lost < _LOST.get(call.server, 0):
            return cast("T", _TAKEN)
        if repeated < _REPEATED:
            with ThreadPoolExecutor(_COPIES) as pool:
                responses = [future.result() for future in [pool.submit(send) for _ in range(_COPIES)]]
            response = responses[0]
        else:
            response = send()
        if unanswered < _UNANSWERED:
            raise CutError
        return response


class Disturber:
    """Disturbs a local cloud ``times`` times, ``seconds`` apart on average, each time by one of ``actions``."""

    def __init__(self, entropy: random.Random, times: int, seconds: float, actions: Sequence[Action]) -> None:
        self._plan = [(entropy.uniform(0.2, 2 * seconds), entropy.choice(actions)) for _ in range(times)]
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="disturber", daemon=True)
        self.done = 0
        """The number of disturbances so far."""

    def start(self) -> None:
        """Start."""
        self._thread.start()

    @property
    def seconds(self) -> float:
        """The time of all pauses together."""
        return sum(pause for pause, _ in self._plan)

    @property
    def is_done(self) -> bool:
        """Whether all disturbances happened."""
        return self.done == len(self._plan)

    def stop(self) -> None:
        """Stop; pending disturbances do not happen."""
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        for pause, act in self._plan:
            if self._stopping.wait(pause):
                return
            act()
            self.done += 1


def kills(kill: Callable[[str], None]) -> list[Action]:
    """Return the actions that kill one function, or all but the console at once."""
    victims = [name for name in FUNCTIONS if name != "console"]

    def all_at_once() -> None:
        for name in victims:
            kill(name)

    return [*(partial(kill, name) for name in victims), all_at_once]


def freezes(emulators: Sequence[OfficialEmulator], entropy: random.Random) -> list[Action]:
    """Return the actions that freeze the process of an emulator for a while: it is silent, and keeps its data."""

    def freeze(emulator: OfficialEmulator) -> None:
        with emulator.frozen():
            time.sleep(entropy.uniform(*_FROZEN_SECONDS))

    return [partial(freeze, emulator) for emulator in emulators]
