"""Run a program that ends with its parent: ``launch.py exec COMMAND...`` or ``launch.py module NAME ARGUMENTS...``.

However the parent ends, even by SIGKILL, the program and all its forks are killed:

* On Linux the kernel sends SIGKILL when the parent ends (``PR_SET_PDEATHSIG``). The parent is the *thread* that started
  the process, so the starter must use a thread that keeps running. Forks do not inherit this. In ``module`` mode every
  fork renews it.
* Everywhere, a fork of this process waits for the end of standard input, a pipe that only the parent holds open, and
  then kills the process group. So the starter must provide the pipe and a new session.

Run as a script with ``-P``, so that the modules in this folder shadow nothing; it imports only the standard library.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

__all__: list[str] = []

_PR_SET_PDEATHSIG = 1


def die_with_parent() -> None:
    """On Linux, have the kernel kill this process when its parent ends; do nothing elsewhere."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def watch_standard_input() -> None:
    """Fork a process that kills the whole group once standard input has ended, and give this process an empty one."""
    if os.fork() == 0:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)  # the program may stop slowly: it is watched until then
        os.closerange(1, 256)
        while os.read(0, 4096):
            pass
        os.killpg(0, signal.SIGKILL)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)


def become(command: list[str]) -> None:
    """Become a program. If there is none, print one line and end with the status that a shell has for it, 127."""
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # Python ignores it, and the program would inherit that
    try:
        os.execvp(command[0], command)  # noqa: S606 - its purpose
    except OSError as error:
        sys.stderr.write(f"cannot run {command[0]}: {error.strerror}\n")
        sys.exit(127)


def main() -> None:
    """Become the program."""
    parent = os.getppid()
    mode, *command = sys.argv[1:]
    watch_standard_input()
    die_with_parent()
    if os.getppid() != parent:  # the parent ended before the request took effect
        os.killpg(0, signal.SIGKILL)
    if mode == "exec":
        become(command)
    import runpy  # noqa: PLC0415 - not needed for exec, which should be quick

    os.register_at_fork(after_in_child=die_with_parent)
    sys.argv = command
    runpy.run_module(command[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
