"""A test reads every file of vectors. One set's answers deviate from the original on purpose."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from luci_scheduler.core.errors import ComeAgainError, PermanentError, TransientError
from luci_scheduler.respond import responding
from tests.vectors.support import FOLDER, Case, cases

DEVIATIONS = {
    202: (200, "Cloud Tasks takes any 2xx, but the Pub/Sub emulator delivers a 202 again"),
}
"""The original's code → ours, with the reason; see docs/reference/status-codes.md. All other codes are the
original's."""


def test_every_file_is_read() -> None:
    """A set of vectors without a test would prove nothing."""
    sources = (path.read_text(encoding="utf-8") for path in Path(__file__).parent.parent.rglob("test_*.py"))
    read = {
        node.args[0].value
        for source in sources
        if "cases(" in source  # parsing takes most of the time
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "cases"
        and node.args
        and isinstance(node.args[0], ast.Constant)
    }
    assert {path.stem for path in FOLDER.glob("*.json")} - read == set()


@pytest.mark.parametrize("case", cases("http_codes"))
def test_vector_http_codes(case: Case) -> None:
    """Both kinds of deliveries get the same response: the original's code, or the code that the deviation names."""
    tags = case["error_tags"]

    def handle() -> None:
        if tags is None:
            return
        if "retry" in tags:
            raise ComeAgainError("later")
        raise TransientError("trouble") if "transient" in tags else PermanentError("hopeless")

    with responding() as response:
        handle()
    for original in (case["push_http"], case["task_queue_http"]):
        assert response.code == DEVIATIONS.get(original, (original, ""))[0]
