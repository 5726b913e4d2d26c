"""The Cloud Build server over HTTP: log of requests, tokens, pages, control calls, and its state for a later run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import requests

from emulator.buildbucket.testing import MemoryPublisher, ScriptedEntropy
from emulator.clock import SteppedClock
from emulator.cloud_build import Change, CloudBuildServer, Script
from emulator.cloud_build.state import Surroundings
from luci_scheduler.core.instants import SECOND
from tests.unit.emulator.cloud_build.support import BASE, INVOCATION, REVISION, START, request, sample

HOUR = 3600


def make_server() -> CloudBuildServer:
    """Return a server whose clock stands still."""
    return CloudBuildServer(SteppedClock(START), MemoryPublisher(), entropy=ScriptedEntropy())


@pytest.fixture
def server() -> Iterator[CloudBuildServer]:
    """A running server."""
    made = make_server()
    made.start()
    yield made
    made.stop()


def send(server: CloudBuildServer, http_method: str, path: str, **named: Any) -> requests.Response:
    """Send a request."""
    return requests.request(http_method, f"{server.url}{path}", timeout=10, **named)


def create(server: CloudBuildServer, **changes: Any) -> dict[str, Any]:
    """Create a build and return it."""
    answer = send(server, "POST", f"{BASE}/builds", json=request(**changes))
    build: dict[str, Any] = answer.json()["metadata"]["build"]
    return build


def control(server: CloudBuildServer, http_method: str, path: str, body: Any = None) -> Any:
    """Send a control call and return its answer."""
    answer = send(server, http_method, f"/control/{path}", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def advance(server: CloudBuildServer, seconds: float) -> None:
    """Move the clock, and run the due work."""
    clock = server.service.clock
    assert isinstance(clock, SteppedClock)
    clock.advance(round(seconds * SECOND))
    server.run_due()


class TestApi:
    """The API over HTTP."""

    def test_errors_have_the_bodies_of_the_samples(self, server: CloudBuildServer) -> None:
        """Status, type and body are those of the exchange."""
        exchange = sample("error-invalid-tag.http.json")
        answer = send(server, "POST", f"{BASE}/builds", json=request(tags=["ci/main"]))
        assert (answer.status_code, answer.json()) == (400, exchange["response"]["body"])
        assert answer.headers["Content-Type"] == exchange["response"]["headers"]["Content-Type"]

    def test_a_body_that_is_no_json(self, server: CloudBuildServer) -> None:
        """It is an invalid argument."""
        answer = send(server, "POST", f"{BASE}/builds", data=b"{")
        assert (answer.status_code, answer.json()["error"]["status"]) == (400, "INVALID_ARGUMENT")

    def test_another_path_is_a_page_of_the_front_end(self, server: CloudBuildServer) -> None:
        """The old form without a location is not served."""
        answer = send(server, "GET", "/v1/projects/example-project/builds")
        assert (answer.status_code, answer.headers["Content-Type"]) == (404, "text/html; charset=UTF-8")

    def test_tokens(self, server: CloudBuildServer) -> None:
        """If they are checked, a call without one gets the error of the sample, and does nothing."""
        server.strict_auth = True
        answer = send(server, "POST", f"{BASE}/builds", json=request())
        assert answer.json() == sample("error-unauthenticated.http.json")["response"]["body"]
        assert list(server.builds.newest_first()) == []
        with_token = {"Authorization": "Bearer fake:a@b"}
        assert send(server, "GET", f"{BASE}/builds", headers=with_token).json() == {}

    def test_the_log_of_requests(self, server: CloudBuildServer) -> None:
        """It has the calls of the API with their answers, and no token."""
        create(server)
        send(server, "GET", "/")
        send(server, "GET", f"{BASE}/builds?pageSize=1", headers={"Authorization": "Bearer secret"})
        first, second = server.requests
        assert (first.method, first.status, first.time) == ("create", 200, START)
        assert '"metadata"' in first.answer
        assert (second.method, second.path) == ("list", f"{BASE}/builds?pageSize=1")
        assert "secret" not in repr(server.requests)

    def test_the_address_of_a_build(self, server: CloudBuildServer) -> None:
        """``logUrl`` is its page here."""
        build = create(server)
        assert build["logUrl"] == f"{server.url}/builds/{build['id']}"
        assert requests.get(build["logUrl"], timeout=10).status_code == 200


class TestPages:
    """Pages for people."""

    def test_the_list(self, server: CloudBuildServer) -> None:
        """It can be filtered by job and status; foreign text is escaped."""
        assert "There is no build yet" in send(server, "GET", "/").text
        build = create(server)
        create(server, substitutions={"_SCHEDULER_JOB": "other/<b>"})
        text = send(server, "GET", "/").text
        assert f'href="/builds/{build["id"]}"' in text
        assert "other/&lt;b&gt;" in text
        assert build["id"] in send(server, "GET", "/?job=WIDGET&status=QUEUED").text
        assert build["id"] not in send(server, "GET", "/?job=other").text
        assert "No build matches" in send(server, "GET", "/?status=FAILURE").text

    def test_older_builds(self, server: CloudBuildServer) -> None:
        """Fifty builds are on a page."""
        made = [create(server)["id"] for _ in range(51)]
        first = send(server, "GET", "/").text
        assert made[0] not in first
        assert made[1] in first
        older = send(server, "GET", "/?before=2").text
        assert made[0] in older
        assert made[1] not in older

    def test_a_build(self, server: CloudBuildServer) -> None:
        """It shows status, detail, commit, steps and substitutions, and links the invocation and the commit."""
        server.around.console_url = "http://console.invalid"
        server.around.commit_urls = {"https://github.com/": "http://github.invalid/"}
        build_id = create(server)["id"]
        server.change_build(build_id, Change("WORKING", 0))
        advance(server, 1)
        server.change_build(build_id, Change("FAILURE", 0, "the <tests> failed", "USER_BUILD_STEP"))
        text = send(server, "GET", f"/builds/{build_id}").text
        for part in (
            "the &lt;tests&gt; failed", "USER_BUILD_STEP", "python:3.12", "_SCHEDULER_JOB=widget/ci", "refs/heads/main",
            f'href="http://console.invalid/jobs/widget/ci/{INVOCATION}"', "scheduler-app-example-scheduler",
            f'href="http://github.invalid/example-org/widget/commit/{REVISION}"', "--run-steps",
        ):  # fmt: skip
            assert part in text
        assert send(server, "GET", "/builds/none").status_code == 404
        assert send(server, "GET", "/assets/builds.js").text.startswith("// Keeps the pages")

    def test_the_log_as_text(self, server: CloudBuildServer) -> None:
        """It begins at a position, and says whether more may follow."""
        build_id = create(server)["id"]
        assert "did not run" in send(server, "GET", f"/builds/{build_id}/log").text
        server.outputs.add(build_id).write(b"one\ntwo\n")
        answer = send(server, "GET", f"/builds/{build_id}/log?from=4")
        assert (answer.text, answer.headers["X-Next"], answer.headers["X-Ended"]) == ("two\n", "8", "false")
        assert "one\ntwo\n" in send(server, "GET", f"/builds/{build_id}").text


class TestControl:
    """Control calls of other processes."""

    def test_plans_builds_and_the_ledger(self, server: CloudBuildServer) -> None:
        """A plan is set, and the state of builds is read and changed."""
        plan = [{"status": "WORKING", "after": "1s"}, {"status": "TIMEOUT", "after": "1s"}]
        control(server, "POST", "plans", {"plan": plan, "job": "widget/*"})
        build_id = create(server)["id"]
        advance(server, 2)
        control(server, "POST", "run_due")
        assert control(server, "GET", "ledger") == {INVOCATION: [{"id": build_id, "status": "TIMEOUT"}]}
        control(server, "DELETE", "plans")
        other = create(server)["id"]
        assert control(server, "POST", f"builds/{other}/change", {"status": "EXPIRED"}) == {"changed": True}
        assert control(server, "POST", f"builds/{other}/change", {"status": "WORKING"}) == {"changed": False}
        assert [build["status"] for build in control(server, "GET", "builds")] == ["EXPIRED", "TIMEOUT"]

    def test_triggers_and_approval(self, server: CloudBuildServer) -> None:
        """A trigger is declared; its build is rejected or approved."""
        control(server, "POST", "triggers", {"name": "t", "location": "us-central1", "approval": True})
        for action, status in (("approve", "QUEUED"), ("reject", "CANCELLED")):
            build = send(server, "POST", f"{BASE}/triggers/t:run", json={}).json()["metadata"]["build"]
            assert control(server, "POST", f"builds/{build['id']}/{action}", {"comment": "x"}) == {"changed": True}
            assert server.builds.get(build["id"]).status == status  # type: ignore[union-attr]
        control(server, "DELETE", "triggers")
        assert send(server, "POST", f"{BASE}/triggers/t:run", json={}).status_code == 404

    def test_faults_and_settings(self, server: CloudBuildServer) -> None:
        """Faults of answers and notifications, the lag of lists, and tokens."""
        control(server, "POST", "faults", {"effect": "error", "method": "list", "code": "INTERNAL"})
        assert len(control(server, "GET", "faults")) == 1
        assert send(server, "GET", f"{BASE}/builds").status_code == 500
        control(server, "POST", "notifications", {"effect": "delay", "value": "5s"})
        control(server, "POST", "settings", {"list_lag": "30s"})
        create(server)
        assert send(server, "GET", f"{BASE}/builds").json() == {}
        control(server, "DELETE", "notifications")
        control(server, "POST", "settings", {"topic_missing": True, "strict_auth": True})
        assert send(server, "GET", f"{BASE}/builds").status_code == 401
        control(server, "POST", "settings", {"strict_auth": False})
        create(server)
        assert control(server, "GET", "status")["lost"] == 1
        assert [record["method"] for record in control(server, "GET", "requests")][-1] == "create"

    @pytest.mark.parametrize(
        ("path", "body"),
        [
            ("faults", {"effect": "explode"}),
            ("faults", {"effect": "error", "code": "NO"}),
            ("faults", {"effect": "cut", "when": "never"}),
            ("plans", {"plan": "sh build.sh"}),
            ("settings", {"run_steps": True}),
            ("triggers", {}),
            ("builds/x/run", {}),
        ],
    )
    def test_bad_calls(self, server: CloudBuildServer, path: str, body: Any) -> None:
        """No client of the port can run programs."""
        assert send(server, "POST", f"/control/{path}", json=body).status_code in (400, 404)


def test_a_later_server_continues_with_the_builds(server: CloudBuildServer) -> None:
    """Ended builds stay as they are. Others end now, which is announced; addresses are those of the new server."""
    ended, running, waiting = (create(server)["id"] for _ in range(3))
    server.change_build(ended, Change("FAILURE", 0, "own detail"))
    server.change_build(running, Change("WORKING", 0))
    server.outputs.add(running).write(b"its log\n")
    state = server.export_state()
    later = make_server()
    later.start()
    try:
        publisher = later.service.publisher
        assert isinstance(publisher, MemoryPublisher)
        for _ in range(2):
            later.import_state(state)
        builds = {build.id: build.body for build in later.builds.newest_first()}
        details = {build_id: body["statusDetail"] for build_id, body in builds.items()}
        assert details == {
            ended: "own detail",
            running: "the local cloud stopped while this build ran",
            waiting: "the local cloud stopped before this build started",
        }
        assert [build["status"] for build in (builds[ended], builds[running], builds[waiting])] == [
            "FAILURE",
            "INTERNAL_ERROR",
            "INTERNAL_ERROR",
        ]
        assert [build["logUrl"].startswith(later.url) for build in builds.values()] == [True] * 3
        assert later.outputs.get(running).read().text == "its log\n"  # type: ignore[union-attr]
        assert {message.attributes["buildId"] for message in publisher.messages} == {running, waiting}
        for damaged in ({}, {"version": 2}, {"version": 1, "builds": [{}], "outputs": {}}):
            with pytest.raises(ValueError, match="the kept builds"):
                later.import_state(damaged)
    finally:
        later.stop()


def test_the_server_runs_by_itself() -> None:
    """Without a clock that a test moves, a thread runs the plans; a change is passed on before its announcement."""
    server = make_server()
    seen: list[str] = []
    server.on_change(lambda build: seen.append(build.status))
    server.plans.default = Script(())
    server.start()
    build_id = create(server)["id"]
    server.change_build(build_id, Change("WORKING", 0))
    server.change_build(build_id, Change("SUCCESS", 0))
    server.stop()
    server.stop()
    assert seen == ["WORKING", "SUCCESS"]
    assert Surroundings() == server.around
