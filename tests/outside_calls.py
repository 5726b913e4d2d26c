"""Every outside call of the functions, and silent servers to measure the limit of each."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any
from unittest import mock

import grpc
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from google.auth.exceptions import GoogleAuthError
from google.cloud import firestore
from google.cloud.firestore_v1 import types
from google.oauth2 import service_account
from requests import RequestException

from emulator.clock import SteppedClock
from luci_scheduler.adapters import access_tokens, cloud_tasks, config_sources, front_end, http, pubsub
from luci_scheduler.adapters import firestore as firestore_adapter
from luci_scheduler.adapters.access_tokens import AccessTokens
from luci_scheduler.adapters.buildbucket import BuildbucketClient
from luci_scheduler.adapters.cloud_build import CloudBuildClient
from luci_scheduler.adapters.fetch import FetchClient
from luci_scheduler.adapters.github import GitHubClient
from luci_scheduler.adapters.github_api import CALL_LIMIT, GitHubApi, NoCredentials, TokenSource
from luci_scheduler.adapters.github_credentials import AppCredentials, TokenCredentials
from luci_scheduler.adapters.github_source import GitHubSource
from luci_scheduler.adapters.github_statuses import GitHubStatuses
from luci_scheduler.adapters.gitiles import GitilesClient
from luci_scheduler.adapters.system import SystemClock
from luci_scheduler.core.commit_hosts import CommitHosts, ConfiguredHost, HostKind
from luci_scheduler.core.commit_status import CommitStatus, State
from luci_scheduler.core.errors import TransientError
from luci_scheduler.core.identifiers import InvocationId, JobId
from luci_scheduler.core.instants import SECOND, Instant
from luci_scheduler.core.repo_url import RepoUrl
from luci_scheduler.managers.url_fetch import kind as url_fetch
from luci_scheduler.ports import BuildbucketError, CloudBuildError, FetchError, GitilesError, QueueTask
from luci_scheduler.settings import Settings

__all__ = ["OUTSIDE_CALLS", "SERVERS", "Measured", "OutsideCall", "measure", "table"]

_ID = "a" * 40
_JOB = JobId("project/job")
_REPO = RepoUrl("dawn.googlesource.com", "tint")
_WIDGET = RepoUrl("github.com", "example-org/widget")
_CLOCK = SteppedClock(Instant(0))
_RUN = float(Settings.__dataclass_fields__["cloud_build_run_seconds"].default)
_REQUEST = float(Settings.__dataclass_fields__["request_deadline_seconds"].default)


@dataclass(frozen=True, slots=True)
class OutsideCall:
    """A call of an adapter."""

    name: str
    limit: float
    """Seconds in production."""
    make: Callable[[str, float], Callable[[], Any]]
    """Maps the server's ``host:port`` and a limit in seconds to a call that is ready to run."""
    errors: tuple[type[Exception], ...]
    """The errors that may end it."""
    is_grpc: bool = False
    is_stream: bool = False
    """Whether the answer comes in pieces, so that the server may stall between two."""


@dataclass(frozen=True, slots=True)
class Measured:
    """The end of one call."""

    call: OutsideCall
    server: str
    seconds: float
    error: str


# --- servers ----------------------------------------------------------------------------------------------------------


@contextmanager
def _refusing(_: OutsideCall) -> Iterator[str]:
    """Keep a port on which no server listens."""
    with socket.socket() as kept:
        kept.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{kept.getsockname()[1]}"


@contextmanager
def _accepting(beginning: bytes) -> Iterator[str]:
    """Accept each connection, send the beginning of an answer, and stall."""
    connections: list[socket.socket] = []

    def serve() -> None:
        while True:
            try:
                connections.append(server.accept()[0])
                connections[-1].sendall(beginning)
            except OSError:
                return

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield f"127.0.0.1:{server.getsockname()[1]}"
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join()
            for connection in connections:
                connection.close()


@contextmanager
def _silent(_: OutsideCall) -> Iterator[str]:
    with _accepting(b"") as address:
        yield address


@contextmanager
def _half(call: OutsideCall) -> Iterator[str]:
    """Send half of an answer: HTTP without its end, HTTP/2 settings only, or the first piece of a stream."""
    if call.is_stream:
        with _half_a_stream() as address:
            yield address
        return
    settings_frame = b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"
    half = (
        settings_frame if call.is_grpc else b'HTTP/1.1 200 OK\r\nX-Prpc-Grpc-Code: 0\r\nContent-Length: 99\r\n\r\n{"a'
    )
    with _accepting(half) as address:
        yield address


@contextmanager
def _half_a_stream() -> Iterator[str]:
    stopped = threading.Event()

    def stream(_: Any, context: Any) -> Iterator[bytes]:
        context.add_callback(stopped.set)
        name = "projects/p/databases/(default)/documents/jobs/project%2Fjob"
        found = types.Document(name=name, update_time={"seconds": 1}, create_time={"seconds": 1})
        if context.method.endswith("RunQuery"):
            yield types.RunQueryResponse.serialize(types.RunQueryResponse(document=found, read_time={"seconds": 1}))
        else:
            answer = types.BatchGetDocumentsResponse(found=found, read_time={"seconds": 1})
            yield types.BatchGetDocumentsResponse.serialize(answer)
        stopped.wait(120)

    class Handler(grpc.GenericRpcHandler):
        def service(self, details: Any) -> Any:
            def answer(request: Any, context: Any) -> Iterator[bytes]:
                context.method = details.method
                return stream(request, context)

            return grpc.unary_stream_rpc_method_handler(answer)

    with ThreadPoolExecutor(4) as pool:
        server = grpc.server(pool, handlers=(Handler(),))
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        try:
            yield f"127.0.0.1:{port}"
        finally:
            stopped.set()
            server.stop(0).wait()


SERVERS: dict[str, Callable[[OutsideCall], Any]] = {"refused": _refusing, "silent": _silent, "half": _half}
"""``refused``: no server listens. ``silent``: the server accepts the connection and sends nothing. ``half``: the answer
stalls in the middle."""


# --- calls ------------------------------------------------------------------------------------------------------------


def _firestore(call: Callable[[firestore_adapter.FirestoreStore], Any]) -> Callable[[str, float], Callable[[], Any]]:
    def make(address: str, limit: float) -> Callable[[], Any]:
        with mock.patch.dict(os.environ, {"FIRESTORE_EMULATOR_HOST": address}):
            store = firestore_adapter.FirestoreStore(firestore.Client(project="p"), limit)
        return lambda: call(store)

    return make


def _tasks(address: str, limit: float) -> Callable[[], Any]:
    queue = cloud_tasks.CloudTasksQueue(
        cloud_tasks.make_client(address),
        "projects/p/locations/l/queues/q",
        "https://x.invalid",
        "a@b",
        "https://x.invalid",
        limit,
    )
    return lambda: queue.enqueue(QueueTask("launch", {}, Instant(SECOND)))


def _buildbucket(call: Callable[[BuildbucketClient], Any]) -> Callable[[str, float], Callable[[], Any]]:
    def make(address: str, limit: float) -> Callable[[], Any]:
        opened = http.sessions(authenticated=False)
        client = BuildbucketClient(lambda _: f"http://{address}", opened, _CLOCK, round(limit * SECOND))
        return lambda: call(client)

    return make


def _cloud_build(address: str, limit: float) -> Callable[[], Any]:
    client = CloudBuildClient(f"http://{address}", http.sessions(authenticated=False), _CLOCK)
    return lambda: client.call("POST", "/v1/projects/p/locations/l/builds", {}, seconds=limit)


def _gitiles(call: Callable[[GitilesClient], Any]) -> Callable[[str, float], Callable[[], Any]]:
    def make(address: str, limit: float) -> Callable[[], Any]:
        opened = http.sessions(authenticated=False)
        client = GitilesClient(
            lambda _: f"http://{address}", opened, round(limit * SECOND), authenticated=False, clock=SystemClock()
        )
        return lambda: call(client)

    return make


def _github_api(address: str, limit: float, credentials: TokenSource | None = None) -> GitHubApi:
    hosts = CommitHosts({"github.com": ConfiguredHost(HostKind.GITHUB, f"http://{address}", credentials=True)})
    opened = http.sessions(authenticated=False)
    return GitHubApi(hosts, opened, credentials or NoCredentials(), _CLOCK, round(limit * SECOND))


def _github(call: Callable[[GitHubClient], Any]) -> Callable[[str, float], Callable[[], Any]]:
    def make(address: str, limit: float) -> Callable[[], Any]:
        client = GitHubClient(_github_api(address, limit))
        return lambda: call(client)

    return make


def _github_app(address: str, limit: float) -> Callable[[], Any]:
    app = AppCredentials("app", "1", _private_key(), _CLOCK, {"contents": "read"})
    api = _github_api(address, limit, app)
    return lambda: api.get("github.com", "/repos/o/r")


def _config_of_github(address: str, limit: float) -> Callable[[], Any]:
    source = GitHubSource("p", _WIDGET, "refs/heads/main", "x.cfg", _github_api(address, limit))
    return lambda: _raise_trouble(source.configs(lambda _: ""))


def _config_of_gitiles(address: str, limit: float) -> Callable[[], Any]:
    opened = http.sessions(authenticated=False)
    source = config_sources.GitilesSource("p", _REPO, "refs/heads/main", "x.cfg", f"http://{address}", opened, limit)
    return lambda: _raise_trouble(source.configs(lambda _: ""))


def _config_of_storage(address: str, limit: float) -> Callable[[], Any]:
    opened = http.sessions(authenticated=False)
    source = config_sources.BucketSource("p", "bucket", "x.cfg", f"http://{address}", opened, limit)
    return lambda: _raise_trouble(source.configs(lambda _: ""))


class _TroubleError(Exception):
    """A source reported a problem."""


def _raise_trouble(files: Any) -> None:
    raise _TroubleError(files[0].error)


def _keys(address: str, limit: float) -> Callable[[], Any]:
    return lambda: http.fetch(f"http://{address}/certs", limit)


def _tokeninfo(address: str, limit: float) -> Callable[[], Any]:
    fetch = FetchClient(allowed_hosts=("127.0.0.1",), plain_http=True, max_redirects=0)
    tokens = AccessTokens(fetch, f"http://{address}/tokeninfo", (access_tokens.SERVICE_ACCOUNTS,), _CLOCK)

    def ask() -> Any:
        with mock.patch.object(access_tokens, "_TIMEOUT", round(limit * SECOND)):
            return tokens.email("ya29.token")

    return ask


def _policy(address: str, limit: float) -> Callable[[], Any]:
    opened = http.sessions(authenticated=False)
    service = "projects/p/locations/l/services/s"
    return front_end.FrontEnd(opened, f"http://{address}", service, _CLOCK, limit).require_check


def _publish(address: str, limit: float) -> Callable[[], Any]:
    opened = http.sessions(authenticated=False)
    topic = pubsub.PubsubTopic("projects/p/topics/t", f"http://{address}", opened, limit)
    return lambda: topic.publish({"event": "ended"}, b"{}")


def _status(address: str, limit: float) -> Callable[[], Any]:
    api = _github_api(address, limit, TokenCredentials("token"))
    status = CommitStatus("https://github.com/o/n", _ID, State.PENDING, "scheduler/p/j", "Running")
    return lambda: GitHubStatuses(CommitHosts(), api).report(status, "https://scheduler.example.com/jobs/p/j/1")


def _url_fetch(address: str, limit: float) -> Callable[[], Any]:
    fetch = FetchClient(allowed_hosts=("127.0.0.1",), plain_http=True)

    def get() -> Any:
        answer = fetch.get(f"http://{address}/", round(limit * SECOND), 1 << 12)
        raise FetchError(f"answered, {len(answer.body)} bytes")  # the beginning of a body is an answer

    return get


@cache
def _private_key() -> str:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return pem.decode()


def _token(address: str, limit: float) -> Callable[[], Any]:
    """Send a request whose token comes from the server, through the library's own client with its retries."""
    credentials = service_account.Credentials.from_service_account_info(  # type: ignore[no-untyped-call]
        {"client_email": "a@b", "private_key": _private_key(), "token_uri": f"http://{address}/token"}, scopes=["s"]
    )
    token = http._Token(("s",))
    token._credentials = credentials
    session = http._prepared(http._AuthorizedSession(token), http._Adapter())
    return lambda: session.get("http://127.0.0.1:1/", timeout=http.Deadline(limit))  # type: ignore[arg-type]


OUTSIDE_CALLS = (
    *(
        OutsideCall(
            f"Firestore: {name}",
            firestore_adapter.LIMIT,
            _firestore(call),
            (TransientError,),
            is_grpc=True,
            is_stream=stream,
        )
        for name, call, stream in (
            ("read a document", lambda store: store.invocation(_JOB, InvocationId(1)), False),
            ("read many documents", lambda store: store.jobs([_JOB]), True),
            ("query", lambda store: store.due_jobs(Instant(1), 10), True),
            ("commit", lambda store: store.commit([]), False),
        )
    ),
    OutsideCall("Cloud Tasks: enqueue", cloud_tasks.LIMIT, _tasks, (TransientError,), is_grpc=True),
    OutsideCall(
        "Buildbucket v1",
        _REQUEST,
        _buildbucket(lambda client: client.v1("h", "PUT", "builds", {})),
        (BuildbucketError,),
    ),
    OutsideCall(
        "Buildbucket v2", _REQUEST, _buildbucket(lambda client: client.v2("h", "GetBuild", {})), (BuildbucketError,)
    ),
    OutsideCall("Cloud Build", _REQUEST, _cloud_build, (CloudBuildError,)),
    OutsideCall("Cloud Build: run a trigger", _RUN, _cloud_build, (CloudBuildError,)),
    OutsideCall("Gitiles: refs", _REQUEST, _gitiles(lambda client: client.refs(_REPO, "refs/heads")), (GitilesError,)),
    OutsideCall("Gitiles: log", _REQUEST, _gitiles(lambda client: client.log(_REPO, _ID, limit=1)), (GitilesError,)),
    OutsideCall(
        "Gitiles: resolve", _REQUEST, _gitiles(lambda client: client.resolve(_REPO, "main~2")), (GitilesError,)
    ),
    OutsideCall(
        "GitHub: refs", CALL_LIMIT / SECOND, _github(lambda client: client.refs(_WIDGET, "refs/heads")), (GitilesError,)
    ),
    OutsideCall(
        "GitHub: range",
        CALL_LIMIT / SECOND,
        _github(lambda client: client.log(_WIDGET, _ID, limit=1, exclude="b" * 40)),
        (GitilesError,),
    ),
    OutsideCall(
        "GitHub: resolve", CALL_LIMIT / SECOND, _github(lambda client: client.resolve(_WIDGET, "main")), (GitilesError,)
    ),
    OutsideCall("GitHub: token of an App", CALL_LIMIT / SECOND, _github_app, (GitilesError,)),
    OutsideCall("Config of a GitHub repository", CALL_LIMIT / SECOND, _config_of_github, (_TroubleError,)),
    OutsideCall("Config of a Gitiles repository", config_sources.REQUEST_LIMIT, _config_of_gitiles, (_TroubleError,)),
    OutsideCall("Config of a Cloud Storage bucket", config_sources.REQUEST_LIMIT, _config_of_storage, (_TroubleError,)),
    OutsideCall(
        "Token of the service account, for a call of 60 s", _REQUEST, _token, (RequestException, GoogleAuthError)
    ),
    OutsideCall("Keys that sign tokens", http.KEYS_LIMIT, _keys, (OSError,)),
    OutsideCall("Owner of an access token (tokeninfo)", access_tokens._TIMEOUT / SECOND, _tokeninfo, (TransientError,)),
    OutsideCall("The service's own invoker policy", front_end.POLICY_LIMIT, _policy, (TransientError,)),
    OutsideCall("Pub/Sub: announce an invocation", pubsub.PUBLISH_LIMIT, _publish, (TransientError,)),
    OutsideCall("GitHub: commit status", CALL_LIMIT / SECOND, _status, (GitilesError,)),
    OutsideCall("url_fetch, without timeout_sec", url_fetch._DEFAULT_TIMEOUT / SECOND, _url_fetch, (FetchError,)),
)


def measure(call: OutsideCall, server: str, limit: float) -> Measured:
    """Run a call under a limit against a silent server.

    Raises:
        AssertionError: the call succeeded.
    """
    with SERVERS[server](call) as address:
        ready = call.make(address, limit)
        begun = time.monotonic()
        try:
            ready()
        except call.errors as error:
            return Measured(call, server, time.monotonic() - begun, str(error))
    raise AssertionError(f"{call.name} succeeded although the server is {server}")


def table(measured: list[Measured]) -> str:
    """Return the measures as a Markdown table, one row for each call."""
    by_place = {(item.call.name, item.server): item.seconds for item in measured}
    rows = [f"| call | limit | {' | '.join(SERVERS)} |", "|---|---|---|---|---|"]
    for call in OUTSIDE_CALLS:
        times = [by_place.get((call.name, server)) for server in SERVERS]
        rows.append(
            f"| {call.name} | {call.limit:g} s | {' | '.join('-' if t is None else f'{t:.1f} s' for t in times)} |"
        )
    return "\n".join(rows)
