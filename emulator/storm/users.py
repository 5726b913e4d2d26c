"""What users of a world do while it storms: they change configs and jobs, and call the API."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from emulator.memory.store import MemoryStore
from emulator.storm.faults import Kind
from emulator.storm.history import Answer, Delivery, History, Push
from emulator.storm.instances import HttpCall
from emulator.storm.kernel import Kernel
from emulator.storm.platform import Platform, PubSubMessage
from emulator.storm.repositories import ConfigBucket, RepositoryHost
from emulator.storm.scripts import MAIN, PROJECT, JobSpec, Script, config_text
from luci_scheduler.core.identifiers import JobId
from luci_scheduler.core.instants import SECOND

__all__ = ["Users"]

_OPERATOR = "/api/v1/scheduler.Operator/"
_ANSWERED = 500
_ATTEMPTS = 3
_RETRY = 10 * SECOND
_SELECTOR = 8
"""Bits of an amount that select a job; the others are seconds."""
_LONGEST = 1800


class Users:
    """Everybody who uses the scheduler."""

    def __init__(
        self,
        script: Script,
        kernel: Kernel,
        platform: Platform,
        history: History,
        store: MemoryStore,
        host: RepositoryHost,
        bucket: ConfigBucket,
    ) -> None:
        self._kernel = kernel
        self._platform = platform
        self._history = history
        self._store = store
        self._host = host
        self._bucket = bucket
        self._specs: dict[str, JobSpec] = {job.name: job for job in script.jobs}
        self._removed: set[str] = set()
        self._repo = script.repo
        self._numbers = 0
        self.plans = 0
        """What users will still do: resume jobs, add jobs again, repeat calls."""
        self.configure()

    @property
    def schedules(self) -> int:
        """How many jobs have a schedule now."""
        specs = [spec for name, spec in self._specs.items() if name not in self._removed]
        return sum(spec.schedule != "triggered" for spec in specs)

    def act(self, kind: Kind, amount: int) -> None:
        """Do something, as a fault of this kind and amount says."""
        actions: dict[Kind, Callable[[int], None]] = {
            Kind.FORCE_PUSH: self._force_push,
            Kind.CONFIG_CHANGE: self._change,
            Kind.POLICY_CHANGE: self._change_policy,
            Kind.JOB_REMOVED: self._remove,
            Kind.PAUSE: self._pause,
            Kind.ABORT: self._abort,
            Kind.ABORT_JOB: lambda n: self._call("AbortJob", {"jobRef": self._ref(n), "reason": "enough"}),
            Kind.TRIGGER: lambda n: self._call("TriggerJob", {"jobRef": self._ref(n), "requestId": self._name()}),
            Kind.RERUN: self._rerun,
            Kind.BACKFILL: self._backfill,
        }
        actions[kind](amount)

    def push(self, *, published: bool, parent: str | None = None) -> None:
        """Push a commit to the main branch; an event announces it if ``published``."""
        revision = self._host.push(self._repo, MAIN, parent=parent)
        now = self._kernel.now()
        self._history.pushes.append(Push(now, self._repo, MAIN, revision, published))
        if published:
            data = json.dumps({"repo": self._repo, "ref": MAIN, "revision": revision}).encode()
            message = PubSubMessage(f"event-{len(self._history.pushes)}", "on_gitiles_commit", data, {}, now)
            self._platform.publish(message, "platform/event", (Kind.NOTICE_LOST, Kind.EVENT_LATE, Kind.EVENT_DOUBLED))

    def configure(self) -> None:
        """Commit the present config."""
        self._bucket.texts.append(config_text([job for name, job in self._specs.items() if name not in self._removed]))

    def stop_schedules(self) -> None:
        """Commit a config without schedules, so that everything can come to its end."""
        self._specs = {name: replace(spec, schedule="triggered") for name, spec in self._specs.items()}
        self.configure()

    def _force_push(self, _: int) -> None:
        head = self._host.head(self._repo, MAIN)
        if head:
            self._history.lost.append(head)
            self.push(published=True, parent=self._host.parent(head))

    def _change(self, amount: int) -> None:
        name = self._job(amount)
        spec = self._specs[name]
        schedule = ("triggered", "with 5m interval", "*/10 * * * *")[(amount >> 4) % 3]
        self._specs[name] = replace(spec, schedule=schedule)
        self.configure()

    def _change_policy(self, amount: int) -> None:
        name = self._job(amount)
        self._specs[name] = replace(self._specs[name], policy=amount >> 4)
        self.configure()

    def _remove(self, amount: int) -> None:
        name = self._job(amount)
        self._removed.add(name)
        self.configure()
        self._later(amount, lambda: self._add(name))

    def _add(self, name: str) -> None:
        self._removed.discard(name)
        self.configure()

    def _pause(self, amount: int) -> None:
        reference = self._ref(amount)
        self._call("PauseJob", {"jobRef": reference, "reason": "wait"})
        self._later(amount, lambda: self._call("ResumeJob", {"jobRef": reference, "reason": "go on"}))

    def _abort(self, amount: int) -> None:
        active = [(job, number) for job in self._jobs() for number in self._active(job)]
        if active:
            self._call("AbortInvocation", {**_invocation(*active[amount % len(active)]), "reason": "stop"})

    def _active(self, job: str) -> Sequence[int]:
        found = self._store.job(JobId(f"{PROJECT}/{job}"))
        return sorted(found.value.active_invocations) if found else ()

    def _rerun(self, amount: int) -> None:
        ended = [
            (job, invocation.id)
            for job in self._jobs()
            for invocation in self._store.invocations(JobId(f"{PROJECT}/{job}"), 5)
            if invocation.status.is_final
        ]
        if ended:
            self._call("RerunInvocation", {**_invocation(*ended[amount % len(ended)]), "requestId": self._name()})

    def _backfill(self, amount: int) -> None:
        head = self._host.head(self._repo, MAIN)
        oldest = self._host.parent(self._host.parent(head))
        if oldest:
            body = {"jobs": [self._ref(amount)], "repo": self._repo, "ref": MAIN, "fromRevision": oldest}
            self._call("BackfillCommits", {**body, "toRevision": head, "requestId": self._name()})

    def _call(self, method: str, request: dict[str, Any], attempt: int = 0) -> None:
        """Call the API. A user repeats a call that did not succeed."""
        call = HttpCall.of_user(_OPERATOR + method, request)

        def done(delivery: Delivery) -> None:
            if (delivery.code is None or delivery.code >= _ANSWERED) and attempt + 1 < _ATTEMPTS:
                self._plan(_RETRY, lambda: self._call(method, request, attempt + 1))
            answer = Answer(self._kernel.now(), method, json.dumps(request), delivery.code or 0, delivery.body)
            self._history.answers.append(answer)

        self._platform.deliver(
            "console", f"console {method}", method, attempt, lambda instance: instance.page(call), done
        )

    def _later(self, amount: int, action: Callable[[], None]) -> None:
        self._plan((5 + (amount >> _SELECTOR) % _LONGEST) * SECOND, action)

    def _plan(self, pause: int, action: Callable[[], None]) -> None:
        self.plans += 1

        def act() -> None:
            self.plans -= 1
            action()

        self._kernel.at(self._kernel.now() + pause, act)

    def _name(self) -> str:
        self._numbers += 1
        return f"request-{self._numbers}"

    def _ref(self, amount: int) -> dict[str, str]:
        return {"project": PROJECT, "job": self._job(amount)}

    def _job(self, amount: int) -> str:
        jobs = self._jobs()
        return jobs[amount % len(jobs)]

    def _jobs(self) -> list[str]:
        return sorted(name for name, spec in self._specs.items() if spec.kind != "gitiles")


def _invocation(job: str, number: int) -> dict[str, Any]:
    reference = {"jobRef": {"project": PROJECT, "job": job}, "invocationId": str(number)}
    return {"invocationRef": reference}
