"""A reader of a tutorial: runs the commands of its page, in its order and on free ports."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from emulator.tcp_ports import free_port
from tests.waiting import until

__all__ = ["Reader", "reading"]

_BLOCKS = re.compile(r"^```\w*\n(.*?)^```", re.DOTALL | re.MULTILINE)


class Reader:
    """The terminals of a reader, who follows a page.

    Args:
        text: the page.
        folder: a new folder, which holds everything.
        ports: the ports that the page names.
        changes: texts of commands that the reader replaces.
    """

    def __init__(
        self, text: str, folder: Path, ports: tuple[str, ...], changes: Mapping[str, str] | None = None
    ) -> None:
        self.folder = folder / "serverless-luci-scheduler"
        self.folder.mkdir()
        self._output = folder / "up.txt"
        self._text = text
        self.ports = {port: str(free_port()) for port in ports}
        self._changes = {**self.ports, **(changes or {})}
        names = {
            f"GIT_{role}_{part}": "ada@example.com" for role in ("AUTHOR", "COMMITTER") for part in ("NAME", "EMAIL")
        }
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        self._environment = {**os.environ, **names, "PATH": path, "GIT_CONFIG_GLOBAL": os.devnull}

    def block(self, start: str) -> str:
        """Return the only fenced block of the page that starts with a text."""
        (block,) = (text for text in _BLOCKS.findall(self._text) if text.startswith(start))
        return str(block)

    def _here(self, text: str) -> str:
        return re.sub("|".join(map(re.escape, self._changes)), lambda found: self._changes[found[0]], text)

    def run(self, start: str, **replaced: str) -> str:
        """Run the block that starts with a text, in the folder where the block before ended; return its output.

        ``replaced`` are placeholders of the block, with the reader's values.
        """
        block = self._here(self.block(start))
        for word, value in replaced.items():
            block = block.replace(word, value)
        return self.shell(block)

    def shell(self, block: str) -> str:
        """Run lines in the folder where the block before ended; return their output."""
        # The variables of one block are those of the next, as in a terminal.
        script = f"set -e\n{block}\npwd >&2\necho URL=$LUCI_SCHEDULER_URL >&2\n"
        ran = subprocess.run(
            ["sh", "-c", script],
            cwd=self.folder,
            env=self._environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert ran.returncode == 0, ran.stdout + ran.stderr
        *_, folder, url = ran.stderr.splitlines()
        self.folder = Path(folder)
        self._environment["LUCI_SCHEDULER_URL"] = url.removeprefix("URL=")
        return ran.stdout

    def start(self, start: str) -> subprocess.Popen[str]:
        """Run the one command of a block in the second terminal, in memory."""
        command = f"exec {self._here(self.block(start)).strip()} --store memory"
        with self._output.open("w") as file:
            return subprocess.Popen(
                ["sh", "-c", command], cwd=self.folder, env=self._environment, stdout=file, stderr=file, text=True
            )

    def sees(self, pattern: str) -> bool:
        """Return whether the second terminal has a line with a pattern."""
        return re.search(pattern, self._output.read_text(encoding="utf-8")) is not None

    def waits_for(self, pattern: str, process: subprocess.Popen[str] | None = None) -> None:
        """Wait for a line in the second terminal, unless its ``process`` ends."""
        ended = lambda: process is not None and process.poll() is not None  # noqa: E731
        until(lambda: self.sees(pattern) or ended(), pattern, seconds=180)
        assert self.sees(pattern), self._output.read_text(encoding="utf-8")

    def save(self, path: str, text: str) -> None:
        """Save a file, with the path that the page names. An existing file gets the text at its end."""
        assert f"`{path}`" in self._text
        file = self.folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("a", encoding="utf-8") as opened:
            opened.write(text)


@contextmanager
def reading(reader: Reader, start: str) -> Iterator[Reader]:
    """Run the local cloud of a reader with the command of a block. Its end is as clean as after Ctrl-C."""
    with reader.start(start) as process:
        try:
            reader.waits_for("The local cloud is up", process)
            yield reader
            os.kill(process.pid, signal.SIGINT)
            assert process.wait(60) == 0
        finally:
            process.kill()
