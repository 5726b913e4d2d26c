"""The choices of a front end. Loads nothing, because the command line needs the names before anything starts."""

from __future__ import annotations

from typing import Literal, get_args

__all__ = ["MODES", "STRIPPINGS", "Mode", "Stripping"]

Mode = Literal["iap", "load_balancer", "proxy", "public"]
"""The console's front end, as ``console.front_end`` of the Terraform module has it."""
MODES: tuple[Mode, ...] = get_args(Mode)

Stripping = Literal["always", "documented", "never"]
"""Which tokens lose their signature. ``documented``: those in ``X-Serverless-Authorization`` and those of gcloud's
client, the two cases that Google documents. Nothing says what happens to other tokens, so both extremes exist."""
STRIPPINGS: tuple[Stripping, ...] = get_args(Stripping)
