"""Chaos: repeated, lost and unanswered deliveries, and killed functions, all drawn from one random source."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar, cast

from emulator.chaos.relays import Call, CutError, HttpResponse
from emulator.local_cloud import LocalCloud
from emulator.supervisor import FUNCTIONS

__all__ = ["Chaos", "Killer"]

T = TypeVar("T")

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


class Chaos:
    """An `Interfere` that repeats deliveries to functions, loses them, and loses their responses."""

    def __init__(self, entropy: random.Random) -> None:
        self._entropy = entropy
        self._lock = threading.Lock()

    def __call__(self, call: Call, send: Callable[[], T]) -> T:
        """Deliver a call once, three times or never, and return or lose its response."""
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


class Killer:
    """Kills functions ``times`` times, one or all at once, ``seconds`` apart on average."""

    def __init__(self, cloud: LocalCloud, entropy: random.Random, times: int, seconds: float) -> None:
        victims = [[name] for name in FUNCTIONS if name != "console"]
        self._cloud = cloud
        self._plan = [
            (entropy.uniform(0.2, 2 * seconds), entropy.choice([*victims, [name for (name,) in victims]]))
            for _ in range(times)
        ]
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="killer", daemon=True)
        self.kills = 0

    def start(self) -> None:
        """Start killing."""
        self._thread.start()

    @property
    def is_done(self) -> bool:
        """Whether all kills happened."""
        return self.kills == len(self._plan)

    def stop(self) -> None:
        """Stop killing; pending kills do not happen."""
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        for pause, names in self._plan:
            if self._stopping.wait(pause):
                return
            for name in names:
                self._cloud.kill(name)
            self.kills += 1
