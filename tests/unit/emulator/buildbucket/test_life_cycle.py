"""Changes of builds over time, and their notifications."""

import base64
import sys
import threading
from pathlib import Path

import pytest
import requests

from emulator.buildbucket import (
    Announce,
    BuildbucketServer,
    BuilderConfig,
    BuilderId,
    Command,
    End,
    NotificationFault,
    Outcome,
    Script,
    Start,
)
from emulator.buildbucket.testing import call_prpc, prpc_json
from emulator.building.timeline import Timeline
from emulator.clock import RealClock, SteppedClock
from luci_scheduler.core.instants import HOUR, MINUTE, SECOND
from tests.waiting import until

START = 1_700_000_000 * SECOND
BUILDER = {"project": "p", "bucket": "b", "builder": "x"}
TOPIC = "projects/my-project/topics/builds"
RUN_3S = Script((Start(SECOND), End(2 * SECOND)))
V1 = "/_ah/api/buildbucket/v1"


@pytest.fixture
def server(publisher):
    """A server on a clock that the test moves."""
    server = BuildbucketServer(SteppedClock(START), publisher, default_plan=RUN_3S)
    server.start()
    yield server
    server.stop()


def schedule(server, token=b"token", builder="x", **fields):
    """Schedule a build with a callback and return its ID."""
    notify = {"pubsubTopic": TOPIC, "userData": base64.b64encode(token).decode()}
    request = {"builder": {**BUILDER, "builder": builder}, "notify": notify, **fields}
    return int(prpc_json(call_prpc(server.url, "ScheduleBuild", request))["id"])


def advance(server, duration):
    """Move the clock and run due changes."""
    server.clock.advance(duration)
    server.run_due()


def statuses(publisher):
    """Return the status in each message, in order."""
    return [message.json()["buildPubsub"]["build"]["status"] for message in publisher.messages]


def cancel(server, build_id):
    """Cancel a build."""
    reply = call_prpc(
        server.url, "CancelBuild", {"id": build_id, "summaryMarkdown": "stop", "mask": {"allFields": True}}
    )
    return prpc_json(reply)


class TestScripts:
    """Plans with steps."""

    def test_start_and_end(self, server, publisher):
        """A build starts and ends when the clock passes the instants, and records them as its times."""
        build_id = schedule(server)
        server.run_due()
        assert server.builds.get(build_id).status == "SCHEDULED"
        advance(server, SECOND)
        assert server.builds.get(build_id).status == "STARTED"
        advance(server, 10 * SECOND)
        build = server.builds.get(build_id)
        assert (build.status, build.start_time, build.end_time) == ("SUCCESS", START + SECOND, START + 3 * SECOND)
        assert statuses(publisher) == ["SCHEDULED", "STARTED", "SUCCESS"]
        assert [message.attributes["is_completed"] for message in publisher.messages] == ["false", "false", "true"]
        assert {message.topic for message in publisher.messages} == {TOPIC}

    def test_plans_by_builder_and_by_request(self, server):
        """The request's own plan takes precedence, then the first matching pattern, then the default."""
        server.plans.set("p/b/bad-*", Script((Start(0), End(0, Outcome("FAILURE")))))
        bad = schedule(server, builder="bad-one")
        plan = {"steps": [{"end": {"status": "INFRA_FAILURE", "summary": "gone"}, "after": "0.5s"}]}
        own = schedule(server, builder="bad-two", properties={"$local_cloud/plan": plan})
        wrong = schedule(server, properties={"$local_cloud/plan": {"steps": [{"after": "1s"}]}})
        command = schedule(server, properties={"$local_cloud/plan": {"command": ["false"]}})
        advance(server, SECOND)
        assert server.builds.get(bad).status == "FAILURE"
        build = server.builds.get(own)
        assert (build.status, build.start_time, build.outcome.summary) == ("INFRA_FAILURE", None, "gone")
        for build_id in (wrong, command):
            assert server.builds.get(build_id).status == "INFRA_FAILURE"
            assert "$local_cloud/plan" in server.builds.get(build_id).outcome.summary

    def test_a_build_without_a_bot_expires(self, server):
        """A build that no bot takes is an infra failure after the scheduling timeout, with both details."""
        server.plans.set("*", Script(()))
        build_id = schedule(server)
        advance(server, 6 * HOUR - 1)
        assert server.builds.get(build_id).status == "SCHEDULED"
        advance(server, 1)
        build = prpc_json(call_prpc(server.url, "GetBuild", {"id": build_id}))
        assert (build["status"], build["statusDetails"]) == ("INFRA_FAILURE", {"timeout": {}, "resourceExhaustion": {}})
        assert "startTime" not in build

    def test_execution_timeout(self, server):
        """A build that runs too long is an infra failure with the timeout detail."""
        server.plans.set("*", Script((Start(SECOND),)))
        build_id = schedule(server, executionTimeout="60s", schedulingTimeout="30s")
        advance(server, 60 * SECOND)
        assert server.builds.get(build_id).status == "STARTED"
        advance(server, SECOND)
        build = server.builds.get(build_id)
        assert (build.status, build.outcome.timeout, build.outcome.resource_exhaustion) == (
            "INFRA_FAILURE",
            True,
            False,
        )

    def test_forced_end(self, server):
        """A build ends after five days, regardless of its timeouts."""
        server.plans.set("*", Script((Start(0),)))
        build_id = schedule(server, executionTimeout="999999s")
        advance(server, 5 * 24 * HOUR)
        assert server.builds.get(build_id).status == "INFRA_FAILURE"

    def test_the_thread_follows_the_clock(self, server):
        """The server's thread runs due changes without run_due."""
        build_id = schedule(server)
        server.clock.advance(3 * SECOND)
        assert until(lambda: server.builds.get(build_id).ended)
        assert server.builds.get(build_id).status == "SUCCESS"


class TestCancel:
    """Cancellation in both APIs."""

    def test_v2_takes_its_time(self, server, publisher):
        """The status stays until the agent notices the cancellation. Only the end is announced."""
        build_id = schedule(server, properties={"$local_cloud/plan": {"steps": [{"start": {}}], "cancel_after": "20s"}})
        server.run_due()
        canceling = cancel(server, build_id)
        assert (canceling["status"], canceling["cancellationMarkdown"]) == ("STARTED", "stop")
        assert canceling["cancelTime"] == "2023-11-14T22:13:20Z"
        advance(server, 20 * SECOND - 1)
        assert server.builds.get(build_id).status == "STARTED"
        assert cancel(server, build_id)["cancelTime"] == "2023-11-14T22:13:20Z"
        advance(server, 1)
        assert server.builds.get(build_id).status == "CANCELED"
        assert statuses(publisher) == ["SCHEDULED", "STARTED", "CANCELED"]
        advance(server, MINUTE)
        assert len(publisher.messages) == 3

    @pytest.mark.parametrize("steps", [(), (Start(0),)])
    def test_v2_by_force(self, server, steps):
        """If no agent notices the cancellation, the build ends after 30 s and the grace period."""
        server.plans.set("*", Script(steps, cancel_after=None))
        build_id = schedule(server)
        server.run_due()
        cancel(server, build_id)
        advance(server, MINUTE - 1)
        assert not server.builds.get(build_id).ended
        advance(server, 1)
        assert server.builds.get(build_id).status == "CANCELED"

    def test_v2_may_lose_the_race(self, server):
        """A build that finishes first keeps its own end."""
        build_id = schedule(server)
        advance(server, SECOND)
        cancel(server, build_id)
        advance(server, 2 * MINUTE)
        assert server.builds.get(build_id).status == "SUCCESS"
        assert "cancelTime" in cancel(server, build_id)

    def test_v2_ended_already(self, server):
        """Canceling an ended build returns it unchanged."""
        build_id = schedule(server)
        advance(server, MINUTE)
        ended = cancel(server, build_id)
        assert ended["status"] == "SUCCESS"
        assert "cancelTime" not in ended

    def test_v1_builds_are_scheduled_immediately(self, server):
        """The reply of v1 already says CANCELED. Canceling an ended build returns it unchanged."""
        build_id, ended = schedule(server), schedule(server)
        server.end_build(ended, Outcome("SUCCESS"))
        for _ in range(2):
            reply = requests.post(f"{server.url}{V1}/builds/{build_id}/cancel", json={}, timeout=60).json()["build"]
            assert (reply["status"], reply["result"], reply["cancelation_reason"]) == (
                "COMPLETED", "CANCELED", "CANCELED_EXPLICITLY",
            )  # fmt: skip
        assert (
            requests.post(f"{server.url}{V1}/builds/{ended}/cancel", timeout=60).json()["build"]["result"] == "SUCCESS"
        )
        advance(server, MINUTE)
        assert server.builds.get(build_id).start_time is None


class TestNotifications:
    """Messages and their faults."""

    def test_the_creation_is_announced_before_the_reply(self, server, publisher):
        """When ScheduleBuild responds, the first message is published, with the token in the body."""
        schedule(server, token=b"\xff secret")
        assert statuses(publisher) == ["SCHEDULED"]
        assert base64.b64decode(publisher.messages[0].json()["userData"]) == b"\xff secret"

    @pytest.mark.parametrize(
        ("fault", "expected"),
        [
            (NotificationFault("drop", "started"), ["SCHEDULED", "SUCCESS"]),
            (NotificationFault("drop", times=None), []),
            (NotificationFault("drop", builder="p/b/other"), ["SCHEDULED", "STARTED", "SUCCESS"]),
            (
                NotificationFault("duplicate", "ended", value=2),
                ["SCHEDULED", "STARTED", "SUCCESS", "SUCCESS", "SUCCESS"],
            ),
            (NotificationFault("delay", "started", value=3 * SECOND), ["SCHEDULED", "SUCCESS", "SUCCESS"]),
            (NotificationFault("hold", "created"), ["STARTED", "STARTED", "SUCCESS"]),
        ],
    )
    def test_messages_are_lost_duplicated_and_delayed(self, server, publisher, fault, expected):
        """Messages are lost, duplicated, delayed and reordered; a late message shows the later state."""
        server.notifier.add_fault(fault)
        schedule(server)
        for _ in range(10):
            advance(server, SECOND)
        assert statuses(publisher) == expected

    def test_a_change_is_reported_before_its_message(self, server, publisher):
        """The feed has a build's failure before the functions can log the failure of its invocation."""
        seen = []
        server.on_change(lambda build: seen.append((build.status, len(publisher.messages))))
        schedule(server)
        for _ in range(10):
            advance(server, SECOND)
        assert statuses(publisher) == ["SCHEDULED", "STARTED", "SUCCESS"]
        assert seen == [("STARTED", 1), ("SUCCESS", 2)]

    def test_held_messages_are_delivered_out_of_order(self, server, publisher):
        """A held message is published after the next one, which may be of another build."""
        server.notifier.add_fault(NotificationFault("hold"))
        first = schedule(server)
        second = schedule(server)
        shown = [message.json()["buildPubsub"]["build"]["id"] for message in publisher.messages]
        assert shown == [str(second), str(first)]

    @pytest.mark.parametrize(
        ("effect", "token"),
        [("wrong_token", b"this-is-not-the-token"), ("missing_token", None), ("foreign_token", b"other")],
    )
    def test_messages_may_have_wrong_tokens(self, server, publisher, effect, token):
        """A message may have a wrong token, none, or another build's."""
        schedule(server, token=b"other")
        server.notifier.add_fault(NotificationFault(effect))
        schedule(server, token=b"mine")
        shown = publisher.messages[-1].json().get("userData")
        assert (shown and base64.b64decode(shown)) == token

    def test_steps_may_say_how_they_are_announced(self, server, publisher):
        """The steps of a plan have their own copies, delays and tokens."""
        server.plans.set(
            "*", Script((Start(0, Announce(copies=2)), End(0, announce=Announce(token=b"t"))), Announce(0))
        )
        schedule(server)
        server.run_due()
        assert statuses(publisher) == ["STARTED", "STARTED", "SUCCESS"]
        assert base64.b64decode(publisher.messages[-1].json()["userData"]) == b"t"

    def test_only_the_end_is_published_again(self, server, publisher):
        """If publishing fails, creation and start are lost; the end is retried."""
        publisher.failures = 4
        schedule(server)
        advance(server, SECOND)
        advance(server, 2 * SECOND)
        assert publisher.messages == []
        assert publisher.failures == 1
        advance(server, SECOND)
        assert publisher.messages == []
        advance(server, 2 * SECOND)
        assert statuses(publisher) == ["SUCCESS"]


class TestCommands:
    """Builds that run local programs, on a real clock."""

    @pytest.fixture
    def live(self, publisher):
        """A server on the machine's clock."""
        server = BuildbucketServer(RealClock(), publisher)
        server.start()
        yield server
        server.stop()

    @pytest.mark.parametrize(("code", "status"), [(0, "SUCCESS"), (1, "FAILURE"), (2, "FAILURE")])
    def test_exit_status(self, live, publisher, code, status):
        """The exit status decides the result. The end of the output is kept, and three messages are published."""
        live.plans.set("*", Command((sys.executable, "-S", "-c", f"print('hello'); raise SystemExit({code})")))
        build_id = schedule(live)
        until(lambda: live.builds.get(build_id).ended)
        build = live.builds.get(build_id)
        assert (build.status, live.outputs.get(build_id).read().text) == (status, "hello\n")
        assert build.create_time <= build.start_time <= build.end_time
        until(lambda: len(publisher.messages) == 3)

    def test_the_environment_describes_the_build(self, live):
        """The program's environment describes the build and its commit."""
        live.add_builder(BuilderId("p", "b", "x"), BuilderConfig({"recipe": "r"}, next_number=3))
        script = 'echo "$BUILD_ID $BUILDER $BUILD_NUMBER $REVISION $REF $EXTRA $PROPERTIES"'
        live.plans.set("*", Command(("sh", "-c", script), env={"EXTRA": "more"}))
        commit = {"host": "h.googlesource.com", "project": "r", "id": "a" * 40, "ref": "refs/heads/main"}
        build_id = schedule(live, gitilesCommit=commit)
        until(lambda: live.builds.get(build_id).ended)
        expected = f'{build_id} x 3 {"a" * 40} refs/heads/main more {{"recipe": "r"}}\n'
        assert live.outputs.get(build_id).read().text == expected

    def test_cancel_terminates(self, live):
        """A cancellation ends the program, and the build is CANCELED."""
        live.plans.set("*", Command(("sleep", "60")))
        build_id = schedule(live)
        until(lambda: live.builds.get(build_id).status == "STARTED")
        cancel(live, build_id)
        until(lambda: live.builds.get(build_id).ended)
        assert live.builds.get(build_id).status == "CANCELED"

    def test_cancel_before_the_start(self, live):
        """A build whose program has not started ends at once, and the program never runs."""
        live.plans.set("*", Command(("sleep", "60"), start_after=HOUR))
        build_id = schedule(live)
        assert cancel(live, build_id)["status"] == "CANCELED"
        assert live.builds.get(build_id).start_time is None

    def test_execution_timeout_kills(self, live):
        """A program that runs too long is killed."""
        live.plans.set("*", Command(("sh", "-c", "trap '' TERM; sleep 60")))
        build_id = schedule(live, executionTimeout="0.050s", gracePeriod="0.050s")
        until(lambda: live.builds.get(build_id).ended)
        build = live.builds.get(build_id)
        assert (build.status, build.outcome.timeout) == ("INFRA_FAILURE", True)
        until(lambda: not live._service.life_cycle._commands._pool._running)

    def test_cannot_start(self, live):
        """A missing program ends the build, and its summary names the program."""
        live.plans.set("*", Command(("/no/such/program",)))
        build_id = schedule(live)
        until(lambda: live.builds.get(build_id).ended)
        build = live.builds.get(build_id)
        assert build.status == "FAILURE"
        assert "cannot run /no/such/program: No such file or directory" in build.outcome.summary

    def test_stop_kills(self, publisher, tmp_path):
        """Stopping the server ends programs and their children. Their builds do not change."""
        server = BuildbucketServer(RealClock(), publisher)
        server.start()
        pid_file = tmp_path / "pid"
        server.plans.set(
            "*", Command(("sh", "-c", f"sleep 60 & echo $! > {pid_file}.new; mv {pid_file}.new {pid_file}; wait"))
        )
        build_id = schedule(server)
        until(pid_file.exists)
        child = int(pid_file.read_text())
        server.stop()
        assert server.builds.get(build_id).status == "STARTED"

        def is_gone():
            try:
                return Path(f"/proc/{child}/stat").read_text().split()[2] == "Z"
            except FileNotFoundError:
                return True

        until(is_gone)


class TestTimeline:
    """Actions at future instants."""

    def test_order_and_chains(self):
        """Actions run in the order of their instants, including added actions, each with its own instant."""
        clock = SteppedClock(0)
        timeline, seen = Timeline(clock), []
        timeline.at(20, lambda at: seen.append(("b", at)))
        timeline.at(10, lambda at: (seen.append(("a", at)), timeline.at(15, lambda at: seen.append(("c", at)))))
        timeline.at(40, lambda at: seen.append(("late", at)))
        clock.move_to(30)
        assert timeline.run_due() == 3
        assert seen == [("a", 10), ("c", 15), ("b", 20)]

    def test_a_failing_action_does_not_stop_the_others(self, caplog):
        """An action that raises is logged."""
        clock = SteppedClock(0)
        timeline, done = Timeline(clock), threading.Event()

        def fail(_at):
            raise LookupError("on purpose")

        timeline.at(0, fail)
        timeline.at(0, lambda _at: done.set())
        timeline.run_due()
        assert done.is_set()
        assert "an action due at 0 failed" in caplog.text
