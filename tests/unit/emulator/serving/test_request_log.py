"""The request log keeps the latest requests in order."""

from dataclasses import dataclass

from emulator.serving.request_log import RequestLog


@dataclass(frozen=True)
class Record:
    """A request with its answer."""

    status: int
    answer: str


def test_requests_are_listed_oldest_first() -> None:
    log: RequestLog[str] = RequestLog()
    log.add("a")
    log.add("b")
    assert log.all() == ["a", "b"]


def test_the_log_keeps_the_latest_ten_thousand() -> None:
    log: RequestLog[int] = RequestLog()
    for number in range(10_001):
        log.add(number)
    assert (len(log.all()), log.all()[0], log.all()[-1]) == (10_000, 1, 10_000)


def test_clearing_removes_all_requests() -> None:
    log: RequestLog[int] = RequestLog()
    log.add(1)
    log.clear()
    assert log.all() == []


def test_the_returned_list_is_a_copy() -> None:
    log: RequestLog[int] = RequestLog()
    log.add(1)
    log.all().clear()
    assert log.all() == [1]


def test_long_answers_leave_less_room() -> None:
    """The latest request is kept in any case."""
    log: RequestLog[Record] = RequestLog(characters=100)
    for number in range(10):
        log.add(Record(number, "x" * 30))
    assert [record.status for record in log.all()] == [7, 8, 9]
    log.add(Record(10, "x" * 1000))
    assert [record.status for record in log.all()] == [10]
    log.clear()
    for number in range(3):
        log.add(Record(number, "x" * 30))
    assert len(log.all()) == 3
