"""Relays: servers that pass every call on to another one, and let somebody decide what becomes of it."""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, TypeVar
from urllib.parse import urlsplit

import grpc
from werkzeug.datastructures import Headers
from werkzeug.wrappers import Request, Response

from emulator.serving.local_server import LocalServer
from emulator.serving.responses import cut_connection
from emulator.tcp_ports import HOST, free_port

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

__all__ = ["Answer", "Call", "CutError", "GrpcRelay", "HttpRelay", "Interfere"]

_LONGEST_SECONDS = 660.0  # an ack deadline has at most 600
_HOP_BY_HOP = frozenset({"connection", "keep-alive", "transfer-encoding", "content-length"})
_GRPC_THREADS = 64

T = TypeVar("T")


class CutError(Exception):
    """The caller is to get no answer: the connection broke."""


@dataclass(frozen=True, slots=True)
class Call:
    """One call on its way.

    Attributes:
        wire: the server's name.
        method: the last part of the path: of a gRPC or pRPC method, the kind of a task, the topic of a push.
        body: the request, as bytes.
        headers: of an HTTP request; names in lower case.
    """

    wire: str
    method: str
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)

    def key(self) -> str:
        """Return what names the delivery of a message or a task: the same for each of its repetitions; else empty."""
        if task := self.headers.get("x-cloudtasks-taskname"):
            return task
        try:
            return str(json.loads(self.body)["message"]["messageId"])
        except (ValueError, KeyError, TypeError):
            return ""


class Interfere(Protocol):
    """Decides what becomes of a call: it may send it once, often or never, and do something before and after."""

    def __call__(self, call: Call, send: Callable[[], T], /) -> T:
        """Return the answer for the caller, usually that of ``send``.

        Raises:
            CutError: the caller gets none.
        """


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer."""

    status: int
    headers: Sequence[tuple[str, str]]
    body: bytes


class HttpRelay:
    """Stands before the server at ``url``; a server that does not answer shows as a broken connection."""

    def __init__(self, name: str, url: str, interfere: Interfere) -> None:
        self._name = name
        self._netloc = urlsplit(url).netloc
        self._interfere = interfere
        self._server = LocalServer(self._serve, HOST, free_port())
        self._server.start()
        self.url = self._server.url

    def stop(self) -> None:
        """Pass nothing on any more; may be repeated."""
        self._server.stop()

    def _serve(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        request = Request(environ)
        headers = {name.lower(): value for name, value in request.headers.items()}
        call = Call(self._name, request.path.rstrip("/").rpartition("/")[2], request.get_data(), headers)
        try:
            answer = self._interfere(call, lambda: self._send(request))
        except CutError:
            cut_connection(environ)
        kept = Headers([(name, value) for name, value in answer.headers if name.lower() not in _HOP_BY_HOP])
        return Response(answer.body, answer.status, kept)(environ, start_response)

    def _send(self, request: Request) -> Answer:
        connection = http.client.HTTPConnection(self._netloc, timeout=_LONGEST_SECONDS)
        kept = {name: value for name, value in request.headers.items() if name.lower() not in _HOP_BY_HOP}
        path = request.environ["REQUEST_URI"] if "REQUEST_URI" in request.environ else request.full_path.rstrip("?")
        try:
            connection.request(request.method, path, request.get_data(), kept)
            answer = connection.getresponse()
            return Answer(answer.status, answer.getheaders(), answer.read())
        except (OSError, http.client.HTTPException) as error:
            raise CutError from error
        finally:
            connection.close()


class GrpcRelay:
    """Stands before the gRPC server at ``address``: any method, messages unread, each direction complete before it is passed on.

    That suits calls and answers in one or several messages; conversations (as Firestore's ``Listen``) would wait for ever.
    """

    def __init__(self, name: str, address: str, interfere: Interfere) -> None:
        self._name = name
        self._interfere = interfere
        self._channel = grpc.insecure_channel(address)
        self._threads = ThreadPoolExecutor(_GRPC_THREADS, thread_name_prefix=f"relay-{name}")
        self._server = grpc.server(self._threads, options=[("grpc.so_reuseport", 0)])
        self._server.add_generic_rpc_handlers((_AnyMethod(self._serve),))
        self.address = f"{HOST}:{self._server.add_insecure_port(f'{HOST}:{free_port()}')}"
        self._server.start()

    def stop(self) -> None:
        """Pass nothing on any more; may be repeated."""
        self._server.stop(None).wait()
        self._threads.shutdown(wait=True)
        self._channel.close()

    def _serve(self, path: str, requests: Iterable[bytes], context: Any) -> Iterator[bytes]:
        messages = list(requests)
        metadata = [(name, value) for name, value in context.invocation_metadata() if not name.startswith("grpc-")]
        metadata = [(name, value) for name, value in metadata if name != "user-agent"]

        def send() -> list[bytes]:
            send_on = self._channel.stream_stream(path, None, None)
            return list(send_on(iter(messages), metadata=tuple(metadata), timeout=context.time_remaining()))

        try:
            return iter(self._interfere(Call(self._name, path.rpartition("/")[2], b"".join(messages)), send))
        except CutError:
            context.abort(grpc.StatusCode.UNAVAILABLE, "the connection broke")
        except grpc.RpcError as error:
            context.set_trailing_metadata(error.trailing_metadata())
            context.abort(error.code(), error.details())
        return iter(())


class _AnyMethod(grpc.GenericRpcHandler):  # type: ignore[type-arg]  # generic for the type checker only
    def __init__(self, serve: Callable[[str, Iterable[bytes], Any], Iterator[bytes]]) -> None:
        self._serve = serve

    def service(self, handler_call_details: Any) -> Any:
        path = handler_call_details.method
        return grpc.stream_stream_rpc_method_handler(lambda requests, context: self._serve(path, requests, context))
