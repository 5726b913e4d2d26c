"""The four entry points. Each parses its envelope, hands plain values to the engine, and answers with a status code.

Importing this module touches no network and reads no settings.
"""

from __future__ import annotations

import flask
import functions_framework
from cloudevents.http import CloudEvent

from luci_scheduler import bootstrap, entry

__all__ = ["console", "on_build_completion", "on_gitiles_commit", "on_task"]


@functions_framework.cloud_event
def on_gitiles_commit(event: CloudEvent) -> None:
    """A commit has landed: its jobs get their invocations and builds."""
    entry.finish(entry.commit(entry.reached(), event))


@functions_framework.cloud_event
def on_build_completion(event: CloudEvent) -> None:
    """A build has changed: its invocation moves on."""
    entry.finish(entry.notification(entry.reached(), event))


@functions_framework.http
def on_task(request: flask.Request) -> flask.typing.ResponseReturnValue:
    """Something is due: Cloud Tasks or Cloud Scheduler says so."""
    return entry.task(entry.reached(), request)


@functions_framework.http
def console(request: flask.Request) -> flask.typing.ResponseReturnValue:
    """People look."""
    return entry.page(entry.reached(), request)


bootstrap.have_logging()
entry.log_refusals(flask.current_app)
entry.refuse_other_sites(flask.current_app)
