"""Relays: servers that forward each call to another server, and let a test interfere."""

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

__all__ = ["Call", "CutError", "GrpcRelay", "HttpRelay", "HttpResponse", "Interfere"]

_LONGEST_SECONDS = 660.0  # longer than the longest ack deadline, 600 s
_HOP_BY_HOP = frozenset({"connection", "keep-alive", "transfer-encoding", "content-length"})
_GRPC_THREADS = 64

T = TypeVar("T")


class CutError(Exception):
    """The caller gets no response, as if the connection broke."""


@dataclass(frozen=True, slots=True)
class Call:
    """A call to a server.

    Attributes:
        server: the server's name.
        method: the last part of the path: a gRPC or pRPC method, the kind of a task, or the topic of a push.
        body: the request's bytes.
        headers: the headers of an HTTP request; names are in lower case.
        path: the whole path of an HTTP request.
    """

    server: str
    method: str
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)
    path: str = ""

    def key(self) -> str:
        """Return the ID of the delivered message or task, which its repetitions share, or an empty string."""
        if task := self.headers.get("x-cloudtasks-taskname"):
            return task
        try:
            return str(json.loads(self.body)["message"]["messageId"])
        except (ValueError, KeyError, TypeError):
            return ""


class Interfere(Protocol):
    """Decides about a call: sends it once, several times or never, and may act before and after."""

    def __call__(self, call: Call, send: Callable[[], T], /) -> T:
        """Return the response for the caller, usually that of ``send``.

        Raises:
            CutError: the caller gets no response.
        """


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """A response of an HTTP server."""

    status: int
    headers: Sequence[tuple[str, str]]
    body: bytes


class HttpRelay:
    """Relays calls to the HTTP server at ``url``.

    If that server does not respond, the caller sees a broken connection.
    """

    def __init__(self, name: str, url: str, interfere: Interfere) -> None:
        self._name = name
        self._netloc = urlsplit(url).netloc
        self._interfere = interfere
        self._server = LocalServer(self._serve, HOST, free_port())
        self._server.start()
        self.url = self._server.url

    def stop(self) -> None:
        """Stop forwarding; idempotent."""
        self._server.stop()

    def _serve(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        request = Request(environ)
        headers = {name.lower(): value for name, value in request.headers.items()}
        method = request.path.rstrip("/").rpartition("/")[2]
        call = Call(self._name, method, request.get_data(), headers, request.path)
        try:
            response = self._interfere(call, lambda: self._send(request))
        except CutError:
            cut_connection(environ)
        kept = Headers([(name, value) for name, value in response.headers if name.lower() not in _HOP_BY_HOP])
        return Response(response.body, response.status, kept)(environ, start_response)

    def _send(self, request: Request) -> HttpResponse:
        connection = http.client.HTTPConnection(self._netloc, timeout=_LONGEST_SECONDS)
        kept = {name: value for name, value in request.headers.items() if name.lower() not in _HOP_BY_HOP}
        path = request.environ["REQUEST_URI"] if "REQUEST_URI" in request.environ else request.full_path.rstrip("?")
        try:
            connection.request(request.method, path, request.get_data(), kept)
            response = connection.getresponse()
            return HttpResponse(response.status, response.getheaders(), response.read())
        except (OSError, http.client.HTTPException) as error:
            raise CutError from error
        finally:
            connection.close()


class GrpcRelay:
    """Relays calls to the gRPC server at ``address``, for any method and without decoding messages.

    It forwards a direction once that is complete. Requests and responses may have several messages, but bidirectional
    streams such as Firestore's ``Listen`` would wait forever.
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
        """Stop forwarding; idempotent."""
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
