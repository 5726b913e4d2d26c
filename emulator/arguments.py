"""Types of command-line arguments; their errors name the possible values."""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Callable

__all__ = ["PORT", "speed", "whole_number"]

_WHOLE = re.compile(r"[0-9]{1,9}")
_LARGEST = 10**9 - 1


def whole_number(least: int, most: int = _LARGEST) -> Callable[[str], int]:
    """Return an ``argparse`` type for whole numbers from ``least`` to ``most``, in decimal digits."""
    limits = f"at least {least}" if most == _LARGEST else f"from {least} to {most}"

    def read(text: str) -> int:
        if not _WHOLE.fullmatch(text) or not least <= int(text) <= most:
            raise argparse.ArgumentTypeError(f"{text!r} must be a whole number, {limits}")
        return int(text)

    return read


PORT = whole_number(0, 65535)
"""A TCP port; 0 picks a free port."""


def speed(text: str) -> float:
    """Return the speed of a clock, as a multiple of real time.

    Raises:
        argparse.ArgumentTypeError: it is not a finite number above 0.
    """
    try:
        factor = float(text)
    except ValueError:
        factor = math.nan
    if not 0 < factor < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} must be a number above 0, such as 10")
    return factor
