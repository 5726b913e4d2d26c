"""Calls of Cloud Build for one delivery: each is made once, and its failure is logged and classified."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from luci_scheduler.core import log_lines
from luci_scheduler.core.errors import PermanentError, TransientError
from luci_scheduler.core.frozen import frozen
from luci_scheduler.core.instants import SECOND, Instant
from luci_scheduler.core.log_lines import Call
from luci_scheduler.managers.controller import Controller
from luci_scheduler.ports import CloudBuild, CloudBuildError

__all__ = ["Api", "RefusedError"]

_ADVICE = {
    "SERVICE_DISABLED": "enable cloudbuild.googleapis.com in the project of the builds",
    "BILLING_DISABLED": "link the project of the builds to a billing account",
    "PERMISSION_DENIED": (
        "grant the scheduler's account roles/cloudbuild.builds.editor in the project of the builds, "
        "and roles/iam.serviceAccountUser on the account of the build"
    ),
    "run the trigger NOT_FOUND": "correct the trigger, project or location of the job, or create that trigger",
}
"""Reason or code of a refusal, or call and code → the remedy."""


class RefusedError(PermanentError):
    """Cloud Build refused a call for good; ``code`` is the gRPC code's name."""

    def __init__(self, message: str, error: CloudBuildError) -> None:
        super().__init__(message)
        self.error = error
        self.code = error.code


@frozen
class Api:
    """Cloud Build, as one delivery calls it."""

    port: CloudBuild
    controller: Controller
    limit: int
    """The limit of a call in nanoseconds, unless the call has another."""

    def call(
        self,
        name: str,
        action: Call,
        path: str,
        body: Mapping[str, Any] | None = None,
        query: Sequence[tuple[str, str]] = (),
        *,
        limit: int = 0,
        until: Instant | None = None,
        quiet: bool = False,
    ) -> dict[str, Any]:
        """Call a method of the API: a POST with a body, a GET without one.

        Args:
            name: identifies the call in the delivery, which makes each call once.
            action: names the call in the line about its failure.
            path: as of `ports.CloudBuild`.
            body: the message to send.
            query: the parameters of the query.
            limit: of this call, in nanoseconds; 0: the usual one.
            until: an earlier end of the call.
            quiet: a refusal leaves no line; the caller may pass it to `log_refusal`.

        Raises:
            RefusedError: Cloud Build refused the call for good.
            TransientError: Cloud Build did not answer, or refused the call for now.
        """
        method, seconds = ("GET" if body is None else "POST"), (limit or self.limit) / SECOND

        def call() -> Any:
            try:
                return self.port.call(method, path, body, query, seconds=seconds, until=until)
            except CloudBuildError as error:
                return error  # an error counts as the answer

        answer = self.controller.call_once(name, call)
        if not isinstance(answer, CloudBuildError):
            return answer  # type: ignore[no-any-return]
        message = f"failed to {action}: {answer}"
        if answer.transient:
            self._log_failure(action, answer)
            raise TransientError(message, throttled=answer.throttled, retry_after=answer.retry_after) from answer
        refusal = RefusedError(message, answer)
        if not quiet:
            self.log_refusal(action, refusal)
        raise refusal from answer

    def log_refusal(self, action: Call, refusal: RefusedError) -> None:
        """Log a refusal, and its remedy if there is one."""
        error = refusal.error
        self._log_failure(action, error)
        keys = (error.reason, f"{action} {error.code}", error.code)
        if advice := next((_ADVICE[key] for key in keys if key in _ADVICE), ""):
            self.controller.log(log_lines.NEXT_STEP.format(advice=advice))

    def _log_failure(self, action: Call, error: CloudBuildError) -> None:
        self.controller.log(log_lines.CALL_FAILED.format(call=action, error=error))
