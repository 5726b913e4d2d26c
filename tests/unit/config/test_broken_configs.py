"""Broken configs: each is refused with a place, or is valid as it stands. None raises, none is applied in part."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from luci_scheduler.config.parsing import MAX_BYTES
from luci_scheduler.config.sync import sync_project
from luci_scheduler.config.validator import Validated, validate
from luci_scheduler.core.identifiers import JobId
from luci_scheduler.engine.runtime import Runtime
from luci_scheduler.ports import ConfigFile, Store
from tests.unit.engine.world import World

SAMPLE = (Path(__file__).parent / "sample.cfg").read_bytes()
JOBS = ("main-gitiles", "nightly-source", "linux-rel", "mac-rel", "Windows (x64)", "nightly")
REPO = "https://chromium.googlesource.com/infra/thing"

GITILES = b'trigger { id: "t" gitiles { repo: "https://a.googlesource.com/b"\n'

BROKEN = {
    "binary": (bytes(range(1, 256)) * 10, 2),
    "gzip": (b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03", 1),
    "NUL": (b"\0", 1),
    "NUL in a line": (b"job {\n\0\n}", 2),
    "NUL in a text": (b'job { id: "a"\nbuildbucket { server: "s" bucket: "b\0" builder: "b" } }', 2),
    "not UTF-8": (b'job {\n  id: "caf\xe9"\n}', 2),
    "UTF-16": ("job {}".encode("utf-16"), 1),
    "byte order mark": (b"\xef\xbb\xbfjob { }", 1),
    "half a character": ('job { id: "\ud800" noop {} }'.encode("utf-8", "surrogatepass"), 1),
    "half a character, escaped": (b'job {\n id: "\\ud800"\n noop {} }', 2),
    "not UTF-8, escaped": (b'\njob { id: "\\xff" noop {} }', 2),
    "deep braces": (b"job " + b"{ " * 100_000, 1),
    "deep messages": (b"job { triggering_policy " * 50_000, 1),
    "deep lists": (b"job: " + b"[" * 100_000, 1),
    "deep in a known field": (b"job { noop { " + b"x { " * 50_000, 1),
    "unknown field": (b'job {\n id: "a"\n nope: 1\n}', 3),
    "unknown message": (b'job { id: "a" noop {} }\nJob { }', 2),
    "extension": (b"job {\n [a.b]: 1 }", 2),
    "expanded Any": (b"job {\n [type.googleapis.com/x.Y] { } }", 2),
    "field by number": (b'job {\n 1: "a" }', 2),
    "number for a text": (b"job {\n id: 1 }", 2),
    "text for a number": (b'trigger { noop {\n sleep_ms: "1" } }', 2),
    "fraction for a number": (b"trigger { noop {\n sleep_ms: 1.5 } }", 2),
    "number too large": (b"trigger { noop {\n sleep_ms: 9223372036854775808 } }", 2),
    "enum out of range": (b"job {\n triggering_policy {\n kind: 99999999999 } }", 3),
    "unknown enum value": (b"job {\n triggering_policy { kind: FANCY } }", 2),
    "text for a message": (b'job {\n noop: "x" }', 2),
    "message for a text": (b"job {\n id { } }", 2),
    "wrong bool": (b"job {\n disabled: 2 }", 2),
    "twice": (b'job { id: "a"\n id: "b" noop {} }', 2),
    "task twice": (b'job { id: "a" noop {}\n noop {} }', 2),
    "text across lines": (b'job { id: "a\nb" }', 1),
    "text without end": (b'job {\n id: "a', 2),
    "wrong brace": (b'job <\n id: "a" noop {} }', 2),
    "brace too many": (b'job { id: "a" noop {} }\n}', 2),
    "JSON": (b'{\n"job": []}', 1),
    "YAML": (b"job:\n  - id: a\n", 2),
    "HTML": (b"<!DOCTYPE html>\n<html></html>", 1),
    "conflict markers": (b'job { id: "a" noop {} }\n<<<<<<< HEAD\n', 2),
    "duplicate id": (b'job { id: "a" noop {} }\njob { id: "a" noop {} }', 2),
    "duplicate id of job and trigger": (b'trigger { id: "a" noop {} }\njob { id: "a" noop {} }', 1),
    "no task": (b'\njob { id: "a" }', 2),
    "hostile id": (b'job {\n id: "../../__x__" noop {} }', 2),
    "empty id": (b'\njob { id: "" noop {} }', 2),
    "hostile regexp": (GITILES + b'refs: "regexp:refs/heads/((a{99}){99}){99}" } }', 2),
    "back reference": (GITILES + b'path_regexps: "(a)\\\\1" } }', 2),
    "huge": (b"#" * (MAX_BYTES + 1), 1),
}  # fmt: skip


def _check(content: bytes, validated: Validated) -> None:
    """Assert that every problem has a place in the file and is printable."""
    lines = content.count(b"\n") + 1
    for problem in validated.problems:
        assert 1 <= problem.line <= lines
        assert problem.column >= 0
        assert str(problem).isprintable()
        assert "Traceback" not in problem.message
        assert "scheduler.config" not in problem.message


@pytest.mark.parametrize("name", BROKEN)
def test_each_kind_of_damage_is_reported(name: str) -> None:
    """Each kind of damage is reported with its line; the active config stays active as a whole."""
    content, line = BROKEN[name]
    validated = validate(content, project="thing")
    _check(content, validated)
    assert validated.errors
    assert validated.errors[0].line == line
    runtime = _runtime_with_sample()
    before = _active(runtime.store)
    sync_project(runtime, ConfigFile("thing", content, "2"), "k")
    assert _active(runtime.store) == before
    project = runtime.store.project("thing")
    assert project is not None
    assert project.value.revision == "1"
    assert project.value.problems[0] == str(validated.errors[0])


@pytest.mark.parametrize("length", range(0, len(SAMPLE), 50))
def test_a_truncated_config_is_refused_or_valid(length: int) -> None:
    """A truncated file is refused with a place. A cut between definitions may leave a valid file, which is applied."""
    content = SAMPLE[:length]
    validated = validate(content, project="thing")
    _check(content, validated)
    runtime = _runtime_with_sample()
    before = _active(runtime.store)
    sync_project(runtime, ConfigFile("thing", content, "2"), "k")
    if validated.errors:
        assert _active(runtime.store) == before
    else:
        whole = [*validated.message.job, *validated.message.trigger]
        project = runtime.store.project("thing")
        assert project is not None
        assert project.value.job_ids == tuple(sorted(f"thing/{item.id}" for item in whole if not item.disabled))


def test_a_cut_is_usually_refused() -> None:
    """The previous test does cover refusals."""
    refused = [length for length in range(0, len(SAMPLE), 50) if validate(SAMPLE[:length]).errors]
    assert len(refused) > len(SAMPLE) / 50 * 0.8


@settings(deadline=None, max_examples=300)
@given(st.data())
def test_damaged_bytes_raise_no_exception(data: st.DataObject) -> None:
    """Replaced, dropped or inserted bytes lead to a valid config or to problems with places, never to an exception."""
    start = data.draw(st.integers(0, len(SAMPLE)))
    length = data.draw(st.integers(0, 30))
    instead = data.draw(
        st.binary(max_size=10) | st.sampled_from([b"{", b"}", b'"', b"'", b"<", b"[", b"\\", b"-", b":"])
    )
    content = SAMPLE[:start] + instead + SAMPLE[start + length :]
    _check(content, validate(content, project="thing"))


@settings(deadline=None, max_examples=200)
@given(st.binary(max_size=200))
def test_random_bytes_raise_no_exception(content: bytes) -> None:
    """Random bytes do the same."""
    _check(content, validate(content))


def _runtime_with_sample() -> Runtime:
    runtime = World("").runtime
    assert sync_project(runtime, ConfigFile("thing", SAMPLE, "1"), "k") == len(JOBS)
    return runtime


def _active(store: Store) -> list[object]:
    """Return all that a config decides, with the documents' versions: equal results mean that nothing was written."""
    jobs = [store.job(JobId(f"thing/{name}")) for name in JOBS]
    assert all(job is not None and job.value.enabled and job.value.definition.revision == "1" for job in jobs)
    watchers = list(store.watchers(REPO))
    assert {watcher.job_id for watcher in watchers} == {"thing/linux-rel", "thing/mac-rel", "thing/Windows (x64)"}
    return [jobs, watchers]
