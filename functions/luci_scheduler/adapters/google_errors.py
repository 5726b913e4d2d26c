"""Errors of Google's client libraries, by the names that `core.transience` judges."""

from __future__ import annotations

from google.api_core.exceptions import GoogleAPICallError

__all__ = ["code_of"]


def code_of(error: Exception) -> str:
    """Return the name of an error's gRPC code; UNAVAILABLE if there was no answer (no token, for instance)."""
    code = error.grpc_status_code if isinstance(error, GoogleAPICallError) else None
    return "UNAVAILABLE" if code is None else str(code.name)
