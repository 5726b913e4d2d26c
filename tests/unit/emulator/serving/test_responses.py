"""Compressed and broken responses."""

import gzip
import socket

import pytest
from werkzeug.test import EnvironBuilder
from werkzeug.wrappers import Request, Response

from emulator.serving.responses import compress, cut_after, cut_connection, truncated


def compressed(body: bytes, accepted: str | None) -> Response:
    """Return a response after compression for a client."""
    headers = {} if accepted is None else {"Accept-Encoding": accepted}
    response = Response(body)
    compress(Request(EnvironBuilder(headers=headers).get_environ()), response)
    return response


def test_a_long_response_is_compressed_for_a_client_that_accepts_gzip() -> None:
    response = compressed(b"x" * 1025, "deflate, gzip")
    assert response.headers["Content-Encoding"] == "gzip"
    assert gzip.decompress(response.get_data()) == b"x" * 1025
    assert response.headers["Content-Length"] == str(len(response.get_data()))


@pytest.mark.parametrize(
    ("size", "accepted"),
    [(1024, "gzip"), (1025, None), (1025, "deflate"), (1025, "gzip;q=0")],
    ids=["short", "no header", "another encoding", "refused"],
)
def test_other_responses_are_sent_as_they_are(size: int, accepted: str | None) -> None:
    response = compressed(b"x" * size, accepted)
    assert "Content-Encoding" not in response.headers
    assert response.get_data() == b"x" * size


def test_a_streamed_response_is_not_compressed() -> None:
    response = Response(iter([b"x" * 2000]))
    compress(Request(EnvironBuilder(headers={"Accept-Encoding": "gzip"}).get_environ()), response)
    assert "Content-Encoding" not in response.headers


def test_a_cut_closes_the_socket_in_both_directions() -> None:
    near, far = socket.socketpair()
    with near, far:
        with pytest.raises(ConnectionAbortedError):
            cut_connection({"werkzeug.socket": near})
        assert far.recv(1) == b""


@pytest.mark.parametrize("is_closed", [False, True])
def test_a_cut_without_an_open_socket_ends_the_request(is_closed: bool) -> None:
    """There may be no socket, or the client may have closed it."""
    near, far = socket.socketpair()
    near.close()
    far.close()
    with pytest.raises(ConnectionAbortedError, match="cut on purpose"):
        cut_connection({"werkzeug.socket": near} if is_closed else {})


def test_half_a_body_is_sent_before_the_cut() -> None:
    parts = cut_after({}, b"abcdef")
    assert next(parts) == b"abc"
    with pytest.raises(ConnectionAbortedError):
        next(parts)


def test_a_truncated_response_announces_its_whole_length() -> None:
    response = truncated({}, Response(b"abcdef", 201, {"X-Kept": "yes"}))
    assert (response.status_code, response.headers["Content-Length"], response.headers["X-Kept"]) == (201, "6", "yes")
    assert next(iter(response.response)) == b"abc"
