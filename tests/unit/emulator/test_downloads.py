"""Downloads of the emulators are complete and correct, or fail with one line."""

import hashlib
import io
import threading
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from emulator import downloads
from emulator.downloads import Artefact, fetch, fetch_pubsub_jar
from emulator.errors import LocalCloudError

CONTENT = b"an emulator" * 200_000


def artefact(content: bytes = CONTENT, name: str = "emulator.jar") -> Artefact:
    return Artefact(name, len(content), hashlib.sha256(content).hexdigest())


class Server:
    """Serves files by name; ``claims`` overrides the announced length of a file."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.claims: dict[str, int] = {}
        self.requests: list[str] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                name = self.path.rpartition("/")[2]
                outer.requests.append(name)
                content = outer.files.get(name)
                if content is None:
                    self.send_error(404)
                    return
                self.send_response(200)
                self.send_header("Content-Length", str(outer.claims.get(name, len(content))))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: object) -> None:
                """Write nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}/emulators/"

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def server() -> Iterator[Server]:
    """A server on the loopback interface."""
    started = Server()
    yield started
    started.stop()


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, without settings in the environment."""
    monkeypatch.setenv("EMULATOR_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("EMULATOR_DOWNLOAD_URL", raising=False)
    return tmp_path / "cache"


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if not path.name.endswith(".lock"))


def test_a_file_is_downloaded_once(server: Server, cache: Path) -> None:
    """The downloaded file is complete, and the second request uses the cache."""
    server.files["emulator.jar"] = CONTENT
    assert fetch(artefact(), server.url).read_bytes() == CONTENT
    assert fetch(artefact(), server.url) == cache / "emulator.jar"
    assert server.requests == ["emulator.jar"]
    assert files(cache) == ["emulator.jar"]


def test_the_address_may_come_from_the_environment(
    server: Server, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """EMULATOR_DOWNLOAD_URL, with or without a trailing slash, is the default address."""
    server.files["emulator.jar"] = CONTENT
    monkeypatch.setenv("EMULATOR_DOWNLOAD_URL", server.url.rstrip("/"))
    assert fetch(artefact()).parent == cache


@pytest.mark.parametrize(
    ("served", "claim", "says"),
    [
        (CONTENT[:-1] + b"!", None, "was refused: its SHA-256 is"),
        (CONTENT[:-1], None, "only 2199999 of 2200000 bytes"),
        (CONTENT + b"!", None, "more than 2200000 of 2200000 bytes"),
        (CONTENT[:1000], len(CONTENT), "IncompleteRead|only 1000 of"),
        (None, None, r"cannot download .*/emulator\.jar \(HTTP 404\)"),
    ],
    ids=["corrupt", "short", "long", "truncated", "404"],
)
def test_a_wrong_file_is_refused(
    server: Server, cache: Path, served: bytes | None, claim: int | None, says: str
) -> None:
    """The error is one line, the cache stays empty, and the next attempt downloads again."""
    if served is not None:
        server.files["emulator.jar"] = served
    if claim is not None:
        server.claims["emulator.jar"] = claim
    with pytest.raises(LocalCloudError, match=says) as raised:
        fetch(artefact(), server.url)
    assert "\n" not in str(raised.value)
    assert files(cache) == []
    server.files["emulator.jar"], server.claims = CONTENT, {}
    assert fetch(artefact(), server.url).read_bytes() == CONTENT


def test_without_a_server(cache: Path) -> None:
    """The error names the settings that help."""
    with pytest.raises(LocalCloudError, match=r"EMULATOR_DOWNLOAD_URL.*--store memory"):
        fetch(artefact(), "http://127.0.0.1:1/")


def test_a_cache_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the cache and the setting."""
    (tmp_path / "file").write_text("", encoding="utf-8")
    monkeypatch.setenv("EMULATOR_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(LocalCloudError, match="set EMULATOR_CACHE"):
        fetch(artefact(), "http://127.0.0.1:1/")


def test_concurrent_callers_download_once(server: Server, cache: Path) -> None:
    """All callers get the file; one of them downloads it."""
    server.files["emulator.jar"] = CONTENT
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: fetch(artefact(), server.url).read_bytes(), range(8)))
    assert found == [CONTENT] * 8
    assert server.requests == ["emulator.jar"]
    assert files(cache) == ["emulator.jar"]


def archive(*names: str) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as file:
        for name in names:
            file.writestr(name, name)
    return content.getvalue()


@pytest.mark.usefixtures("cache")
def test_the_pubsub_archive_is_unpacked_once(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """The jar is found anywhere inside the archive."""
    content = archive("pubsub-emulator/lib/cloud-pubsub-emulator-0.8.35-all.jar", "pubsub-emulator/README")
    server.files["pubsub.zip"] = content
    monkeypatch.setattr(downloads, "PUBSUB", artefact(content, "pubsub.zip"))
    jar = fetch_pubsub_jar(server.url)
    assert jar.name == "cloud-pubsub-emulator-0.8.35-all.jar"
    assert jar.read_text(encoding="utf-8").endswith("-all.jar")
    assert fetch_pubsub_jar(server.url) == jar
    assert server.requests == ["pubsub.zip"]


@pytest.mark.usefixtures("cache")
@pytest.mark.parametrize(
    ("content", "says"), [(archive("README"), "contains no cloud-pubsub-emulator"), (b"not a zip", "cannot unpack")]
)
def test_an_archive_without_the_emulator(
    server: Server, monkeypatch: pytest.MonkeyPatch, content: bytes, says: str
) -> None:
    """The error names the file to delete."""
    server.files["pubsub.zip"] = content
    monkeypatch.setattr(downloads, "PUBSUB", artefact(content, "pubsub.zip"))
    with pytest.raises(LocalCloudError, match=f"{says}.*try again"):
        fetch_pubsub_jar(server.url)


def test_every_pinned_checksum_is_complete() -> None:
    """A checksum has 64 hex digits; a shorter one would refuse every download."""
    for pin in (downloads.FIRESTORE, downloads.PUBSUB):
        assert len(bytes.fromhex(pin.sha256)) == 32
        assert pin.size > 1 << 20


def test_the_cache_is_in_the_users_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without EMULATOR_CACHE the XDG folder counts."""
    monkeypatch.delenv("EMULATOR_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert downloads.cache_folder() == tmp_path / "serverless-luci-scheduler"
