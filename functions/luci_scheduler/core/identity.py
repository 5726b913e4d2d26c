"""Callers: the identity that a verified token proves, and the error for a token that proves nothing."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NewType

__all__ = ["ANONYMOUS", "Identity", "UnauthenticatedError", "email_of", "user"]

Identity = NewType("Identity", str)
"""``user:<e-mail in lower case>`` or ``anonymous:anonymous``."""

ANONYMOUS = Identity("anonymous:anonymous")
"""The identity of a caller who sends no token."""

_EMAIL = re.compile(r"[!-9;-?A-~]{1,200}@[!-9;-?A-~]{1,200}")
"""Printable ASCII characters, because two different letters can become one in lower case (the Kelvin sign becomes k).
No colon: an address from Identity Platform has its tenant and a colon in front, and anyone may register there."""


class UnauthenticatedError(Exception):
    """The caller's token is missing, not accepted, or belongs to another account; the message never quotes it."""


def user(email: str) -> Identity:
    """Return the identity of the account with an e-mail address; case does not matter."""
    return Identity(f"user:{email.lower()}")


def email_of(claims: Mapping[str, Any]) -> str:
    """Return the e-mail address that a token's claims name.

    Raises:
        UnauthenticatedError: they name none.
    """
    email = claims.get("email")
    if not isinstance(email, str) or not _EMAIL.fullmatch(email):
        raise UnauthenticatedError("the token names no account: its e-mail address is missing or not valid")
    return email
