"""Names of builders and buckets, and build IDs."""

import random

import pytest

from emulator.buildbucket.identifiers import BuilderId, Era, build_id_at, created_at, parse_v1_bucket
from emulator.buildbucket.testing import ScriptedEntropy
from luci_scheduler.core.instants import MILLISECOND

AT = 1_700_000_000_123 * MILLISECOND


def test_the_names_of_a_builder() -> None:
    builder = BuilderId("p", "ci.shadow", "Linux (dbg)")
    assert str(builder) == "p/ci.shadow/Linux (dbg)"
    assert (builder.bucket_name, builder.v1_bucket) == ("p/ci.shadow", "luci.p.ci.shadow")
    assert builder.to_json() == {"project": "p", "bucket": "ci.shadow", "builder": "Linux (dbg)"}


@pytest.mark.parametrize(("era", "version"), [("v1", 0), ("v2", 1)])
def test_a_build_id_has_time_random_bits_and_version(era: Era, version: int) -> None:
    identifier = build_id_at(AT, ScriptedEntropy(0xABCD), era)
    assert identifier & 0xF == version
    assert identifier >> 4 & 0xFFFF == 0xABCD
    assert created_at(identifier) == AT
    assert 0 < identifier < 2**63


def test_build_ids_decrease_over_time() -> None:
    entropy = random.Random(1)  # noqa: S311 - IDs need no secrecy
    ids = [build_id_at(AT + number * MILLISECOND, entropy, "v2") for number in range(100)]
    assert ids == sorted(ids, reverse=True)


def test_the_time_of_an_id_is_exact_to_the_millisecond() -> None:
    assert created_at(build_id_at(AT + MILLISECOND - 1, ScriptedEntropy(), "v2")) == AT


@pytest.mark.parametrize(
    ("bucket", "parts"),
    [
        ("luci.p.ci", ("p", "ci")),
        ("luci.p.ci.shadow", ("p", "ci.shadow")),
        ("p/ci", ("p", "ci")),
        ("p-1_2/ci.x", ("p-1_2", "ci.x")),
        ("master.tryserver", None),
        ("luci.p", None),
        ("luci.P.ci", None),
        ("p/", None),
        ("", None),
        ("luci.p." + "a" * 101, None),
    ],
)
def test_the_two_forms_of_a_bucket(bucket: str, parts: tuple[str, str] | None) -> None:
    assert parse_v1_bucket(bucket) == parts
