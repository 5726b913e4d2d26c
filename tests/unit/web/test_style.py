"""The style sheet has a class for every state on the pages."""

import re
from pathlib import Path

from luci_scheduler import web
from luci_scheduler.api.explanation import Reason

NEUTRAL = {
    Reason.INVOCATION,
    Reason.BATCHED,
    Reason.JOB_DISABLED,
    Reason.PATH_FILTERED,
    Reason.REF_NOT_WATCHED,
    Reason.TAG_EXISTED,
    Reason.NEVER_ARRIVED,
}
"""Reasons without a color of their own: an invocation has the color of its result, the others are no news."""


def test_each_reason_has_the_color_of_its_kind() -> None:
    """A commit that waits for its host has the color of other waiting commits; all discarded commits look alike."""
    sheet = (Path(str(web.__file__)).parent / "static" / "style.css").read_text(encoding="utf-8")
    colors = {
        name.upper(): color
        for names, color in re.findall(r"^([^{\n]*\.reason\.[^{\n]*)\{ background: var\(--(\w+)\)", sheet, re.MULTILINE)
        for name in re.findall(r"\.reason\.(\w+)", names)
    }
    assert set(colors) == set(Reason) - NEUTRAL
    assert {colors[reason] for reason in Reason if reason.startswith("WAITING_")} == {"warning"}
    assert colors[Reason.NOT_ON_REF] == colors[Reason.NOT_SERVED] == "danger"
