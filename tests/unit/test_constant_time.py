"""Signatures are compared by ``hmac.compare_digest``, whose time does not depend on the first difference."""

import hmac
from collections.abc import Callable

import pytest

from luci_scheduler.core.errors import BadTokenError
from luci_scheduler.core.github_push import is_genuine as is_genuine_push
from luci_scheduler.core.identifiers import InvocationId, JobId
from luci_scheduler.core.instants import SECOND, Instant
from luci_scheduler.core.notification_token import make_token, verify_token
from luci_scheduler.web.tokens import form_token, is_genuine
from tests.pushes import signature

NOW = Instant(1_773_756_310 * SECOND)
JOB, INVOCATION = JobId("proj/job"), InvocationId(7)
SECRETS = ("new secret", "old secret")


def _notification(secret: str) -> bool:
    try:
        return verify_token(SECRETS, make_token(secret, JOB, INVOCATION, NOW), NOW) == (JOB, INVOCATION)
    except BadTokenError:
        return False


def _form(secret: str) -> bool:
    return is_genuine(SECRETS, form_token(secret, "user:a@example.com", NOW), "user:a@example.com", NOW)


def _push(secret: str) -> bool:
    return is_genuine_push(SECRETS, b"body", signature(b"body", secret))


TOKENS = pytest.mark.parametrize("is_accepted", [_notification, _form, _push])


@TOKENS
def test_only_the_comparison_decides(is_accepted: Callable[[str], bool], monkeypatch: pytest.MonkeyPatch) -> None:
    """A comparison that always holds accepts a forged token; a comparison that never holds refuses a genuine token."""
    assert is_accepted("new secret")
    assert not is_accepted("a guess")
    monkeypatch.setattr(hmac, "compare_digest", lambda *_: True)
    assert is_accepted("a guess")
    monkeypatch.setattr(hmac, "compare_digest", lambda *_: False)
    assert not is_accepted("new secret")


@TOKENS
@pytest.mark.parametrize("secret", ["new secret", "old secret", "a guess"])
def test_every_secret_is_compared(
    is_accepted: Callable[[str], bool], secret: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The number of comparisons does not depend on the secret that has signed the token."""
    compared, compare = [], hmac.compare_digest

    def counting(a: bytes, b: bytes) -> bool:
        compared.append((a, b))
        return compare(a, b)

    monkeypatch.setattr(hmac, "compare_digest", counting)
    assert is_accepted(secret) == (secret in SECRETS)
    assert len(compared) == len(SECRETS)
