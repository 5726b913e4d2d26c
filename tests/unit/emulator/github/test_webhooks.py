"""Webhooks: signed, in the shape of the samples, sent after pushes, and sent again on demand."""

from __future__ import annotations

import hashlib
import hmac
import json
import random
import socket
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
import requests
from werkzeug.wrappers import Request, Response

from emulator.github import Delivery, GitHubServer, Webhook, service
from emulator.github.deliveries import Deliveries, signatures
from emulator.gitiles.git import GitError
from emulator.gitiles.refs import Push, RefChange, read_refs
from emulator.gitiles.repository import Repository
from emulator.serving.local_server import LocalServer
from tests.unit.emulator.github.support import OWNER, SAMPLES, World, read_sample, shape_differences
from tests.waiting import until

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

SECRET = "example-secret"
NAME = f"{OWNER}/pushed"
ZERO = "0" * 40
_ENTROPY = random.Random(0)  # noqa: S311 - IDs of deliveries


@dataclass
class Receiver:
    """Keeps the events that it gets; it answers ``status``."""

    status: int = 200
    events: list[tuple[dict[str, str], bytes]] = field(default_factory=list)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        request = Request(environ)
        self.events.append((dict(request.headers), request.get_data()))
        return Response("", self.status)(environ, start_response)


@pytest.fixture(name="receiver")
def _receiver(server: GitHubServer) -> Iterator[Receiver]:
    receiver = Receiver()
    http = LocalServer(receiver, "127.0.0.1", 0)
    http.start()
    server.deliveries.clear()
    server.webhook = Webhook(f"{http.url}/github", SECRET)
    yield receiver
    until(lambda: server.deliveries.is_idle, "the last event")
    http.stop()


def _control(server: GitHubServer, path: str, **body: Any) -> Any:
    found = requests.post(f"{server.url}/control/{path}", json=body, timeout=30)
    assert found.status_code == 200, found.text
    return found.json()


def _commit(server: GitHubServer, text: str, name: str = NAME, **more: Any) -> str:
    body = {"repository": name, "message": f"Change {text}", "files": {"src/core.py": text}, **more}
    return str(_control(server, "commits", **body)["commit"])


def _payloads(receiver: Receiver, count: int) -> list[dict[str, Any]]:
    until(lambda: len(receiver.events) >= count, f"{count} events")
    return [json.loads(body) for _, body in receiver.events]


def _wanted(name: str) -> dict[str, Any]:
    return json.loads(read_sample(name)["request"]["body"])  # type: ignore[no-any-return]


def test_the_signature_is_that_of_the_sample() -> None:
    """It is over the UTF-8 bytes."""
    check = json.loads((SAMPLES / "signature-check.json").read_text(encoding="utf-8"))
    assert signatures(check["secret"], check["body"].encode())["X-Hub-Signature-256"] == check["signature"]
    assert check["secret"] not in repr(Webhook("http://127.0.0.1", check["secret"]))


def test_a_recorded_event_has_the_recorded_headers() -> None:
    """Names and signatures; the IDs are those of the delivery."""
    request = read_sample("webhook-push")["request"]
    headers = request["headers"]
    delivery = Delivery(headers["X-GitHub-Delivery"], "push", "", 710001, request["body"])
    assert delivery.headers(SECRET) == {name: text for name, text in headers.items() if name != "Content-Length"}


def test_each_push_sends_the_event_of_its_sample(server: GitHubServer, receiver: Receiver) -> None:
    """A branch that grows, is forced, is rewound, is made and is deleted; the payloads have the samples' shapes."""
    first = _commit(server, "1")
    second = _commit(server, "2 ä")
    forced = _commit(server, "3", parents=[first])
    _control(server, "refs", repository=NAME, ref="refs/heads/main", revision=first)
    _control(server, "refs", repository=NAME, ref="refs/heads/feature/x", revision=first)
    _control(server, "refs", repository=NAME, ref="refs/heads/feature/x", revision="")
    made, pushed, moved, rewound, branched, deleted = _payloads(receiver, 6)
    for sample, payload in (
        ("webhook-push", pushed),
        ("webhook-push-forced", moved),
        ("webhook-push-rewound", rewound),
        ("webhook-push-new-branch", branched),
        ("webhook-push-deleted", deleted),
    ):
        assert shape_differences(_wanted(sample), payload) == [], sample
        wanted = _wanted(sample)
        for name in ("ref", "created", "deleted", "forced", "base_ref"):
            assert payload[name] == wanted[name], (sample, name)
    values = [(one["before"], one["after"]) for one in (made, pushed, moved, rewound, branched, deleted)]
    assert values == [(ZERO, first), (first, second), (second, forced), (forced, first), (ZERO, first), (first, ZERO)]
    commits = [[commit["id"] for commit in one["commits"]] for one in (made, pushed, moved, rewound, branched)]
    assert commits == [[first], [second], [forced], [], []]
    assert pushed["head_commit"]["modified"] == ["src/core.py"]
    assert pushed["head_commit"]["message"] == "Change 2 ä"
    assert pushed["repository"]["html_url"] == f"https://github.com/{NAME}"
    assert pushed["repository"]["pushed_at"] == server.service.state.clock.now() // 1_000_000_000


def test_tags_have_the_commit_behind_them(server: GitHubServer, receiver: Receiver, world: World) -> None:
    """An annotated tag is the tag object; a tag of a folder has no commit; more than three at once have no event."""
    name = f"{OWNER}/tagged"
    repository = Repository.create(world.root / "github.com" / name)
    commit = repository.commit("First", {"a": "1"})
    tag = repository.tag("v1.0", commit, "Version")
    _control(server, "push", repository=name, ref="refs/tags/v1.0", after=tag)
    _control(server, "refs", repository=name, ref="refs/tags/v1.1", revision=commit)
    _control(server, "push", repository=name, ref="refs/tags/folder", after=repository.resolve("main^{tree}"))
    annotated, light, folder = _payloads(receiver, 3)
    assert shape_differences(_wanted("webhook-push-tag-annotated"), annotated) == []
    assert shape_differences(_wanted("webhook-push-tag-lightweight"), light) == []
    assert (annotated["after"], annotated["head_commit"]["id"], annotated["base_ref"]) == (
        tag,
        commit,
        "refs/heads/main",
    )
    assert (light["after"], light["head_commit"]["id"], light["base_ref"]) == (commit, commit, "refs/heads/main")
    assert (folder["head_commit"], folder["commits"]) == (None, [])
    changes = tuple(RefChange(f"refs/tags/t{number}", "", commit) for number in range(4))
    assert server.announce(Push("github.com", name, repository.path, changes)) == []
    assert len(server.announce(Push("github.com", name, repository.path, changes[:3]))) == 3
    assert server.announce(Push("other.example.com", name, repository.path, changes[:1])) == []


def test_headers_and_signatures_arrive(server: GitHubServer, receiver: Receiver) -> None:
    """Both signatures are over the bytes that arrive, and a redelivery is the same event once more."""
    _commit(server, "signed", f"{OWNER}/signed")
    until(lambda: server.deliveries.is_idle, "the delivery")
    receiver.status = 500
    identifier = server.deliveries.all()[0].id
    _control(server, "redeliver", delivery=identifier)
    until(lambda: server.deliveries.is_idle, "the second delivery")
    assert receiver.events[0] == receiver.events[1]
    headers, body = receiver.events[0]
    digest = hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()
    assert (headers["X-Hub-Signature-256"], headers["X-Github-Event"]) == (f"sha256={digest}", "push")
    assert headers["X-Github-Delivery"] == identifier
    assert [(one.id, one.status, one.is_redelivery) for one in server.deliveries.all()] == [
        (identifier, 200, False),
        (identifier, 500, True),
    ]
    listed = requests.get(f"{server.url}/control/deliveries", timeout=30)
    assert SECRET not in listed.text
    assert [one["status"] for one in listed.json()] == [200, 500]


def test_a_new_webhook_can_be_pinged(server: GitHubServer, receiver: Receiver) -> None:
    """The event is that of the sample, and the hook can be set by another process."""
    url = server.webhook.url if server.webhook else ""
    _control(server, "webhook", url=url, secret="another")
    _control(server, "ping")
    (payload,) = _payloads(receiver, 1)
    wanted = _wanted("webhook-ping")
    missing = {name for name in wanted if name not in payload} - {"repository"}
    assert missing == set()
    assert shape_differences(wanted["hook"], payload["hook"]) == []
    headers, body = receiver.events[0]
    digest = hmac.new(b"another", body, hashlib.sha256).hexdigest()
    assert (headers["X-Hub-Signature-256"], headers["X-Github-Event"]) == (f"sha256={digest}", "ping")


def test_without_a_webhook_nothing_is_sent_but_pushes_are_reported(server: GitHubServer) -> None:
    """The local cloud around the server gets each push."""
    pushes: list[Push] = []
    server.around.pushed = pushes.append
    server.ping()
    commit = _commit(server, "quiet", f"{OWNER}/quiet")
    server.around.pushed = lambda _: None
    assert [(push.host, push.name) for push in pushes] == [("github.com", f"{OWNER}/quiet")]
    assert pushes[0].changes == (RefChange("refs/heads/main", "", commit),)
    assert read_refs(pushes[0].path) == {"refs/heads/main": commit}


def test_a_webhook_that_cannot_be_made_does_not_refuse_the_push(
    server: GitHubServer, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The local cloud around the server gets the reason."""
    failed: list[Delivery] = []

    def fails(*_: object) -> list[dict[str, Any]]:
        raise GitError("too slow")

    monkeypatch.setattr(service, "push_payloads", fails)
    monkeypatch.setattr(server.around, "delivered", failed.append)
    _commit(server, "large", f"{OWNER}/large-push")
    assert [(one.status, one.answer) for one in failed] == [(0, "too slow")]
    assert receiver.events == []


@pytest.mark.parametrize("is_silent", [True, False])
def test_a_receiver_that_does_not_answer_ends_the_delivery(is_silent: bool) -> None:
    """It refuses the connection, or takes it and stays silent."""
    done: list[Delivery] = []
    deliveries = Deliveries(_ENTROPY, done.append, seconds=0.2 if is_silent else 60)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        if not is_silent:
            listener.close()
        deliveries.webhook = Webhook(f"http://127.0.0.1:{port}/", SECRET)
        deliveries.start()
        deliveries.send("push", 1, {})
        until(lambda: done, "the end of the delivery")
        deliveries.stop()
    assert done[0].status == 0
    assert done[0].answer.endswith("Timeout" if is_silent else "ConnectionError")
    assert deliveries.all() == done


def test_a_removed_webhook_gets_no_queued_event() -> None:
    """The delivery says so."""
    done: list[Delivery] = []
    deliveries = Deliveries(_ENTROPY, done.append)
    deliveries.webhook = Webhook("http://127.0.0.1:1/", SECRET)
    deliveries.send("push", 1, {})
    deliveries.webhook = None
    assert deliveries.send("push", 1, {}) is None
    deliveries.start()
    until(lambda: done, "the end of the delivery")
    deliveries.stop()
    deliveries.stop()
    assert done[0].answer == "the webhook was removed"


def test_a_stopped_server_sends_again_after_its_next_start() -> None:
    """It forgets the events that wait behind the present one."""
    done: list[Delivery] = []
    sending, may_end = threading.Event(), threading.Event()

    def delivered(delivery: Delivery) -> None:
        done.append(delivery)
        sending.set()
        may_end.wait(60)

    deliveries = Deliveries(_ENTROPY, delivered)
    deliveries.webhook = Webhook("http://127.0.0.1:1/", SECRET)
    deliveries.start()
    sent = [deliveries.send("push", 1, {"number": number}) for number in range(3)]
    assert sending.wait(60)
    stopper = threading.Thread(target=deliveries.stop)
    stopper.start()
    until(deliveries._stopping.is_set, "the stop")
    may_end.set()
    stopper.join()
    assert (deliveries.is_idle, [one.id for one in done]) == (True, [sent[0].id if sent[0] else ""])
    deliveries.start()
    deliveries.send("push", 1, {"number": 3})
    until(lambda: deliveries.is_idle, "the next event")
    deliveries.stop()
    assert [json.loads(one.body)["number"] for one in done] == [0, 3]
