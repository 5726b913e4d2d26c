"""Parts of the Buildbucket application: callers, faults and prepared responses."""

import threading
from typing import Any

import pytest
from werkzeug.test import EnvironBuilder
from werkzeug.wrappers import Request, Response

from emulator.buildbucket.app import identity_of
from emulator.buildbucket.canned import CannedResponse, CannedResponses
from emulator.buildbucket.faults import Fault
from emulator.buildbucket.injection import CutError, FaultInjector
from emulator.buildbucket.state import BuildbucketState


@pytest.mark.parametrize(
    ("header", "identity"),
    [
        ("", "anonymous:anonymous"),
        ("Bearer fake:a@b", "user:a@b"),
        ("bearer fake:project:tint", "project:tint"),
        ("Bearer real", "anonymous:anonymous"),
        ("Basic fake:a@b", "anonymous:anonymous"),
    ],
)
def test_the_identity_of_a_caller(header: str, identity: str) -> None:
    assert identity_of(header) == identity


class TestFaults:
    """Calls under faults."""

    @pytest.fixture
    def state(self) -> BuildbucketState:
        """The state of a server that is stopping, so that delays end at once."""
        state = BuildbucketState()
        state.stopping.set()
        return state

    def run(
        self, state: BuildbucketState, method: str = "GetBuild", timeout: float | None = None
    ) -> tuple[Response, int]:
        """Run a call; return its response, and how often the work was done."""
        done: list[int] = []

        def work() -> Response:
            done.append(1)
            return Response("worked")

        request = Request(EnvironBuilder(method="POST", data=b'{"target": 1}').get_environ())
        return FaultInjector(state).run(request, method, work, timeout=timeout), len(done)

    def test_without_a_fault_the_call_works(self, state: BuildbucketState) -> None:
        response, done = self.run(state)
        assert (response.get_data(), done) == (b"worked", 1)

    @pytest.mark.parametrize(
        ("fault", "method", "affected"),
        [
            (Fault("http"), "GetBuild", True),
            (Fault("http", "Get*"), "GetBuild", True),
            (Fault("http", "v1.*"), "GetBuild", False),
            (Fault("http", "v1.???"), "v1.put", True),
            (Fault("http", match='"target"'), "GetBuild", True),
            (Fault("http", match='"other"'), "GetBuild", False),
        ],
    )
    def test_the_calls_of_a_fault(self, state: BuildbucketState, fault: Fault, method: str, *, affected: bool) -> None:
        state.faults.add(fault)
        response, _ = self.run(state, method)
        assert (response.status_code == 502) is affected

    @pytest.mark.parametrize(("when", "done"), [("before", 0), ("after", 1)])
    def test_a_fault_before_or_after_the_work(self, state: BuildbucketState, when: Any, done: int) -> None:
        state.faults.add(Fault("error", when=when, code=14))
        response, times = self.run(state)
        assert (response.status_code, response.headers["X-Prpc-Grpc-Code"], times) == (503, "14", done)

    def test_an_error_of_v1_is_an_object(self, state: BuildbucketState) -> None:
        state.faults.add(Fault("error", code=7, message="no"))
        response, _ = self.run(state, "v1.get")
        assert (response.status_code, response.get_json()) == (403, {"error": {"message": "no"}})

    def test_a_status_without_a_body_and_a_status_with_a_page(self, state: BuildbucketState) -> None:
        state.faults.add(Fault("http", status=503, body="busy"))
        response, _ = self.run(state)
        assert (response.status_code, response.get_data(), response.mimetype) == (503, b"busy", "text/plain")
        assert "X-Prpc-Grpc-Code" not in response.headers
        state.faults.add(Fault("html", status=500))
        response, _ = self.run(state)
        assert (response.status_code, response.mimetype) == (500, "text/html")
        assert b"500 Server Error" in response.get_data()

    @pytest.mark.parametrize(("when", "done"), [("before", 0), ("after", 1)])
    def test_a_cut_connection(self, state: BuildbucketState, when: Any, done: int) -> None:
        state.faults.add(Fault("cut", when=when))
        finished: list[int] = []

        def work() -> Response:
            finished.append(1)
            return Response()

        with pytest.raises(CutError):
            FaultInjector(state).run(Request(EnvironBuilder().get_environ()), "GetBuild", work)
        assert len(finished) == done

    def test_a_lost_reply_is_a_cut_of_schedule_build_after_the_work(self) -> None:
        fault = Fault.lost_reply()
        assert (fault.effect, fault.method, fault.when, fault.times) == ("cut", "ScheduleBuild", "after", 1)

    def test_half_a_response(self, state: BuildbucketState) -> None:
        state.faults.add(Fault("cut_body"))
        response, done = self.run(state)
        assert (response.headers["Content-Length"], done) == ("6", 1)
        assert next(iter(response.response)) == b"wor"

    @pytest.mark.parametrize(
        ("seconds", "timeout", "method", "code"),
        [(5, None, "GetBuild", 200), (5, 6, "GetBuild", 200), (5, 5, "GetBuild", 504), (5, 5, "v1.get", 200)],
    )
    def test_a_delay_up_to_the_deadline(
        self, state: BuildbucketState, seconds: float, timeout: float | None, method: str, code: int
    ) -> None:
        state.faults.add(Fault("slow", seconds=seconds))
        response, done = self.run(state, method, timeout)
        assert (response.status_code, done) == (code, int(code == 200))

    def test_a_stop_ends_a_delay(self) -> None:
        state = BuildbucketState()
        state.faults.add(Fault("slow", seconds=3600))
        thread = threading.Thread(target=lambda: self.run(state))
        thread.start()
        state.stopping.set()
        thread.join(60)
        assert not thread.is_alive()


class TestCannedResponses:
    """Prepared responses."""

    def test_they_are_used_in_order_per_method(self) -> None:
        canned = CannedResponses()
        first, second, other = CannedResponse("1"), CannedResponse("2"), CannedResponse("3")
        canned.add("GetBuild", first)
        canned.add("GetBuild", second)
        canned.add("v1.get", other)
        assert canned.left() == {"GetBuild": 2, "v1.get": 1}
        assert [canned.take("GetBuild") for _ in range(3)] == [first, second, None]
        assert canned.left() == {"v1.get": 1}
        assert canned.take("none") is None
