"""Child processes: their output, their signals, and their end with the process that started them."""

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import psutil
import pytest

from emulator.processes import Child, Output, environment_without
from tests.waiting import until

ROOT = Path(__file__).parent.parent.parent.parent
LAUNCH = ROOT / "emulator" / "launch.py"
SLEEP = "import time; print('ready', flush=True); time.sleep(600)"


def runs(pid: int) -> bool:
    """Return whether a process runs; a process that has ended but was not waited for does not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def group(pid: int) -> list[int]:
    """Return the running processes of a group."""
    found = []
    for process in psutil.process_iter():
        try:
            if os.getpgid(process.pid) == pid and runs(process.pid):
                found.append(process.pid)
        except ProcessLookupError:
            continue
    return found


def python(code: str, output: Output) -> Child:
    return Child([sys.executable, "-c", textwrap.dedent(code)], environment=dict(os.environ), output=output)


def test_output_and_status(tmp_path: Path) -> None:
    """Both streams arrive by line, in memory and in the file; `last_words` is the last line that is not blank."""
    output = Output(tmp_path / "log")
    child = python(
        "import sys; print('one'); sys.stdout.flush(); print('two\\n', file=sys.stderr); sys.exit(3)", output
    )
    assert child.wait(20) == 3
    child.finish()
    assert output.lines == ["one", "two", ""]
    assert output.last_words() == "two"
    assert (tmp_path / "log").read_text(encoding="utf-8") == "one\ntwo\n\n"


def test_only_the_last_lines_are_kept() -> None:
    """The number of kept lines is bounded, however much a program prints."""
    output = Output()
    child = python("for n in range(5000): print(n)", output)
    child.wait(20)
    child.finish()
    assert output.lines == [str(number) for number in range(3000, 5000)]


def test_the_program_has_no_input_and_only_its_environment() -> None:
    """Standard input is empty, so that a program that reads it does not hang."""
    output = Output()
    code = "import os, sys; print(repr(sys.stdin.read()), os.environ.get('A'), 'PATH' in os.environ)"
    child = Child([sys.executable, "-c", code], environment={"A": "b"}, output=output)
    assert child.wait(20) == 0
    child.finish()
    assert output.lines == ["'' b False"]


def test_stop_terminates_and_then_kills() -> None:
    """A program may handle SIGTERM. If it does not end, a kill follows the grace period. Stopping is idempotent."""
    output, stubborn = Output(), Output()
    polite = python(
        "import signal, time; signal.signal(15, lambda *_: exit(7)); print(1, flush=True); time.sleep(600)", output
    )
    deaf = python(
        "import signal, time; signal.signal(15, signal.SIG_IGN); print(1, flush=True); time.sleep(600)", stubborn
    )
    until(lambda: output.lines and stubborn.lines)
    assert polite.stop(20) == 7
    assert deaf.stop(0.2) == -signal.SIGKILL
    assert polite.stop(1) == 7


def test_stop_also_ends_forked_processes() -> None:
    """A grandchild, which this process does not know, ends with the child."""
    output = Output()
    child = python(
        f"import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', {SLEEP!r}]); time.sleep(600)", output
    )
    until(lambda: output.lines == ["ready"])
    assert len(group(child.pid)) == 3  # the program, its child, and the watcher
    child.stop(20)
    until(lambda: group(child.pid) == [])


def test_a_program_that_ends_leaves_no_forks() -> None:
    """Its forks are killed once it has ended by itself."""
    output = Output()
    child = python(
        f"import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', {SLEEP!r}]); time.sleep(0.5)", output
    )
    assert child.wait(20) == 0
    child.finish()
    until(lambda: group(child.pid) == [])


def test_it_does_not_end_with_the_starting_thread() -> None:
    """For the kernel the parent is a thread, so the starting thread lives as long as this process."""
    output = Output()
    children: list[Child] = []
    thread = threading.Thread(target=lambda: children.append(python(SLEEP, output)))
    thread.start()
    thread.join()
    until(lambda: output.lines == ["ready"])
    time.sleep(0.2)  # a kill would happen at once; there is no other event to wait for
    assert children[0].poll() is None
    children[0].stop(5)


PARENT = """
import os, sys, time
from emulator.processes import Child, Output
child = Child([sys.executable, "-c", sys.argv[1]], environment=dict(os.environ), output=Output())
print(child.pid, flush=True)
time.sleep(600)
"""
WITH_A_CHILD = f"import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', {SLEEP!r}]); time.sleep(600)"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV], ids=lambda number: number.name)
def test_children_do_not_outlive_their_parent(number: signal.Signals) -> None:
    """Child and grandchild end with the parent in any case."""
    parent = subprocess.Popen([sys.executable, "-c", PARENT, WITH_A_CHILD], stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert parent.stdout is not None
    with parent.stdout:
        pid = int(parent.stdout.readline())
        until(lambda: len(group(pid)) == 3)
        os.kill(parent.pid, number)
        parent.wait(20)
    until(lambda: group(pid) == [])


@pytest.mark.skipif(sys.platform != "linux", reason="PR_SET_PDEATHSIG is Linux's")
def test_the_kernel_kills_even_without_the_watching_process() -> None:
    """The two ways do not depend on each other: here no process watches any more, and the child is frozen."""
    parent = subprocess.Popen([sys.executable, "-c", PARENT, SLEEP], stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert parent.stdout is not None
    with parent.stdout:
        pid = int(parent.stdout.readline())
        # The program starts after its request to the kernel.
        until(lambda: str(LAUNCH) not in psutil.Process(pid).cmdline() and len(group(pid)) == 2)
        for watcher in set(group(pid)) - {pid}:
            os.kill(watcher, signal.SIGKILL)
        os.kill(pid, signal.SIGSTOP)
        os.kill(parent.pid, signal.SIGKILL)
        parent.wait(20)
    until(lambda: group(pid) == [])


def test_the_watching_process_kills_even_without_the_kernel(tmp_path: Path) -> None:
    """Without the kernel's request, the end of standard input ends the child."""
    script = tmp_path / "launch.py"
    source = (ROOT / "emulator" / "launch.py").read_text(encoding="utf-8")
    script.write_text(source.replace('sys.platform == "linux"', "False"), encoding="utf-8")
    code = PARENT.replace(
        "child =", f"import emulator.processes\nemulator.processes._LAUNCH = {str(script)!r}\nchild ="
    )
    parent = subprocess.Popen([sys.executable, "-c", code, WITH_A_CHILD], stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert parent.stdout is not None
    with parent.stdout:
        pid = int(parent.stdout.readline())
        until(lambda: len(group(pid)) == 3)
        os.kill(parent.pid, signal.SIGKILL)
        parent.wait(20)
    until(lambda: group(pid) == [])


def test_a_program_that_does_not_exist() -> None:
    """A missing program ends at once with the reason."""
    output = Output()
    child = Child(["/does/not/exist"], environment={}, output=output)
    assert child.wait(20) == 127
    child.finish()
    assert output.last_words() == "cannot run /does/not/exist: No such file or directory"


def test_environment_without(monkeypatch: pytest.MonkeyPatch) -> None:
    """A prefix removes a whole family of variables."""
    monkeypatch.setenv("SCHEDULER_X", "1")
    monkeypatch.setenv("OTHER", "2")
    found = environment_without("SCHEDULER_")
    assert "SCHEDULER_X" not in found
    assert found["OTHER"] == "2"
