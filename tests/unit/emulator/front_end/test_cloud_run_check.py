"""Cloud Run's check of callers, and the headers that it adds: no sockets."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from werkzeug.datastructures import Headers

from emulator.front_end.authority import GCLOUD_CLIENT, Authority, person_claims
from emulator.front_end.cloud_run import CloudRun, platform_headers
from emulator.front_end.exchange import ANSWERED_BY, Answer, Message
from emulator.front_end.modes import Stripping
from emulator.front_end.services import Ingress, Network, Service
from emulator.front_end.tokens import REMOVED
from luci_scheduler.core.instants import SECOND

NOW = 1_773_756_310 * SECOND
URI, CUSTOM = "https://console-1.us-central1.run.app", "https://console.example.com"
PERSON, ROBOT = "ann@example.com", "robot@p.iam.gserviceaccount.com"
SERVICE = Service("console", URI, Ingress.ALL, frozenset({f"user:{PERSON}", f"serviceAccount:{ROBOT}"}), (CUSTOM,))
AUTHORITY, STRANGE = Authority(), Authority()
WHOLE = AUTHORITY.issuer.issue(ROBOT, URI, NOW)
GCLOUD = AUTHORITY.person_token(PERSON, NOW)


def signed(**changes: Any) -> str:
    """Return the robot's token with changed claims, correctly signed."""
    return AUTHORITY.issuer.sign(person_claims(ROBOT, URI, NOW) | changes)


def call(
    headers: dict[str, str],
    service: Service = SERVICE,
    *,
    network: Network = Network.INTERNET,
    stripping: Stripping = "documented",
) -> Answer:
    """Send a request; the container answers 200 with the headers that it gets."""

    def container(message: Message) -> Answer:
        return Answer(200, Headers(), json.dumps(dict(message.headers.items())).encode())

    run = CloudRun(lambda: service, network, AUTHORITY, lambda: NOW, stripping, container)
    return run(Message("GET", "/", Headers(headers), b"", "127.0.0.1"))


def got(answer: Answer) -> dict[str, str]:
    """Return the headers that the container got."""
    assert answer.status == 200, answer.body
    return dict(json.loads(answer.body))


@pytest.mark.parametrize(
    "token",
    [
        WHOLE,
        GCLOUD,
        signed(aud=CUSTOM),
        signed(iss="accounts.google.com"),
        signed(email=ROBOT.upper()),
        signed(iat=NOW // SECOND, exp=NOW // SECOND + 1),
    ],
)
def test_tokens_that_open_the_service(token: str) -> None:
    """Google's signature, an audience of the service or gcloud's, a time, and an invoker's address."""
    assert "Authorization" in got(call({"Authorization": f"Bearer {token}"}))


@pytest.mark.parametrize(
    ("token", "reason"),
    [
        (STRANGE.issuer.issue(ROBOT, URI, NOW), "signature"),
        (f"{WHOLE.rpartition('.')[0]}.{REMOVED}", "signature"),
        (signed(alg="none"), None),
        ("ya29.an-access-token", "signature"),
        (signed(iss="https://evil.example"), "issuer"),
        (signed(aud="https://other.run.app"), "audience"),
        (signed(aud=[URI]), "audience"),
        (signed(exp=NOW // SECOND), "time"),
        (signed(iat=NOW // SECOND + 1), "time"),
        (signed(exp="never"), "signature"),
        (signed(email_verified=False), "e-mail"),
        (signed(email=None), "e-mail"),
    ],
)
def test_tokens_that_are_refused(token: str, reason: str | None) -> None:
    """Each single fault is 401 with the challenge that Cloud Run documents; a good token with an odd claim passes."""
    answer = call({"Authorization": f"Bearer {token}"})
    if reason is None:
        assert answer.status == 200
        return
    assert answer.status == 401
    assert answer.headers["WWW-Authenticate"].startswith('Bearer error="invalid_token"')
    assert reason in answer.body.decode()
    assert answer.headers[ANSWERED_BY] == "cloud run"
    assert token not in answer.body.decode()


@pytest.mark.parametrize("value", ["Basic YTpi", "Bearer", "Bearer  ", "token"])
def test_other_schemes_are_refused(value: str) -> None:
    """Only a bearer token counts."""
    assert call({"Authorization": value}).status == 401


def test_no_token_and_no_permission_are_403() -> None:
    """A token proves the account, and the invoker role decides."""
    assert call({}).status == 403
    stranger = AUTHORITY.person_token("eve@example.com", NOW)
    assert call({"Authorization": f"Bearer {stranger}"}).status == 403


@pytest.mark.parametrize(
    ("member", "status"),
    [("domain:example.com", 200), ("allAuthenticatedUsers", 200), ("domain:ample.com", 403), ("user:an@b.c", 403)],
)
def test_members(member: str, status: int) -> None:
    """A whole domain, everyone with an account, or single accounts."""
    service = replace(SERVICE, invokers=frozenset({member}))
    assert call({"Authorization": f"Bearer {GCLOUD}"}, service).status == status
    assert call({}, service).status == 403


def test_the_serverless_header_goes_first() -> None:
    """If both headers are there, only X-Serverless-Authorization is checked, and the other one passes unchanged."""
    both = {"X-Serverless-Authorization": f"Bearer {GCLOUD}", "Authorization": f"Bearer forged.token.{REMOVED}"}
    headers = got(call(both))
    assert headers["Authorization"] == both["Authorization"]
    assert headers["X-Serverless-Authorization"].endswith(f".{REMOVED}")
    assert call({**both, "X-Serverless-Authorization": "Bearer bad"}).status == 401
    assert call({**both, "X-Serverless-Authorization": ""}).status == 401


@pytest.mark.parametrize(
    ("stripping", "header", "token", "is_stripped"),
    [
        ("always", "Authorization", WHOLE, True),
        ("always", "X-Serverless-Authorization", GCLOUD, True),
        ("documented", "Authorization", WHOLE, False),
        ("documented", "Authorization", GCLOUD, True),
        ("documented", "X-Serverless-Authorization", WHOLE, True),
        ("never", "Authorization", GCLOUD, False),
        ("never", "X-Serverless-Authorization", WHOLE, False),
    ],
)
def test_which_tokens_lose_their_signature(stripping: Stripping, header: str, token: str, is_stripped: bool) -> None:
    """Header and claims stay as they were."""
    passed = got(call({header: f"Bearer {token}"}, stripping=stripping))[header]
    signature = REMOVED if is_stripped else token.rpartition(".")[2]
    assert passed == f"Bearer {token.rpartition('.')[0]}.{signature}"


@pytest.mark.parametrize(
    "service", [replace(SERVICE, invokers=frozenset({"allUsers"})), replace(SERVICE, invoker_iam_disabled=True)]
)
@pytest.mark.parametrize("token", ["", WHOLE, f"a.b.{REMOVED}", "rubbish"])
def test_a_public_service_passes_everything(service: Service, token: str) -> None:
    """Nothing is checked and nothing is stripped, even a token that only looks checked."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    passed = got(call(headers, service, stripping="always"))
    assert passed.get("Authorization") == headers.get("Authorization")


@pytest.mark.parametrize(
    ("ingress", "admitted"),
    [
        (Ingress.ALL, {Network.INTERNET, Network.INTERNAL, Network.LOAD_BALANCER}),
        (Ingress.INTERNAL, {Network.INTERNAL}),
        (Ingress.LOAD_BALANCER, {Network.INTERNAL, Network.LOAD_BALANCER}),
    ],
)
def test_ingress(ingress: Ingress, admitted: set[Network]) -> None:
    """A refused network gets 404 before any check, even from a public service."""
    for service in (SERVICE, replace(SERVICE, invokers=frozenset({"allUsers"}))):
        for network in Network:
            answer = call({"Authorization": f"Bearer {WHOLE}"}, replace(service, ingress=ingress), network=network)
            assert answer.status == (200 if network in admitted else 404)


def headers_of(given: dict[str, str]) -> dict[str, str]:
    """Return the headers after the platform's."""
    message = Message("GET", "/", Headers(given), b"", "203.0.113.7")
    return dict(platform_headers(message, lambda: "00000000000000ff").items())


def test_the_added_headers() -> None:
    """Address, scheme and trace; the client's own address entries come before the true one."""
    headers = headers_of({"X-Forwarded-For": "198.51.100.1", "X-Forwarded-Proto": "gopher", "Forwarded": "for=evil"})
    trace = headers["traceparent"].split("-")[1]
    assert headers == {
        "X-Forwarded-For": "198.51.100.1,203.0.113.7",
        "X-Forwarded-Proto": "https",
        "Forwarded": 'for="203.0.113.7";proto=https',
        "traceparent": f"00-{trace}-00000000000000ff-01",
        "X-Cloud-Trace-Context": f"{trace}/255;o=1",
    }
    assert len(trace) == 32


@pytest.mark.parametrize(
    "given",
    [{"traceparent": f"00-{'a' * 32}-{'b' * 16}-01"}, {"X-Cloud-Trace-Context": f"{'a' * 32}/7;o=1"}],
)
def test_a_trace_continues(given: dict[str, str]) -> None:
    """The client's trace stays, with a new span."""
    headers = headers_of(given)
    assert headers["traceparent"] == f"00-{'a' * 32}-00000000000000ff-01"
    assert headers["X-Cloud-Trace-Context"] == f"{'a' * 32}/255;o=1"


def test_headers_that_never_arrive() -> None:
    """Headers of one connection, and headers that are reserved for Google, never arrive."""
    removed = ["Connection", "Keep-Alive", "Proxy-Authorization", "TE", "Trailer", "Transfer-Encoding", "X-Google-Y"]
    headers = headers_of(dict.fromkeys([*removed, "X-Goog-IAP-JWT-Assertion"], "x"))
    assert not set(removed) & set(headers)
    assert headers["X-Goog-IAP-JWT-Assertion"] == "x"  # without IAP these pass, also forged ones


def test_gcloud_prints_tokens_for_its_own_client() -> None:
    """The audience of a person's token is never the service."""
    assert AUTHORITY.claims(GCLOUD)["aud"] == GCLOUD_CLIENT
