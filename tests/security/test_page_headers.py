"""The headers of the console's own answers, without the headers that the framework's hook adds to every answer."""

from __future__ import annotations

import pytest

from luci_scheduler.web.response import PageResponse, file_response, html_response, json_response, redirect, unchanged

ANSWERS: dict[str, PageResponse] = {
    "page": html_response("x", 200),
    "error": html_response("x", 500),
    "twin": json_response({}, 200),
    "redirect": redirect("/"),
    "unchanged": unchanged(),
    "file": file_response("x", "text/css"),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_each_answer_protects_itself(name: str) -> None:
    """Each lock holds if the other is gone: the hook, or the answer's own headers."""
    _, _, headers = ANSWERS[name]
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["X-Frame-Options"] == "DENY"
    assert headers["Cache-Control"] == ("public, max-age=31536000, immutable" if name == "file" else "no-store")
    policy = dict(part.strip().partition(" ")[::2] for part in headers["Content-Security-Policy"].split(";"))
    own = "'self'"
    assert policy == {
        "default-src": "'none'",
        "style-src": own,
        "script-src": own,
        "img-src": own,
        "connect-src": own,
        "form-action": own,
        "base-uri": "'none'",
        "frame-ancestors": "'none'",
    }
