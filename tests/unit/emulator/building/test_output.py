"""The output of builds: safe text, bounds, and reading from a position."""

import io
import random

import pytest

from emulator.building.output import BuildOutput, Outputs


def written(*pieces: bytes) -> str:
    """Return the text of an output that came in pieces."""
    output = BuildOutput()
    for piece in pieces:
        output.write(piece)
    output.write(b"", is_last=True)
    return output.read().text


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"plain\ttext\n", "plain\ttext\n"),
        (b"\x1b[1;31mred\x1b[0m", "red"),
        (b"\x1b]0;title\x07a\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "alink"),
        (b"\x1b(Ba\x1b7\x1b=b\x1bcc\x1bMd", "abcd"),
        (b"\xc2\x9b31mred", "red"),
        (b"10%\r20%\r\ndone\r", "10%\n20%\ndone\n"),
        (b"a\x00b\x08c\x7f", "a\ufffdb\ufffdc\ufffd"),
        (b"\xff\xfe caf\xc3\xa9 \xc3", "\ufffd\ufffd caf\u00e9 \ufffd"),
        ("\u202etxt.exe".encode(), "\ufffdtxt.exe"),
        (b"\x1b", "\ufffd"),
        (b"\x1b]0;never ended", "\ufffd]0;never ended"),
        ("\u2028".encode(), "\ufffd"),
        (b"<script>&amp;", "<script>&amp;"),
    ],
)
def test_text_is_safe_to_show_however_it_is_cut(data: bytes, text: str) -> None:
    assert written(data) == text
    assert written(*(data[at : at + 1] for at in range(len(data)))) == text


def test_random_bytes_leave_no_control_character() -> None:
    """The pieces end at random places."""
    entropy = random.Random(5)  # noqa: S311 - nothing secret
    pieces = [entropy.randbytes(entropy.randrange(1, 40)) + b"\x1b[" for _ in range(500)]
    text = written(*pieces)
    assert all(mark.isprintable() or mark in "\n\t" or mark == "\xad" or ord(mark) > 0x9F for mark in text)


def test_an_unfinished_sequence_is_held_back_only_for_a_while() -> None:
    output = BuildOutput()
    output.write(b"a\x1b]0;" + b"x" * 5000)
    assert output.read().text == "a\ufffd]0;" + "x" * 5000


def test_a_large_output_keeps_its_beginning_and_its_end() -> None:
    output = BuildOutput(head=10, tail=20)
    for number in range(1000):
        output.write(f"{number:03}\n".encode())
    text = output.read().text
    assert text.startswith("000\n001\n00\n[... 3,9")
    assert text.endswith(" characters are left out here ...]\n" + "".join(f"{n}\n" for n in range(995, 1000)))
    assert output.kept <= 10 + 20 + 4
    assert output.end == 4000


def test_one_huge_piece_is_cut_as_well() -> None:
    output = BuildOutput(head=10, tail=20)
    output.consume(io.BytesIO(b"x" * 300_000))
    assert output.kept < 70_000


@pytest.mark.parametrize(
    ("start", "most", "text"),
    [
        (0, None, "abcdefghij"),
        (4, None, "efghij"),
        (10, None, ""),
        (99, None, ""),
        (-3, None, "abcdefghij"),
        (0, 3, "hij"),
        (8, 5, "ij"),
    ],
)
def test_reading_from_a_position(start: int, most: int | None, text: str) -> None:
    output = BuildOutput(head=4, tail=100)
    output.write(b"abcdefghij")
    excerpt = output.read(start, most)
    assert (excerpt.text, excerpt.next) == (text, 10)


def test_a_reader_that_falls_behind_sees_the_gap() -> None:
    output = BuildOutput(head=4, tail=4)
    output.write(b"abcd")
    position = output.read().next
    for _ in range(5):
        output.write(b"efgh")
    assert output.read(position).text == "\n[... 16 characters are left out here ...]\nefgh"


def test_the_last_lines_since_a_position() -> None:
    output = BuildOutput()
    output.write(b"before\n")
    since = output.end
    output.write(b"a\n\n  \nb\nc\n")
    assert output.last_lines(since, 2, 100) == "b\nc"
    assert output.last_lines(since, 9, 100) == "a\nb\nc"
    assert output.last_lines(since, 9, 3) == "b\nc"
    assert output.last_lines(output.end, 9, 100) == ""


def test_a_line_of_the_local_cloud_is_on_a_line_by_itself() -> None:
    output = BuildOutput()
    output.say("first")
    output.write(b"half")
    output.say("second")
    assert output.read().text == "first\nhalf\nsecond\n"


def test_the_oldest_outputs_make_room() -> None:
    outputs = Outputs(limit=10)
    for number in range(4):
        outputs.add(number).write(b"abcd")
    assert [outputs.get(number) is not None for number in range(4)] == [False, True, True, True]
    assert [outputs.was_removed(number) for number in (0, 1, 9)] == [True, False, False]
