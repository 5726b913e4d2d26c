"""The official Firestore and Pub/Sub emulators, as child processes of this one."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from emulator.downloads import FIRESTORE, PUBSUB, cache_folder, fetch_firestore_jar, fetch_pubsub_jar
from emulator.errors import LocalCloudError, one_line
from emulator.java import find_java
from emulator.processes import Child, Output
from emulator.sdk import find_firestore_jar, find_pubsub_jar
from emulator.tcp_ports import HOST, free_port, require_free

__all__ = [
    "OfficialEmulator",
    "clear_documents",
    "export_documents",
    "start_firestore",
    "start_pubsub",
    "why_not_at_hand",
]

_READY_SECONDS = 60.0  # a start takes one to three seconds; a busy machine takes longer
_STOP_SECONDS = 5.0
_CALL_SECONDS = 30.0
_FIRESTORE_CLASS = "com.google.cloud.datastore.emulator.firestore.CloudFirestore"
# Quick to start and small: they serve one developer. The fixed language lets programs read the messages.
_FLAGS = ("-Duser.language=en", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xmx1g")


class OfficialEmulator:
    """A started emulator; it ends with `stop`, or when this process ends in any way.

    Args:
        name: the name in error messages.
        command: returns the command that serves a port.
        port: the port; 0 picks a free one.
        log: a file to append its output to.

    Raises:
        LocalCloudError: the port is in use, or Java cannot be started.
    """

    def __init__(
        self, name: str, command: Callable[[int], Sequence[str]], port: int = 0, log: Path | None = None
    ) -> None:
        self.name = name
        self.output = Output(log)
        self._command = command
        self._port = require_free(port, f"the {name} emulator")
        self._stopped = threading.Event()
        self._child = self._start()

    @property
    def address(self) -> str:
        """``host:port``, as FIRESTORE_EMULATOR_HOST and PUBSUB_EMULATOR_HOST have it."""
        return f"{HOST}:{self._port}"

    @property
    def pid(self) -> int:
        """The process ID of Java."""
        return self._child.pid

    def wait_until_ready(self, seconds: float = _READY_SECONDS) -> Self:
        """Wait at most ``seconds`` until the emulator answers, and return it.

        Raises:
            LocalCloudError: it ended, or it did not answer in time and was stopped; the text has the end of its output.
        """
        for _ in range(int(seconds / 0.05)):
            if self._child.poll() is not None:
                self._child.finish()
                raise LocalCloudError(self._why_it_ended())
            if self._answers():
                return self
            if self._stopped.wait(0.05):
                raise LocalCloudError(f"the {self.name} emulator was stopped while it started")
        self.stop()
        raise LocalCloudError(
            f"the {self.name} emulator did not answer within {seconds:.0f} s;"
            f" its last output: {self.output.last_words()}"
        )

    def reset(self) -> None:
        """Delete the data of all projects.

        Raises:
            LocalCloudError: it does not answer.
        """
        _request(self.address, "POST", "/reset")

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Stop the process inside ``with``: it answers nothing, and keeps its data and its connections."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGCONT)

    def stop(self) -> None:
        """Stop the emulator, by force if necessary; may be repeated."""
        self._stopped.set()
        self._child.stop(_STOP_SECONDS)

    def __enter__(self) -> Self:
        return self.wait_until_ready()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _start(self) -> Child:
        environment = {**os.environ, "JAVA_TOOL_OPTIONS": ""}
        try:
            return Child(self._command(self._port), environment=environment, output=self.output)
        except OSError as error:
            raise LocalCloudError(f"the {self.name} emulator cannot be started: {error}") from error

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://{self.address}/", timeout=2) as answer:
                return bool(answer.status == http.client.OK)
        except (OSError, http.client.HTTPException):
            return False

    def _port_was_taken(self) -> bool:
        return any("Address already in use" in line or "BindException" in line for line in self.output.lines)

    def _why_it_ended(self) -> str:
        lines = self.output.lines
        if any("UnsupportedClassVersionError" in line for line in lines):
            return f"the {self.name} emulator needs a newer Java than {self._command(0)[0]}: install Java 21 or later"
        if self._port_was_taken():
            return (
                f"port {self._port} for the {self.name} emulator is in use: "
                "end the program that listens there, or choose another"
            )
        cause = next((line for line in lines if "rror" in line or "xception" in line), self.output.last_words())
        return f"the {self.name} emulator ended at once (status {self._child.poll()}): {one_line(cause)}"


def clear_documents(address: str, project: str, database: str = "(default)") -> None:
    """Delete all documents of a database in the Firestore emulator at ``address``, if the database exists.

    Raises:
        LocalCloudError: it does not answer.
    """
    _request(address, "DELETE", f"/emulator/v1/projects/{project}/databases/{database}/documents")


def export_documents(address: str, project: str, folder: Path) -> None:
    """Write all documents of the database of the Firestore emulator at ``address`` into a new folder.

    `start_firestore` takes the file ``*/*.overall_export_metadata`` in it as ``seed``.

    Raises:
        LocalCloudError: it does not answer, or cannot write the folder.
        OSError: the folder exists or cannot be created.
    """
    folder.mkdir()
    body = {
        "database": f"projects/{project}/databases/(default)",
        "export_directory": str(folder.resolve()),
        "export_name": "documents",
    }
    _request(address, "POST", f"/emulator/v1/projects/{project}:export", body)


def _request(address: str, method: str, path: str, body: Mapping[str, str] | None = None) -> None:
    data = json.dumps(body).encode() if body else None
    request = urllib.request.Request(
        f"http://{address}{path}", data, {"Content-Type": "application/json"}, method=method
    )
    try:
        with urllib.request.urlopen(request, timeout=_CALL_SECONDS) as answer:  # noqa: S310 - see above
            answer.read()
    except (OSError, http.client.HTTPException) as error:
        raise LocalCloudError(f"the emulator on {address} refused {method} {path}: {error}") from error


def why_not_at_hand() -> str:
    """Return why the emulators cannot be started as things are, and what would help; empty if they can."""
    try:
        find_java()
    except LocalCloudError:
        return "no Java was found (the official emulators need 17 or later)"
    has_firestore = find_firestore_jar() or (cache_folder() / FIRESTORE.file).is_file()
    has_pubsub = find_pubsub_jar() or (cache_folder() / PUBSUB.file).is_file()
    are_here = has_firestore and has_pubsub
    return "" if are_here else "the official emulators are not installed (--store emulators downloads them)"


def start_firestore(
    port: int = 0, *, download_url: str = "", log: Path | None = None, seed: Path | None = None
) -> OfficialEmulator:
    """Start the Firestore emulator of an installed SDK, else the pinned download, without waiting for it.

    Args:
        port: the port; 0 picks a free port.
        download_url: the address of the folder to download from; the public one if empty.
        log: a file to append its output to.
        seed: a file ``*.overall_export_metadata`` of `export_documents`, whose documents it has from the beginning.

    Raises:
        LocalCloudError: Java or the emulator is not available, or the port is in use.
    """
    java = find_java()
    jar = find_firestore_jar() or fetch_firestore_jar(download_url)

    def command(chosen: int) -> Sequence[str]:
        # Without this, its web socket would take a random port, perhaps the port of another server.
        ports = (f"--host={HOST}", f"--port={chosen}", f"--websocket_port={free_port()}")
        seeds = (f"--seed_from_export={seed.resolve()}",) if seed else ()
        return (java, *_FLAGS, "-cp", str(jar), _FIRESTORE_CLASS, *ports, *seeds)

    return OfficialEmulator("Firestore", command, port, log)


def start_pubsub(port: int = 0, *, download_url: str = "", log: Path | None = None) -> OfficialEmulator:
    """Start the Pub/Sub emulator without waiting for it; the arguments and errors are those of `start_firestore`."""
    java = find_java()
    jar = find_pubsub_jar() or fetch_pubsub_jar(download_url)

    def command(chosen: int) -> Sequence[str]:
        return (java, *_FLAGS, "-jar", str(jar), f"--host={HOST}", f"--port={chosen}")

    return OfficialEmulator("Pub/Sub", command, port, log)
