"""One request to the pages, and how it is answered: templates, JSON twins, errors, redirects; and the headers of all of them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import jinja2

from luci_scheduler.api.context import Context
from luci_scheduler.web.tokens import form_token

__all__ = ["Answer", "PageError", "PageRequest", "address", "redirect", "static_file"]

Answer = tuple[str, int, dict[str, str]]
"""Body, status code, headers."""

_HEADERS = {
    # Nothing but our own style sheet, script and icon; the script may ask this host only. Nothing inline, no frame.
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-store",
}
_FOLDER = Path(__file__).parent
_STATIC = {
    "style.css": "text/css; charset=utf-8",
    "app.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
}


class PageError(Exception):
    """A page or an action cannot be had; the text is for people."""

    def __init__(self, code: int, message: str, hint: str | None = None) -> None:
        """Make one; ``hint`` says what can be done about it, in place of what the code alone suggests."""
        super().__init__(message)
        self.code = code
        self.message = message
        self.hint = hint


@dataclass(frozen=True, slots=True)
class PageRequest:
    """Who asks, for what, and in which form."""

    context: Context
    secrets: tuple[str, ...] = field(repr=False)
    """They sign the tokens of forms; the first one signs new ones."""
    query: Mapping[str, str] = field(default_factory=dict)

    @property
    def as_json(self) -> bool:
        """Whether the JSON twin is asked for."""
        return self.query.get("format") == "json"

    @property
    def who(self) -> str:
        """The caller's e-mail address; empty for somebody who is not signed in."""
        kind, _, value = self.context.caller.partition(":")
        return value if kind == "user" else ""

    def page(self, template: str, document: Any, status: int = 200, **values: Any) -> Answer:
        """Answer with a page, or with its JSON twin ``document`` where that is asked for."""
        if self.as_json:
            return _json(document, status)
        html = (
            _environment()
            .get_template(template)
            .render(
                **values,
                who=self.who,
                token=form_token(self.secrets[0], self.context.caller, self.context.runtime.clock.now()),
                # A key of its own for each form: the same form sent twice has one effect, a new page's form is a new request.
                fresh_key=lambda: f"web-{self.context.runtime.entropy.nonce():016x}",
                done=_DONE.get(self.query.get("done", ""), ""),
                json_address=_twin(self.query),
            )
        )
        return html, status, {**_HEADERS, "Content-Type": "text/html; charset=utf-8"}

    def error(self, code: int, message: str, hint: str | None = None) -> Answer:
        """Answer with an error, for people or as JSON; without a ``hint`` with what its code suggests to do."""
        shown = _HINTS.get(code, "") if hint is None else hint
        return self.page("error.html", {"error": message}, code, code=code, message=message, hint=shown)


_DONE = {
    "trigger": "The job is triggered. Its invocation appears here as soon as the job's policy starts one.",
    "rerun": "The invocation's triggers are emitted once more. The new invocation appears here as soon as it starts.",
    "abort": "The abort is on its way. This page shows when it is done.",
    "pause": "The job is paused.",
    "resume": "The job is resumed.",
    "backfill": "The triggers of the backfill are emitted. Invocations appear here as the job's policy starts them.",
}
"""What has been done before the page is shown again: value of ``done`` in its address → words. Nothing else is shown."""

_HINTS = {
    400: "Check the address, or go back and correct what was entered.",
    403: "Somebody who owns the project can do it, or grant you the permission in the access policy.",
    404: "It may have been removed, or be visible to others only. Check the address and who you are signed in as.",
    409: "The job is not in the state that this needs. Look at it again, then decide.",
    500: "This is likely to pass: load the page again in a moment. What was sent before may be sent again without harm.",
}


def redirect(to: str) -> Answer:
    """Send the browser on after an action has succeeded (302, the original's code; browsers then GET)."""
    return "", 302, {**_HEADERS, "Location": to, "Content-Type": "text/plain; charset=utf-8"}


def address(*parts: str, **query: str) -> str:
    """Return the address of a page of ours; each part is one segment of the path, empty query values are left out."""
    path = "/" + "/".join(quote(part, safe="") for part in parts)
    pairs = {name: value for name, value in query.items() if value}
    return f"{path}?{urlencode(pairs)}" if pairs else path


def _twin(query: Mapping[str, str]) -> str:
    """Return the address of a page's JSON twin, relative to the page."""
    return "?" + urlencode(
        {**{name: value for name, value in query.items() if name not in ("done", "job")}, "format": "json"}
    )


def static_file(name: str) -> Answer | None:
    """Answer with a file of ours, or None if there is no such file."""
    if name not in _STATIC:
        return None
    # The address that pages use names the content, so that it may be kept for good.
    headers = {"Content-Type": _STATIC[name], "Cache-Control": "public, max-age=31536000, immutable"}
    return _text(name), 200, {**_HEADERS, **headers}


@cache
def _text(name: str) -> str:
    return (_FOLDER / "static" / name).read_text(encoding="utf-8")


def _static_address(name: str) -> str:
    return f"/assets/{name}?v={hashlib.sha256(_text(name).encode()).hexdigest()[:12]}"


def _json(document: Any, code: int) -> Answer:
    text = json.dumps(document, indent=2, ensure_ascii=False) + "\n"
    return text, code, {**_HEADERS, "Content-Type": "application/json; charset=utf-8"}


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_FOLDER / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals.update(address=address, static_address=_static_address)
    return environment
