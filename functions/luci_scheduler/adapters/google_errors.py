"""Errors of Google's client libraries, named as `core.transience` judges them."""

from __future__ import annotations

from google.api_core.exceptions import GoogleAPICallError

__all__ = ["code_of"]


def code_of(error: Exception) -> str:
    """Return the name of an error's gRPC code; UNAVAILABLE where no answer has come at all (no token, for instance)."""
    code = error.grpc_status_code if isinstance(error, GoogleAPICallError) else None
    return "UNAVAILABLE" if code is None else str(code.name)
