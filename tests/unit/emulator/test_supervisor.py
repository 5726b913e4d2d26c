"""Functions as processes: served like in the cloud, restarted when they die, and with clear errors."""

import os
import signal
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from emulator.errors import LocalCloudError
from emulator.supervisor import FunctionProcess
from emulator.tcp_ports import is_open
from tests.waiting import until

SOURCE = """
import os, time
import functions_framework

@functions_framework.http
def answer(request):
    print("called", request.path, flush=True)
    if request.path == "/slow":
        time.sleep(1.5)
    if request.path == "/ids":
        return f"{os.getppid()} {os.getpid()}"
    if request.path == "/home":
        return os.path.expanduser("~")
    return os.environ.get("WORD", "") + os.environ.get("SCHEDULER_SECRET", "")
"""


def get(function: FunctionProcess, path: str = "/") -> str:
    with urllib.request.urlopen(function.url + path, timeout=20) as answer:
        return str(answer.read().decode())


def served(function: FunctionProcess) -> bool:
    try:
        return get(function) == "hello"
    except OSError:
        return False


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A file with one function."""
    path = tmp_path / "main.py"
    path.write_text(SOURCE, encoding="utf-8")
    return path


@pytest.fixture
def function(source: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FunctionProcess]:
    """A serving function, without the settings of this process."""
    monkeypatch.setenv("SCHEDULER_SECRET", "leaked")
    started = FunctionProcess("answer", {"WORD": "hello", "THREADS": "4"}, signature="http", source=source)
    started.start()
    try:
        started.wait_until_ready()
        yield started
    finally:
        started.stop()


def test_it_serves_with_its_own_environment(function: FunctionProcess) -> None:
    """Its output is kept; settings in the environment of its parent do not reach it."""
    assert get(function) == "hello"
    until(lambda: "called /" in function.output.lines)
    assert (function.starts, function.restarts) == (1, 0)


def test_the_home_of_the_user_stays_untouched(function: FunctionProcess) -> None:
    """A function has a home of its own, which goes with it: servers keep sockets there, and users keep credentials."""
    home = Path(get(function, "/home"))
    assert home.is_dir()
    assert home != Path.home()
    function.stop()
    assert not home.exists()


def test_a_killed_function_is_started_again(function: FunctionProcess) -> None:
    """Arbiter and worker die at once, and both are new afterwards, on the same port."""
    arbiter, worker = map(int, get(function, "/ids").split())
    assert function.pid == arbiter
    function.kill()
    until(lambda: not psutil.pid_exists(worker) and not psutil.pid_exists(arbiter))
    until(lambda: served(function))
    assert function.restarts == 1
    assert set(map(int, get(function, "/ids").split())).isdisjoint({arbiter, worker})


def test_the_worker_does_not_outlive_the_arbiter(function: FunctionProcess) -> None:
    """A worker without its arbiter would go on handling requests without a caller."""
    arbiter, worker = map(int, get(function, "/ids").split())
    os.kill(arbiter, signal.SIGKILL)
    until(lambda: not psutil.pid_exists(worker))
    until(lambda: served(function))
    assert {int(pid) for pid in get(function, "/ids").split()}.isdisjoint({arbiter, worker})
    assert function.restarts == 1


def test_a_frozen_function_answers_when_it_is_thawed(function: FunctionProcess) -> None:
    """STOP and CONT reach the worker, and nothing is restarted."""
    function.kill(signal.SIGSTOP)
    with pytest.raises(OSError, match="timed out"):
        urllib.request.urlopen(function.url, timeout=0.3)
    function.kill(signal.SIGCONT)
    assert get(function) == "hello"
    assert function.restarts == 0


def test_stop_lets_a_request_finish(function: FunctionProcess) -> None:
    """A running request completes. Afterwards the port is free and nothing is restarted."""
    answers: list[str] = []
    caller = threading.Thread(target=lambda: answers.append(get(function, "/slow")))
    caller.start()
    until(lambda: "called /slow" in function.output.lines)
    function.stop()
    caller.join(60)
    assert answers == ["hello"]
    assert not is_open(function.port)
    assert function.pid is None
    assert function.restarts == 0
    function.stop()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("import no_such_module_at_all", "ModuleNotFoundError: No module named 'no_such_module_at_all'"),
        ("def answer(:", "SyntaxError: invalid syntax"),
        ("raise RuntimeError('two\\nlines')", "RuntimeError: two"),
        ("x = 1", "MissingTargetException|answer"),
    ],
    ids=["import", "syntax", "raises", "no target"],
)
def test_a_function_that_dies_at_import(tmp_path: Path, text: str, says: str) -> None:
    """The error is one line with the reason, without endless restarts."""
    source = tmp_path / "main.py"
    source.write_text(text, encoding="utf-8")
    function = FunctionProcess("answer", {}, signature="http", source=source)
    function.start()
    with pytest.raises(LocalCloudError, match=f"function answer does not start: .*({says})") as raised:
        function.wait_until_ready()
    assert "\n" not in str(raised.value)
    assert function.starts == 1
    function.stop()


def test_a_busy_port(function: FunctionProcess, source: Path) -> None:
    """The error names the port at once."""
    with pytest.raises(LocalCloudError, match=f"port {function.port} for the function answer is in use"):
        FunctionProcess("answer", {}, function.port, signature="http", source=source)
