"""The state that a local cloud with ``--folder`` keeps between its runs, in ``<folder>/state``.

Each save makes a new folder, and then replaces the file ``current``, which names it, in one step. So a crash at any
moment leaves a whole state: the new one or the one before.

| path | content |
|---|---|
| ``state/lock`` | locked while a local cloud uses the folder; holds its process ID |
| ``state/current`` | JSON: the fields of `Header` |
| ``state/<run>/documents.json`` | the documents of a local cloud in memory |
| ``state/<run>/firestore/`` | the export of the Firestore emulator |
| ``state/<run>/builds.json`` | the builds of Buildbucket and Cloud Build, and the commit statuses of GitHub |
"""

from __future__ import annotations

import base64
import fcntl
import hashlib
import json
import os
import re
import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, TextIO

from emulator.errors import LocalCloudError
from emulator.memory.store import MemoryStore

__all__ = ["Header", "KeptState", "kept_state", "read_documents", "write_documents"]

_VERSION = 1
_RUN = re.compile(r"run-[0-9a-f]{12}")
_CURRENT, _LOCK = "current", "lock"
_DOCUMENTS, _FIRESTORE, _BUILDS = "documents.json", "firestore", "builds.json"


@dataclass(frozen=True, slots=True)
class Header:
    """The content of ``current``."""

    run: str
    """The name of the folder with the rest."""
    store: str
    """``memory`` or ``emulators``."""
    project: str
    """The cloud project, which is part of each document's address."""
    now: int
    """The local cloud's time at its end, in nanoseconds; the next run's clock must not be behind it."""
    digest: str = ""
    """SHA-256 of the other fields and of all files in the folder, so that no damage goes unnoticed."""
    version: int = _VERSION


@dataclass(frozen=True, slots=True)
class KeptState:
    """The state in a folder, which no other local cloud uses."""

    folder: Path
    """``<folder>/state``."""
    header: Header | None
    """The state of the run before; None if there is none."""

    @property
    def firestore(self) -> Path | None:
        """The export for the Firestore emulator, or None if there is none."""
        exports = sorted(self._run.glob(f"{_FIRESTORE}/*/*.overall_export_metadata")) if self.header else []
        return exports[0] if exports else None

    def load_documents(self, store: MemoryStore) -> None:
        """Add the documents of the run before, if that ran in memory, to a store.

        Raises:
            LocalCloudError: the file is damaged.
        """
        if self.header is not None and self.header.store == "memory":
            read_documents(self._run / _DOCUMENTS, store)

    @property
    def builds(self) -> Any:
        """The exported state of the servers with builds; None if there is none.

        Raises:
            LocalCloudError: the file is damaged.
        """
        path = self._run / _BUILDS
        return _read_json(path) if self.header and path.exists() else None

    def save(
        self, store: str, project: str, now: int, *, documents: Callable[[Path], None], builds: Callable[[], object]
    ) -> None:
        """Replace the state by that of this run.

        Args:
            store: ``memory`` or ``emulators``.
            project: the cloud project.
            now: the local cloud's time.
            documents: writes the documents into a new folder.
            builds: returns the state of the servers with builds, as JSON takes it. It is called after ``documents``.

        Raises:
            LocalCloudError: the disk is full, or something else failed. The state before stays.
        """
        header = Header(f"run-{uuid.uuid4().hex[:12]}", store, project, now)
        folder = self.folder / header.run
        try:
            folder.mkdir()
            documents(folder)
            (folder / _BUILDS).write_text(json.dumps(builds()), encoding="utf-8")
            _flush(folder)
            _replace(self.folder / _CURRENT, json.dumps(asdict(_sealed(header, folder))))
        except OSError as error:
            shutil.rmtree(folder, ignore_errors=True)  # the disk may be full
            raise LocalCloudError(f"the state could not be saved in {self.folder}: {error.strerror}") from error
        _delete_runs(self.folder, keep=header.run)

    @property
    def _run(self) -> Path:
        return self.folder / (self.header.run if self.header else "")


@contextmanager
def kept_state(folder: Path, *, fresh: bool = False) -> Iterator[KeptState]:
    """Open the state below a local cloud's folder, and lock it until the end of the ``with`` block.

    Args:
        folder: the folder of the local cloud.
        fresh: forget the state of earlier runs.

    Raises:
        LocalCloudError: another local cloud uses the folder, or the state cannot be read.
    """
    place = folder / "state"
    with ExitStack() as stack:
        try:
            place.mkdir(parents=True, exist_ok=True)
            _lock(stack.enter_context((place / _LOCK).open("a+", encoding="utf-8")), folder)
            state = _open(place, fresh=fresh)
        except OSError as error:
            raise LocalCloudError(
                f"the folder {folder} cannot be used: {error.strerror}: {error.filename}; name another one"
            ) from error
        yield state


def _open(place: Path, *, fresh: bool) -> KeptState:
    if fresh:
        (place / _CURRENT).unlink(missing_ok=True)
    header = _read_header(place)
    _delete_runs(place, keep=header.run if header else "")  # of local clouds that were killed while they saved
    return KeptState(place, header)


def _lock(file: TextIO, folder: Path) -> None:
    """Lock a file until it is closed, and write this process into it."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        file.seek(0)
        raise LocalCloudError(
            f"another local cloud (process {file.read().strip() or 'unknown'}) uses {folder}: "
            "stop it, or choose another folder"
        ) from error
    file.truncate(0)
    file.write(str(os.getpid()))
    file.flush()


def _read_header(place: Path) -> Header | None:
    path = place / _CURRENT
    if not path.exists():
        return None
    found = _read_json(path)
    if not isinstance(found, Mapping) or found.get("version") != _VERSION:
        raise LocalCloudError(f"{path} is of another version of this program; --fresh forgets the state")
    try:
        header = Header(**found)
        is_whole = bool(_RUN.fullmatch(header.run)) and _sealed(header, place / header.run) == header
    except (OSError, TypeError) as error:
        raise _damaged(path) from error
    if not is_whole:
        raise _damaged(place)
    return header


def _sealed(header: Header, folder: Path) -> Header:
    """Return a header with the digest of its fields and of the files in a folder."""
    digest = hashlib.sha256(json.dumps(asdict(replace(header, digest=""))).encode())
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        with path.open("rb") as file:
            own = hashlib.file_digest(file, "sha256").hexdigest()
        digest.update(f"\n{path.relative_to(folder).as_posix()} {own}".encode())
    return replace(header, digest=digest.hexdigest())


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except (OSError, RecursionError, ValueError) as error:
        raise _damaged(path) from error


def _damaged(path: Path) -> LocalCloudError:
    return LocalCloudError(f"{path} is damaged; --fresh forgets the state, and repositories and configs stay")


def _replace(path: Path, text: str) -> None:
    """Write a file so that readers find the old or the new content, even after a power failure."""
    new = path.with_name(f"{path.name}.new")
    new.write_text(text, encoding="utf-8")
    _sync(new)
    new.replace(path)
    _sync(path.parent)


def _flush(folder: Path) -> None:
    """Have the disk hold everything in a folder."""
    for path in (folder, *folder.rglob("*")):
        _sync(path)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _delete_runs(place: Path, keep: str) -> None:
    for path in place.glob("run-*"):
        if path.name != keep:
            shutil.rmtree(path, ignore_errors=True)


# Documents ------------------------------------------------------------------------------------------------------------


def write_documents(folder: Path, store: MemoryStore) -> None:
    """Write the documents of a store in memory into a folder."""
    rows = [[list(path), _plain(document), list(log)] for path, document, log in store.kept()]
    (folder / _DOCUMENTS).write_text(json.dumps(rows), encoding="utf-8")


def read_documents(path: Path, store: MemoryStore) -> None:
    """Add the documents in a file to a store in memory.

    Raises:
        LocalCloudError: the file is damaged.
    """
    try:
        store.keep([(tuple(row[0]), _rich(row[1]), tuple(row[2])) for row in _read_json(path)])
    except (LookupError, TypeError, ValueError) as error:
        raise _damaged(path) from error


def _plain(value: Any) -> Any:
    """Return a document's value as JSON has it. Bytes, times and maps become an object with one member."""
    match value:
        case bytes():
            return {"bytes": base64.b64encode(value).decode()}
        case datetime():
            return {"time": value.isoformat()}
        case Mapping():
            return {"map": {name: _plain(member) for name, member in value.items()}}
        case list() | tuple():
            return [_plain(item) for item in value]
        case _:
            return value


def _rich(value: Any) -> Any:
    match value:
        case {"bytes": str(text)}:
            return base64.b64decode(text)
        case {"time": str(text)}:
            return datetime.fromisoformat(text)
        case {"map": members}:
            return {name: _rich(member) for name, member in members.items()}
        case list():
            return [_rich(item) for item in value]
        case _:
            return value
