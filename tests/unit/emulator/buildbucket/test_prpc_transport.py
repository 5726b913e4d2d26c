"""The rules of pRPC over HTTP."""

import base64
import gzip
import json

import pytest
import requests

from emulator.buildbucket import BuildbucketServer
from emulator.buildbucket.prpc import HTTP_STATUS, Call, RpcError, failure, success
from emulator.buildbucket.testing import GUARD, MemoryPublisher, ScriptedEntropy, call_prpc
from emulator.clock import SteppedClock

BUILDER = {"builder": {"project": "p", "bucket": "b", "builder": "x"}}


@pytest.fixture(scope="module")
def url():
    """The address of a server; the tests do not depend on earlier builds."""
    server = BuildbucketServer(SteppedClock(1_700_000_000 * 10**9), MemoryPublisher())
    server.start()
    yield server.url
    server.stop()


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Accept": None}, 406),
        ({"Accept": "application/prpc; encoding=binary"}, 406),
        ({"Accept": "*/*"}, 406),
        ({"Accept": "text/html"}, 406),
        ({"Accept": "application/json;q=0.5, application/prpc"}, 406),
        ({"Accept": "application/prpc; encoding=json"}, 200),
        ({"Accept": "text/html, application/json"}, 200),
        ({"Content-Type": None}, 415),
        ({"Content-Type": "application/prpc; encoding=binary"}, 415),
        ({"Content-Type": "text/plain"}, 415),
        ({"Content-Type": "application/prpc; encoding=json"}, 200),
        ({"Content-Type": "application/json; charset=utf-8"}, 200),
        ({"X-Prpc-Grpc-Timeout": "59999876u"}, 200),
        ({"X-Prpc-Grpc-Timeout": "60"}, 400),
        ({"X-Prpc-Grpc-Timeout": "1.5S"}, 400),
        ({"X-Prpc-Timeout": "nonsense"}, 200),
        ({"X-Prpc-Max-Response-Size": "0"}, 400),
        ({"X-Extra-Bin": "aGk="}, 200),
        ({"X-Extra-Bin": "aGk"}, 400),
    ],
)
def test_headers_must_be_well_formed(url, headers, status):
    """A client must request JSON in both directions; deadlines and binary metadata must be well-formed."""
    response = call_prpc(url, "ScheduleBuild", BUILDER, headers=headers)
    assert response.status_code == status
    assert response.headers["X-Prpc-Grpc-Code"] == ("0" if status == 200 else "3")
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    if status != 200:
        assert response.headers["Content-Type"] == "text/plain; charset=utf-8"
        assert response.text.endswith("\n")
        assert not response.text.startswith(GUARD)


def test_get_is_refused(url):
    """Every call is a POST."""
    response = requests.get(f"{url}/prpc/buildbucket.v2.Builds/GetBuild", timeout=60)
    assert (response.status_code, response.headers["X-Prpc-Grpc-Code"]) == (405, "12")


def test_unknown_service(url):
    """An unknown service is UNIMPLEMENTED, with the fixed text."""
    headers = {"Content-Type": "application/json", "Accept": "application/json"}
    response = requests.post(f"{url}/prpc/buildbucket.v2.Builders/GetBuilder", data="{}", headers=headers, timeout=60)
    assert (response.status_code, response.text) == (501, "API method not implemented by the server\n")


@pytest.mark.parametrize(
    "body",
    [
        "",
        "{",
        "[1",
        '{"id": NaN}',
        '{"id": 1.5}',
        '{"id": "x"}',
        "[]",
        '{"id": 9223372036854775808}',
        '{"builder": "p/b/x"}',
        pytest.param("[" * 100_000, id="deep"),
    ],
)
def test_malformed_bodies(url, body):
    """An undecodable body is code 3 with an explanation."""
    response = call_prpc(url, "GetBuild", body)
    assert (response.status_code, response.headers["X-Prpc-Grpc-Code"]) == (400, "3")
    assert response.text.startswith("could not decode body: ")


def test_requests_and_replies_may_be_compressed(url):
    """Requests may be compressed; large replies are compressed for clients that accept it."""
    body = gzip.compress(
        json.dumps({**BUILDER, "properties": {"long": "x" * 2000}, "mask": {"allFields": True}}).encode()
    )
    response = call_prpc(url, "ScheduleBuild", body, headers={"Content-Encoding": "gzip", "Accept-Encoding": "gzip"})
    assert response.headers["Content-Encoding"] == "gzip"
    assert json.loads(response.text.removeprefix(GUARD))["input"]["properties"] == {"long": "x" * 2000}
    broken = call_prpc(url, "ScheduleBuild", b"not gzip", headers={"Content-Encoding": "gzip"})
    assert (broken.status_code, broken.headers["X-Prpc-Grpc-Code"]) == (400, "3")


def test_too_large_reply(url):
    """A reply above the client's limit becomes code 14 with its own text and a detail."""
    response = call_prpc(url, "ScheduleBuild", BUILDER, headers={"X-Prpc-Max-Response-Size": "50"})
    assert (response.status_code, response.headers["X-Prpc-Grpc-Code"]) == (503, "14")
    assert response.text.startswith("prpc: the response size ")
    assert response.text.endswith(" exceeds the client limit 50\n")
    detail = json.loads(base64.b64decode(response.headers["X-Prpc-Status-Details-Bin"]))
    assert detail["@type"] == "type.googleapis.com/luci.prpc.ErrorDetails"


@pytest.mark.parametrize(("code", "status"), sorted(HTTP_STATUS.items())[1:])
def test_each_code_has_its_status(code, status):
    """Each code has its HTTP status. From 500 on the client does not get the service's own text."""
    response = failure(RpcError(code, "own text"))
    assert response.status_code == status
    assert response.headers["X-Prpc-Grpc-Code"] == str(code)
    assert (response.get_data(as_text=True) == "own text\n") == (status < 500)


def test_spacing_is_not_stable():
    """The same message has several encodings."""
    call = Call("s", "m", {}, None, None)
    entropy = ScriptedEntropy()
    texts = {success(call, {"id": "1", "status": "STARTED"}, entropy).get_data(as_text=True) for _ in range(50)}
    assert len(texts) > 3
    assert all(json.loads(text.removeprefix(GUARD)) == {"id": "1", "status": "STARTED"} for text in texts)


def test_names_of_both_kinds_and_unknown_fields(url):
    """Requests may have proto names and unknown fields; IDs may be numbers."""
    request = {"builder": BUILDER["builder"], "request_id": "r-1", "gitiles_commit": None, "no_such_field": {"x": 1}}
    first = call_prpc(url, "ScheduleBuild", request)
    second = call_prpc(url, "ScheduleBuild", {**BUILDER, "requestId": "r-1"})
    assert first.status_code == second.status_code == 200
    build_id = json.loads(first.text.removeprefix(GUARD))["id"]
    assert json.loads(second.text.removeprefix(GUARD))["id"] == build_id
    assert call_prpc(url, "GetBuild", {"id": int(build_id)}).status_code == 200
    twice = call_prpc(url, "ScheduleBuild", {**BUILDER, "requestId": "a", "request_id": "b"})
    assert twice.text == 'could not decode body: duplicate field "request_id"\n'
