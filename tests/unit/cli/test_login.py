"""Signing in: the front end is recognized, a token is obtained in the way of the login, and secrets stay secret."""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from luci_scheduler.cli import credentials
from luci_scheduler.cli.credentials import Saved
from luci_scheduler.cli.errors import CommandError, Exit
from luci_scheduler.cli.front_end import FrontEnd, front_end, obstacle
from luci_scheduler.cli.main import main
from luci_scheduler.cli.session import Session
from tests.outside_calls import SERVERS, OutsideCall
from tests.unit.cli.support import Console, in_turn, says

URL = "https://c-1.us-central1.run.app"
SECRET = "canary-7d1"
ADMIN = {"identity": "user:you@example.com", "isAdmin": True, "seesSome": True}
CLOUD_RUN = Console(403, "<html>Forbidden</html>")
JOBS = {"jobs": [{"jobRef": {"project": "p", "job": "a"}}, {"jobRef": {"project": "p", "job": "b"}}]}


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))


@pytest.fixture(name="gcloud")
def _gcloud(tmp_path: Path) -> Callable[[str], None]:
    """Install a gcloud that runs a script of the shell."""

    def install(script: str) -> None:
        file = tmp_path / "bin" / "gcloud"
        file.parent.mkdir(exist_ok=True)
        file.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
        file.chmod(0o755)

    return install


def _run(console: Any, *arguments: str) -> int:
    return main([*arguments, "--url", URL], {}, lambda options: Session(options, console, lambda _: None))


# Front ends -----------------------------------------------------------------------------------------------------------


class _Headers(dict[str, str]):
    """Headers as the HTTP library has them, for the names of these tests."""


@pytest.mark.parametrize(
    ("status", "headers", "expected"),
    [
        (200, {"X-Prpc-Grpc-Code": "0"}, FrontEnd.CONSOLE),
        (401, {"X-Prpc-Grpc-Code": "16"}, FrontEnd.CONSOLE),
        (302, {"Location": "https://accounts.google.com/o/oauth2/v2/auth?client_id=x"}, FrontEnd.IAP),
        (302, {"Location": "https://x.example.com/?next=accounts.google.com"}, FrontEnd.OTHER),
        (401, {"X-Goog-IAP-Generated-Response": "true"}, FrontEnd.IAP),
        (403, {"Server": "Google Frontend"}, FrontEnd.CLOUD_RUN),
        (401, {"WWW-Authenticate": 'Bearer error="invalid_token"'}, FrontEnd.CLOUD_RUN),
        (404, {}, FrontEnd.OTHER),
        (200, {"Content-Type": "text/html"}, FrontEnd.OTHER),
        (502, {}, FrontEnd.OTHER),
    ],
)
def test_front_ends_are_told_apart(status: int, headers: dict[str, str], expected: FrontEnd) -> None:
    """The answer to a call without a token shows who gave it."""
    assert front_end(status, _Headers(headers)) is expected


@pytest.mark.parametrize(
    ("status", "headers", "remedy"),
    [
        (401, {"X-Goog-IAP-Generated-Response": "true"}, "console.programmatic_clients"),
        (403, {"X-Goog-IAP-Generated-Response": "true"}, "console.members"),
        (302, {"Location": "https://accounts.google.com/x"}, "--client"),
        (403, {}, "console.members"),
        (401, {}, "gcloud auth login"),
        (404, {}, "terraform output console_url"),
        (200, {"X-Prpc-Grpc-Code": "0"}, ""),
    ],
)
def test_each_refusal_has_its_remedy(status: int, headers: dict[str, str], remedy: str) -> None:
    """The text names the variable or the command."""
    assert remedy in obstacle(status, _Headers(headers))
    assert bool(obstacle(status, _Headers(headers))) == bool(remedy)


# gcloud ---------------------------------------------------------------------------------------------------------------


def test_a_person_signs_in_with_gcloud(gcloud: Callable[[str], None], capsys: pytest.CaptureFixture[str]) -> None:
    """The command says who the person is, keeps no token, and later commands use the login."""
    gcloud(f'[ "$*" = "auth print-identity-token" ] && echo {SECRET}')
    who, jobs = says(ADMIN), says(JOBS)
    assert _run(in_turn(CLOUD_RUN, who, jobs), "login") == 0
    assert "Authorization" not in CLOUD_RUN.sent
    assert who.sent["Authorization"] == jobs.sent["Authorization"] == f"Bearer {SECRET}"
    shown = capsys.readouterr()
    assert shown.out == "signed in as you@example.com; you are an administrator; 2 jobs are visible\n"
    file = credentials.path()
    assert SECRET not in shown.out + shown.err + file.read_text(encoding="utf-8")
    assert (file.stat().st_mode & 0o777, file.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    later = says(JOBS)
    assert _run(later, "jobs") == 0
    assert later.sent["Authorization"] == f"Bearer {SECRET}"


def _id_token(seconds: float) -> str:
    claims = base64.urlsafe_b64encode(json.dumps({"exp": time.time() + seconds}).encode()).rstrip(b"=").decode()
    return f"eyJ.{claims}.{SECRET}"


@pytest.mark.parametrize(("seconds", "times"), [(3600, 1), (30, 3), (-5, 3)])
def test_a_token_is_used_until_shortly_before_its_end(
    seconds: float, times: int, tmp_path: Path, gcloud: Callable[[str], None]
) -> None:
    """Three calls of one command need one token, unless it ends within a minute."""
    log = tmp_path / "log"
    gcloud(f"echo run >> {log}\necho {_id_token(seconds)}")
    credentials.save(URL, Saved("gcloud"))
    options = argparse.Namespace(url=URL, token="", audience="", json=False)
    session = Session(options, in_turn(*[says(ADMIN)] * 3))
    for _ in range(3):
        session.call("WhoAmI", {})
    assert log.read_text(encoding="utf-8").count("run") == times


@pytest.mark.parametrize(
    "token", ["", "opaque", "a.b.c", "a.e30.c", "a.W10.c", f"a.{base64.b64encode(b'5').decode()}.c"]
)
def test_tokens_without_an_end(token: str) -> None:
    """Each call needs a new one."""
    assert credentials.expiry(token) == 0


def test_a_given_token_comes_before_the_login(gcloud: Callable[[str], None]) -> None:
    """The login of another console is not used either."""
    gcloud(f"echo {SECRET}")
    credentials.save(URL, Saved("gcloud"))
    console = says(JOBS)
    assert _run(console, "jobs", "--token", "other") == 0
    assert console.sent["Authorization"] == "Bearer other"
    assert credentials.load("https://d.example.com") is None


@pytest.mark.parametrize(
    ("console", "url"),
    [
        (CLOUD_RUN, "https://c.example.com"),
        (CLOUD_RUN, "https://run.app.example.com"),
        (CLOUD_RUN, "https://evilrun.app"),
        (Console(401, "", X_Prpc_Grpc_Code="16"), URL),
    ],
)
def test_gcloud_s_token_goes_only_where_its_signature_is_removed(
    console: Console, url: str, gcloud: Callable[[str], None], capsys: pytest.CaptureFixture[str]
) -> None:
    """Any other server could open all consoles behind Cloud Run's check with it."""
    gcloud(f"echo {SECRET}")
    only = in_turn(console)
    assert main(["login", "--url", url], {}, lambda options: Session(options, only)) == Exit.NOT_ALLOWED
    assert "gcloud's token" in capsys.readouterr().err
    assert credentials.load(url) is None


@pytest.mark.parametrize(
    ("caller", "said"),
    [
        ({"identity": "user:a@b.c", "seesSome": True}, "signed in as a@b.c; 2 jobs are visible"),
        ({"identity": "user:a@b.c"}, "you may see no job: add user:a@b.c to console.admins"),
        ({"identity": "anonymous:anonymous"}, "not signed in"),
        ({"identity": "user:a@b.c", "policyProblem": "the policy is broken"}, "the policy is broken"),
    ],
)
def test_login_says_what_is_missing(
    caller: dict[str, Any], said: str, gcloud: Callable[[str], None], capsys: pytest.CaptureFixture[str]
) -> None:
    """The exit code is 1 if the person may see nothing."""
    gcloud(f"echo {SECRET}")
    code = _run(in_turn(CLOUD_RUN, says(caller), says(JOBS)), "login")
    assert code == (0 if caller.get("seesSome") else 1)
    assert said in capsys.readouterr().out


@pytest.mark.parametrize(
    ("script", "code", "said"),
    [
        ("exit 1", Exit.NOT_ALLOWED, "gcloud auth login"),
        ("true", Exit.NOT_ALLOWED, "gcloud auth login"),
        ("exec /bin/sleep 60", Exit.UNAVAILABLE, "gcloud gave no token: TimeoutExpired"),
        ("", Exit.NOT_ALLOWED, "gcloud is not installed"),
    ],
)
def test_gcloud_without_a_token(
    script: str,
    code: Exit,
    said: str,
    gcloud: Callable[[str], None],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The error has the remedy, comes in time, and no login is kept."""
    if script:
        gcloud(script)
    if "sleep" in script:
        monkeypatch.setattr(credentials, "LIMIT", 0.3)
    assert _run(CLOUD_RUN, "login") == code
    assert said in capsys.readouterr().err
    assert credentials.load(URL) is None


def test_a_page_that_is_no_console(capsys: pytest.CaptureFixture[str]) -> None:
    """No token is made for it."""
    assert _run(Console(200, "<html>"), "login") == Exit.FAILED
    assert "not as a console: use the address of `terraform output -raw console_url`" in capsys.readouterr().err


def test_a_person_behind_iap_needs_a_client(capsys: pytest.CaptureFixture[str]) -> None:
    """Identity-Aware Proxy takes no token of gcloud's own client."""
    iap = Console(302, "", Location="https://accounts.google.com/x")
    assert _run(iap, "login") == Exit.NOT_ALLOWED
    assert "console.programmatic_clients" in capsys.readouterr().err


def test_a_local_console_needs_no_login(capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is kept for it."""
    console = in_turn(says(ADMIN), says(ADMIN), says(JOBS))
    code = main(["login", "--url", "http://localhost:1"], {}, lambda options: Session(options, console))
    assert (code, credentials.path().exists()) == (0, False)
    assert "2 jobs" in capsys.readouterr().out


# OAuth client ---------------------------------------------------------------------------------------------------------


class _Google:
    """Google's sign-in page and token endpoint on loopback; records the requests."""

    def __init__(self) -> None:
        self.asked: dict[str, str] = {}
        self.exchanged: list[dict[str, str]] = []
        google = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"])).decode()
                form = dict(urllib.parse.parse_qsl(body))
                google.exchanged.append(form)
                answer = {"access_token": "a", "expires_in": 3600, "token_type": "Bearer", "id_token": SECRET}
                if form["grant_type"] == "authorization_code":
                    answer["refresh_token"] = f"refresh-{SECRET}"
                answer["scope"] = "openid https://www.googleapis.com/auth/userinfo.email"
                text = json.dumps(answer).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def open(self, url: str, **_: Any) -> None:
        """Consent, as a browser does after the person has."""
        self.asked = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(url).query))
        query = urllib.parse.urlencode({"code": "the-code", "state": self.asked["state"]})
        thread = threading.Thread(target=_visit, args=(f"{self.asked['redirect_uri']}?{query}",), daemon=True)
        thread.start()


def _visit(url: str) -> None:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    opener.open(url, timeout=20).close()


@contextmanager
def _google() -> Iterator[_Google]:
    google = _Google()
    thread = threading.Thread(target=google.server.serve_forever, daemon=True)
    thread.start()
    yield google
    google.server.shutdown()
    google.server.server_close()
    thread.join(10)


def _client_file(tmp_path: Path, url: str) -> Path:
    client = {
        "client_id": "123.apps.googleusercontent.com",
        "client_secret": f"client-{SECRET}",
        "auth_uri": f"{url}/auth",
        "token_uri": f"{url}/token",
    }
    file = tmp_path / "client.json"
    file.write_text(json.dumps({"installed": client}), encoding="utf-8")
    return file


def test_a_person_signs_in_with_an_oauth_client(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The flow uses PKCE on loopback; each command gets a fresh token; a logout removes the refresh token."""
    monkeypatch.setenv("OAUTHLIB_INSECURE_TRANSPORT", "1")  # this Google has no certificate
    iap = Console(401, "", X_Goog_IAP_Generated_Response="true")
    with _google() as google:
        monkeypatch.setattr("webbrowser.get", lambda _: google)
        who = says(ADMIN)
        file = _client_file(tmp_path, google.url)
        assert _run(in_turn(iap, who, says(JOBS)), "login", "--client", str(file)) == 0
        verifier = google.exchanged[0]["code_verifier"].encode()
        challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier).digest()).rstrip(b"=").decode()
        assert (google.asked["code_challenge_method"], google.asked["code_challenge"]) == ("S256", challenge)
        assert google.asked["redirect_uri"].startswith("http://127.0.0.1:")
        assert {item["grant_type"] for item in google.exchanged[1:]} == {"refresh_token"}
        assert who.sent["Authorization"] == f"Bearer {SECRET}"
    shown = capsys.readouterr()
    assert SECRET not in shown.out + shown.err
    assert "Open this page to sign in" in shown.err
    kept = credentials.path().read_text(encoding="utf-8")
    assert f"refresh-{SECRET}" in kept
    assert f'"{SECRET}"' not in kept
    assert _run(None, "logout") == 0
    assert SECRET not in credentials.path().read_text(encoding="utf-8")
    assert "signed out" in capsys.readouterr().out
    assert _run(None, "logout") == 0
    assert "there was no login" in capsys.readouterr().out


@pytest.mark.timeout(60)
def test_consent_that_is_not_given_in_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command gives up, and its port is free again."""
    monkeypatch.setattr("webbrowser.get", lambda _: SimpleNamespace(open=lambda *_, **__: None))
    with pytest.raises(CommandError, match="the sign-in did not succeed"):
        credentials.consent(_client_file(tmp_path, "http://127.0.0.1:9"), limit=1)


@pytest.mark.parametrize("text", [None, "", "[]", "{}", '{"web": {}}', '{"installed": 5}', '{"installed": {}}'])
def test_files_that_are_no_client(tmp_path: Path, text: str | None) -> None:
    """The error says which file is needed."""
    file = tmp_path / "client.json"
    if text is not None:
        file.write_text(text, encoding="utf-8")
    with pytest.raises(CommandError, match=r"client.json is (unreadable|not an OAuth client of type Desktop app)"):
        credentials.consent(file)


_CALL = OutsideCall("token", 0.3, lambda _address, _limit: lambda: None, ())


@pytest.mark.timeout(60)
@pytest.mark.parametrize("server", SERVERS)
def test_a_token_server_that_does_not_answer(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command ends in time, and its error quotes nothing of the login."""
    monkeypatch.setattr(credentials, "LIMIT", 0.5)
    with SERVERS[server](_CALL) as address:
        values = {"client_id": "c", "client_secret": SECRET, "refresh_token": SECRET}
        login = Saved("client", {**values, "token_uri": f"http://{address}/token"})
        with pytest.raises(CommandError) as caught:
            credentials.token_of(login)
    assert SECRET not in str(caught.value)
    assert SECRET not in repr(login)


# Service accounts and the file ----------------------------------------------------------------------------------------


def test_a_service_account_is_impersonated(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its ID token has the audience of the console."""
    seen: dict[str, Any] = {}
    own = object()

    class Issued:
        token = SECRET

        def __init__(self, target: Any, **named: Any) -> None:
            seen.update(target=target, **named)

        def refresh(self, _: Any) -> None:
            seen["refreshed"] = True

    monkeypatch.setattr("google.auth.default", lambda **_: (own, ""))
    monkeypatch.setattr("google.auth.impersonated_credentials.Credentials", lambda *given, **named: (given, named))
    monkeypatch.setattr("google.auth.impersonated_credentials.IDTokenCredentials", Issued)
    who = says(ADMIN)
    assert _run(in_turn(CLOUD_RUN, who, says(JOBS)), "login", "--service-account", "ci@p.iam.gserviceaccount.com") == 0
    assert who.sent["Authorization"] == f"Bearer {SECRET}"
    assert seen["target"][0] == (own,)
    assert seen["target"][1]["target_principal"] == "ci@p.iam.gserviceaccount.com"
    assert (seen["target_audience"], seen["include_email"], seen["refreshed"]) == (URL, True, True)


def test_a_machine_without_credentials(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The remedy is the login."""
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "none.json"))
    assert _run(says(JOBS), "jobs") == Exit.NOT_ALLOWED
    assert f"run `luci-scheduler login --url {URL}`" in capsys.readouterr().err


def test_a_file_that_others_may_read_is_refused() -> None:
    """The error has the command that mends it."""
    credentials.save(URL, Saved("client", {"refresh_token": SECRET}))
    credentials.path().chmod(0o644)
    with pytest.raises(CommandError, match="run `chmod 600"):
        credentials.load(URL)


@pytest.mark.parametrize("text", ["", "[]", "{", '{"c-1.us-central1.run.app": 5}', "\x00"])
def test_an_unreadable_file(text: str) -> None:
    """It is refused, and the error says what to do."""
    credentials.save(URL, Saved("gcloud"))
    credentials.path().write_text(text, encoding="utf-8")
    with pytest.raises(CommandError, match="remove it, and run `luci-scheduler login` again"):
        credentials.load(URL)


def test_logins_at_the_same_time_are_all_kept() -> None:
    """Each command reads and writes the whole file, so it waits for the others."""
    urls = [f"https://c-{number}.us-central1.run.app" for number in range(20)]
    with ThreadPoolExecutor(len(urls)) as pool:
        list(pool.map(lambda url: credentials.save(url, Saved("gcloud")), urls))
    assert [url for url in urls if credentials.load(url) is None] == []


def test_a_file_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the file, and no copy of the secrets stays."""
    credentials.path().mkdir(parents=True)
    monkeypatch.setattr(credentials, "_read", dict)
    with pytest.raises(CommandError, match=r"credentials\.json cannot be written: Is a directory"):
        credentials.save(URL, Saved("client", {"refresh_token": SECRET}))
    assert [file.name for file in credentials.path().parent.iterdir() if file.is_file()] == ["credentials.lock"]
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "file"))
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(CommandError, match="cannot be written: Not a directory"):
        credentials.save(URL, Saved("gcloud"))
