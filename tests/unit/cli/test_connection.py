"""The command's requests: who receives a token, and who does not."""

import threading
from pathlib import Path
from typing import Any

import pytest
import requests

from luci_scheduler.cli.errors import Exit
from luci_scheduler.cli.main import main
from tests.unit.cli.support import Console, run_on, says


@pytest.fixture(name="sent")
def _sent(monkeypatch: pytest.MonkeyPatch) -> list[tuple[requests.PreparedRequest, dict[str, Any]]]:
    """The request on the wire; the reply is empty."""
    seen: list[tuple[requests.PreparedRequest, dict[str, Any]]] = []

    ours, really = threading.current_thread(), requests.adapters.HTTPAdapter.send

    def send(adapter: Any, request: requests.PreparedRequest, **how: Any) -> requests.Response:
        if threading.current_thread() is not ours:  # of a local cloud that other tests share
            return really(adapter, request, **how)
        seen.append((request, how))
        answer = requests.Response()
        answer.status_code, answer._content, answer.url = 200, b")]}'\n{}", str(request.url)
        answer._content_consumed = True
        answer.headers["X-Prpc-Grpc-Code"] = "0"
        return answer

    monkeypatch.setattr(requests.adapters.HTTPAdapter, "send", send)
    return seen


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "c.example.com"])
def test_passwords_of_this_machine_do_not_take_the_place_of_the_token(
    host: str, sent: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command ignores a line for the console in ~/.netrc; without a token none is sent."""
    netrc = tmp_path / "netrc"
    netrc.write_text(f"machine {host} login canary password canary\n", encoding="utf-8")
    monkeypatch.setenv("NETRC", str(netrc))
    url = f"https://{host}"
    assert main(["jobs", "--url", url, "--token", "good"], {}) == 0
    assert sent[0][0].headers["Authorization"] == "Bearer good"
    if host != "c.example.com":
        assert main(["jobs", "--url", url], {}) == 0
        assert "Authorization" not in sent[1][0].headers


def test_proxies_are_for_other_machines(sent: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests to a console on this machine stay on it."""
    for name in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(name, "http://proxy.example.com:3128")
    for name in ("no_proxy", "NO_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    for url in ("http://localhost:8080", "https://c.example.com"):
        assert main(["jobs", "--url", url, "--token", "t"], {}) == 0
    here, there = (how["proxies"] for _, how in sent)
    assert not here
    assert there["https"] == "http://proxy.example.com:3128"


@pytest.mark.parametrize(
    "url",
    [
        "http://c.example.com",
        "http://localhost.example.com",
        "http://127.0.0.1@c.example.com",
        "https://user:canary@c.example.com",
        "c.example.com",
        "ftp://localhost",
        "https://",
        "http://[::1",
        "https://c.example.com:port",
    ],
)
@pytest.mark.parametrize("token", [[], ["--token", "canary"]])
def test_no_token_goes_over_plain_http(
    url: str, token: list[str], sent: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    """Another machine is reached only by https, with or without a given token; nothing is sent otherwise."""
    assert main(["jobs", "--url", url, *token], {}) == Exit.WRONG_USAGE
    assert sent == []
    message = capsys.readouterr().err
    assert "https://" in message
    assert "canary" not in message


@pytest.mark.parametrize(
    "url", ["http://localhost:1", "http://127.0.0.1", "http://[::1]:8080", "https://c.example.com"]
)
def test_tokens_go_only_to_https_or_this_machine(url: str, sent: list[Any]) -> None:
    """Https and this machine are accepted; a given token is sent unchanged."""
    assert main(["jobs", "--url", url, "--token", "t"], {}) == 0
    assert sent[0][0].headers["Authorization"] == "Bearer t"


@pytest.mark.parametrize("token", ["canary\n", "canary\nX-Other: 1", "canäry", "can ary"])
def test_a_token_that_is_invalid_in_a_header_is_wrong_usage(
    token: str, sent: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    """The error says that the token is invalid, not that there is no answer, and does not repeat the token."""
    assert main(["jobs", "--url", "https://c.example.com"], {"LUCI_SCHEDULER_TOKEN": token}) == Exit.WRONG_USAGE
    message = capsys.readouterr().err
    assert "the token contains" in message
    assert "canary" not in message
    assert "ary" not in message
    assert sent == []


def test_an_overloaded_console_is_retried_later(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Too many requests are not a refusal: the exit code says that the same call may succeed later."""

    def send(_: Any, request: requests.PreparedRequest, **__: Any) -> requests.Response:
        answer = requests.Response()
        answer.status_code, answer._content, answer.url = 429, b"more than 60 unknown access tokens", str(request.url)
        answer._content_consumed = True
        answer.headers["X-Prpc-Grpc-Code"] = "8"
        return answer

    monkeypatch.setattr(requests.adapters.HTTPAdapter, "send", send)
    assert main(["jobs", "--url", "https://c.example.com", "--token", "t"], {}) == Exit.UNAVAILABLE
    assert "too many requests: more than 60 unknown access tokens" in capsys.readouterr().err


# A hostile console ----------------------------------------------------------------------------------------------------

CONTROLS = "\x1b]0;owned\x07\x9b31m"


@pytest.mark.parametrize(
    "console",
    [
        Console(403, CONTROLS, X_Prpc_Grpc_Code="7"),
        says({"identity": f"user:{CONTROLS}@x", "seesSome": False}),
        says({"identity": "user:a@x", "policyProblem": CONTROLS}),
    ],
)
@pytest.mark.parametrize("options", [(), ("--json",)])
def test_no_answer_controls_the_terminal(
    console: Console, options: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    """Neither in errors, nor in texts, nor in JSON."""
    run_on(console, "login", "--url", "http://localhost:1", *options)
    shown = capsys.readouterr()
    assert (shown.out + shown.err).replace("\n", "").isprintable()
    assert "31m" in shown.out + shown.err


@pytest.mark.parametrize(
    ("console", "said"),
    [
        (Console(text="[" * 100_000, X_Prpc_Grpc_Code="0"), "not a JSON object"),
        (Console(200, "{}", X_Prpc_Grpc_Code="\u0663"), "check that --url"),
        (Console(200, "{}", X_Prpc_Grpc_Code="9" * 5000), "check that --url"),
    ],
)
def test_a_strange_answer_gives_one_line(console: Console, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    """No error of Python reaches the user."""
    assert run_on(console, "jobs", "--url", "http://localhost:1") != 0
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert said in lines[0]


def test_an_endless_answer_is_cut(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """It does not fill the memory."""
    monkeypatch.setattr("luci_scheduler.cli.session._MAX_BYTES", 1000)
    assert run_on(says({"jobs": ["x" * 1000]}), "jobs", "--url", "http://localhost:1") == Exit.UNAVAILABLE
    assert "TooLargeError" in capsys.readouterr().err


@pytest.mark.parametrize(
    "console", [Console(403, ""), Console(401, "", X_Goog_IAP_Generated_Response="true")], ids=["run", "iap"]
)
def test_a_local_front_end_wants_a_local_token(console: Console, capsys: pytest.CaptureFixture[str]) -> None:
    """The error names the option; no login of the real cloud is offered or used."""
    assert run_on(console, "login", "--url", "http://localhost:1") == Exit.NOT_ALLOWED
    assert "pass --token" in capsys.readouterr().err
    assert "Authorization" not in console.sent
