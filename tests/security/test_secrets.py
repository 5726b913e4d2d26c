"""Every credential is marked and used at every door: none reaches a log line, an answer, a document or an error."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import requests

from luci_scheduler.adapters.access_tokens import AccessTokens
from luci_scheduler.adapters.buildbucket import BuildbucketClient
from luci_scheduler.adapters.fetch import FetchError
from luci_scheduler.adapters.github import GitHubClient
from luci_scheduler.adapters.github_api import GitHubApi
from luci_scheduler.adapters.github_credentials import TokenCredentials
from luci_scheduler.adapters.gitiles import GitilesClient
from luci_scheduler.api import export
from luci_scheduler.core.commit_hosts import DEFAULT_HOSTS
from luci_scheduler.core.id_tokens import presented_token
from luci_scheduler.core.identity import UnauthenticatedError
from luci_scheduler.core.instants import MINUTE, SECOND
from luci_scheduler.core.notification_token import make_token
from luci_scheduler.core.probe import Mark
from luci_scheduler.core.repo_url import RepoUrl, parse_repo_url
from luci_scheduler.managers.buildbucket.build_request import BuildRequest
from luci_scheduler.ports import BuildbucketError, Fetched, GitilesError
from luci_scheduler.web.page_request import PageRequest
from tests.fuzz.site import Answer, Site
from tests.security.doors import ON_EVENT, PUSH_ACCOUNT, Door, claims, guarded, push, signed
from tests.unit.api.support import ADMIN, OWNER, context, world_for
from tests.unit.engine.world import JOB, REPO, World, config
from tests.unit.web.support import Visitor

CANARY = "CANARY-9b41"
NEXT, PREVIOUS, COOKIE, OPAQUE = f"{CANARY}-next", f"{CANARY}-previous", f"{CANARY}-cookie", f"ya29.{CANARY}"


@pytest.fixture(name="served")
def _served() -> Iterator[tuple[Site, Mapping[str, Door]]]:
    with guarded(world_for(next_token_secret=NEXT, previous_token_secret=PREVIOUS)) as served:
        yield served


def _documents(world: World) -> str:
    return "\n".join(repr(stored) for stored in world.store._documents.values())


def _life(functions: Site, doors: Mapping[str, Door]) -> tuple[list[str], list[Answer]]:
    """Use each door with good and bad credentials; return the credentials and all answers."""
    world = functions.world
    secrets, answers = [NEXT, PREVIOUS, COOKIE, OPAQUE], []

    def knock(door: Door, token: str, **headers: str) -> None:
        secrets.append(token)
        sent = {"Authorization": f"Bearer {token}", "Cookie": f"GCP_IAP_UID={COOKIE}", **headers}
        answers.append(door.knock(functions, sent))

    for door in doors.values():
        good = signed(functions, claims(functions, door))
        for token in (good[:-4] + "AAAA", signed(functions, claims(functions, door, aud="x")), OPAQUE, good):
            knock(door, token)
        knock(door, good, **{"X-Goog-Iap-Jwt-Assertion": good, "X-Serverless-Authorization": f"Bearer {good}"})
    for secret in ("secret", NEXT, PREVIOUS, f"{CANARY}-guess"):
        for invocation in world.invocations():
            token = make_token(secret, JOB, invocation.id, world.clock.now())
            secrets.append(token)
            pushed = Door("on_build_completion", "/t", push(b"{}", token[-9:], {"auth_token": token}))
            machine = claims(functions, Door("", "", audience=ON_EVENT, account=PUSH_ACCOUNT))
            knock(pushed, signed(functions, machine))
    for encoded in world.buildbucket.tokens.values():
        secrets += [encoded, base64.b64decode(encoded).decode()]
    return secrets, answers


def test_no_credential_leaves_the_request_that_carries_it(served: tuple[Site, Mapping[str, Door]]) -> None:
    """Neither whole nor in the part that makes it valid: the signature of a token."""
    functions, doors = served
    world = functions.world
    secrets, answers = _life(functions, doors)
    assert len(answers) == 54
    assert {answer.code for answer in answers} >= {200, 302, 401}
    world.tick(61)
    visitor = Visitor(world, ADMIN)
    pages = [f"/jobs/{JOB}", *(f"/jobs/{JOB}/{item.id}" for item in world.invocations())]
    seen = {
        "answers": "\n".join(answer.body.decode(errors="replace") for answer in answers),
        "headers": repr([dict(answer.headers) for answer in answers]),
        "lines": repr([answer.lines for answer in answers]),
        "documents": _documents(world),
        "queue": repr(world.queue.tasks),
        "pages": "\n".join(visitor.get(page).text for page in pages),
        "twins": "\n".join(json.dumps(visitor.json(page)) for page in pages),
        "representations": repr((world.app, world.runtime, world.app.settings)),
    }
    for place, text in seen.items():
        assert CANARY not in text, place
        for secret in secrets:
            assert secret not in text, (place, secret)
            assert (secret.rpartition(".")[2] if "." in secret else secret[-40:]) not in text, (place, secret)
    world_log = "\n".join(world.log(place=place) for place in range(len(world.invocations())))
    assert not [secret for secret in secrets if secret in world_log]


def test_a_request_is_logged_without_its_token() -> None:
    """The token goes into the message after the log has it. The document and the queue never have it."""
    world = world_for()
    world.commit()
    (encoded,) = world.buildbucket.tokens.values()
    token = base64.b64decode(encoded).decode()
    assert "Launching build" in world.log() or "request" in world.log().lower()
    for text in (world.log(), _documents(world), repr(world.queue.tasks)):
        assert "userData" not in text
        assert not {encoded, token} & set(text.split('"'))
        assert token not in text


def test_objects_with_secrets_do_not_show_them() -> None:
    """A traceback may show an object."""
    world = world_for()
    managers = [vars(manager) for manager in world.runtime.managers.values()]
    presented = presented_token({"Authorization": f"Bearer {CANARY}"})
    request = BuildRequest({}, JOB, world.clock.now(), "proj:ci", "app", "host", "topic", CANARY)  # type: ignore[arg-type]
    objects: dict[str, Any] = {
        "page request": PageRequest(context(world), (CANARY,)),
        "token": presented,
        "build request": request,
        "mark of a probe": Mark(world.clock.now(), token=CANARY),
        "prober": world.app.prober("", 1),
        "application": world.app,
        "managers": [value for found in managers for value in found.values()],
    }
    for name, item in objects.items():
        assert CANARY not in repr(item), name
        assert "'secret'" not in repr(item), name
    assert presented is not None
    assert presented.token == CANARY


class _Tokeninfo:
    def __init__(self, answer: Fetched | Exception) -> None:
        self._answer = answer

    def get(self, *_: Any) -> Fetched:
        if isinstance(self._answer, Exception):
            raise self._answer
        return self._answer


def _access_tokens(world: World, answer: Fetched | Exception) -> AccessTokens:
    return AccessTokens(_Tokeninfo(answer), "https://t.invalid", ("c",), world.clock)


@pytest.mark.parametrize("good", [True, False])
def test_the_memory_of_access_tokens_holds_none(good: bool) -> None:
    """A dump of the memory does not reveal callers' tokens."""
    info = {"aud": "c", "scope": "https://www.googleapis.com/auth/userinfo.email", "email": OWNER, "expires_in": "99"}
    body = json.dumps({**info, "email_verified": good}).encode()
    tokens = _access_tokens(World(), Fetched(200, "200 OK", (), body, len(body)))
    if good:
        assert tokens.email(OPAQUE) == OWNER
    else:
        with pytest.raises(UnauthenticatedError):
            tokens.email(OPAQUE)
    caches = [tokens._good._entries, tokens._bad._entries]
    assert sum(map(len, caches)) == 1
    assert CANARY not in repr(caches)


def test_a_failed_query_about_an_access_token_hides_it() -> None:
    """Its URL holds the token, and so may the error of a library."""
    tokens = _access_tokens(World(), FetchError("no answer"))
    with pytest.raises(Exception, match="could not be queried") as raised:
        tokens.email(OPAQUE)
    assert raised.value.__cause__ is None
    assert raised.value.__suppress_context__
    assert CANARY not in str(raised.value)


class _Failing:
    """A session whose errors quote the request, as those of libraries do."""

    def request(self, *_: Any, **__: Any) -> Any:
        raise requests.ConnectionError(f"https://x/?access_token={CANARY} Authorization: Bearer {CANARY}")

    get = post = request


def test_failed_calls_do_not_quote_their_requests() -> None:
    """The error reaches the debug log of a job, which its readers see."""
    world = World()
    opened: Any = _Failing
    builds = BuildbucketClient(lambda _: "https://x.invalid", opened, world.clock, MINUTE)
    commits = GitilesClient(lambda _: "https://x.invalid", opened, MINUTE, authenticated=True, clock=world.clock)
    github = GitHubClient(GitHubApi(DEFAULT_HOSTS, opened, TokenCredentials(CANARY), world.clock))
    for call in (
        lambda: builds.v2("h", "GetBuild", {}),
        lambda: builds.v1("h", "GET", "builds/1"),
        lambda: commits.refs(parse_repo_url(REPO), "refs/heads"),
        lambda: github.refs(RepoUrl("github.com", "o/r"), "refs/heads"),
    ):
        with pytest.raises((BuildbucketError, GitilesError)) as raised:
            call()
        assert CANARY not in str(raised.value)


def test_the_canaries_are_seen_where_they_are_allowed(served: tuple[Site, Mapping[str, Door]]) -> None:
    """The control of the tests above: the settings do hold the keys, and a good token is accepted."""
    functions, doors = served
    assert {NEXT, PREVIOUS} < set(functions.world.app.settings.verifying_secrets)
    door = doors["page"]
    answer = door.knock(functions, {"Authorization": f"Bearer {signed(functions, claims(functions, door))}"})
    assert answer.code == 200
    functions.world.clock.advance(SECOND)


def test_an_export_redacts_the_config_and_the_scenario() -> None:
    """People pass exports on, and a config may hold a token that its author should not have written there."""
    text = config().replace('builder: "job"', f'builder: "job" properties: "header:Authorization: Bearer {OPAQUE}"')
    world = world_for(text)
    world.commit()
    (invocation,) = world.invocations()
    assert CANARY in repr(invocation.task)
    exported = export.export_invocation(context(world, ADMIN), JOB, invocation.id)
    assert CANARY not in exported.config
    assert CANARY not in exported.scenario
    assert "[redacted]" in exported.config
