"""Configs in Gitiles repositories and in buckets: the requests, and the outcome of every kind of failure."""

import gzip
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from google.auth.exceptions import RefreshError
from werkzeug import Request, Response

from emulator.gitiles import GitilesServer, Repository
from emulator.gitiles.faults import GitilesFault
from emulator.serving.local_server import LocalServer
from luci_scheduler.adapters.config_sources import BucketSource, GitilesSource
from luci_scheduler.adapters.http import sessions
from luci_scheduler.cloud_ports import make_config_sources
from luci_scheduler.config.folder import FolderSource
from luci_scheduler.core.repo_url import parse_repo_url
from luci_scheduler.settings import Settings
from luci_scheduler.settings_reader import read_settings

HOST = "dawn.googlesource.com"
REPO = parse_repo_url(f"https://{HOST}/tint.git")
PATH = "infra/config/global/luci-scheduler.cfg"
TEXT = 'job {\n  id: "caf\u00e9"\n}\n'
OPEN = sessions(authenticated=False)


def _nothing_active(_: str) -> str:
    return ""


# Gitiles --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    """A repository that the server serves."""
    return Repository.create(tmp_path / HOST / "tint")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[GitilesServer]:
    """The local Gitiles server."""
    (tmp_path / HOST).mkdir(exist_ok=True)
    server = GitilesServer(tmp_path)
    server.start()
    yield server
    server.stop()


def _source(server: GitilesServer, path: str = PATH, *, prefix: str = "", session: object = OPEN) -> GitilesSource:
    url = server.url_of(HOST) + prefix
    return GitilesSource("tint", REPO, "refs/heads/main", path, url, session)  # type: ignore[arg-type]


def test_gitiles_file(server: GitilesServer, repository: Repository) -> None:
    """The revision is the last commit that touched the file, with its public address. The text is as committed."""
    sha = repository.commit("Config\n", {PATH: TEXT}, branch="main", at=1)
    repository.commit("Other\n", {"other": "x"}, branch="main", at=2)
    (file,) = _source(server).configs(_nothing_active)
    assert (file.project, file.revision, file.error) == ("tint", sha, "")
    assert file.text == TEXT.encode()
    assert file.revision_url == f"https://{HOST}/tint/+/{sha}/{PATH}"


def test_gitiles_unchanged_costs_one_small_request(server: GitilesServer, repository: Repository) -> None:
    """With the active revision, the file is not sent. A commit to other files does not change it."""
    sha = repository.commit("Config\n", {PATH: TEXT}, branch="main", at=1)
    assert _source(server).configs(lambda _: sha) == []
    assert len(server.requests) == 1
    repository.commit("Other\n", {"other": "x"}, branch="main", at=2)
    assert _source(server).configs(lambda _: sha) == []
    changed = repository.commit("Config again\n", {PATH: "# empty\n"}, branch="main", at=3)
    (file,) = _source(server).configs(lambda _: sha)
    assert (file.revision, file.text) == (changed, b"# empty\n")


def test_gitiles_removed_file(server: GitilesServer, repository: Repository) -> None:
    """A commit that removes or moves the file leaves no jobs. A missing file alone does not suffice."""
    repository.commit("Config\n", {PATH: TEXT, "keep": "x"}, branch="main", at=1)
    removed = repository.commit("Remove\n", {PATH: None}, branch="main", at=2)
    (file,) = _source(server).configs(_nothing_active)
    assert (file.text, file.revision, file.error) == (b"", removed, "")
    repository.commit("Config\n", {PATH: TEXT}, branch="main", at=3)
    server.faults.add(GitilesFault("error", f"/tint/+/*/{PATH}", status=404))
    (file,) = _source(server).configs(_nothing_active)
    assert file.error.endswith("cannot be read: HTTP 404")


@pytest.mark.parametrize("status", [401, 403, 404, 429, 500, 503])
def test_gitiles_errors(server: GitilesServer, repository: Repository, status: int) -> None:
    """Each failure is recorded as the project's problem, with the address; no error is raised."""
    repository.commit("Config\n", {PATH: TEXT}, branch="main", at=1)
    server.faults.add(GitilesFault("error", "*", status=status))
    (file,) = _source(server).configs(_nothing_active)
    assert file.error == f"{PATH} of https://{HOST}/tint (refs/heads/main) cannot be read: HTTP {status}"


@pytest.mark.parametrize("effect", ["cut", "cut_body"])
def test_gitiles_answers_that_break_off(server: GitilesServer, repository: Repository, effect: str) -> None:
    """An incomplete answer is not a config."""
    repository.commit("Config\n", {PATH: TEXT}, branch="main", at=1)
    server.faults.add(GitilesFault(effect, "*"))  # type: ignore[arg-type]
    (file,) = _source(server).configs(_nothing_active)
    assert "no answer" in file.error or "no JSON" in file.error


def test_gitiles_wrong_path_is_reported(server: GitilesServer, repository: Repository) -> None:
    """A path that no commit ever touched is a mistake in the setting, not a removed file."""
    repository.commit("Config\n", {PATH: TEXT}, branch="main", at=1)
    (file,) = _source(server, "no/such/file.cfg").configs(_nothing_active)
    assert file.error.endswith("no commit has changed the file; check the path")


def test_gitiles_requests_are_authenticated_if_configured(server: GitilesServer, repository: Repository) -> None:
    """Below ``/a``, the session's token grants access."""
    repository.commit("Config\n", {PATH: TEXT}, branch="main", at=1)
    server.strict_auth = True
    (file,) = _source(server, prefix="/a").configs(_nothing_active)
    assert file.error.endswith("HTTP 401")
    session = requests.Session()
    session.trust_env = False
    session.headers["Authorization"] = "Bearer fake:a@b"
    (file,) = _source(server, prefix="/a", session=lambda: session).configs(_nothing_active)
    assert file.text == TEXT.encode()


def test_a_missing_token_is_a_transient_error(server: GitilesServer) -> None:
    """Missing credentials are also the project's problem, whose text does not quote the library."""

    def session() -> requests.Session:
        raise RefreshError("canary-secret")

    (file,) = _source(server, session=session).configs(_nothing_active)
    assert file.error.endswith("no answer (RefreshError)")
    assert "canary" not in file.error


# Buckets --------------------------------------------------------------------------------------------------------------


class _Storage:
    """A loopback server that answers like Cloud Storage's JSON API for one object."""

    def __init__(self) -> None:
        self.content = TEXT.encode()
        self.generation: object = "1700000000000001"
        self.spoilt: Response | None = None
        self.requests: list[tuple[str, dict[str, str]]] = []

    def __call__(self, environ: object, start_response: object) -> object:
        request = Request(environ)  # type: ignore[arg-type]
        query = dict(request.args.items())
        path = environ["RAW_PATH"] if "RAW_PATH" in environ else environ["REQUEST_URI"]  # type: ignore[index,operator]
        self.requests.append((path, query))
        return self._answer(query)(environ, start_response)  # type: ignore[arg-type]

    def _answer(self, query: dict[str, str]) -> Response:
        if self.spoilt is not None:
            return self.spoilt
        if query.get("alt") != "media":
            return Response(json.dumps({"generation": self.generation}), 200, content_type="application/json")
        if query.get("generation") != self.generation:
            return Response("No such object", 404)
        return Response(self.content, 200, content_type="application/octet-stream")


@pytest.fixture
def storage() -> Iterator[tuple[_Storage, BucketSource]]:
    """The storage server, and a source of one object there."""
    app = _Storage()
    server = LocalServer(app, "127.0.0.1", 0)  # type: ignore[arg-type]
    server.start()
    yield app, BucketSource("tint", "my-configs", "projects/tint/a b.cfg", server.url, OPEN)
    server.stop()


def test_bucket_object(storage: tuple[_Storage, BucketSource]) -> None:
    """The generation is the revision, and exactly that generation is read."""
    app, source = storage
    (file,) = source.configs(_nothing_active)
    assert (file.project, file.text, file.revision) == ("tint", TEXT.encode(), "1700000000000001")
    assert file.revision_url.endswith("/my-configs/projects/tint/a%20b.cfg")
    (first, _), (second, query) = app.requests
    assert first.startswith("/storage/v1/b/my-configs/o/projects%2Ftint%2Fa%20b.cfg?")
    assert second.startswith("/storage/v1/b/my-configs/o/projects%2Ftint%2Fa%20b.cfg?")
    assert query == {"alt": "media", "generation": "1700000000000001"}


def test_bucket_unchanged_costs_one_small_request(storage: tuple[_Storage, BucketSource]) -> None:
    """With the active generation, the object is not sent."""
    app, source = storage
    assert source.configs(lambda _: "1700000000000001") == []
    assert [query for _, query in app.requests] == [{"fields": "generation"}]


@pytest.mark.parametrize("status", [302, 401, 403, 404, 429, 500, 503])
def test_bucket_errors(storage: tuple[_Storage, BucketSource], status: int) -> None:
    """Each failure is the project's problem. A redirect is not followed."""
    app, source = storage
    app.spoilt = Response("secret text", status, {"Location": "/elsewhere"})
    (file,) = source.configs(_nothing_active)
    assert file.error == f"gs://my-configs/projects/tint/a b.cfg cannot be read: HTTP {status}"
    assert len(app.requests) == 1


@pytest.mark.parametrize("body", ["", "[]", "{}", '{"generation": 7}', '{"generation": "../x"}', "[" * 100_000, "\xff"])
def test_bucket_answers_without_a_meaning(storage: tuple[_Storage, BucketSource], body: str) -> None:
    """They are reported, and nothing is deduced from them."""
    app, source = storage
    app.spoilt = Response(body, 200)
    (file,) = source.configs(_nothing_active)
    assert "the answer" in file.error


def test_the_unpacked_size_of_a_small_answer_is_bounded(storage: tuple[_Storage, BucketSource]) -> None:
    """A compressed answer is counted while it is unpacked."""
    app, source = storage
    app.spoilt = Response(gzip.compress(b"\0" * 50_000_000), 200, {"Content-Encoding": "gzip"})
    (file,) = source.configs(_nothing_active)
    assert "more than 6000000 bytes" in file.error


def test_no_server_answers() -> None:
    """A missing server is the problem of the project, not an error of the sync."""
    (file,) = BucketSource("p", "b", "o", "http://127.0.0.1:1", OPEN).configs(_nothing_active)
    assert file.error == "gs://b/o cannot be read: no answer (ConnectionError)"


# Settings -------------------------------------------------------------------------------------------------------------


def _settings(sources: object, **more: str) -> Settings:
    return read_settings(
        {
            "SCHEDULER_PROJECT": "p",
            "SCHEDULER_TASK_URL": "https://t",
            "SCHEDULER_TASK_ACCOUNT": "a@p",
            "SCHEDULER_TOKEN_SECRETS": "the signing secret",
            "SCHEDULER_CONFIG_SOURCES": json.dumps(sources),
            **more,
        }
    )


def test_sources_of_the_settings(
    server: GitilesServer, repository: Repository, tmp_path: Path, storage: tuple[_Storage, BucketSource]
) -> None:
    """The composition root makes every kind from the settings, folders first, and each one reads."""
    sha = repository.commit("Config\n", {PATH: TEXT}, branch="main", at=1)
    folder = tmp_path / "configs"
    (folder / "local").mkdir(parents=True)
    (folder / "local" / "luci-scheduler.cfg").write_text(TEXT, encoding="utf-8")
    settings = _settings(
        [
            {"kind": "gitiles", "project": "tint", "repo": str(REPO), "path": PATH},
            {"kind": "bucket", "project": "other", "bucket": "b", "object": "o"},
            {"kind": "folder", "path": str(folder)},
        ],
        SCHEDULER_GITILES_URLS=json.dumps({HOST: server.url_of(HOST)}),
        SCHEDULER_STORAGE_URL=storage[1]._url.partition("/storage/")[0],
        SCHEDULER_LOCAL="true",
    )
    sources = make_config_sources(settings)
    assert [type(source) for source in sources] == [FolderSource, GitilesSource, BucketSource]
    files = [file for source in sources for file in source.configs(_nothing_active)]
    assert [file.project for file in files] == ["local", "tint", "other"]
    assert [file.text for file in files] == [TEXT.encode()] * 3
    assert files[1].revision == sha
