"""Callers: the identity that a verified token proves, and the error for a token that proves nothing."""

from __future__ import annotations

from typing import NewType

__all__ = ["ANONYMOUS", "Identity", "UnauthenticatedError", "user"]

Identity = NewType("Identity", str)
"""``user:<e-mail in lower case>`` or ``anonymous:anonymous``."""

ANONYMOUS = Identity("anonymous:anonymous")
"""The identity of a caller who sends no token."""


class UnauthenticatedError(Exception):
    """The caller's token is missing, not accepted, or belongs to another account; the message never quotes it."""


def user(email: str) -> Identity:
    """Return the identity of the account with an e-mail address; case does not matter."""
    return Identity(f"user:{email.lower()}")
