"""Downloads of the emulators: pinned, checked against their checksums, and kept in a cache."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import http.client
import os
import shutil
import tempfile
import urllib.error
import urllib.request
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from emulator.errors import LocalCloudError, one_line

__all__ = ["FIRESTORE", "PUBSUB", "Artefact", "cache_folder", "fetch_firestore_jar", "fetch_pubsub_jar"]

DEFAULT_URL = "https://storage.googleapis.com/firebase-preview-drop/emulator/"
URL_VARIABLE = "EMULATOR_DOWNLOAD_URL"
CACHE_VARIABLE = "EMULATOR_CACHE"
_CHUNK = 1 << 20
_TIMEOUT_SECONDS = 60  # without a byte


@dataclass(frozen=True, slots=True)
class Artefact:
    """A published file whose content never changes."""

    file: str
    size: int
    sha256: str


FIRESTORE = Artefact(
    "cloud-firestore-emulator-v1.22.0.jar",
    136_707_194,
    "9b6498b7f62714d67f48f59b3818883cd682dbcd46b9f59511de81c97bb5166c",
)
PUBSUB = Artefact(
    "pubsub-emulator-0.8.35.zip",
    53_015_972,
    "b0f3b73a14b716ecf8925b7b8a0c8c858ffabddcf03df8b2b7fba682f48dc616",
)


def cache_folder() -> Path:
    """Return the folder of downloads: ``EMULATOR_CACHE``, else a folder in the user's cache."""
    if folder := os.environ.get(CACHE_VARIABLE):
        return Path(folder)
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "serverless-luci-scheduler"


def fetch_firestore_jar(url: str = "") -> Path:
    """Return the Firestore emulator's jar, downloading it if it is not cached; see `fetch`."""
    return fetch(FIRESTORE, url)


def fetch_pubsub_jar(url: str = "") -> Path:
    """Return the Pub/Sub emulator's jar, downloading and unpacking it if it is not cached; see `fetch`.

    Raises:
        LocalCloudError: as `fetch`; also if there is no emulator in the archive.
    """
    archive = fetch(PUBSUB, url)
    folder = archive.with_suffix("")
    with _locked(folder):
        if not folder.is_dir():
            _unpack(archive, folder)
    jars = sorted(folder.rglob("cloud-pubsub-emulator-*-all.jar"))
    if not jars:
        raise LocalCloudError(
            f"{archive} contains no cloud-pubsub-emulator-*-all.jar: delete it and {folder}, and try again"
        )
    return jars[-1]


def fetch(artefact: Artefact, url: str = "") -> Path:
    """Return the file, from the cache or newly downloaded. If several processes need it, one downloads it.

    A file is moved into the cache only after its checksum was verified, so a file under that name is complete.

    Args:
        artefact: the file.
        url: the address of its folder; if empty, ``EMULATOR_DOWNLOAD_URL``, else the public one.

    Raises:
        LocalCloudError: it cannot be downloaded, or is not the file that was pinned.
    """
    folder = cache_folder()
    target = folder / artefact.file
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _locked(target):
            if not target.is_file():
                address = f"{(url or os.environ.get(URL_VARIABLE) or DEFAULT_URL).rstrip('/')}/{artefact.file}"
                _download(address, artefact, target)
    except OSError as error:
        raise LocalCloudError(
            f"cannot write to the cache {folder}: {error}; set {CACHE_VARIABLE} to another folder"
        ) from error
    return target


def _download(address: str, artefact: Artefact, target: Path) -> None:
    with tempfile.NamedTemporaryFile(dir=target.parent, prefix=f"{target.name}.", suffix=".part") as file:
        digest = hashlib.sha256()
        size = 0
        for chunk in _chunks(address):
            size += len(chunk)
            if size > artefact.size:
                break  # any other answer is not the file
            digest.update(chunk)
            file.write(chunk)
        if size != artefact.size:
            raise LocalCloudError(
                f"{address} is not the file that was expected: "
                f"it has {'more than' if size > artefact.size else 'only'} {min(size, artefact.size)} "
                f"of {artefact.size} bytes; try again, or give another --download-url"
            )
        if digest.hexdigest() != artefact.sha256:
            raise LocalCloudError(
                f"{address} was refused: its SHA-256 is {digest.hexdigest()}, expected {artefact.sha256}; "
                "do not use that file, give another --download-url"
            )
        file.flush()
        os.fchmod(file.fileno(), 0o644)
        # A link leaves the temporary name for the context to remove; the replacement is atomic.
        link = target.with_name(f"{target.name}.{os.getpid()}.done")
        link.unlink(missing_ok=True)
        os.link(file.name, link)
        link.replace(target)


def _chunks(address: str) -> Iterator[bytes]:
    try:
        with urllib.request.urlopen(address, timeout=_TIMEOUT_SECONDS) as answer:  # noqa: S310 - the address is the user's own
            while chunk := answer.read(_CHUNK):
                yield chunk
    except urllib.error.HTTPError as error:
        error.close()
        raise _unreachable(address, f"HTTP {error.code}") from error
    except (urllib.error.URLError, http.client.HTTPException, ValueError, OSError) as error:
        raise _unreachable(address, one_line(str(getattr(error, "reason", error)))) from error


def _unreachable(address: str, why: str) -> LocalCloudError:
    return LocalCloudError(
        f"cannot download {address} ({why}): install the Google Cloud SDK with its components cloud-firestore-emulator "
        f"and pubsub-emulator, or give another address ({URL_VARIABLE}, --download-url), or use --store memory"
    )


def _unpack(archive: Path, folder: Path) -> None:
    temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f"{folder.name}."))
    try:
        with zipfile.ZipFile(archive) as file:
            file.extractall(temporary)  # the archive's checksum was right
        temporary.rename(folder)
    except (OSError, zipfile.BadZipFile) as error:
        raise LocalCloudError(f"cannot unpack {archive}: {error}; delete it and try again") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextlib.contextmanager
def _locked(target: Path) -> Iterator[None]:
    """Hold the lock file next to ``target``; other processes and threads wait."""
    with target.with_name(f"{target.name}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
