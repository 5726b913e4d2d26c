"""The workflow of docs/how-to/github-actions: its script publishes a commit event to the local form of Pub/Sub."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import textwrap
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from emulator import announcements
from luci_scheduler.core.commit_event import CommitEvent, parse_commit_events
from tests.answering import Answer, Answering, answering

_WORKFLOW = Path("docs/how-to/github-actions/publish-commit.yml")
_PAGE = Path("docs/how-to/github-actions.md")
_TOPIC = "projects/example-project/topics/gitiles-commit"
_PROVIDER = "projects/123456789012/locations/global/workloadIdentityPools/github/providers/actions"
_SHA = "d710f453fb111e7bdd7a5e94d1b8a4e01b967451"


def _text() -> str:
    return _WORKFLOW.read_text(encoding="utf-8")


def _script() -> str:
    return textwrap.dedent(_text().partition("        run: |\n")[2])


class _Topics:
    """The part of ``emulator.message_faults.PubSub`` that the local server calls."""

    def __init__(self, *names: str) -> None:
        self.names = names
        self.published: list[tuple[str, bytes, Mapping[str, str]]] = []

    def publish(self, topic: str, data: bytes, attributes: Mapping[str, str]) -> str:
        if topic not in self.names:
            raise LookupError(f"there is no topic {topic}")
        self.published.append((topic, data, attributes))
        return str(len(self.published))


def _run(google: Answering, pubsub_url: str, **changes: str) -> subprocess.CompletedProcess[str]:
    """Run the script with the environment that GitHub gives a run."""
    environment = {
        "PATH": os.environ["PATH"],
        "PROVIDER": _PROVIDER,
        "TOPIC": _TOPIC,
        "ACTIONS_ID_TOKEN_REQUEST_URL": f"{google.url}/oidc?api-version=2",
        "ACTIONS_ID_TOKEN_REQUEST_TOKEN": "token-of-the-run",
        "GITHUB_SERVER_URL": "https://github.com",
        "GITHUB_REPOSITORY": "example-org/widget",
        "GITHUB_REF": "refs/heads/main",
        "GITHUB_SHA": _SHA,
        "STS_URL": google.url,
        "PUBSUB_URL": pubsub_url,
        "PAUSE": "0",
        **changes,
    }
    command = [sys.executable, "-S", "-c", _script()]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=100, check=False)


def _google(server: Answering) -> list[Any]:
    """Play GitHub's endpoint of identity tokens and Google's exchange of tokens; return the bodies of the requests."""
    asked: list[Any] = []

    def answer(path: str, body: Any) -> Answer:
        asked.append((path, body))
        value = {"value": "identity-token"} if path.startswith("/oidc") else {"access_token": "access-token"}
        return Answer(200, json.dumps(value).encode())

    server.otherwise = answer
    return asked


def test_the_script_publishes_the_commit_event() -> None:
    """Identity token, exchange, message: the function reads the message as a commit event."""
    topics = _Topics(_TOPIC)
    with answering() as google, ExitStack() as stack:
        asked = _google(google)
        done = _run(google, announcements._serve(topics, stack), GITHUB_REF="refs/heads/a'$(x)\"b")  # type: ignore[arg-type]
    assert done.returncode == 0, done.stderr
    assert not any(secret in done.stdout + done.stderr for secret in ("identity-token", "access-token", "token-of-the"))
    ((topic, data, attributes),) = topics.published
    assert (topic, attributes) == (_TOPIC, {})
    assert json.loads(data) == {
        "repo": "https://github.com/example-org/widget", "ref": "refs/heads/a'$(x)\"b", "revision": _SHA,
    }  # fmt: skip
    assert parse_commit_events(data) == (
        CommitEvent("https://github.com/example-org/widget", "refs/heads/a'$(x)\"b", _SHA),
    )
    (oidc, _), (sts, exchange) = asked
    provider = f"iam.googleapis.com/{_PROVIDER}"
    assert oidc == f"/oidc?api-version=2&audience=https%3A%2F%2F{provider.replace('/', '%2F')}"
    assert sts == "/v1/token"
    assert exchange["audience"] == f"//{provider}"
    assert (exchange["subjectToken"], exchange["scope"]) == (
        "identity-token", "https://www.googleapis.com/auth/pubsub",
    )  # fmt: skip


def test_a_failure_that_may_pass_is_repeated() -> None:
    topics = _Topics(_TOPIC)
    with answering() as google, ExitStack() as stack:
        _google(google)
        google.answers = [Answer(503, b"later"), Answer(429, b"slower")]
        done = _run(google, announcements._serve(topics, stack))  # type: ignore[arg-type]
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("attempt") == 2
    assert len(topics.published) == 1


@pytest.mark.parametrize("refuses", ["exchange", "topic"])
def test_a_refusal_fails_the_run(refuses: str) -> None:
    """The run shows the text of the service, and is red."""
    topics = _Topics() if refuses == "topic" else _Topics(_TOPIC)
    with answering() as google, ExitStack() as stack:
        _google(google)
        if refuses == "exchange":
            google.answers = [Answer(200, b'{"value": "t"}'), Answer(400, b"the condition rejects the token")]
        done = _run(google, announcements._serve(topics, stack))  # type: ignore[arg-type]
    assert done.returncode == 1
    assert ("the condition rejects the token" if refuses == "exchange" else "there is no topic") in done.stderr
    assert topics.published == []


def test_no_value_of_an_event_is_pasted_into_the_script() -> None:
    """A branch may be called ``$(curl …)``: the script reads variables, and the workflow has the least permission."""
    text = "".join(line for line in _text().splitlines(keepends=True) if not line.startswith("#"))
    assert "${{" not in text
    assert re.findall(r"^permissions:\n((?:  .*\n)+)", text, re.MULTILINE) == ["  id-token: write\n"]
    assert "uses:" not in text  # no code of others


def test_the_page_shows_the_names_of_the_workflow() -> None:
    """The page has the same provider and topic as the file that it explains."""
    page = _PAGE.read_text(encoding="utf-8")
    assert f"]({_WORKFLOW.relative_to(_PAGE.parent)})" in page
    for name in ("workloadIdentityPools/github/providers/actions", "PROVIDER", "TOPIC"):
        assert name in page
        assert name in _text()
