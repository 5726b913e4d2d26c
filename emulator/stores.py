"""The choice between the official emulators and memory."""

from __future__ import annotations

from typing import Literal, TypeAlias

from emulator.errors import LocalCloudError
from emulator.kept_state import KeptState
from emulator.official import why_not_at_hand

__all__ = ["Store", "choose_store"]

Store: TypeAlias = Literal["emulators", "memory"]


def choose_store(wanted: Store | None, kept: KeptState | None = None, *, download_url: str = "") -> tuple[Store, str]:
    """Return the store of a local cloud, and why it is in memory if the caller did not choose that.

    Args:
        wanted: the caller's choice; None takes that of the run before, else the emulators if they are at hand.
        kept: the state of the run before.
        download_url: where the caller wants to download the emulators from; empty: no choice.

    Raises:
        LocalCloudError: the run before used another store than the caller wants.
    """
    header = kept.header if kept else None
    before: Store | None = None if header is None else "memory" if header.store == "memory" else "emulators"
    if kept and wanted and before and wanted != before:
        raise LocalCloudError(
            f"the state in {kept.folder} is of --store {before}: use that store, or --fresh, which forgets the state"
        )
    if chosen := wanted or before:
        return chosen, ""
    reason = "" if download_url else why_not_at_hand()
    return ("memory" if reason else "emulators"), reason
