"""Every identity at every door: a token with any fault reads nothing, writes nothing, and leaves one log line."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Callable, Iterator, Mapping

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from google.auth import crypt, jwt

from luci_scheduler.cloud_ports import make_verify_push
from luci_scheduler.core.id_tokens import MAX_TOKEN, STRIPPED
from luci_scheduler.core.identity import UnauthenticatedError
from luci_scheduler.core.instants import HOUR, MINUTE, SECOND
from luci_scheduler.core.invocation import Status
from luci_scheduler.core.notification_token import LIFETIME, make_token
from tests.fuzz.site import CONSOLE, ON_TASK, Site
from tests.security.doors import DOORS, ON_EVENT, PUSH_ACCOUNT, Door, claims, guarded, push, signed
from tests.unit.api.support import STRANGER, world_for
from tests.unit.engine.world import JOB, config, world_settings

Doors = tuple[Site, Mapping[str, Door]]


@pytest.fixture(name="served")
def _served() -> Iterator[Doors]:
    with guarded() as served:
        yield served


def _segment(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def _with(**changes: object) -> Callable[[Site, Door], dict[str, str]]:
    return lambda served, door: _bearer(signed(served, claims(served, door, **changes)))


def _seconds(served: Site, ahead: int) -> int:
    return (served.world.clock.now() + ahead) // SECOND


def _expired(served: Site, door: Door) -> dict[str, str]:
    return _bearer(
        signed(served, claims(served, door, iat=_seconds(served, -2 * HOUR), exp=_seconds(served, -6 * MINUTE)))
    )


def _early(served: Site, door: Door) -> dict[str, str]:
    return _bearer(signed(served, claims(served, door, iat=_seconds(served, 6 * MINUTE))))


def _other_audience(served: Site, door: Door) -> dict[str, str]:
    others = {ON_TASK, ON_EVENT, CONSOLE} - {door.audience}
    return _bearer(signed(served, claims(served, door, aud=min(others))))


def _unsigned(served: Site, door: Door) -> dict[str, str]:
    return _bearer(signed(served, claims(served, door)).rpartition(".")[0] + ".")


def _algorithm_none(served: Site, door: Door) -> dict[str, str]:
    head = json.dumps({"alg": "none", "kid": served.issuer.key_id}).encode()
    return _bearer(f"{_segment(head)}.{_segment(json.dumps(claims(served, door)).encode())}.")


def _keyed_with_the_public_key(served: Site, door: Door) -> dict[str, str]:
    """HS256 over the published certificate, which a verifier without a pinned algorithm would take for its secret."""
    head = json.dumps({"alg": "HS256", "typ": "JWT", "kid": served.issuer.key_id}).encode()
    body = f"{_segment(head)}.{_segment(json.dumps(claims(served, door)).encode())}"
    key = served.issuer.certificates()[served.issuer.key_id].encode()
    return _bearer(f"{body}.{_segment(hmac.digest(key, body.encode(), hashlib.sha256))}")


def _pem(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )


_STRANGE_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
_STRANGE_CURVE = ec.generate_private_key(ec.SECP256R1())


def _other_key(served: Site, door: Door) -> dict[str, str]:
    signer = crypt.RSASigner.from_string(_pem(_STRANGE_KEY), served.issuer.key_id)
    return _bearer(bytes(jwt.encode(signer, claims(served, door))).decode())


def _unknown_key(served: Site, door: Door) -> dict[str, str]:
    signer = crypt.RSASigner.from_string(_pem(_STRANGE_KEY), "unknown")
    return _bearer(bytes(jwt.encode(signer, claims(served, door))).decode())


def _other_algorithm(served: Site, door: Door) -> dict[str, str]:
    signer = crypt.EsSigner.from_string(_pem(_STRANGE_CURVE), served.issuer.key_id)
    return _bearer(bytes(jwt.encode(signer, claims(served, door))).decode())


def _stripped(served: Site, door: Door) -> dict[str, str]:
    return _bearer(signed(served, claims(served, door)).rpartition(".")[0] + f".{STRIPPED}")


def _stripped_for_the_platform(served: Site, door: Door) -> dict[str, str]:
    return {"X-Serverless-Authorization": _stripped(served, door)["Authorization"]}


def _too_long(served: Site, door: Door) -> dict[str, str]:
    return _bearer(signed(served, claims(served, door, pad="x" * MAX_TOKEN)))


def _flipped(part: int) -> Callable[[Site, Door], dict[str, str]]:
    def flip(served: Site, door: Door) -> dict[str, str]:
        parts = signed(served, claims(served, door)).split(".")
        middle = len(parts[part]) // 2
        other = "A" if parts[part][middle] != "A" else "B"
        parts[part] = parts[part][:middle] + other + parts[part][middle + 1 :]
        return _bearer(".".join(parts))

    return flip


def _platform_headers(_: Site, _door: Door) -> dict[str, str]:
    """Headers that the platform adds and that anyone can send."""
    return {
        "X-CloudTasks-QueueName": "luci-scheduler",
        "X-CloudTasks-TaskName": "1",
        "X-CloudScheduler": "true",
        "X-AppEngine-QueueName": "q",
        "X-Goog-Authenticated-User-Email": "accounts.google.com:admin@example.com",
        "From": "noreply@google.com",
        "User-Agent": "Google-Cloud-Tasks",
    }


PROOFS: Mapping[str, Callable[[Site, Door], dict[str, str]]] = {
    "no token, but the headers of the platform": _platform_headers,
    "an empty token": lambda _, _door: {"Authorization": "Bearer "},
    "another scheme": lambda served, door: {
        "Authorization": f"Basic {_segment(signed(served, claims(served, door)).encode())}"
    },
    "an opaque token": lambda _, _door: _bearer("ya29.made-up"),
    "a token without its signature": _unsigned,
    "the algorithm none": _algorithm_none,
    "the public key as a shared key": _keyed_with_the_public_key,
    "another algorithm": _other_algorithm,
    "another key under a known ID": _other_key,
    "a key that is not published": _unknown_key,
    "a signature that the platform would have removed": _stripped,
    "the same in the platform's header": _stripped_for_the_platform,
    "a token of another function": _other_audience,
    "no audience": _with(aud=None),
    "several audiences": _with(aud=[ON_TASK, ON_EVENT, CONSOLE]),
    "another issuer": _with(iss="https://accounts.google.com.evil.example"),
    "no issuer": _with(iss=None),
    "an unverified address": _with(email_verified=False),
    "an address verified in words": _with(email_verified="true"),
    "no statement about the address": _with(email_verified=None),
    "no address": _with(email=None),
    "an expired token": _expired,
    "a token of the future": _early,
    "no end": _with(exp=None),
    "an endless token": _with(exp=1e30),
    "a token that is too long": _too_long,
    "a changed header": _flipped(0),
    "changed claims": _flipped(1),
    "a changed signature": _flipped(2),
}


@pytest.mark.parametrize("name", DOORS)
def test_a_wrong_proof_opens_no_door(served: Doors, name: str) -> None:
    """Each is refused with 401. Only the console has anonymous callers, who see no job and change nothing."""
    functions, doors = served
    door = doors[name]
    for proof, make in PROOFS.items():
        functions.world.store.counts.clear()
        answer = door.knock(functions, make(functions, door))
        about = (name, proof, answer)
        assert functions.world.counted() == "0R/0W/0c", about
        assert answer.writes == 0, about
        if door.function == "console" and proof.startswith("no token"):
            assert answer.code in (403, 404), about
            continue
        assert answer.code == 401, about
        assert answer.events == ["request_refused" if door.function == "console" else "unauthenticated"], about
    assert functions.world.invocations()[0].status is Status.RUNNING


@pytest.mark.parametrize("name", DOORS)
def test_a_good_proof_opens_its_door_only(served: Doors, name: str) -> None:
    """The control of the tests around it: the same request with the account's own token has its effect."""
    functions, doors = served
    door = doors[name]
    functions.world.store.counts.clear()
    answer = door.knock(functions, _with()(functions, door))
    assert answer.code in (200, 302), answer
    assert functions.world.store.counts["R"] or name == "sync"
    assert bool(answer.writes) == (name not in ("page", "sync", "sweep", "cloud build")), answer
    for other in doors.values():
        if other.audience != door.audience:
            answer = other.knock(functions, _with()(functions, door))
            assert (answer.code, answer.writes) == (401, 0), (name, other)


@pytest.mark.parametrize("name", ["commit", "notification", "cloud build", "sweep", "trigger", "sync"])
@pytest.mark.parametrize("account", [STRANGER, "tasks@other-project.iam.gserviceaccount.com", PUSH_ACCOUNT])
def test_another_account_opens_no_door_of_a_machine(served: Doors, name: str, account: str) -> None:
    """A valid token of Google for the right audience proves an account, and only one or two accounts count."""
    functions, doors = served
    if account == doors[name].account:
        account = "tasks@cloud-project.iam.gserviceaccount.com"
    functions.world.store.counts.clear()
    answer = doors[name].knock(functions, _with(email=account)(functions, doors[name]))
    assert (answer.code, answer.events, answer.writes) == (401, ["unauthenticated"], 0)
    assert functions.world.counted() == "0R/0W/0c"


def test_without_the_setting_of_its_account_no_push_is_accepted() -> None:
    """Only the local cloud, whose Pub/Sub emulator attaches no tokens, accepts each push."""
    clock = world_for().clock
    with pytest.raises(UnauthenticatedError, match="SCHEDULER_PUSH_ACCOUNT is not set"):
        make_verify_push(world_settings(), clock)({})
    assert make_verify_push(world_settings(local=True), clock)({}) == "the local cloud"
    with pytest.raises(UnauthenticatedError, match="no bearer token"):
        make_verify_push(world_settings(local=True, push_account=PUSH_ACCOUNT, push_audience="a"), clock)({})


# Notification tokens --------------------------------------------------------------------------------------------------


def _notify(functions: Site, door: Door, token: str, message: str, body: bytes = b"{}") -> tuple[int, list[str], int]:
    """Push a notification from Pub/Sub's own account; return code, log lines and writes."""
    pushed = Door(door.function, door.path, push(body, message, {"auth_token": token}), audience=ON_EVENT)
    functions.world.store.counts.clear()
    answer = pushed.knock(functions, _with(email=PUSH_ACCOUNT)(functions, pushed))
    return answer.code, answer.events, answer.writes


def test_each_changed_character_of_a_notification_token(served: Doors) -> None:
    """A flip of any bits is refused before anything is read. It is acknowledged, because it can never succeed."""
    functions, doors = served
    (invocation,) = functions.world.invocations()
    token = make_token("secret", JOB, invocation.id, functions.world.clock.now())
    for place, character in enumerate(token):
        changed = token[:place] + ("A" if character != "A" else "B") + token[place + 1 :]
        code, events, writes = _notify(functions, doors["notification"], changed, f"m{place}")
        assert (code, events, writes) in (
            (200, ["permanent_error"], 0),
            (500, ["key_unknown"], 0),  # the signature alone is wrong: a newer function may know its key
        ), (place, code, events)
        assert functions.world.counted() == "0R/0W/0c"
    assert _notify(functions, doors["notification"], token, "good")[::2] == (200, 1)


@pytest.mark.parametrize("after", [LIFETIME + SECOND, -31 * SECOND], ids=["expired", "not yet valid"])
def test_a_notification_token_has_its_time(served: Doors, after: int) -> None:
    """Outside of it, the token proves nothing."""
    functions, doors = served
    (invocation,) = functions.world.invocations()
    token = make_token("secret", JOB, invocation.id, functions.world.clock.now() - after)  # type: ignore[arg-type]
    assert _notify(functions, doors["notification"], token, "m") == (200, ["permanent_error"], 0)
    assert functions.world.counted() == "0R/0W/0c"


@pytest.mark.parametrize(
    ("key", "accepted"), [("signing", True), ("next", True), ("previous", True), ("before previous", False)]
)
def test_keys_after_a_rotation(key: str, accepted: bool) -> None:
    """The present key, the next and the previous verify. The key before them never does."""
    world = world_for(next_token_secret="next", previous_token_secret="previous")
    secrets = {"signing": "secret", "next": "next", "previous": "previous", "before previous": "older"}
    with guarded(world) as (functions, doors):
        (invocation,) = world.invocations()
        token = make_token(secrets[key], JOB, invocation.id, world.clock.now())
        code, events, writes = _notify(functions, doors["notification"], token, "m")
        if accepted:
            assert (code, writes) == (200, 1)
            return
        assert (code, events, writes) == (500, ["key_unknown"], 0)
        world.clock.advance(2 * HOUR)
        later = make_token("older", JOB, invocation.id, world.clock.now())
        assert _notify(functions, doors["notification"], later, "n") == (200, ["permanent_error"], 0)


def test_a_token_of_another_invocation_changes_only_that_one() -> None:
    """The build that a message names does not count: its token names the invocation, and Buildbucket the status."""
    world = world_for(config(("job", "other")))
    with guarded(world) as (functions, doors):
        (mine,), (other,) = world.invocations(), world.invocations("proj/other")  # type: ignore[arg-type]
        for build in world.buildbucket.builds.values():
            build["status"] = "STARTED"
        victim = other.task_data["build_id"]
        body = {"buildPubsub": {"build": {"id": victim, "status": "SUCCESS"}}, "build": {"id": victim}}
        token = make_token("secret", JOB, mine.id, world.clock.now())
        code, _, writes = _notify(functions, doors["notification"], token, "m", json.dumps(body).encode())
        assert (code, writes) == (200, 1)
        assert world.invocations("proj/other") == [other]  # type: ignore[arg-type]
        assert world.invocations()[0].status is Status.RUNNING


def test_a_form_token_is_no_notification_token_and_the_reverse(served: Doors) -> None:
    """The same secret signs both."""
    functions, doors = served
    form = doors["form"]
    token = form.body.split(b"token=")[1].split(b"&")[0].decode()
    assert _notify(functions, doors["notification"], token, "m") == (200, ["permanent_error"], 0)
    (invocation,) = functions.world.invocations()
    notification = make_token("secret", JOB, invocation.id, functions.world.clock.now())
    forged = Door(form.function, form.path, form.body.replace(token.encode(), notification.encode()), form.kind)
    answer = forged.knock(functions, _with()(functions, form))
    assert (answer.code, answer.writes) == (403, 0)
