"""The debug log: lines, the triage block, trimming."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from luci_scheduler.core import debug_log
from luci_scheduler.core.instants import MILLISECOND, Instant, parse_rfc3339

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


def test_format_line_replaces_half_characters() -> None:
    """Half a character, which JSON can spell, becomes U+FFFD. A whole character stays."""
    assert (
        debug_log.format_line(Instant(0), "a\ud800b\udc00 \U0001f600") == "[00:00:00.000] a\ufffdb\ufffd \U0001f600\n"
    )


def test_triage_block_frames_the_lines() -> None:
    """The block has a heading, 39 dashes, the lines without stamps, 39 dashes, a blank line, and the second heading."""
    rule = "-" * 39
    assert debug_log.triage_block(["one", "two"]) == (
        f"Debug output from the triage procedure:\n{rule}\none\ntwo\n{rule}\n\n"
        "Debug output from the invocation itself:\n"
    )


def test_triage_block_is_trimmed_but_its_last_header_is_not() -> None:
    """The block of a long triage stays within the limit and ends with the heading of the invocation's own log."""
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
    """Every plain cut leaves whole characters, and trimming the result again changes nothing."""
    trimmed = debug_log.trim("." * shift + character * debug_log.LOG_LIMIT)
    kept, newline, rest = trimmed.partition("\n")
    assert (newline, rest) == ("\n", f"{CUT}\n")
    assert kept.strip(".").strip(character) == ""
    assert debug_log.LOG_LIMIT - 4 < len(trimmed.encode()) <= debug_log.LOG_LIMIT
    assert debug_log.trim(trimmed) == trimmed


def test_trim_drops_a_cut_line_that_follows_another() -> None:
    """A log that is cut many times has one line about it."""
    log = ""
    for i in range(3000):
        log = debug_log.trim(log + f"line {i} {'x' * 300}\n")
    assert log.count(CUT) == 1
    assert log.startswith("line 0 ")
    assert log.endswith(f"line 2999 {'x' * 300}\n")


def test_trim_never_leaves_two_cut_lines_in_a_row() -> None:
    """The new end is shorter than the old one, so the head grows up to the line about the first cut."""
    line = "y" * 50 + "\n"
    log = debug_log.trim("x\n" * 3000 + line * 100, 6000)
    assert log.count(CUT) == 1
    again = debug_log.trim(log + line * 99 + "y\n", 6000)
    assert again.count(CUT) == 1
    assert again.endswith(line * 99 + "y\n")
    assert len(again.encode()) <= 6000


@pytest.mark.parametrize(("head_lines", "plain"), [(51, False), (50, True)])
def test_trim_keeps_at_least_fifty_lines_of_the_head_or_cuts_plainly(head_lines: int, plain: bool) -> None:
    """With one head line fewer, the cut drops the last lines instead."""
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
    """Any result fits. Unless the cut is plain, the result has head lines, the cut, and the last 100 lines."""
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


def test_stamps_that_go_back_a_little_belong_to_one_day() -> None:
    """The lines of a log come from several machines. Only a stamp that goes back by half a day begins another day."""
    started = Instant(parse_rfc3339("2026-01-01T12:00:05.400Z"))
    log = "[12:00:05.500] a\n[12:00:05.499] b\n[23:59:59.000] c\n[00:00:01.000] d\n"
    entries = list(debug_log.entries(log, started))
    assert [(entry.at - started) // MILLISECOND for entry in entries] == [100, 99, 43_193_600, 43_195_600]
    assert [entry.text for entry in entries] == ["a", "b", "c", "d"]


def test_a_first_line_after_midnight_belongs_to_the_next_day() -> None:
    """The invocation's start has the date, so a log that begins after midnight is not a day early."""
    started = Instant(parse_rfc3339("2026-01-01T23:59:59.900Z"))
    (entry,) = debug_log.entries("[00:00:00.100] a\n", started)
    assert entry.at - started == 200 * MILLISECOND


def test_unstamped_lines_belong_to_the_line_before() -> None:
    """The triage's block in front of the first stamp belongs to none."""
    block = debug_log.triage_block(["policy"])
    log = block + debug_log.format_line(Instant(0), "Build:\n{\n}") + debug_log.format_line(Instant(1), "end")
    assert [entry.text for entry in debug_log.entries(log, Instant(0))] == ["Build:\n{\n}", "end"]
    assert list(debug_log.entries(block, Instant(0))) == []


def test_a_trimmed_log_shows_that_it_is_cut() -> None:
    """Readers must not mistake a trimmed log for a whole log."""
    log = "".join(debug_log.format_line(Instant(number), "x" * 1000) for number in range(1000))
    assert not debug_log.is_cut(log)
    assert debug_log.is_cut(debug_log.trim(log))
