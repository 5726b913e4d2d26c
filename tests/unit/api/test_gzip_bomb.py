"""Compressed requests are decompressed up to the limit and no further."""

import gzip
import json
import zlib

import pytest

from tests.memory import peak_bytes
from tests.unit.api.support import OWNER, STRANGER, Client, world_for

JSON = "application/json"
JOBS = "/prpc/scheduler.Scheduler/GetJobs"
LIMIT = 512 * 1024
UNPACKED = 64 << 20


def _bomb() -> bytes:
    """Return a valid request of 64 MiB as gzip: spaces and an empty object. It has about 64 KiB."""
    compressor = zlib.compressobj(9, zlib.DEFLATED, zlib.MAX_WBITS | 16)
    piece = b" " * (1 << 20)
    parts = [compressor.compress(piece) for _ in range(UNPACKED // len(piece))]
    return b"".join([*parts, compressor.compress(b"{}"), compressor.flush()])


@pytest.mark.parametrize("who", [OWNER, STRANGER])
def test_a_bomb_is_not_unpacked(who: str) -> None:
    """The request is refused and its memory stays near the limit: it is not decompressed first and measured then."""
    client, bomb = Client(world_for()), _bomb()
    assert len(bomb) < LIMIT
    small = gzip.compress(b"{}")
    headers = {"Content_Type": JSON, "Accept": JSON, "Content_Encoding": "gzip"}
    assert (
        client.http(JOBS, small, who, **headers).status_code == 200
    )  # loads the schema, which is not part of the measure
    answer = client.http(JOBS, bomb, who, **headers)
    assert (answer.status_code, answer.headers["X-Prpc-Grpc-Code"]) == (400, "3")
    assert b"at most" in answer.data
    peak = peak_bytes(lambda: client.http(JOBS, bomb, who, **headers))
    assert peak < 8 * LIMIT, f"the request took {peak} bytes"


def test_a_compressed_request_of_the_maximum_size_is_accepted() -> None:
    """The limit applies to the decompressed body: 512 KiB are accepted, and one byte more is not."""
    client = Client(world_for())
    headers = {"Content_Type": JSON, "Accept": JSON, "Content_Encoding": "gzip"}
    for size, status in ((LIMIT, 200), (LIMIT + 1, 400)):
        body = json.dumps({"project": "proj"}).encode().ljust(size)
        assert client.http(JOBS, gzip.compress(body), OWNER, **headers).status_code == status
