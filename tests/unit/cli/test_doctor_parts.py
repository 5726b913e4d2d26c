"""The parts of ``doctor`` that need no installation: the order and limits of checks, and calls of Google's APIs."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from luci_scheduler.cli.doctor.checks import Check, FailedError, NotCheckedError, Outcome, run_checks
from luci_scheduler.cli.doctor.google_apis import GoogleApis, NoSuchResourceError
from luci_scheduler.cli.doctor.inside import Names
from luci_scheduler.cli.errors import CommandError
from tests.outside_calls import SERVERS, OutsideCall


def _fail(error: Exception) -> Any:
    def run() -> str:
        raise error

    return run


def test_a_check_is_not_run_after_a_failed_need() -> None:
    """A need that could not be checked does not stop its dependents; a failed or skipped need does."""
    checks = [
        Check("good", lambda: "fine"),
        Check("bad", _fail(FailedError("broken", "mend it"))),
        Check("unknown", _fail(NotCheckedError("no rights", "get them"))),
        Check("command", _fail(CommandError("no answer"))),
        Check("after good", lambda: "fine", ("good", "unknown")),
        Check("after bad", lambda: "fine", ("good", "bad", "command")),
        Check("later", lambda: "fine", ("after bad",)),
    ]
    results = list(run_checks(checks, 60))
    assert [(item.name, str(item.outcome)) for item in results] == [
        ("good", "ok"),
        ("bad", "failed"),
        ("unknown", "not checked"),
        ("command", "failed"),
        ("after good", "ok"),
        ("after bad", "not run"),
        ("later", "not run"),
    ]
    assert (results[1].text, results[1].remedy) == ("broken", "mend it")
    assert results[5].text == "not run, because bad and command did not succeed"


@pytest.mark.timeout(60)
def test_checks_have_a_limit_each_and_a_limit_together() -> None:
    """A hanging check fails. After the limit of all, the remaining checks are not run."""
    never = threading.Event()
    hanging = Check("hanging", lambda: str(never.wait(300)), seconds=0.05)
    times = iter([0.0, 1.0, 9.0, 11.0])
    results = list(
        run_checks([hanging, Check("good", lambda: "fine"), Check("late", lambda: "fine")], 10, times.__next__)
    )
    assert [item.outcome for item in results] == [Outcome.FAILED, Outcome.OK, Outcome.NOT_RUN]
    assert results[0].text.startswith("no result within")
    assert (results[2].text, results[2].remedy) == (
        "not run, because the time limit of 10 s is used up",
        "raise --timeout",
    )
    never.set()


@contextmanager
def _server(*answers: tuple[int, bytes]) -> Iterator[tuple[str, list[str]]]:
    """Give these answers in turn; yield the base address and the paths of the requests."""
    paths: list[str] = []
    left = list(answers)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            paths.append(self.path)
            status, body = left.pop(0)
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", paths
    server.shutdown()
    server.server_close()
    thread.join(10)


def _error(text: str) -> bytes:
    return json.dumps({"error": {"message": text}}).encode()


@pytest.mark.parametrize(
    ("status", "body", "error", "said", "remedy"),
    [
        (404, _error("gone"), NoSuchResourceError, "x.googleapis.com: gone", "terraform apply"),
        (401, b"{}", NotCheckedError, "HTTP 401", "gcloud auth application-default login"),
        (403, _error("no\nright\x1b"), NotCheckedError, "no", "roles/viewer"),
        (500, _error("oops"), FailedError, "oops", "again"),
        (500, b"<html>", FailedError, "HTTP 500 without a JSON object", "again"),
        (200, b"[]", FailedError, "HTTP 200 without a JSON object", "again"),
        (200, b"x" * (9 << 20), FailedError, "TooLargeError", "again"),
        (302, b"{}", FailedError, "HTTP 302", "again"),
    ],
)
def test_answers_that_are_no_resource(
    status: int, body: bytes, error: type[FailedError], said: str, remedy: str
) -> None:
    """Each has its error, on one line, with its remedy."""
    with _server((status, body)) as (url, _), pytest.raises(FailedError) as caught:
        GoogleApis(url).get("x.googleapis.com", "/v1/y")
    assert type(caught.value) is error
    assert said in str(caught.value)
    assert str(caught.value).isprintable()
    assert remedy in caught.value.remedy


def test_lists_are_read_to_their_end() -> None:
    """A list of endless pages is cut."""
    page = json.dumps({"items": [{"n": 1}], "nextPageToken": "t"}).encode()
    with _server((200, page), (200, b'{"items": [{"n": 2}]}')) as (url, paths):
        assert [item["n"] for item in GoogleApis(url).items("x.googleapis.com", "/v1/y", "items", filter="a b")] == [
            1,
            2,
        ]
    assert paths == ["/x.googleapis.com/v1/y?filter=a+b", "/x.googleapis.com/v1/y?filter=a+b&pageToken=t"]
    with _server(*[(200, page)] * 20) as (url, paths):
        assert len(list(GoogleApis(url).items("x.googleapis.com", "/v1/y", "items"))) == len(paths) == 10


_CALL = OutsideCall("Google's APIs", 0.3, lambda _address, _limit: lambda: None, ())


@pytest.mark.timeout(60)
@pytest.mark.parametrize("server", SERVERS)
def test_a_call_of_google_ends_in_time(server: str) -> None:
    """Whether the server refuses, stays silent, or stalls."""
    with SERVERS[server](_CALL) as address, pytest.raises(FailedError, match=r"no answer from x\.googleapis\.com"):
        GoogleApis(f"http://{address}", 0.5).get("x.googleapis.com", "/v1/y")


INSPECTION = {
    "cloudProject": "p",
    "location": "us-central1",
    "database": "(default)",
    "queue": "q",
    "service": "a-luci-scheduler-console",
    "topics": ["projects/p/topics/scheduler.buildbucket.x~y.iam"],
    "buildProjects": ["p", "other-builds"],
    "buildAccounts": ["a-steps@p.iam.gserviceaccount.com", "1234-compute@developer.gserviceaccount.com"],
}


def test_names_follow_the_prefix_of_the_console() -> None:
    """The console's own name has the prefix of all names."""
    names = Names.read(INSPECTION)
    assert names.service("on_task") == "a-luci-scheduler-on-task"
    assert names.subscriptions == [
        "projects/p/subscriptions/a-gitiles-commit",
        "projects/p/subscriptions/scheduler.buildbucket.x~y.iam",
        "projects/p/subscriptions/a-cloud-builds",
        "projects/p/subscriptions/a-cloud-builds-other-builds",
    ]
    assert names.functions[-1] == "on_cloud_build"
    assert "on_cloud_build" not in Names.read({**INSPECTION, "buildProjects": []}).functions
    assert Names.read({**INSPECTION, "service": ""}).service("console") == "luci-scheduler-console"


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("cloudProject", "p/secrets/x"),
        ("cloudProject", ""),
        ("location", "us'; rm -rf ~ #"),
        ("database", "../x"),
        ("queue", "q$(id)"),
        ("queue", "q\n"),
        ("service", "x/versions/latest:access?y=luci-scheduler-console"),
        ("service", "luci-scheduler-on-task"),
        ("topics", ["projects/p/topics/t:setIamPolicy?x="]),
        ("topics", ["projects/p/topics/t", 5]),
        ("topics", ["projects/p/topics/../subscriptions/s"]),
        ("buildProjects", ["p/secrets/x"]),
        ("buildProjects", ["p", ""]),
        ("buildAccounts", ["a@p.iam.gserviceaccount.com; rm -rf ~"]),
        ("buildAccounts", ["a@p.iam.gserviceaccount.com:signBlob?x=.gserviceaccount.com"]),
        ("buildAccounts", ["../keys"]),
    ],
)
def test_a_hostile_console_chooses_no_address_and_no_command(member: str, value: Any) -> None:
    """Its names would reach Google with the operator's credentials, and the operator's shell in a copied remedy."""
    with pytest.raises(FailedError, match="is not one of a console"):
        Names.read({**INSPECTION, member: value})


def test_an_answer_of_another_shape_fails_its_check() -> None:
    """The others still run, and no error of Python reaches the user."""
    empty: dict[str, Any] = {}
    results = list(run_checks([Check("bad", lambda: str(empty["x"])), Check("good", lambda: "fine")], 60))
    assert [item.outcome for item in results] == [Outcome.FAILED, Outcome.OK]
    assert "cannot be understood (KeyError)" in results[0].text
