"""Announcements reach programs: the how-to's functions run as written, against a local cloud in memory."""

from __future__ import annotations

import json
import re
import socketserver
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import functions_framework
import pytest

from emulator.announcements import events_topic
from emulator.buildbucket.builds import Outcome
from emulator.buildbucket.plans import End, Script, Start
from emulator.local_cloud import LocalCloud
from emulator.options import Options
from emulator.serving.local_server import LocalServer
from emulator.start import start_local_cloud
from luci_scheduler.adapters.http import sessions
from luci_scheduler.adapters.pubsub import PubsubTopic
from luci_scheduler.core.errors import TransientError
from luci_scheduler.core.instants import MILLISECOND
from tests.answering import Answer, answering
from tests.waiting import until

HOW_TO = (Path(__file__).parents[2] / "docs/how-to/notify-chat-and-email.md").read_text(encoding="utf-8")
CHAT, MAIL = re.findall(r"```python\n(.*?)```", HOW_TO, re.DOTALL)
REPO = "https://r.googlesource.com/repo"
CONFIG = f"""
trigger {{ id: "poller" schedule: "triggered" gitiles {{ repo: "{REPO}" refs: "refs/heads/main" }} triggers: "job" }}
job {{ id: "job" buildbucket {{ server: "cr-buildbucket.appspot.com" bucket: "ci" builder: "b" }} }}
"""
FAILING = Script((Start(10 * MILLISECOND), End(50 * MILLISECOND, Outcome("FAILURE"))))
PASSING = Script((Start(10 * MILLISECOND), End(50 * MILLISECOND)))


@contextmanager
def _function(folder: Path, code: str, target: str) -> Iterator[str]:
    """Serve a function of the how-to as the functions framework does; yield its address."""
    source = folder / f"{target}.py"
    source.write_text(code, encoding="utf-8")
    app = functions_framework.create_app(target, str(source), "cloudevent")  # type: ignore[no-untyped-call]
    server = LocalServer(app, "127.0.0.1", 0)
    server.start()
    try:
        yield server.url
    finally:
        server.stop()


class _Relay(socketserver.StreamRequestHandler):
    """A mail relay that keeps its letters."""

    def handle(self) -> None:
        self.wfile.write(b"220 relay\r\n")
        while line := self.rfile.readline():
            if line[:4].upper() == b"DATA":
                self.wfile.write(b"354 go on\r\n")
                letter = b""
                while (row := self.rfile.readline()) != b".\r\n":
                    letter += row
                self.server.letters.append(letter.decode())  # type: ignore[attr-defined]
            self.wfile.write(b"250 yes\r\n" if line[:4].upper() != b"QUIT" else b"221 bye\r\n")


@contextmanager
def _relay() -> Iterator[tuple[int, list[str]]]:
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), _Relay) as server:
        server.daemon_threads = True
        server.letters = []  # type: ignore[attr-defined]
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1], server.letters  # type: ignore[attr-defined]
        server.shutdown()


@contextmanager
def _cloud(folder: Path, url: str) -> Iterator[LocalCloud]:
    config = folder / "configs/p/luci-scheduler.cfg"
    config.parent.mkdir(parents=True)
    config.write_text(CONFIG, encoding="utf-8")
    with start_local_cloud(Options(folder / "configs", store="memory", plan=FAILING, events=url)) as cloud:
        yield cloud


def _build(cloud: LocalCloud, number: int, status: str) -> Any:
    """Commit, and wait for the end of the build."""
    revision = cloud.repository(REPO).commit(f"commit {number}", {"a.txt": str(number)})
    cloud.publish_commit(REPO, "refs/heads/main", revision)

    def ended() -> Any:
        found = cloud.invocations("p/job")
        return found[0] if len(found) == number and found[0]["final"] else None

    page = until(ended, f"the end of build {number}")
    assert page["status"] == status
    return page


def test_first_failures_and_recoveries_reach_chat_and_mail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two failures and a success make one message about the failure, and one about the recovery.

    The chat function forwards to the mail function as well, so that one local cloud tries both.
    """
    with ExitStack() as stack:
        port, letters = stack.enter_context(_relay())
        room = stack.enter_context(answering(Answer(200, b"{}")))
        said: list[str] = []
        both: list[str] = []

        def hear(_path: str, body: Any) -> Answer:
            said.append(body["text"])
            return Answer(200, b"{}")

        room.otherwise = hear
        for name, value in {
            "WEBHOOK": room.url, "FROM": "ci@example.com", "TO": "dev@example.com", "SMTP_HOST": "127.0.0.1",
            "SMTP_PORT": str(port),
        }.items():  # fmt: skip
            monkeypatch.setenv(name, value)
        both.append(stack.enter_context(_function(tmp_path, CHAT, "chat")))
        both.append(stack.enter_context(_function(tmp_path, MAIL, "mail")))
        splitter = stack.enter_context(answering())
        splitter.otherwise = lambda _, body: _to_all(both, body)
        cloud = stack.enter_context(_cloud(tmp_path, splitter.url + "/hook"))
        pages = [_build(cloud, 1, "FAILED"), _build(cloud, 2, "FAILED")]
        cloud.buildbucket.plans.set("*", PASSING)
        pages.append(_build(cloud, 3, "SUCCEEDED"))
        until(lambda: len(set(said)) == len({*letters}) == 2, "both messages in the room and in the mail")
        links = [f"{cloud.console_url}/jobs/p/job/{page['invocation_id']}" for page in pages]
    first, recovery = sorted(set(said), key=lambda text: "again" in text)
    assert re.fullmatch(r"p/job failed at [0-9a-f]{12} of main(: .+)?\n" + re.escape(links[0]), first)
    assert re.fullmatch(r"p/job succeeds again at [0-9a-f]{12} of main\n" + re.escape(links[2]), recovery)
    assert any("Subject: p/job failed at" in letter and links[0] in letter for letter in letters)
    assert any("Subject: p/job succeeds again" in letter and links[2] in letter for letter in letters)
    assert set(splitter.paths) == {"/hook"}


def _to_all(urls: list[str], body: Any) -> Answer:
    session = sessions(authenticated=False)()
    answers = [session.post(url, data=json.dumps(body), headers={"Content-Type": "application/json"}) for url in urls]
    return Answer(max(answer.status_code for answer in answers))


def test_a_topic_without_a_subscription_takes_messages(tmp_path: Path) -> None:
    """``up --events`` without an address: nothing is pushed, and nothing waits. Other topics do not exist."""
    with _cloud(tmp_path, "") as cloud:
        page = _build(cloud, 1, "FAILED")
        assert page["final"]
        assert cloud.memory is not None
        store = cloud.memory.store
        until(
            lambda: not [path for path in store._documents if path[0] == "deferred"], "all announcements are published"
        )
        url = cloud.environment["SCHEDULER_PUBSUB_URL"]
        assert cloud.pubsub.topic_exists(events_topic(cloud.project))
        with pytest.raises(TransientError, match="NOT_FOUND: there is no topic"):
            PubsubTopic("projects/p/topics/other", url, sessions(authenticated=False)).publish({}, b"x")
