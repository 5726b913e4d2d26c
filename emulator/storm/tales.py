"""A failing run for people: its faults and the calls around its violations, in virtual time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from emulator.storm.faults import KINDS, Fault
from emulator.storm.history import Call, Run
from emulator.storm.invariants import SENTENCES, Violation
from luci_scheduler.core.instants import SECOND, Instant, format_rfc3339

__all__ = ["tale", "told_fault"]

_AROUND = 8
"""Calls before and after a violation."""


def tale(run: Run, violations: Sequence[Violation]) -> str:
    """Return the history of a run that violates invariants: faults, violations, and the calls around the first one."""
    lines = [f"{len(run.faults)} faults:"]
    lines += [f"  {told_fault(run, fault)}" for fault in run.faults]
    lines += [f"{len(violations)} violations:"]
    lines += [f"  {_clock(item.at)}  {item}" for item in violations[:10]]
    if violations:
        first = violations[0]
        lines += [f'"{SENTENCES[first.invariant]}"', "calls around the first one:"]
        lines += [f"  {line}" for line in _around(run, first.at)]
    return "\n".join(lines)


def told_fault(run: Run, fault: Fault) -> str:
    """Return a fault in one line, with the instant of its call if it belongs to one."""
    spec = KINDS[fault.kind]
    call = next((call for call in run.history.calls if _is_of(call, fault)), None)
    at = _clock(call.at) if call else " " * len(_clock(Instant(0)))
    amount = f", {spec.amount}: {fault.amount}" if spec.amount else ""
    return f"{at}  {fault.point} #{fault.nth}: {spec.says} ({fault.kind}{amount})"


def _is_of(call: Call, fault: Fault) -> bool:
    return (fault.point, fault.nth) in ((f"{call.point}/before", call.before), (f"{call.point}/after", call.after))


def _around(run: Run, at: Instant) -> Iterator[str]:
    deliveries = {delivery.number: delivery for delivery in run.history.deliveries}
    calls = run.history.calls
    place = next((number for number, call in enumerate(calls) if call.at > at), len(calls))
    for call in calls[max(0, place - _AROUND) : place + _AROUND]:
        delivery = deliveries.get(call.delivery)
        where = f"{delivery.instance} {delivery.key}" if delivery else ""
        landed = "" if call.landed else ", did not land"
        yield f"{_clock(call.at)}  {call.point} #{call.before}: {call.told}{landed}  [{where}]"


def _clock(at: Instant) -> str:
    milliseconds = at % SECOND // 1_000_000
    return f"{format_rfc3339(Instant(at // SECOND * SECOND))[11:19]}.{milliseconds:03}"
