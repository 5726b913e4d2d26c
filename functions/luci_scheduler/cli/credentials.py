"""Logins of the command: how it obtains a token for each console, kept in the user's config folder.

The file holds no token. For an OAuth client it holds the client's secret and the refresh token, so only its owner may
read it. Every step has a total time limit.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from dataclasses import field
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from luci_scheduler.cli.errors import CommandError, Exit
from luci_scheduler.core.frozen import frozen

__all__ = ["CONSENT_LIMIT", "LIMIT", "Saved", "consent", "expiry", "forget", "load", "path", "save", "token_of"]

LIMIT = 30.0
"""Seconds to obtain a token. ``gcloud`` alone needs some seconds to start."""

CONSENT_LIMIT = 300.0
"""Seconds that a person has to give consent in the browser."""

_SCOPES = ("openid", "https://www.googleapis.com/auth/userinfo.email")
_CLOUD_PLATFORM = "https://www.googleapis.com/auth/cloud-platform"

T = TypeVar("T")


@frozen
class Saved:
    """A login at one console."""

    way: str
    """``gcloud``: the identity token of gcloud's account. ``client``: an OAuth client with a refresh token.
    ``service-account``: the account of the machine, or ``account`` by impersonation."""
    values: Mapping[str, str] = field(default_factory=dict, repr=False)
    """``client``: client_id, client_secret, refresh_token, token_uri. ``service-account``: audience, account."""


def path() -> Path:
    """Return the file that keeps the logins."""
    base = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(base) / "luci-scheduler" / "credentials.json"


def load(url: str) -> Saved | None:
    """Return the login at the console with this address, if there is one.

    Raises:
        CommandError: the file is unreadable, or other users may read it.
    """
    entry = _read().get(_key(url))
    return Saved(entry["way"], entry["values"]) if entry else None


def save(url: str, saved: Saved) -> None:
    """Keep the login at a console; replaces an earlier one.

    Raises:
        CommandError: as `load` does; also if the file cannot be written.
    """
    with _entries_to_change() as entries:
        entries[_key(url)] = {"way": saved.way, "values": dict(saved.values)}


def forget(url: str) -> bool:
    """Remove the login at a console; return whether there was one. Raises as `save` does."""
    with _entries_to_change() as entries:
        return entries.pop(_key(url), None) is not None


def _key(url: str) -> str:
    return urlsplit(url).netloc.lower()


def _read() -> dict[str, Any]:
    file = path()
    try:
        if file.stat().st_mode & 0o077:
            raise CommandError(f"other users may read {file}, which holds secrets: run `chmod 600 {file}`")
        entries = json.loads(file.read_text(encoding="utf-8"))
        return {name: item for name, item in entries.items() if {"way", "values"} <= item.keys()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, AttributeError) as error:
        raise CommandError(f"{file} is unreadable: remove it, and run `luci-scheduler login` again") from error


@contextmanager
def _entries_to_change() -> Iterator[dict[str, Any]]:
    """Give the entries of the file, and write them if they change. Concurrent commands wait, so no login is lost.

    The lock is held for two file operations, and ends with its process.
    """
    import fcntl  # noqa: PLC0415 - Windows lacks it, and most commands need no lock

    file = path()
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with file.with_suffix(".lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            entries = _read()
            before = dict(entries)
            yield entries
            if entries != before:
                _write(file, entries)
    except OSError as error:
        raise CommandError(f"{file} cannot be written: {error.strerror}") from error


def _write(file: Path, entries: Mapping[str, Any]) -> None:
    descriptor, name = tempfile.mkstemp(dir=file.parent)  # only its owner may read it
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as out:
            json.dump(entries, out)
        Path(name).replace(file)
    except OSError:
        Path(name).unlink()
        raise


def token_of(saved: Saved) -> str:
    """Return a fresh token of a login.

    Raises:
        CommandError: there is no token; the text has the remedy.
    """
    makers: Mapping[str, Callable[[Mapping[str, str]], str]] = {"gcloud": _gcloud_token, "client": _client_token}
    return makers.get(saved.way, _service_token)(saved.values)


def expiry(token: str) -> float:
    """Return when an ID token ends, in seconds since 1970; 0 if the token does not say it. Nothing is verified."""
    try:
        payload = token.split(".")[1]
        return float(json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))["exp"])
    except (IndexError, ValueError, KeyError, TypeError):
        return 0.0


def _gcloud_token(_: Mapping[str, str]) -> str:
    gcloud = shutil.which("gcloud")
    if gcloud is None:
        raise CommandError("gcloud is not installed: see https://cloud.google.com/sdk/docs/install", Exit.NOT_ALLOWED)
    try:
        ran = subprocess.run(  # noqa: S603 - the user's own gcloud
            [gcloud, "auth", "print-identity-token"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=LIMIT,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CommandError(f"gcloud gave no token: {type(error).__name__}", Exit.UNAVAILABLE) from error
    if ran.returncode != 0 or not ran.stdout.strip():
        raise CommandError("gcloud has no valid account: run `gcloud auth login`", Exit.NOT_ALLOWED)
    return ran.stdout.strip()


def _client_token(values: Mapping[str, str]) -> str:
    """Return an ID token of the person who gave consent; its audience is the OAuth client."""
    from google.oauth2.credentials import Credentials  # noqa: PLC0415 - only this way needs it

    names = ("refresh_token", "token_uri", "client_id", "client_secret")
    granted: Any = Credentials(None, **{name: values.get(name) for name in names}, scopes=list(_SCOPES))  # type: ignore[no-untyped-call]

    def refresh() -> str:
        granted.refresh(_request())
        return str(granted.id_token or "")

    return _obtained(refresh, "the consent is not valid any more: run `luci-scheduler login --client FILE` again")


def _service_token(values: Mapping[str, str]) -> str:
    """Return an ID token of the service account that Google's libraries find, or of an impersonated account."""
    audience, account = values["audience"], values.get("account", "")
    remedy = (
        f"no credentials for {audience}: run `luci-scheduler login --url {audience}`, "
        "pass --token, or set LUCI_SCHEDULER_TOKEN"
    )
    if account:
        remedy = f"no token of {account}: grant yourself roles/iam.serviceAccountTokenCreator on it"
    return _obtained(lambda: _impersonated(account, audience) if account else _machine_token(audience), remedy)


def _machine_token(audience: str) -> str:
    from google.oauth2 import id_token  # noqa: PLC0415 - only this way needs it

    fetch: Any = id_token.fetch_id_token
    return str(fetch(_request(), audience))


def _impersonated(account: str, audience: str) -> str:
    import google.auth  # noqa: PLC0415 - only this way needs it
    from google.auth import impersonated_credentials  # noqa: PLC0415

    own, _ = google.auth.default(scopes=[_CLOUD_PLATFORM])
    library: Any = impersonated_credentials
    target = library.Credentials(own, target_principal=account, target_scopes=[_CLOUD_PLATFORM])
    issued = library.IDTokenCredentials(target, target_audience=audience, include_email=True)
    issued.refresh(_request())
    return str(issued.token)


def _request() -> Any:
    from google.auth.transport.requests import Request  # noqa: PLC0415 - most commands do not need it

    return Request()


def _obtained(call: Callable[[], str], remedy: str) -> str:
    from google.auth.exceptions import GoogleAuthError  # noqa: PLC0415 - most commands do not need it

    try:
        token = _within(call, LIMIT)
    except TimeoutError as error:
        raise CommandError(f"no token arrived within {LIMIT:g} s", Exit.UNAVAILABLE) from error
    except GoogleAuthError as error:
        # The library's text may quote the answer of the token's server.
        raise CommandError(f"{remedy} ({type(error).__name__})", Exit.NOT_ALLOWED) from error
    if not token:
        raise CommandError(remedy, Exit.NOT_ALLOWED)
    return token


def consent(file: Path, limit: float = CONSENT_LIMIT) -> Saved:
    """Let a person consent in the browser, with an OAuth client of type "Desktop app", and return the login.

    The library runs the flow for installed apps: a redirect to this machine, with PKCE.

    Args:
        file: the client's JSON file, as Google's console offers it for download.
        limit: seconds for the whole flow.

    Raises:
        CommandError: the file is not such a client, the library is not installed, or the consent was not given in time.
    """
    flow = _flow(file)
    run: Any = flow.run_local_server
    prompt = "Open this page to sign in: {url}"
    # Without ``prompt`` and ``access_type``, Google gives a refresh token only for the first consent.
    asked = {"access_type": "offline", "prompt": "consent", "timeout_seconds": round(limit)}

    def ask() -> Any:
        with redirect_stdout(sys.stderr):  # the library prints the prompt, and standard output is for the result
            return run(host="127.0.0.1", port=0, authorization_prompt_message=prompt, **asked)

    try:
        granted = _within(ask, limit + 1)
    except Exception as error:  # the library passes on errors of four other libraries
        raise CommandError(f"the sign-in did not succeed: {type(error).__name__}", Exit.NOT_ALLOWED) from error
    if not granted.refresh_token:
        raise CommandError("Google gave no refresh token: run the command again", Exit.NOT_ALLOWED)
    names = ("client_id", "client_secret", "refresh_token", "token_uri")
    return Saved("client", {name: str(getattr(granted, name) or "") for name in names})


def _within(call: Callable[[], T], limit: float) -> T:
    from luci_scheduler.adapters.sockets import bounded  # noqa: PLC0415 - most commands do not need it

    return bounded(call, limit)


def _flow(file: Path) -> Any:
    try:
        from google_auth_oauthlib.flow import InstalledAppFlow  # noqa: PLC0415 - needs the extra
    except ImportError as error:
        raise CommandError("this needs an extra: pip install 'serverless-luci-scheduler[cli]'") from error
    try:
        client = json.loads(file.read_text(encoding="utf-8"))
        return InstalledAppFlow.from_client_config({"installed": client["installed"]}, list(_SCOPES))
    except OSError as error:
        raise CommandError(f"{file} is unreadable: {error.strerror}", Exit.WRONG_USAGE) from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CommandError(
            f"{file} is not an OAuth client of type Desktop app: download its JSON file from Google's console",
            Exit.WRONG_USAGE,
        ) from error
