"""Every file of vectors is read by a test; and the one set whose answers are, on purpose, not the original's."""

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
"""Code of the original → ours, and why; see docs/reference/status-codes.md. All other codes are the original's."""


def test_every_file_is_read() -> None:
    """A set of vectors that no test asks for would say nothing."""
    read = {
        node.args[0].value
        for path in Path(__file__).parent.parent.rglob("test_*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "cases"
        and node.args
        and isinstance(node.args[0], ast.Constant)
    }
    assert {path.stem for path in FOLDER.glob("*.json")} - read == set()


@pytest.mark.parametrize("case", cases("http_codes"))
def test_vector_http_codes(case: Case) -> None:
    """Both kinds of deliveries are settled alike: with the original's code, or with the one that the deviation names."""
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
