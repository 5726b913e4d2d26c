"""The responses to failed requests, in both forms."""

import pytest

from emulator.gitiles.errors import GitilesError, error_response


@pytest.mark.parametrize(
    ("status", "start"),
    [
        (401, "UNAUTHENTICATED: "),
        (403, "PERMISSION_DENIED: "),
        (404, "NOT_FOUND: "),
        (429, "RESOURCE_EXHAUSTED: "),
        (500, "INTERNAL: "),
        (502, "UNAVAILABLE: "),
        (503, "UNAVAILABLE: "),
    ],
)
def test_the_hosted_service_responds_with_plain_text(status: int, start: str) -> None:
    response = error_response(GitilesError(status, "CODE"), "hosted", "/tint")
    text = response.get_data(as_text=True)
    assert (response.status_code, response.mimetype) == (status, "text/plain")
    assert text.startswith(start)
    assert "google.rpc.RequestInfo" in text
    assert "X-Gitiles-Error" not in response.headers


def test_a_quota_failure_has_its_details() -> None:
    text = error_response(GitilesError(429, "CODE"), "hosted", "/").get_data(as_text=True)
    assert 'violations {\n  subject: "ip/192.0.2.7"' in text


def test_the_request_id_depends_on_the_path() -> None:
    texts = {error_response(GitilesError(404, "CODE"), "hosted", path).get_data() for path in ("/a", "/a", "/b")}
    assert len(texts) == 2


@pytest.mark.parametrize(
    ("form", "status", "code", "text"),
    [
        ("hosted", 400, "INCORECT_PARAMETER", "The parameter specified in the URL is incorrect"),
        ("open", 404, "OBJECT_NOT_FOUND", "The requested object was not found"),
        (
            "open",
            400,
            "AMBIGUOUS_OBJECT",
            "The object specified by the URL is ambiguous and Gitiles cannot identify one object",
        ),
        ("open", 500, "OTHER", "OTHER"),
    ],
)
def test_open_source_gitiles_responds_with_a_page_and_a_code(form: str, status: int, code: str, text: str) -> None:
    response = error_response(GitilesError(status, code), form, "/")  # type: ignore[arg-type]
    assert (response.status_code, response.mimetype, response.headers["X-Gitiles-Error"]) == (status, "text/html", code)
    assert response.get_data(as_text=True) == text
