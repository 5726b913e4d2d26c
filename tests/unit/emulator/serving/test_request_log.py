"""The request log keeps the latest requests in order."""

from emulator.serving.request_log import RequestLog


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
