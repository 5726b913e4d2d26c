"""OIDC tokens and notification tokens against the machine's clock, frozen at their boundaries."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import freezegun
import pytest

from emulator.cloud_tasks.oidc import TokenIssuer
from luci_scheduler.adapters.identity import OidcVerifier
from luci_scheduler.adapters.system import SystemClock
from luci_scheduler.core.errors import BadTokenError, TransientError
from luci_scheduler.core.identifiers import InvocationId, JobId
from luci_scheduler.core.identity import UnauthenticatedError
from luci_scheduler.core.notification_token import make_token, verify_token
from tests.waiting import until

ISSUED = datetime(2031, 3, 1, 12, tzinfo=UTC)
ACCOUNT, AUDIENCE = "tasks@p.iam.gserviceaccount.com", "https://on-task.invalid"
SLACK = timedelta(minutes=5)
LIFE = timedelta(hours=1)
SECOND, MILLISECOND = timedelta(seconds=1), timedelta(milliseconds=1)


@pytest.fixture(scope="module")
def issuer() -> TokenIssuer:
    """The signer, like Google."""
    return TokenIssuer()


def _verifier(issuer: TokenIssuer) -> OidcVerifier:
    keys = json.dumps(issuer.certificates()).encode()
    return OidcVerifier(lambda: keys, AUDIENCE, {ACCOUNT}, SystemClock())


def _header(issuer: TokenIssuer, account: str = ACCOUNT, audience: str = AUDIENCE) -> dict[str, str]:
    with freezegun.freeze_time(ISSUED):
        return {"Authorization": f"Bearer {issuer.issue(account, audience, SystemClock().now())}"}


def test_the_clock_is_frozen() -> None:
    """Otherwise none of these tests would prove anything."""
    with freezegun.freeze_time(ISSUED) as frozen:
        assert SystemClock().now() == int(ISSUED.timestamp()) * 10**9
        frozen.tick(SECOND)
        assert SystemClock().now() == (int(ISSUED.timestamp()) + 1) * 10**9


@pytest.mark.parametrize("age", [-SLACK, timedelta(0), LIFE, LIFE + SLACK], ids=str)
def test_a_token_is_accepted_from_five_minutes_before_to_five_minutes_after_its_time(
    issuer: TokenIssuer, age: timedelta
) -> None:
    """Both ends are included."""
    header = _header(issuer)
    with freezegun.freeze_time(ISSUED + age):
        assert _verifier(issuer).verify(header) == ACCOUNT


@pytest.mark.parametrize("age", [-SLACK - SECOND, LIFE + SLACK + SECOND, timedelta(days=-3650)], ids=str)
def test_a_token_is_refused_a_second_outside(issuer: TokenIssuer, age: timedelta) -> None:
    """A token is refused a second too early and a second too late."""
    header = _header(issuer)
    with freezegun.freeze_time(ISSUED + age), pytest.raises(UnauthenticatedError, match="time"):
        _verifier(issuer).verify(header)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [({"account": "mallory@p.invalid"}, "account"), ({"audience": "https://x.invalid"}, "audience")],
)
def test_a_token_for_another_audience_is_refused(issuer: TokenIssuer, changes: Any, reason: str) -> None:
    """Tokens in time and with a valid signature are refused for another audience or account."""
    header = _header(issuer, **changes)
    with freezegun.freeze_time(ISSUED), pytest.raises(UnauthenticatedError, match=reason):
        _verifier(issuer).verify(header)


def test_a_token_with_another_signature_is_refused(issuer: TokenIssuer) -> None:
    """The key's name alone proves nothing."""
    header = _header(TokenIssuer())
    with freezegun.freeze_time(ISSUED), pytest.raises(UnauthenticatedError, match="signature"):
        _verifier(issuer).verify(header)


def test_a_notification_token_lives_for_forty_eight_hours() -> None:
    """To the millisecond. The issuer's clock may be thirty seconds ahead."""
    job, invocation = JobId("p/j"), InvocationId(16)
    with freezegun.freeze_time(ISSUED) as frozen:
        token = make_token("secret", job, invocation, SystemClock().now())
        frozen.move_to(ISSUED + timedelta(hours=48))
        assert verify_token(["secret"], token, SystemClock().now()) == (job, invocation)
        frozen.tick(MILLISECOND)
        with pytest.raises(BadTokenError, match="expired"):
            verify_token(["secret"], token, SystemClock().now())
        frozen.move_to(ISSUED - timedelta(seconds=30))
        assert verify_token(["secret"], token, SystemClock().now()) == (job, invocation)
        frozen.move_to(ISSUED - timedelta(seconds=30, milliseconds=1))
        with pytest.raises(BadTokenError, match="future"):
            verify_token(["secret"], token, SystemClock().now())


class _Door:
    """A lock that counts the threads that have reached it."""

    def __init__(self) -> None:
        self.came: list[int] = []
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        self.came.append(threading.get_ident())
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()


def test_requests_that_wait_for_the_keys_share_the_outcome(
    issuer: TokenIssuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A silent server costs all of them one limit together, not one each. The next request tries again."""
    answers = [TimeoutError("silent"), TransientError("no time"), json.dumps(issuer.certificates())]
    fetches: list[object] = []
    door = _Door()

    def fetch() -> bytes:
        fetches.append(answers.pop(0))
        until(lambda: len(door.came) == 9 * len(fetches), "nine requests")
        if isinstance(fetches[-1], Exception):
            raise fetches[-1]
        return str(fetches[-1]).encode()

    verifier = OidcVerifier(fetch, AUDIENCE, {ACCOUNT}, SystemClock())
    monkeypatch.setattr(verifier._tokens._whole, "_lock", door)
    header = {"Authorization": f"Bearer {issuer.issue(ACCOUNT, AUDIENCE, SystemClock().now())}"}

    def ask(_: int) -> str:
        try:
            return verifier.verify(header)
        except TransientError as error:
            return str(error)

    for outcome in ("could not be fetched: silent", "could not be fetched: no time", ACCOUNT):
        with ThreadPoolExecutor(9) as pool:
            outcomes = set(pool.map(ask, range(9)))
        assert [outcome in found for found in outcomes] == [True]
    assert len(fetches) == 3


def test_a_withdrawn_key_counts_for_an_hour(issuer: TokenIssuer) -> None:
    """Google takes a stolen key out of its list; the function then refuses the tokens that the key signs."""
    keys = [issuer.certificates(), {}]
    with freezegun.freeze_time(ISSUED + SLACK) as frozen:
        verifier = OidcVerifier(lambda: json.dumps(keys.pop(0)).encode(), AUDIENCE, {ACCOUNT}, SystemClock())
        assert verifier.verify(_header(issuer)) == ACCOUNT
        frozen.tick(LIFE - SECOND)
        assert verifier.verify(_header(issuer)) == ACCOUNT
        assert len(keys) == 1
        frozen.tick(SECOND)
        with pytest.raises(UnauthenticatedError, match="signature is not accepted"):
            verifier.verify(_header(issuer))


def test_old_keys_count_while_downloads_fail(issuer: TokenIssuer) -> None:
    """Google's outage refuses no caller. Downloads are tried once a minute, because each may take its time limit."""
    answers: list[Any] = [json.dumps(issuer.certificates()).encode()]
    fetches: list[int] = []

    def fetch() -> bytes:
        fetches.append(SystemClock().now())
        if not answers:
            raise TimeoutError("silent")
        return bytes(answers.pop())

    with freezegun.freeze_time(ISSUED) as frozen:
        verifier = OidcVerifier(fetch, AUDIENCE, {ACCOUNT}, SystemClock())
        assert verifier.verify(_header(issuer)) == ACCOUNT
        frozen.tick(LIFE)
        for _ in range(5):  # at 0, 20, 40, 60 and 80 seconds after the hour
            assert verifier.verify(_header(issuer)) == ACCOUNT
            frozen.tick(20 * SECOND)
        assert len(fetches) == 3
        answers.append(b"{}")
        frozen.tick(20 * SECOND)
        with pytest.raises(UnauthenticatedError, match="signature is not accepted"):
            verifier.verify(_header(issuer))
