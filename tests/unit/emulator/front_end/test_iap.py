"""IAP: sessions, programs, members, and the headers that the application gets. No sockets."""

from __future__ import annotations

import json
from typing import Any

import pytest
from google.auth import jwt
from werkzeug.datastructures import Headers

from emulator.clock import SteppedClock
from emulator.front_end.authority import Authority
from emulator.front_end.exchange import ANSWERED_BY, Answer, Message
from emulator.front_end.iap import ASSERTION, Iap, Sessions
from emulator.front_end.sign_in import SIGN_IN, safe_path
from luci_scheduler.core.instants import SECOND, Instant

NOW = Instant(1_773_756_310 * SECOND)
AUDIENCE = "/projects/1/locations/us-central1/services/console"
URI, AGENT, CLIENT = "https://console.run.app", "iap@system.gserviceaccount.com", "1-x.apps.googleusercontent.com"
ANN, EVE = "ann@example.com", "eve@example.com"


class Stage:
    """IAP before an application that answers with the headers that it gets."""

    def __init__(self) -> None:
        self.clock = SteppedClock(NOW)
        self.authority = Authority()
        self.iap = Iap(
            members=lambda: frozenset({f"user:{ANN}"}),
            clients=frozenset({CLIENT}),
            audience=AUDIENCE,
            agent=AGENT,
            service_uri=lambda: URI,
            accounts=(ANN, EVE),
            authority=self.authority,
            sessions=Sessions("IAP", self.clock.now),
            now=self.clock.now,
            next=lambda message: Answer(200, Headers(), json.dumps(dict(message.headers.items())).encode()),
        )

    def get(self, headers: dict[str, str] | None = None, *, target: str = "/jobs?x=1", method: str = "GET") -> Answer:
        """Send a request."""
        return self.iap(Message(method, target, Headers(headers or {}), b"", "127.0.0.1"))

    def sign_in(self, account: str, path: str = "/jobs") -> Answer:
        """Choose an account on the sign-in page."""
        body = f"account={account}&next={path}".encode()
        return self.iap(Message("POST", SIGN_IN, Headers(), body, "127.0.0.1"))

    def cookie(self, account: str) -> dict[str, str]:
        """Return the header of a browser that has signed in."""
        return {"Cookie": self.sign_in(account).headers["Set-Cookie"].partition(";")[0]}

    def bearer(self, email: str, client: str = CLIENT) -> str:
        """Return a program's token."""
        return f"Bearer {self.authority.person_token(email, self.clock.now(), client)}"


@pytest.fixture(name="stage", scope="module")
def _stage() -> Stage:
    return Stage()


def passed(answer: Answer) -> dict[str, str]:
    """Return the headers that the application got."""
    assert answer.status == 200, answer.body
    return {name.lower(): value for name, value in json.loads(answer.body).items()}


def test_the_application_gets_an_assertion_and_cloud_run_the_agents_token(stage: Stage) -> None:
    """The assertion names the person and the application; the service is called as IAP's own agent."""
    headers = passed(stage.get(stage.cookie(ANN)))
    keys = json.loads(stage.authority.iap_keys())
    claims: dict[str, Any] = dict(jwt.decode(headers[ASSERTION], certs=keys, clock_skew_in_seconds=10**10))
    assert jwt.decode_header(headers[ASSERTION])["alg"] == "ES256"
    issued = NOW // SECOND
    number = headers["x-goog-authenticated-user-id"].removeprefix("accounts.google.com:")
    assert claims == {
        "aud": AUDIENCE,
        "azp": AUDIENCE,
        "email": ANN,
        "exp": issued + 600,
        "iat": issued,
        "iss": "https://cloud.google.com/iap",
        "sub": f"accounts.google.com:{number}",
    }
    assert headers["x-goog-authenticated-user-email"] == f"accounts.google.com:{ANN}"
    agent = stage.authority.claims(headers["x-serverless-authorization"].removeprefix("Bearer "))
    assert (agent["email"], agent["aud"]) == (AGENT, URI)


def test_headers_of_the_client_that_only_iap_may_set_are_replaced(stage: Stage) -> None:
    """Otherwise a member could act as anyone."""
    forged = {
        "X-Goog-IAP-JWT-Assertion": "forged",
        "X-Goog-Authenticated-User-Email": "accounts.google.com:root@example.com",
        "X-Goog-Iap-Other": "forged",
        "X-Serverless-Authorization": "Bearer forged",
    }
    headers = passed(stage.get({**stage.cookie(ANN), **forged}))
    assert "x-goog-iap-other" not in headers
    assert "forged" not in headers.values()
    assert headers["x-goog-authenticated-user-email"].endswith(ANN)


def test_a_program_sends_an_id_token_of_an_allowed_client(stage: Stage) -> None:
    """In Authorization, which stays, or in Proxy-Authorization, which leaves Authorization to the application."""
    token = stage.bearer(ANN)
    assert passed(stage.get({"Authorization": token}))["authorization"] == token
    headers = passed(stage.get({"Proxy-Authorization": token, "Authorization": "Bearer mine"}))
    assert headers["authorization"] == "Bearer mine"
    assert "proxy-authorization" not in headers
    assert ASSERTION in passed(stage.get({"Proxy-Authorization": "Bearer mine", "Authorization": token}))


@pytest.mark.parametrize(
    "authorization",
    ["Bearer x", "Basic x", "other client", "another signer", "agent"],
)
def test_other_tokens_are_401(stage: Stage, authorization: str) -> None:
    """Neither gcloud's client nor the service's address is an allowed audience."""
    tokens = {
        "other client": stage.bearer(ANN, "32555940559.apps.googleusercontent.com"),
        "another signer": f"Bearer {Authority().person_token(ANN, NOW, CLIENT)}",
        "agent": f"Bearer {stage.authority.issuer.issue(AGENT, URI, NOW)}",
    }
    answer = stage.get({"Authorization": tokens.get(authorization, authorization), **stage.cookie(ANN)})
    assert answer.status == 401
    assert answer.headers["X-Goog-IAP-Generated-Response"] == "true"
    assert answer.headers[ANSWERED_BY] == "iap"


def test_who_is_no_member_is_403(stage: Stage) -> None:
    """By session and by token."""
    for headers in (stage.cookie(EVE), {"Authorization": stage.bearer(EVE)}):
        answer = stage.get(headers)
        assert (answer.status, answer.headers[ANSWERED_BY]) == (403, "iap")
        assert EVE in answer.body.decode()


def test_a_browser_is_sent_to_the_sign_in_page(stage: Stage) -> None:
    """Other requests get 401, because no program follows a redirect to a page."""
    browser = {"Accept": "text/html,*/*"}
    answer = stage.get(browser)
    assert (answer.status, answer.headers["Location"]) == (302, f"{SIGN_IN}?next=%2Fjobs%3Fx%3D1")
    assert stage.get({"Accept": "application/json"}).status == 401
    assert stage.get(browser, method="POST").status == 401
    assert stage.get().status == 401
    assert stage.get({"X-Serverless-Authorization": stage.bearer(ANN)}).status == 401


def test_the_page_offers_the_accounts_and_returns_to_the_wanted_page(stage: Stage) -> None:
    """The cookie is for this host only, and no script can read it."""
    shown = stage.get(target=f"{SIGN_IN}?next=%2Fa%22b").body.decode()
    assert ANN in shown
    assert EVE in shown
    assert 'value="/a&quot;b"' in shown
    answer = stage.sign_in(ANN)
    assert (answer.status, answer.headers["Location"]) == (303, "/jobs")
    assert answer.headers["Set-Cookie"].endswith("; Path=/; Max-Age=3600; HttpOnly; SameSite=Lax")
    assert stage.sign_in("root@example.com").status == 400
    assert stage.get(target=SIGN_IN, method="PUT").status == 400


@pytest.mark.parametrize("target", ["//evil.example", "https://evil.example", "/\\evil.example", "", "/a\nb"])
def test_the_page_leads_to_no_other_site(target: str) -> None:
    """A browser reads some paths as addresses."""
    assert safe_path(target) == "/"
    assert safe_path("/jobs/a?b=c") == "/jobs/a?b=c"


def test_a_session_lasts_an_hour() -> None:
    """A made-up cookie is no session."""
    stage = Stage()
    cookie = stage.cookie(ANN)
    assert stage.get(cookie).status == 200
    stage.clock.advance(3599 * SECOND)
    assert stage.get(cookie).status == 200
    stage.clock.advance(SECOND)
    assert stage.get(cookie).status == 401
    assert stage.get({"Cookie": "IAP=made-up"}).status == 401
    assert stage.get({"Cookie": f"OTHER={cookie['Cookie'].partition('=')[2]}"}).status == 401


def test_old_sessions_make_room_for_new_ones() -> None:
    """A thousand sessions are kept."""
    sessions = Sessions("IAP", lambda: NOW)
    first = Headers({"Cookie": sessions.begin(ANN).partition(";")[0]})
    assert sessions.account(first) == ANN
    for _ in range(1000):
        last = sessions.begin(EVE)
    assert sessions.account(first) == ""
    assert sessions.account(Headers({"Cookie": last.partition(";")[0]})) == EVE
