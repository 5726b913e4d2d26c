"""The Buildbucket server of the local cloud."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any, Literal

from emulator.buildbucket.app import BuildbucketApp
from emulator.buildbucket.builders import BuilderConfig, Registry
from emulator.buildbucket.builds import Build, BuildStore, Outcome
from emulator.buildbucket.control import Control
from emulator.buildbucket.faults import Canned, Faults, RequestRecord
from emulator.buildbucket.identifiers import BuilderId
from emulator.buildbucket.instants import MINUTE
from emulator.buildbucket.notifications import Notifier, Publisher
from emulator.buildbucket.plans import Announce, Manual, Plan, Plans, Script
from emulator.buildbucket.service import Service
from emulator.clock import Clock
from emulator.serving.local_server import LocalServer

__all__ = ["BuildbucketServer"]


class BuildbucketServer:
    """Buildbucket over HTTP: ``/prpc/buildbucket.v2.Builds/...`` and ``/_ah/api/buildbucket/v1/...`` over one store of builds.

    Builds live as their plans say (``plans``, ``default_plan``), on ``clock``; with ``life_cycle="manual"`` nothing happens by itself, and
    answers may be put in beforehand with `script_response`. Notifications go through ``publisher``.

    Args:
        clock: what time it is; waiting happens on it, too.
        publisher: publishes notifications; what it raises is logged, and the end of a build is tried again.
        host: the address to listen on.
        port: the port; 0 picks a free one.
        service_account: what ``/auth/api/v1/server/info`` tells to be the publishing account.
        app_id: the App Engine application the server stands for.
        hostname: what it calls itself in tags and notifications, ``<app_id>.appspot.com`` unless told.
        default_plan: what becomes of builds for which no other plan was set: taken after 1 s, SUCCESS 2 s later, unless told.
        life_cycle: ``plans`` or ``manual``.
        request_id_memory: for how long v2 remembers request ids, in nanoseconds; the promised minute by default, None is for ever.
        strict_builders: only builders added by `add_builder` exist.
        entropy: where ids and spacing come from.
    """

    def __init__(
        self,
        clock: Clock,
        publisher: Publisher,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        service_account: str = "cr-buildbucket@appspot.gserviceaccount.com",
        app_id: str = "cr-buildbucket",
        hostname: str | None = None,
        default_plan: Plan | None = None,
        life_cycle: Literal["plans", "manual"] = "plans",
        request_id_memory: int | None = MINUTE,
        strict_builders: bool = False,
        entropy: random.Random | None = None,
    ) -> None:
        self.clock = clock
        self.hostname = hostname or f"{app_id}.appspot.com"
        entropy = entropy or random.Random()  # noqa: S311 - ids need spread, not secrecy
        plan = Manual() if life_cycle == "manual" else default_plan or Script()
        self._service = Service(clock, entropy, publisher, self.hostname, plan, request_id_memory)
        self._service.registry.strict = strict_builders
        # Spacing has a source of its own, so that ids do not depend on how many replies were written.
        spacing = random.Random(0)  # noqa: S311 - see above
        self._app = BuildbucketApp(self._service, app_id, service_account, Control(self), spacing)
        self._http = LocalServer(self._app, host, port)

    def start(self) -> None:
        """Listen, and let time pass for builds; when this returns requests are served."""
        self._app.stopping.clear()
        self._http.start()
        self._service.timeline.start()

    def stop(self) -> None:
        """Stop listening, kill programs that run as builds, let no more time pass; harmless when it does not run."""
        self._app.stopping.set()
        self._http.stop()
        self._service.timeline.stop()
        self._service.life_cycle.stop()

    @property
    def url(self) -> str:
        """``http://host:port``; known once started."""
        return self._http.url

    @property
    def host(self) -> str:
        """``host:port``; known once started."""
        return self._http.netloc

    @property
    def builds(self) -> BuildStore:
        """The builds."""
        return self._service.store

    @property
    def registry(self) -> Registry:
        """Builders and buckets, and who may use them."""
        return self._service.registry

    @property
    def plans(self) -> Plans:
        """What becomes of builds."""
        return self._service.plans

    @property
    def notifier(self) -> Notifier:
        """The notifications and their faults."""
        return self._service.notifier

    @property
    def faults(self) -> Faults:
        """The faults of answers."""
        return self._app.faults

    @property
    def requests(self) -> list[RequestRecord]:
        """The API requests so far (the last 10,000), oldest first; those below ``/control/`` are not among them."""
        return self._app.log.all()

    def clear_requests(self) -> None:
        """Forget the requests so far."""
        self._app.log.clear()

    @property
    def strict_auth(self) -> bool:
        """Whether calls without a ``Bearer fake:...`` token are refused."""
        return self._app.strict_auth

    @strict_auth.setter
    def strict_auth(self, value: bool) -> None:
        self._app.strict_auth = value

    @property
    def request_id_memory(self) -> int | None:
        """For how long v2 remembers request ids, in nanoseconds; None is for ever."""
        return self._service.request_id_memory

    @request_id_memory.setter
    def request_id_memory(self, value: int | None) -> None:
        self._service.request_id_memory = value

    def add_builder(self, builder: BuilderId, config: BuilderConfig | None = None) -> None:
        """Register a builder with its settings."""
        self.registry.add(builder, config)

    def run_due(self) -> int:
        """Let everything happen now that is due by the clock; return how many things happened."""
        return self._service.timeline.run_due()

    def start_build(self, build_id: int, *, at: int | None = None, announce: Announce | None = None) -> Build | None:
        """Let a bot take a build (now, unless told), and announce it; None if it is not waiting."""
        return self._service.life_cycle.start(build_id, at=at, announce=announce)

    def end_build(
        self,
        build_id: int,
        outcome: Outcome,
        *,
        at: int | None = None,
        announce: Announce | None = None,
        reported_ago: int = 0,
    ) -> Build | None:
        """Let a build end (now, unless told), and announce it; None if it is unknown or has ended already."""
        return self._service.life_cycle.end(build_id, outcome, at=at, announce=announce, reported_ago=reported_ago)

    def script_response(self, method: str, answer: Canned | Mapping[str, Any]) -> None:
        """Queue an answer for a method (``ScheduleBuild``, ``GetBuild``, ``v1.put``, ``v1.get``, ``v1.cancel``...).

        Answers are used up in order; without one the store answers. Requests are still checked: one that breaks the rules of the
        transport or of its message gets the error it deserves and uses up nothing. The builds behind such answers do not exist.
        """
        self._app.canned.add(method, answer if isinstance(answer, Canned) else Canned(answer))

    def responses_left(self) -> dict[str, int]:
        """Return how many queued answers wait per method."""
        return self._app.canned.left()
