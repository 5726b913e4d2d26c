"""One application per process."""

import time
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import pytest

from luci_scheduler import bootstrap


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
