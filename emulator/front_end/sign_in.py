"""The sign-in page of IAP: a developer picks an account, without a password."""

from __future__ import annotations

import html
from collections.abc import Callable, Sequence
from urllib.parse import parse_qs, urlsplit

from werkzeug.datastructures import Headers

from emulator.front_end.exchange import ANSWERED_BY, Answer, Message, page

__all__ = ["SIGN_IN", "safe_path", "sign_in"]

SIGN_IN = "/_local/sign_in"
"""The path of the page. On the platform, it is on Google's site."""

_BY = "iap"


def sign_in(message: Message, accounts: Sequence[str], begin: Callable[[str], str]) -> Answer:
    """Answer a request to the page; ``begin`` starts a session and returns the value of ``Set-Cookie``."""
    if message.method in ("GET", "HEAD"):
        query = parse_qs(urlsplit(message.target).query)
        return _choice(accounts, safe_path(query.get("next", ["/"])[0]))
    form = parse_qs(message.body.decode("utf-8", "replace"))
    account, path = form.get("account", [""])[0], safe_path(form.get("next", ["/"])[0])
    if message.method != "POST" or account not in accounts:
        return page(400, "Bad request", "Choose one of the accounts.", _BY)
    return Answer(303, Headers({"Location": path, "Set-Cookie": begin(account), ANSWERED_BY: _BY}))


def safe_path(target: str) -> str:
    """Return a path with its query, or ``/`` for an address that could lead to another site."""
    is_path = target.startswith("/") and not target.startswith("//") and target.isprintable() and "\\" not in target
    return target if is_path else "/"


def _choice(accounts: Sequence[str], path: str) -> Answer:
    buttons = "".join(
        f'<p><button name="account" value="{html.escape(account)}">{html.escape(account)}</button></p>'
        for account in accounts
    )
    body = (
        '<!DOCTYPE html><html lang="en"><head><title>Sign in</title></head><body>'
        "<h1>Sign in to the local cloud</h1><p>Choose an account. There are no passwords here.</p>"
        f'<form method="post" action="{SIGN_IN}"><input type="hidden" name="next" value="{html.escape(path)}">'
        f"{buttons}</form></body></html>"
    )
    headers = {"Content-Type": "text/html; charset=UTF-8", "Cache-Control": "no-store", ANSWERED_BY: _BY}
    return Answer(200, Headers(headers), body.encode())
