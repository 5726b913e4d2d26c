"""Faults of the Buildbucket server's responses, its request log, its control endpoint and the page of a build."""

import json
import time

import pytest
import requests

from emulator.buildbucket import BuildbucketServer, Fault
from emulator.buildbucket.testing import call_prpc, prpc_json
from emulator.clock import SteppedClock

START = 1_700_000_000 * 10**9
BUILDER = {"project": "p", "bucket": "b", "builder": "x"}
V1 = "/_ah/api/buildbucket/v1"
PUT = {"bucket": "luci.p.b", "parameters_json": '{"builder_name": "x"}'}


@pytest.fixture
def server(publisher):
    """A server on a clock that the test moves."""
    server = BuildbucketServer(SteppedClock(START), publisher)
    server.start()
    yield server
    server.stop()


def count(server):
    """Return the number of builds."""
    return len(list(server.builds.newest_first()))


def control(server, method, path, body=None):
    """Use the control endpoint."""
    return requests.request(method, f"{server.url}/control/{path}", json=body, timeout=60)


class TestFaults:
    """Faults of calls."""

    def test_lost_reply(self, server):
        """The build exists, the caller sees a broken connection, and a repetition returns the build."""
        server.faults.add(Fault.lost_reply())
        request = {"builder": BUILDER, "requestId": "r"}
        with pytest.raises(requests.ConnectionError):
            call_prpc(server.url, "ScheduleBuild", request)
        assert count(server) == 1
        again = prpc_json(call_prpc(server.url, "ScheduleBuild", request))
        assert (count(server), int(again["id"])) == (1, next(server.builds.newest_first()).id)
        assert [(record.method, record.status) for record in server.requests] == [
            ("ScheduleBuild", 0),
            ("ScheduleBuild", 200),
        ]

    def test_error_after_the_work(self, server):
        """The build exists, and the caller gets an error."""
        server.faults.add(Fault("error", "ScheduleBuild", "after"))
        assert call_prpc(server.url, "ScheduleBuild", {"builder": BUILDER}).status_code == 500
        assert count(server) == 1

    def test_cut_before(self, server):
        """The connection breaks, and no build exists."""
        server.faults.add(Fault("cut", "v1.put"))
        with pytest.raises(requests.ConnectionError):
            requests.put(f"{server.url}{V1}/builds", json=PUT, timeout=60)
        assert count(server) == 0
        assert requests.put(f"{server.url}{V1}/builds", json=PUT, timeout=60).status_code == 200

    def test_cut_body(self, server):
        """The response breaks off halfway."""
        server.faults.add(Fault("cut_body"))
        with pytest.raises((requests.ConnectionError, requests.exceptions.ChunkedEncodingError)):
            call_prpc(server.url, "ScheduleBuild", {"builder": BUILDER})
        assert count(server) == 1

    def test_times_and_match(self, server):
        """A fault affects a number of calls of its method whose body contains its text."""
        server.faults.add(Fault("http", "Schedule*", status=503, body="busy", times=2, match='"target"'))
        other = call_prpc(server.url, "ScheduleBuild", {"builder": BUILDER})
        hits = [call_prpc(server.url, "ScheduleBuild", {"builder": BUILDER, "requestId": "target"}) for _ in range(3)]
        assert (other.status_code, [hit.status_code for hit in hits]) == (200, [503, 503, 200])
        assert "X-Prpc-Grpc-Code" not in hits[0].headers
        assert server.faults.active() == []

    def test_slow_past_the_deadline(self, server):
        """A response later than the caller's deadline is code 4, at the deadline."""
        server.faults.add(Fault("slow", seconds=3600))
        begin = time.monotonic()
        response = call_prpc(server.url, "ScheduleBuild", {"builder": BUILDER}, headers={"X-Prpc-Grpc-Timeout": "50m"})
        assert (response.status_code, response.text) == (504, "Request deadline exceeded\n")
        assert time.monotonic() - begin >= 0.05
        assert count(server) == 0

    def test_slow_after_the_work(self, server):
        """The build is created before the delay, so it exists although the deadline passes."""
        server.faults.add(Fault("slow", when="after", seconds=3600))
        response = call_prpc(server.url, "ScheduleBuild", {"builder": BUILDER}, headers={"X-Prpc-Grpc-Timeout": "20m"})
        assert (response.status_code, count(server)) == (504, 1)

    def test_stop_ends_slow_answers(self, publisher):
        """A server stops before the end of a long delay."""
        server = BuildbucketServer(SteppedClock(START), publisher)
        server.start()
        server.faults.add(Fault("slow", seconds=3600))
        with pytest.raises(requests.Timeout):
            requests.put(f"{server.url}{V1}/builds", json=PUT, timeout=0.05)
        server.stop()

    def test_v1_error(self, server):
        """An error of v1 has its HTTP status and an error object."""
        server.faults.add(Fault("error", "v1.*", code=14, message="later"))
        response = requests.get(f"{server.url}{V1}/builds/1", timeout=60)
        assert (response.status_code, response.json()) == (503, {"error": {"message": "later"}})


class TestControl:
    """The control endpoint."""

    PLAN = json.dumps({"builder": "*", "plan": {"manual": True}})

    @pytest.mark.parametrize(
        ("headers", "code"),
        [
            ({}, 200),
            ({"Sec-Fetch-Site": "none"}, 200),
            ({"Origin": "https://evil.example"}, 403),
            ({"Origin": "null"}, 403),
            ({"Sec-Fetch-Site": "cross-site"}, 403),
            ({"Sec-Fetch-Site": "same-site"}, 403),
            ({"Host": "evil.example"}, 403),
            ({"Content-Type": "text/plain"}, 415),
            ({"Content-Type": "application/x-www-form-urlencoded"}, 415),
        ],
    )
    def test_pages_of_other_sites_do_not_reach_it(self, server, headers, code):
        """Forms, scripts and names with the server's address are all refused."""
        sent = {"Content-Type": "application/json", **headers}
        answer = requests.post(f"{server.url}/control/plans", data=self.PLAN, headers=sent, timeout=60)
        assert answer.status_code == code
        assert ("error" in answer.json()) == (code != 200)

    def test_http_clients_cannot_run_programs(self, server):
        """Only Python code in the same process can set a command."""
        plan = {"builder": "*", "plan": {"command": ["sh", "-c", "exit 1"]}}
        answer = control(server, "POST", "plans", plan)
        assert answer.status_code == 400
        assert "start the local cloud with --build COMMAND" in answer.json()["error"]

    def test_faults_are_added_listed_and_cleared(self, server):
        """Faults are added, listed and cleared; an unreadable one is 400."""
        assert control(server, "POST", "faults", {"effect": "error", "code": 7, "times": None}).status_code == 200
        assert control(server, "GET", "faults").json()[0]["code"] == 7
        assert call_prpc(server.url, "GetBuild", {"id": "1"}).status_code == 403
        control(server, "DELETE", "faults")
        assert call_prpc(server.url, "GetBuild", {"id": "1"}).status_code == 404
        for body in ({"effect": "magic"}, {}, {"effect": "cut", "nope": 1}):
            assert control(server, "POST", "faults", body).status_code == 400
        assert control(server, "GET", "nothing").status_code == 404

    def test_builds_are_moved(self, server, publisher):
        """A client sets plans, changes builds, and reads the results."""
        control(server, "POST", "plans", {"builder": "p/*", "plan": {"manual": True}})
        request = {"builder": BUILDER, "notify": {"pubsubTopic": "projects/my-project/topics/builds"}}
        build_id = prpc_json(call_prpc(server.url, "ScheduleBuild", request))["id"]
        control(server, "POST", "notifications", {"effect": "drop", "event": "started"})
        assert control(server, "POST", f"builds/{build_id}/start").json() == {"changed": True}
        assert control(server, "POST", f"builds/{build_id}/end", {"status": "FAILURE", "summary": "s"}).json() == {
            "changed": True
        }
        assert control(server, "POST", f"builds/{build_id}/end").json() == {"changed": False}
        assert control(server, "POST", f"builds/{build_id}/end", {"status": "DONE"}).status_code == 400
        assert [build["status"] for build in control(server, "GET", "builds").json()] == ["FAILURE"]
        assert len(publisher.messages) == 2
        assert control(server, "GET", "status").json()["now"] == START
        control(server, "DELETE", "plans")
        control(server, "POST", "plans", {"builder": "*", "plan": {"steps": [{"start": {}}, {"end": {}}]}})
        server.clock.advance(10**9)
        call_prpc(server.url, "ScheduleBuild", {"builder": BUILDER})
        control(server, "POST", "run_due")
        assert [build["status"] for build in control(server, "GET", "builds").json()] == ["SUCCESS", "FAILURE"]

    def test_a_client_changes_settings(self, server):
        """A client changes strictness, memory and buckets."""
        request = {"builder": BUILDER, "requestId": "r"}
        first = prpc_json(call_prpc(server.url, "ScheduleBuild", request))
        control(server, "POST", "settings", {"forget_request_ids": True, "request_id_memory": "5s"})
        second = prpc_json(call_prpc(server.url, "ScheduleBuild", request))
        assert first["id"] != second["id"]
        assert server.request_id_memory == 5 * 10**9
        control(server, "POST", "settings", {"strict_builders": True})
        assert call_prpc(server.url, "ScheduleBuild", {"builder": BUILDER}).status_code == 404
        control(server, "POST", "builders", BUILDER)
        assert call_prpc(server.url, "ScheduleBuild", {"builder": BUILDER}).status_code == 200
        control(server, "POST", "buckets", {"bucket": "p/b", "closed": True})
        assert call_prpc(server.url, "ScheduleBuild", {"builder": BUILDER}).status_code == 404
        control(server, "POST", "buckets", {"bucket": "p/b", "closed": False})
        control(server, "POST", "settings", {"strict_auth": True})
        assert call_prpc(server.url, "GetBuild", {"id": "1"}, headers={"Authorization": "Bearer x"}).status_code == 401
        assert requests.get(f"{server.url}{V1}/builds/1", timeout=60).status_code == 401
        assert control(server, "POST", "settings", {"nope": 1}).status_code == 400

    def test_a_client_prepares_responses(self, server):
        """A client prepares responses."""
        control(server, "POST", "responses", {"method": "GetBuild", "body": {"id": "5"}})
        assert control(server, "GET", "status").json()["responses_left"] == {"GetBuild": 1}
        assert prpc_json(call_prpc(server.url, "GetBuild", {"id": "1"})) == {"id": "5"}


def test_request_log(server):
    """The log has caller, body, time and response of each request, without those of the control endpoint."""
    call_prpc(server.url, "GetBuild", {"id": "77"}, caller="a@b.c")
    requests.get(f"{server.url}{V1}/search?bucket=luci.p.b", timeout=60)
    log = control(server, "GET", "requests").json()
    assert [(entry["method"], entry["caller"], entry["status"]) for entry in log] == [
        ("GetBuild", "user:a@b.c", 404),
        ("v1.search", "anonymous:anonymous", 200),
    ]
    assert (log[0]["body"], log[0]["time"]) == ('{"id": "77"}', START)
    assert log[0]["answer"].startswith("requested resource not found")
    assert log[1]["path"] == f"{V1}/search?bucket=luci.p.b"
    control(server, "DELETE", "requests")
    assert server.requests == []


def test_start_and_stop(publisher):
    """The address is known after the start.

    A stopped server refuses connections and can start again on the same port.
    """
    server = BuildbucketServer(SteppedClock(START), publisher)
    server.stop()
    with pytest.raises(RuntimeError):
        _ = server.url
    server.start()
    url = server.url
    assert url == f"http://{server.host}"
    server.stop()
    with pytest.raises(requests.ConnectionError):
        requests.get(f"{url}/build/1", timeout=60)
    server.start()
    assert server.url == url
    assert requests.get(f"{url}/build/1", timeout=60).status_code == 404
    server.stop()
