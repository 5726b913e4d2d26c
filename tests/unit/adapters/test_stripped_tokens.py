"""Tokens whose signature the platform has removed: accepted only if every condition of trust holds."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import pytest
from google.auth import jwt
from werkzeug.datastructures import Headers

from emulator.clock import SteppedClock
from emulator.cloud_tasks.oidc import TokenIssuer
from luci_scheduler.adapters.identity import CallerIdentity, OidcVerifier
from luci_scheduler.cloud_ports import make_identify, make_verify_caller, make_verify_push
from luci_scheduler.core.errors import TransientError
from luci_scheduler.core.id_tokens import STRIPPED
from luci_scheduler.core.identity import UnauthenticatedError
from luci_scheduler.core.instants import SECOND, Instant
from luci_scheduler.settings import Settings
from tests.answering import Answer, Answering, answering

NOW = Instant(1_773_756_310 * SECOND)
GCLOUD = "32555940559.apps.googleusercontent.com"
CONSOLE, TASKS, PUSH = "https://console.invalid", "https://on-task.invalid", "https://on-commit.invalid"
PLATFORM = "X-Serverless-Authorization"
YOU, CRON, PUBSUB = "you@example.com", "cron@p.iam.gserviceaccount.com", "push@p.iam.gserviceaccount.com"
QUEUE = "tasks@p.iam.gserviceaccount.com"
IAP_AGENT = "service-1@gcp-sa-iap.iam.gserviceaccount.com"
Verify = Callable[[Any], str]


@cache
def _issuer() -> TokenIssuer:
    return TokenIssuer()


class Google:
    """Google's keys and the Cloud Run Admin API on one server."""

    def __init__(self, server: Answering) -> None:
        self.server = server
        self.issuer = _issuer()
        self.members = [f"user:{YOU}"]
        self.more: dict[str, Any] = {}
        self.status = 200
        server.otherwise = self._answer

    def _answer(self, path: str, _: Any) -> Answer:
        if path == "/certs":
            return Answer(200, json.dumps(self.issuer.certificates()).encode())
        policy = {"bindings": [{"role": "roles/run.invoker", "members": self.members}]}
        service = {"name": path.removeprefix("/v2/"), **self.more}
        return Answer(self.status, json.dumps(policy if ":getIamPolicy" in path else service).encode())

    def settings(self, **changes: Any) -> Settings:
        """Return the settings of a function on Cloud Run; ``local`` only leaves out the account's own token."""
        values: dict[str, Any] = {
            "project": "p",
            "task_url": TASKS,
            "task_account": QUEUE,
            "task_callers": (CRON,),
            "push_account": PUBSUB,
            "push_audience": PUSH,
            "token_secrets": ("s",),
            "console_audiences": (CONSOLE, GCLOUD),
            "oidc_certs_url": f"{self.server.url}/certs",
            "run_api_url": self.server.url,
            "trust_front_end": True,
            "service": "console",
            "local": True,
        }
        return Settings(**{**values, **changes})

    def whole(self, audience: str, email: str, /, **changes: Any) -> str:
        now = NOW // SECOND
        claims = {
            "iss": "https://accounts.google.com", "aud": audience, "email": email, "email_verified": True, "iat": now,
            "exp": now + 600,
        }  # fmt: skip
        return bytes(jwt.encode(self.issuer._signer, {**claims, **changes})).decode()

    @property
    def policy_reads(self) -> int:
        return sum(path.startswith("/v2/") for path in self.server.paths)


def stripped(token: str) -> str:
    """Return a token as Cloud Run passes it on."""
    return f"{token.rpartition('.')[0]}.{STRIPPED}"


@pytest.fixture(name="google")
def _google() -> Iterator[Google]:
    with answering() as server:
        yield Google(server)


def _console(google: Google, **changes: Any) -> Verify:
    return make_identify(google.settings(**changes), SteppedClock(NOW))


def _tasks(google: Google, **changes: Any) -> Verify:
    return make_verify_caller(google.settings(**changes), SteppedClock(NOW))


def _push(google: Google, **changes: Any) -> Verify:
    return make_verify_push(google.settings(**changes), SteppedClock(NOW))


DOORS: dict[str, tuple[Any, str, str]] = {
    "console": (_console, GCLOUD, YOU),
    "on_task": (_tasks, TASKS, QUEUE),
    "push": (_push, PUSH, PUBSUB),
}
"""Entry point → its verifier, an accepted audience, an accepted account."""


@pytest.fixture(name="door", params=DOORS)
def _door(request: pytest.FixtureRequest) -> tuple[Any, str, str]:
    return DOORS[request.param]


@pytest.mark.parametrize("header", ["Authorization", PLATFORM])
@pytest.mark.parametrize("is_whole", [True, False])
def test_what_the_front_end_passes_on_is_accepted(google: Google, door: Any, header: str, *, is_whole: bool) -> None:
    """A whole token needs no policy; for a stripped one it is read once."""
    make, audience, account = door
    verify = make(google)
    token = google.whole(audience, account)
    for _ in range(2):
        value = f"Bearer {token if is_whole else stripped(token)}"
        assert verify(Headers({header: value})) in (account, f"user:{account}")
    assert google.policy_reads == (0 if is_whole else 2)


def test_cloud_scheduler_is_accepted(google: Google) -> None:
    """It calls with its own account."""
    verify = _tasks(google)
    assert verify({"Authorization": f"Bearer {stripped(google.whole(TASKS, CRON))}"}) == CRON


@pytest.mark.parametrize("changes", [{"trust_front_end": False}, {"service": ""}], ids=str)
def test_no_front_end_is_trusted_unless_set_and_present(google: Google, door: Any, changes: Any) -> None:
    """The setting alone, or Cloud Run alone, is not enough."""
    make, audience, account = door
    token = google.whole(audience, account)
    verify = make(google, **changes)
    with pytest.raises(UnauthenticatedError, match="SCHEDULER_TRUST_FRONT_END and K_SERVICE"):
        verify({"Authorization": f"Bearer {stripped(token)}"})
    assert verify({"Authorization": f"Bearer {token}"}) in (account, f"user:{account}")


@pytest.mark.parametrize("other", ["Bearer {whole}", "Bearer {stripped}", "Bearer nonsense", ""])
def test_a_stripped_token_beside_the_platforms_header_is_refused(google: Google, door: Any, other: str) -> None:
    """The platform has checked the other header, and passes this one on as the sender wrote it."""
    make, audience, account = door
    own = google.whole(audience, "stranger@example.com")
    headers = {
        "Authorization": f"Bearer {stripped(google.whole(audience, account))}",
        PLATFORM: other.format(whole=own, stripped=stripped(own)),
    }
    with pytest.raises(UnauthenticatedError, match="the platform has not checked that header"):
        make(google)(Headers(headers))


def test_a_stripped_token_with_another_scheme_is_refused(google: Google) -> None:
    """Cloud Run checks bearer tokens only."""
    token = stripped(google.whole(GCLOUD, YOU))
    with pytest.raises(UnauthenticatedError, match="the platform has not checked that header"):
        _console(google)({"Authorization": f"OAuth {token}"})


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"iss": "https://evil.invalid"}, "issuer"),
        ({"iss": None}, "issuer"),
        ({"aud": "https://elsewhere.invalid"}, "audience is 'https://elsewhere.invalid', and the accepted audience"),
        ({"aud": ""}, "audience"),
        ({"exp": NOW // SECOND - 301}, "time"),
        ({"iat": NOW // SECOND + 301}, "time"),
        ({"exp": None}, "time"),
        ({"email_verified": False}, "not verified"),
        ({"email_verified": "true"}, "not verified"),
        ({"email_verified": None}, "not verified"),
        ({"email": ""}, "names no account"),
        ({"email": "securetoken.google.com/p:you@example.com"}, "names no account"),
        ({"email": "\u212aim@example.com"}, "names no account"),
        ({"email": ["you@example.com"]}, "names no account"),
    ],
    ids=str,
)
def test_each_claim_must_be_right(google: Google, door: Any, changes: dict[str, Any], fault: str) -> None:
    """The policy is not read for a token that would not be accepted anyway."""
    make, audience, account = door
    token = stripped(google.whole(audience, account, **changes))
    with pytest.raises(UnauthenticatedError, match=fault):
        make(google)({"Authorization": f"Bearer {token}"})
    assert google.policy_reads == 0


@pytest.mark.parametrize("name", ["on_task", "push"])
@pytest.mark.parametrize("account", [YOU, "other@p.iam.gserviceaccount.com", f"x{QUEUE}", QUEUE.upper()])
def test_tasks_and_pushes_have_their_accounts(google: Google, name: str, account: str) -> None:
    """No other account may call, even if it may call the console."""
    make, audience, _ = DOORS[name]
    for token in (google.whole(audience, account), stripped(google.whole(audience, account))):
        with pytest.raises(UnauthenticatedError, match="not the account that calls here"):
            make(google)({"Authorization": f"Bearer {token}"})


@pytest.mark.parametrize(
    ("members", "service"), [(["allUsers"], {}), ([f"user:{YOU}"], {"invokerIamDisabled": True})], ids=str
)
def test_an_open_service_trusts_whole_tokens_alone(google: Google, door: Any, members: Any, service: Any) -> None:
    """Anyone can write the mark that the platform leaves in the place of a signature."""
    make, audience, account = door
    google.members, google.more = members, service
    verify = make(google)
    token = google.whole(audience, account)
    with pytest.raises(UnauthenticatedError, match="the platform's check does not count"):
        verify({"Authorization": f"Bearer {stripped(token)}"})
    assert verify({"Authorization": f"Bearer {token}"}) in (account, f"user:{account}")


def test_an_unreadable_policy_is_a_retry(google: Google, door: Any) -> None:
    """The delivery is repeated, and a page says that it cannot be shown now."""
    make, audience, account = door
    google.status = 403
    with pytest.raises(TransientError, match=r"projects/p/locations/us-central1/services/console could not be read"):
        make(google)({"Authorization": f"Bearer {stripped(google.whole(audience, account))}"})


def _unsigned(header: dict[str, Any], claims: dict[str, Any], signature: str) -> str:
    parts = (base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in (header, claims))
    return f"{'.'.join(parts)}.{signature}"


@pytest.mark.parametrize("signature", ["", STRIPPED.lower(), f"{STRIPPED}A", f"{STRIPPED}=", "c2ln"])
@pytest.mark.parametrize("algorithm", ["none", "RS256", "HS256"])
def test_a_forged_token_without_the_mark_is_refused(google: Google, door: Any, signature: str, algorithm: str) -> None:
    """Any other text in the place of a signature is verified as a signature."""
    make, audience, account = door
    claims = {
        "iss": "https://accounts.google.com", "aud": audience, "email": account, "email_verified": True,
        "exp": NOW // SECOND + 60,
    }  # fmt: skip
    token = _unsigned({"alg": algorithm, "kid": google.issuer.key_id}, claims, signature)
    with pytest.raises(UnauthenticatedError, match=r"signature|algorithm"):
        make(google)({"Authorization": f"Bearer {token}"})


def test_doubled_headers_are_refused(google: Google, door: Any) -> None:
    """A server joins them with a comma, and the platform may have checked either."""
    make, audience, account = door
    good = google.whole(audience, "stranger@example.com")
    forged = stripped(google.whole(audience, account))
    for header in ("Authorization", PLATFORM):
        for pair in ((good, forged), (forged, good), (forged, forged)):
            with pytest.raises(UnauthenticatedError):
                make(google)({header: ",".join(f"Bearer {token}" for token in pair)})


def test_an_account_in_the_proxys_service_is_no_caller(google: Google) -> None:
    """Identity-Aware Proxy opens the service with its agent's token; the assertion names the caller."""
    verify = _console(google)
    for token in (google.whole(CONSOLE, IAP_AGENT), stripped(google.whole(CONSOLE, IAP_AGENT))):
        with pytest.raises(UnauthenticatedError, match="that of Identity-Aware Proxy"):
            verify({PLATFORM: f"Bearer {token}"})


def test_a_service_account_is_itself(google: Google) -> None:
    """A service account can get a token for gcloud's client, too; the policy decides what the account may do."""
    token = stripped(google.whole(GCLOUD, QUEUE))
    assert _console(google)({"Authorization": f"Bearer {token}"}) == f"user:{QUEUE}"


def test_an_access_token_names_the_caller_beside_the_platforms_header(google: Google) -> None:
    """Clients of LUCI open the service with an ID token, and identify themselves with an access token."""
    seen: list[str] = []

    def owner(token: str, _: str) -> str:
        seen.append(token)
        return "luci@example.com"

    identity = CallerIdentity(
        SteppedClock(NOW),
        fetch_iap_keys=lambda: b"{}",
        fetch_oidc_keys=lambda: b"{}",
        access_token_email=owner,
        bearer_audiences=(CONSOLE,),
    )
    opener = stripped(google.whole("https://elsewhere.invalid", YOU))
    headers = Headers({"Authorization": "Bearer ya29.x", PLATFORM: f"Bearer {opener}"})
    assert identity.identify(headers) == "user:luci@example.com"
    assert seen == ["ya29.x"]


def test_a_custom_client_beside_the_platforms_header(google: Google) -> None:
    """The command's whole token counts, and the token of the platform's header does not."""
    opener = stripped(google.whole(CONSOLE, IAP_AGENT))
    whole = google.whole("1-me.apps.googleusercontent.com", YOU)
    verify = _console(google, console_audiences=("1-me.apps.googleusercontent.com",))
    assert verify(Headers({"Authorization": f"Bearer {whole}", PLATFORM: f"Bearer {opener}"})) == f"user:{YOU}"


@pytest.mark.parametrize(
    ("changes", "remedy"),
    [
        ({"iap_audience": "/projects/1/locations/us-central1/services/console"}, "in a browser, or run"),
        ({}, "or open the console with `gcloud run services proxy`"),
        ({"trust_front_end": False}, "or send an ID token for an accepted audience"),
    ],
)
def test_the_error_names_the_remedy(google: Google, changes: Any, remedy: str) -> None:
    """It names both audiences and the command, and never quotes the token."""
    token = google.whole("https://elsewhere.invalid", YOU)
    with pytest.raises(UnauthenticatedError) as raised:
        _console(google, **changes)({"Authorization": f"Bearer {token}"})
    text = str(raised.value)
    assert f"'https://elsewhere.invalid', and the accepted audience is {GCLOUD} or {CONSOLE}. " in text
    assert "`luci-scheduler login`" in text
    assert remedy in text
    assert not any(part in text for part in token.split("."))


def test_without_audiences_no_id_token_is_accepted(google: Google) -> None:
    """An audience that is not set accepts no token, not even one for the empty audience."""
    token = google.whole("", YOU)
    with pytest.raises(UnauthenticatedError, match="SCHEDULER_CONSOLE_AUDIENCES is not set"):
        _console(google, console_audiences=())({"Authorization": f"Bearer {token}"})
    for verify in (
        _push(google, push_audience=""),
        OidcVerifier(lambda: json.dumps(google.issuer.certificates()).encode(), "", {PUBSUB}, SteppedClock(NOW)).verify,
    ):
        with pytest.raises(UnauthenticatedError, match="audience"):
            verify({"Authorization": f"Bearer {google.whole('', PUBSUB)}"})


def test_pushes_without_an_account(google: Google) -> None:
    """The official Pub/Sub emulator sends no token. Everywhere else, no account means that no push is accepted."""
    token = {"Authorization": f"Bearer {google.whole(PUSH, PUBSUB)}"}
    for headers in ({}, token):
        assert _push(google, push_account="", local=True)(headers)
        with pytest.raises(UnauthenticatedError, match="SCHEDULER_PUSH_ACCOUNT is not set"):
            _push(google, push_account="", local=False)(headers)
    with pytest.raises(UnauthenticatedError, match="no bearer token"):
        _push(google, local=True)({})


@pytest.mark.parametrize("value", ["", "Basic x", "Bearer"])
def test_tasks_and_pushes_need_a_bearer_token(google: Google, value: str) -> None:
    """There are no anonymous callers."""
    for make in (_tasks, _push):
        with pytest.raises(UnauthenticatedError, match="no bearer token"):
            make(google)({"Authorization": value})
