"""One request of the Cloud Build API and its answer, under the active faults, without a connection."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from emulator.cloud_build.builds import project_number
from emulator.cloud_build.errors import CallError, disabled, invalid, over_quota
from emulator.cloud_build.faults import Fault
from emulator.cloud_build.service import Call, Service, find_call
from emulator.serving.faults import Faults

__all__ = ["CutError", "Exchange", "Reply", "refused"]

_JSON = "application/json; charset=UTF-8"
_HTML = "text/html; charset=UTF-8"
_PAGE = (
    "<!DOCTYPE html>\n<html lang=en>\n<title>Error {status} (Server Error)!!1</title>\n"
    "<p><b>{status}.</b> <ins>That's an error.</ins>\n"
)
_OK, _NO_ROUTE = 200, 404


class CutError(Exception):
    """The connection must be closed without an answer."""


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer."""

    status: int
    body: bytes
    content_type: str = _JSON
    is_cut: bool = False
    """Whether the connection is closed halfway through the body."""


class Exchange:
    """Answers requests.

    Args:
        service: the service.
        faults: the active faults.
    """

    def __init__(self, service: Service, faults: Faults[Fault]) -> None:
        self._service = service
        self._faults = faults

    def answer(
        self, http_method: str, path: str, query: Mapping[str, str], data: bytes, wait: Callable[[float], None]
    ) -> Reply:
        """Return the answer of a request.

        Args:
            http_method: ``GET`` or ``POST``.
            path: the path, without a query.
            query: its parameters.
            data: the body; empty for none.
            wait: delays the answer by seconds of real time; it may raise.

        Raises:
            CutError: a fault closes the connection.
        """
        call = find_call(http_method, path)
        if call is None:
            return _html(_NO_ROUTE)
        text = f"{path} {data.decode(errors='replace')}"
        faults = self._faults.use(lambda fault: fault.matches(call.method, text))
        return self._under(faults, call, query, data, wait)

    def _under(
        self, faults: list[Fault], call: Call, query: Mapping[str, str], data: bytes, wait: Callable[[float], None]
    ) -> Reply:
        for fault in faults:
            if fault.when == "before" and (failed := self._fail(fault, call, query, wait)) is not None:
                return failed
        reply = self._work(call, query, data)
        for fault in faults:
            if fault.when == "after" and (failed := self._fail(fault, call, query, wait)) is not None:
                return failed
        is_cut = any(fault.effect == "cut_body" for fault in faults)
        return Reply(reply.status, reply.body, reply.content_type, is_cut=is_cut)

    def _work(self, call: Call, query: Mapping[str, str], data: bytes) -> Reply:
        try:
            return _json(_OK, self._service.answer(call, query, _parsed(data)))
        except CallError as error:
            return _json(error.status, error.body)

    def _fail(self, fault: Fault, call: Call, query: Mapping[str, str], wait: Callable[[float], None]) -> Reply | None:
        """Return the answer of a fault; None if the call continues."""
        number = project_number(call.place.project)
        match fault.effect:
            case "cut":
                raise CutError
            case "slow":
                wait(fault.seconds)
            case "html":
                return _html(fault.status)
            case "error":
                return refused(CallError(fault.code, fault.message))
            case "quota":
                return refused(over_quota(number))
            case "disabled":
                return refused(disabled(number))
            case "empty_page":
                return _json(_OK, self._service.empty_page(query))
        return None


def _parsed(data: bytes) -> Any:
    if not data:
        return None
    try:
        return json.loads(data)
    except (RecursionError, ValueError) as error:
        raise invalid(f"Invalid JSON payload received. {error}") from error


def _json(status: int, body: Mapping[str, Any]) -> Reply:
    return Reply(status, json.dumps(body, indent=2, ensure_ascii=False).encode())


def refused(error: CallError) -> Reply:
    """Return the answer that refuses a call."""
    return _json(error.status, error.body)


def _html(status: int) -> Reply:
    return Reply(status, _PAGE.format(status=status).encode(), _HTML)
