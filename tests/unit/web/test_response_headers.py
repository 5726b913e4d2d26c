"""Response headers for browsers: every kind of response has all of them."""

from collections.abc import Callable

import pytest
from werkzeug.test import TestResponse

from tests.unit.api.support import STRANGER, Client, world_for
from tests.unit.web.support import Visitor

JOB_PAGE = "/jobs/proj/job"


def _directives(answer: TestResponse) -> dict[str, str]:
    """Return the directives of the content security policy with their values."""
    parts = [part.strip().partition(" ") for part in answer.headers["Content-Security-Policy"].split(";")]
    return {name: value for name, _, value in parts}


def _redirect() -> TestResponse:
    return Visitor(world_for()).submit(JOB_PAGE, "/actions/pauseJob/proj/job")


ANSWERS: dict[str, tuple[Callable[[], TestResponse], int]] = {
    "a page": (lambda: Visitor(world_for()).get("/"), 200),
    "a page of a job": (lambda: Visitor(world_for()).get(JOB_PAGE), 200),
    "a JSON twin": (lambda: Visitor(world_for()).get(f"{JOB_PAGE}?format=json"), 200),
    "a page that does not exist": (lambda: Visitor(world_for()).get("/no/such/page"), 404),
    "a page that the caller may not see": (lambda: Visitor(world_for(), STRANGER).get(JOB_PAGE), 404),
    "a form without its token": (lambda: Visitor(world_for()).post("/actions/pauseJob/proj/job", {}), 403),
    "a redirect after an action": (_redirect, 302),
    "the style sheet": (lambda: Visitor(world_for()).get("/assets/style.css"), 200),
}


@pytest.fixture(params=ANSWERS)
def answer(request: pytest.FixtureRequest) -> TestResponse:
    """A response of each kind."""
    ask, status = ANSWERS[request.param]
    answer = ask()
    assert answer.status_code == status
    return answer


def test_no_page_is_shown_in_a_frame_by_old_browsers(answer: TestResponse) -> None:
    """Browsers that do not know ``frame-ancestors`` obey this header."""
    assert answer.headers["X-Frame-Options"] == "DENY"


def test_no_page_is_shown_in_a_frame(answer: TestResponse) -> None:
    """Browsers that know ``frame-ancestors`` ignore the older header."""
    assert _directives(answer)["frame-ancestors"] == "'none'"


def test_only_listed_sources_are_loaded(answer: TestResponse) -> None:
    """No source is a wildcard, and no script or style inside a page is executed."""
    directives = _directives(answer)
    assert directives["default-src"] == "'none'"
    assert {directives[name] for name in ("script-src", "style-src", "connect-src", "form-action")} == {"'self'"}
    assert directives["base-uri"] == "'none'"


def test_no_type_is_guessed_and_no_address_leaks(answer: TestResponse) -> None:
    """The browser keeps to the content type, and sends our addresses to no other site."""
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Referrer-Policy"] == "same-origin"
    assert answer.headers["Cross-Origin-Opener-Policy"] == "same-origin"


@pytest.mark.parametrize("kind", [kind for kind in ANSWERS if kind != "the style sheet"])
def test_no_page_is_cached(kind: str) -> None:
    """No cache keeps one user's page for another user, and no page shows an old state."""
    ask, _ = ANSWERS[kind]
    assert ask().headers["Cache-Control"] == "no-store"


def test_only_static_files_are_cached() -> None:
    """The style sheet is the same for every user."""
    assert "no-store" not in Visitor(world_for()).get("/assets/style.css").headers["Cache-Control"]


@pytest.mark.parametrize("who", ["owner@example.com", STRANGER, ""])
def test_no_api_response_is_cached(who: str) -> None:
    """Replies and errors of the API depend on the caller."""
    client = Client(world_for())
    for method in ("GetJobs", "GetJob", "NoSuchMethod"):
        answer = client.http(f"/prpc/scheduler.Scheduler/{method}", b"{}", who, Content_Type="application/json")
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
