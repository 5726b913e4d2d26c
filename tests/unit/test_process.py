"""The application of a process: made once, and made again after a failure."""

import time
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import flask
import pytest
from structlog.testing import capture_logs
from werkzeug.exceptions import HTTPException

from luci_scheduler import entry, process
from luci_scheduler.bootstrap import App
from luci_scheduler.core.errors import TransientError
from luci_scheduler.process import AppHolder
from tests.unit.engine.world import World


def test_first_requests_side_by_side_make_one_application() -> None:
    """A second application would have other clients and another sequence of invocation suffixes."""
    made: list[App] = []

    def make() -> App:
        time.sleep(0.05)  # a slow start, during which the other first requests arrive
        made.append(World().app)
        return made[-1]

    barrier, holder = Barrier(8), AppHolder(make)

    def first(_: int) -> App:
        barrier.wait(30)
        return holder.get()

    with ThreadPoolExecutor(8) as pool:
        apps = set(map(id, pool.map(first, range(8))))
    assert len(apps) == len(made) == 1


def test_an_application_that_failed_to_start_is_created_by_the_next_call() -> None:
    """A failure is not kept."""
    app, failures = World().app, [TransientError("no credentials")]

    def make() -> App:
        if failures:
            raise failures.pop()
        return app

    holder = AppHolder(make)
    with pytest.raises(TransientError, match="no credentials"):
        holder.get()
    assert holder.get() is app


def test_a_call_during_a_slow_start_does_not_wait_forever() -> None:
    """It gives up with a transient error while another thread makes the application."""
    entered, release, app = Barrier(2), Barrier(2), World().app

    def make() -> App:
        entered.wait(30)
        release.wait(30)
        return app

    holder = AppHolder(make, wait_seconds=0.1)
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(holder.get)
        entered.wait(30)
        with pytest.raises(TransientError, match="starting the function for too long"):
            holder.get()
        release.wait(30)
        assert slow.result() is app


def test_a_replacement_is_served_until_it_is_undone() -> None:
    """The earlier application is used again."""
    ours, other = World().app, World().app
    holder = AppHolder(lambda: ours)
    assert holder.get() is ours
    holder.replace(other)
    assert holder.get() is other
    holder.replace(None)
    assert holder.get() is ours


def test_a_function_that_cannot_start_now_answers_500_with_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sender repeats the request, and the next request tries again."""

    def fail() -> Any:
        raise TransientError("the service account's credentials are not available: TimeoutError")

    monkeypatch.setattr(process, "app", AppHolder(fail).get)
    for _ in range(2):
        in_a_request = flask.Flask("f").test_request_context("/")
        with in_a_request, capture_logs() as lines, pytest.raises(HTTPException) as raised:
            entry.current_app()
        assert raised.value.get_response().status_code == 500
        assert [line["event"] for line in lines] == ["transient_error"]
