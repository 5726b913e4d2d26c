"""The weather: calls come twice or never, answers get lost, processes die; all of it drawn from one source of chance."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar, cast

from emulator.local_cloud import LocalCloud
from emulator.storm.relays import Answer, Call, CutError
from emulator.supervisor import FUNCTIONS

__all__ = ["Chaos", "Killer"]

T = TypeVar("T")

_TAKEN = Answer(200, (), b"")
"""Makes a queue or a subscription believe that its call was carried out."""

# Shares of calls, in parts of one. A message is lost only where the scheduler promises to do without it: Pub/Sub and Cloud
# Tasks deliver at least once, but notifications may never be sent, and the queue's tasks are the sweep's to bring again.
_REPEATED = 0.2
_UNANSWERED = 0.1
_LOST = {"on_build_completion": 0.2, "on_task": 0.05}
_COPIES = 3
_NEVER_LOST = frozenset({"sync", "sweep"})  # Cloud Scheduler calls again in a minute; here it would only take longer


class Chaos:
    """An `Interfere` that repeats, loses and leaves unanswered what is delivered to functions."""

    def __init__(self, entropy: random.Random) -> None:
        self._entropy = entropy
        self._lock = threading.Lock()

    def __call__(self, call: Call, send: Callable[[], T]) -> T:
        """Interfere."""
        if call.wire not in FUNCTIONS or not call.key():
            return send()
        with self._lock:
            lost, repeated, unanswered = (self._entropy.random() for _ in range(3))
        if call.method not in _NEVER_LOST and lost < _LOST.get(call.wire, 0):
            return cast("T", _TAKEN)
        if repeated < _REPEATED:
            with ThreadPoolExecutor(_COPIES) as pool:
                answers = [future.result() for future in [pool.submit(send) for _ in range(_COPIES)]]
            answer = answers[0]
        else:
            answer = send()
        if unanswered < _UNANSWERED:
            raise CutError
        return answer


class Killer:
    """Kills functions ``times`` times while it runs, one or all at once, ``seconds`` apart on average."""

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
        """Begin."""
        self._thread.start()

    @property
    def is_done(self) -> bool:
        """Whether it has killed as often as it was to."""
        return self.kills == len(self._plan)

    def stop(self) -> None:
        """End."""
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        for pause, names in self._plan:
            if self._stopping.wait(pause):
                return
            for name in names:
                self._cloud.kill(name)
            self.kills += 1
