"""One application per process."""

import inspect
import time
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import flask
import pytest
from structlog.testing import capture_logs
from werkzeug.exceptions import HTTPException

from luci_scheduler import bootstrap, entry
from luci_scheduler.adapters import access_tokens, http
from luci_scheduler.core.errors import TransientError
from luci_scheduler.core.instants import SECOND
from luci_scheduler.settings import ConfigSourceSetting, Settings


def test_first_requests_side_by_side_make_one_application(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each would bring clients, and a sequence of suffixes of its own."""
    made: list[object] = []

    def make(*_: Any, **__: Any) -> Any:
        made.append(object())
        return made[-1]

    monkeypatch.setattr(bootstrap, "read_settings", lambda _: type("S", (), {"project": "p"}))
    monkeypatch.setattr(bootstrap, "_cloud_ports", lambda _: {})
    monkeypatch.setattr(bootstrap, "configure_logging", lambda *_: time.sleep(0.01))
    monkeypatch.setattr(bootstrap, "make_app", make)
    barrier = Barrier(8)

    def first(_: int) -> Any:
        barrier.wait(30)
        return bootstrap.app()

    bootstrap._made_once.cache_clear()
    try:
        with ThreadPoolExecutor(8) as pool:
            apps = set(map(id, pool.map(first, range(8))))
    finally:
        bootstrap._made_once.cache_clear()
    assert len(apps) == len(made) == 1


def test_a_function_that_cannot_start_just_now_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """One line and a 500; the next request tries again, and one behind a slow start does not wait for ever."""

    def fail(_: Any) -> Any:
        raise TransientError("the service account's credentials are not available: TimeoutError")

    monkeypatch.setattr(bootstrap, "read_settings", lambda _: type("S", (), {"project": "p"}))
    monkeypatch.setattr(bootstrap, "configure_logging", lambda *_: None)
    monkeypatch.setattr(bootstrap, "_cloud_ports", fail)
    bootstrap._made_once.cache_clear()
    for _ in range(2):
        in_a_request = flask.Flask("f").test_request_context("/")
        with in_a_request, capture_logs() as lines, pytest.raises(HTTPException) as raised:
            entry.reached()
        assert raised.value.get_response().status_code == 500
        assert [line["event"] for line in lines] == ["transient_error"]
    monkeypatch.setattr(bootstrap, "_MAKING_SECONDS", 0.1)
    with bootstrap._making, pytest.raises(TransientError, match="starting the function for too long"):
        bootstrap.app()


def test_the_clients_of_production_have_the_documented_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """The page docs/reference/timeouts.md states them; the tests of the limits use shorter ones."""
    monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", "127.0.0.1:1")
    settings = Settings(
        project="p", task_url="https://t.invalid", task_account="a@b", token_secrets=("s",), local=True, cloud_tasks_endpoint="127.0.0.1:1",
        console_oauth_clients=("service-accounts",),
        config_sources=(
            ConfigSourceSetting("gitiles", "p", repo="https://r.googlesource.com/x"),
            ConfigSourceSetting("bucket", "q", bucket="b", object="o"),
        ),
    )  # fmt: skip
    ports = bootstrap._cloud_ports(settings)
    assert ports["store"]._limit == 20
    assert ports["queue"]._limit == 10
    assert ports["buildbucket"]._deadline == ports["gitiles"]._deadline == 60 * SECOND
    assert [source._limit for source in bootstrap.make_config_sources(settings)] == [20, 20]  # type: ignore[attr-defined]
    assert inspect.signature(http.fetch).parameters["limit"].default == http.KEYS_LIMIT == 10
    assert inspect.signature(http.default_credentials).parameters["limit"].default == http.CREDENTIALS_LIMIT == 20
    assert access_tokens._TIMEOUT == 5 * SECOND
    ports["store"]._client.close()
