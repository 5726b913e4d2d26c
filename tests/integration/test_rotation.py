"""A rotation of the signing keys: functions of two generations share a store while they are replaced in any order.

Key N signs in generation N, and the keys N+1 and N-1 verify. The first generation has no previous key. The console has
keys of its own for its forms, and no next key, see infra/terraform/secrets.tf. All functions are real, on a store in
memory.
"""

from __future__ import annotations

import base64
import copy
import itertools
import json
from dataclasses import replace

import pytest
from cloudevents.http import CloudEvent
from structlog.testing import capture_logs

from luci_scheduler import entry
from luci_scheduler.bootstrap import App, make_app
from luci_scheduler.core.commit_event import CommitEvent
from luci_scheduler.core.identifiers import InvocationId
from luci_scheduler.core.instants import HOUR, MINUTE, SECOND, Instant, format_rfc3339
from luci_scheduler.core.invocation import Status
from luci_scheduler.core.notification_token import LIFETIME, make_token
from luci_scheduler.core.trigger import Trigger
from luci_scheduler.engine.commit import on_commit
from luci_scheduler.engine.triggers import accept_triggers
from luci_scheduler.settings_reader import read_settings
from tests.unit.api.support import world_for
from tests.unit.engine.world import JOB, REPO, World, config
from tests.unit.web.support import Visitor

FUNCTIONS = ("on_gitiles_commit", "on_build_completion", "on_task")
LAUNCHERS = ("on_gitiles_commit", "on_task")
ORDERS = list(itertools.permutations(FUNCTIONS))
FIRST = 1
"""The generation that `signing_key_generation` has in a new installation."""
POLICY = "triggering_policy { max_concurrent_invocations: 50 max_batch_size: 1 }"


def _app(world: World, generation: int, *, has_next: bool = True) -> App:
    """Return an application with the keys of a generation. The settings read them as from Terraform's variables."""
    names = {"SCHEDULER_TOKEN_SECRETS": generation}
    if has_next:
        names["SCHEDULER_NEXT_TOKEN_SECRET"] = generation + 1
    if generation > FIRST:
        names["SCHEDULER_PREVIOUS_TOKEN_SECRET"] = generation - 1
    keys = {name: f"signing key number {number}" for name, number in names.items()}
    required = {
        "SCHEDULER_PROJECT": "p",
        "SCHEDULER_TASK_URL": "https://t.example.com",
        "SCHEDULER_TASK_ACCOUNT": "a@b",
    }
    read = read_settings({**required, **keys})
    settings = replace(
        world.app.settings,
        token_secrets=read.token_secrets,
        next_token_secret=read.next_token_secret,
        previous_token_secret=read.previous_token_secret,
    )
    return make_app(settings, world.ports)


class Rollout:
    """The functions of an installation that sign and verify, which are replaced one by one."""

    def __init__(self, generations: tuple[int, int]) -> None:
        self.world = World(config(policy=POLICY))
        older, self._newer = (_app(self.world, generation) for generation in generations)
        self.functions = dict.fromkeys(FUNCTIONS, older)
        self._builds = 0

    def replace(self, name: str) -> None:
        """Deploy the newer generation of a function."""
        self.functions[name] = self._newer

    def launch(self, function: str) -> str:
        """Let a function start a build: `on_gitiles_commit` from a commit, another from a trigger; return its ID."""
        runtime, now = self.functions[function].runtime, self.world.clock.now()
        self._builds += 1
        if function == "on_gitiles_commit":
            on_commit(runtime, CommitEvent(REPO, "refs/heads/main", f"{self._builds:040x}"), now, f"c{self._builds}")
        else:
            accept_triggers(runtime, JOB, [Trigger(f"t{self._builds}", now, "webui")], f"t{self._builds}")
        return list(self.world.buildbucket.builds)[-1]

    def notify(self, build_id: str, published: Instant | None = None) -> tuple[int, list[str]]:
        """Deliver the notification of a build's end; return the status code and the logged events."""
        event = self.event(build_id, published or self.world.clock.now())
        with capture_logs() as logs:
            _, code = entry.notification(self.functions["on_build_completion"], event)
        return code, [line["event"] for line in logs]

    def event(self, build_id: str, published: Instant) -> CloudEvent:
        """Return the event with the notification of a build's end."""
        data = base64.b64encode(json.dumps({"userData": self.world.buildbucket.tokens[build_id]}).encode()).decode()
        sent = format_rfc3339(published)
        message = {"data": data, "messageId": f"n{build_id}", "publishTime": sent, "attributes": {}}
        attributes = {"type": "t", "source": "s", "id": f"n{build_id}", "time": sent}
        return CloudEvent(attributes, {"message": message})

    def running(self) -> int:
        """Return how many invocations have not ended."""
        return sum(not invocation.status.is_final for invocation in self.world.invocations())


@pytest.mark.parametrize("older", [FIRST, 7])
@pytest.mark.parametrize("order", ORDERS, ids=",".join)
def test_every_notification_is_accepted_during_a_rotation(order: tuple[str, ...], older: int) -> None:
    """Builds from before, between and after the replacements end by their first notification."""
    rollout = Rollout((older, older + 1))
    in_flight: list[list[str]] = []
    for step in range(len(order) + 1):
        if step:
            rollout.replace(order[step - 1])
        # One build of each step reports its end at each later step.
        in_flight.append([rollout.launch(LAUNCHERS[number % 2]) for number in range(step, len(order) + 1)])
        for builds in in_flight:
            build = builds.pop()
            rollout.world.finish(build_id=build)
            assert rollout.notify(build)[0] == 200
    assert in_flight == [[]] * 4
    statuses = {invocation.status for invocation in rollout.world.invocations()}
    assert statuses == {Status.SUCCEEDED}
    assert len(rollout.world.invocations()) == len(rollout.world.buildbucket.builds) == 10


@pytest.mark.parametrize(
    ("made_by", "read_by", "code"), [(1, 1, 302), (1, 2, 302), (7, 8, 302), (7, 7, 302), (8, 7, 403), (7, 9, 403)]
)
def test_forms_survive_a_rotation(made_by: int, read_by: int, code: int) -> None:
    """A page from before the console's replacement can be sent after it.

    The console has no next key, so a page from after the replacement must be loaded again after a rollback.
    """
    world = world_for()
    action = f"/actions/pauseJob/{JOB}"
    form = Visitor(_with_app(world, made_by)).page(f"/jobs/{JOB}").form(action)
    assert form is not None
    answer = Visitor(_with_app(world, read_by)).post(action, {**form, "reason": "why"})
    assert answer.status_code == code


def _with_app(world: World, generation: int) -> World:
    """Return the same world with the keys of a generation."""
    other = copy.copy(world)
    other.app = _app(world, generation, has_next=False)
    return other


@pytest.mark.parametrize("order", ORDERS, ids=",".join)
def test_a_leap_of_two_generations_loses_no_notification(order: tuple[str, ...]) -> None:
    """An older function does not know the new key: the notification comes again, until the newer one accepts it.

    Tokens of the old key are refused after the leap, which is its purpose. Status checks find those builds' ends.
    """
    rollout = Rollout((7, 9))
    world = rollout.world
    old = [rollout.launch(launcher) for launcher in LAUNCHERS]
    waiting: list[str] = []
    for name in order:
        rollout.replace(name)
        waiting += [rollout.launch(launcher) for launcher in LAUNCHERS]
        for build in list(waiting):
            world.finish(build_id=build)
            code, events = rollout.notify(build)
            assert (code, "key_unknown" in events) in ((200, False), (500, True))
            if code == 200:
                waiting.remove(build)
    forgotten = [build for build in waiting if rollout.notify(build)[0] != 200]
    assert {invocation.status for invocation in world.invocations() if invocation.status.is_final} == {Status.SUCCEEDED}
    for build in old:
        world.finish(build_id=build)
        assert rollout.notify(build) == (500, ["key_unknown"])
    # Only functions that were not yet replaced signed with the old key.
    assert rollout.running() == len(old) + len(forgotten)
    world.tick(60)
    assert rollout.running() == 0


@pytest.mark.parametrize(
    ("age", "code", "event"),
    [
        (-HOUR, 200, "permanent_error"),
        (-MINUTE, 500, "key_unknown"),
        (0, 500, "key_unknown"),
        (HOUR - 1, 500, "key_unknown"),
        (HOUR, 200, "permanent_error"),
    ],
)
def test_an_unknown_key_is_asked_to_come_again_for_an_hour(age: int, code: int, event: str) -> None:
    """Counted from the message's publication. Nothing is read or written."""
    rollout = Rollout((7, 9))
    build = rollout.launch("on_task")
    rollout.replace("on_build_completion")
    rollout.world.counted()
    assert rollout.notify(build, Instant(rollout.world.clock.now() - age)) == (code, [event])
    assert rollout.world.counted() == "0R/0W/0c"


@pytest.mark.parametrize("change", ["short", "claims", "stale", "future"])
def test_a_token_that_no_key_can_mend_is_permanent(change: str) -> None:
    """It is acknowledged at once, although its key is unknown."""
    rollout = Rollout((7, 9))
    build, now = rollout.launch("on_task"), rollout.world.clock.now()
    issued = {"stale": now - LIFETIME - SECOND, "future": now + MINUTE}.get(change, now)
    token = make_token("a key of no generation", JOB, InvocationId(7), Instant(issued))
    if change == "short":
        token = token[:20]
    elif change == "claims":
        blob = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
        token = base64.urlsafe_b64encode(blob.replace(b'"inv"', b'"ink"')).rstrip(b"=").decode()
    rollout.world.buildbucket.tokens[build] = base64.b64encode(token.encode()).decode()
    assert rollout.notify(build) == (200, ["permanent_error"])


def test_the_log_line_of_an_unknown_key() -> None:
    """It has the message's age, and no token."""
    rollout = Rollout((7, 9))
    build = rollout.launch("on_task")
    rollout.replace("on_build_completion")
    published = rollout.world.clock.now()
    rollout.world.clock.advance(90 * SECOND)
    with capture_logs() as logs:
        entry.notification(rollout.functions["on_build_completion"], rollout.event(build, published))
    (line,) = logs
    assert (line["event"], line["age_seconds"], line["log_level"]) == ("key_unknown", 90, "warning")
    assert base64.b64decode(rollout.world.buildbucket.tokens[build]).decode() not in str(line)
