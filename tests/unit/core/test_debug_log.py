"""The debug log: lines, the triage block, trimming."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from luci_scheduler.core import debug_log
from luci_scheduler.core.instants import Instant, parse_rfc3339

CUT = "--- the log has been cut here ---"
repeatable = settings(derandomize=True, deadline=None, database=None, max_examples=60)


@pytest.mark.parametrize(
    ("instant", "stamp"),
    [
        ("2021-02-18T21:40:22.317999999Z", "21:40:22.317"),
        ("2021-02-18T00:00:00Z", "00:00:00.000"),
        ("2021-02-18T23:59:59.999999999Z", "23:59:59.999"),
        ("2021-02-19T01:00:00.0009+02:00", "23:00:00.000"),
    ],
)
def test_format_line_cuts_the_utc_time_of_day_to_milliseconds(instant: str, stamp: str) -> None:
    """The stamp is UTC and never rounded up."""
    assert debug_log.format_line(parse_rfc3339(instant), "text") == f"[{stamp}] text\n"


def test_format_line_stamps_a_text_of_several_lines_once() -> None:
    """Only the first line of a message carries the time."""
    assert debug_log.format_line(Instant(0), "Build:\n{\n}") == "[00:00:00.000] Build:\n{\n}\n"


def test_format_line_replaces_characters_that_utf_8_lacks() -> None:
    """Half of a surrogate pair, which JSON can spell, becomes U+FFFD. A whole character stays."""
    assert (
        debug_log.format_line(Instant(0), "a\ud800b\udc00 \U0001f600") == "[00:00:00.000] a\ufffdb\ufffd \U0001f600\n"
    )


def test_triage_block_frames_the_lines() -> None:
    """The block is the header, 39 dashes, the lines without time, 39 dashes, a blank line, the second header."""
    rule = "-" * 39
    assert debug_log.triage_block(["one", "two"]) == (
        f"Debug output from the triage procedure:\n{rule}\none\ntwo\n{rule}\n\n"
        "Debug output from the invocation itself:\n"
    )


def test_triage_block_is_trimmed_but_its_last_header_is_not() -> None:
    """With any length of a triage, the block stays within the limit and ends with the header of the log proper."""
    block = debug_log.triage_block(f"line {i} {'x' * 500}" for i in range(1000))
    kept, header, rest = block.partition("Debug output from the invocation itself:\n")
    assert header
    assert rest == ""
    assert len(kept) <= debug_log.LOG_LIMIT
    assert kept.count(CUT) == 1
    assert kept.endswith(f"line 999 {'x' * 500}\n{'-' * 39}\n\n")


def test_trim_counts_bytes_not_characters() -> None:
    """A log with fewer characters than the limit, but more bytes, is trimmed."""
    log = "é" * (debug_log.LOG_LIMIT // 2)
    assert debug_log.trim(log) == log
    assert len(debug_log.trim(log + "é").encode()) <= debug_log.LOG_LIMIT


@pytest.mark.parametrize("character", ["é", "€", "\U0001f600"])
@pytest.mark.parametrize("shift", range(4))
def test_trim_never_leaves_half_a_character(character: str, shift: int) -> None:
    """At every place of a plain cut, the text before it is whole, and a second trim changes nothing."""
    trimmed = debug_log.trim("." * shift + character * debug_log.LOG_LIMIT)
    kept, newline, rest = trimmed.partition("\n")
    assert (newline, rest) == ("\n", f"{CUT}\n")
    assert kept.strip(".").strip(character) == ""
    assert debug_log.LOG_LIMIT - 4 < len(trimmed.encode()) <= debug_log.LOG_LIMIT
    assert debug_log.trim(trimmed) == trimmed


def test_trim_drops_a_cut_line_that_follows_another() -> None:
    """A log that is cut repeatedly has one cut line."""
    log = ""
    for i in range(3000):
        log = debug_log.trim(log + f"line {i} {'x' * 300}\n")
    assert log.count(CUT) == 1
    assert log.startswith("line 0 ")
    assert log.endswith(f"line 2999 {'x' * 300}\n")


@pytest.mark.parametrize(("head_lines", "plain"), [(51, False), (50, True)])
def test_trim_keeps_at_least_fifty_lines_of_the_head_or_cuts_plainly(head_lines: int, plain: bool) -> None:
    """With one line of the head fewer, the last lines are dropped instead."""
    head = "h" * (100_000 // head_lines)
    log = f"{head}\n" * head_lines + f"{'t' * 150_000}\n" + "end\n" * 100
    trimmed = debug_log.trim(log)
    assert trimmed.endswith(f"\n{CUT}\n") == plain
    if not plain:
        assert trimmed == f"{head}\n" * head_lines + f"{CUT}\n" + "end\n" * 100


@repeatable
@given(
    st.lists(st.integers(0, 4000), min_size=1, max_size=400),
    st.sampled_from(["x", "é", "\U0001f600"]),
)
def test_trim_keeps_head_and_tail_within_the_limit(widths: list[int], filler: str) -> None:
    """With any lines, the result fits. Except for a plain cut, it is head lines, the cut, and the last 100 lines."""
    lines = [f"{i} {filler * width}\n" for i, width in enumerate(widths)]
    log = "".join(lines).encode()
    trimmed = debug_log.trim_bytes(log)
    assert len(trimmed) <= debug_log.LOG_LIMIT
    assert debug_log.trim_bytes(trimmed) == trimmed
    head, cut, tail = trimmed.partition(f"\n{CUT}\n".encode())
    if not cut:
        assert trimmed == log
        return
    assert len(log) > debug_log.LOG_LIMIT
    assert log.startswith(head)
    if tail:
        assert tail == "".join(lines[-100:]).encode()
        assert log[len(head) : len(head) + 1] == b"\n"
        kept = head.count(b"\n") + 1
        assert kept > 50
        room = debug_log.LOG_LIMIT - len(trimmed)
        assert len(lines[kept].encode()) > room, "another line of the head would have fit"
