"""The entry points. Each one passes its request to the application and answers with a status code.

Importing this module touches no network and reads no settings. It loads the modules of the function that the process
serves: the framework names its server after it.
"""

from __future__ import annotations

import flask
import functions_framework
from cloudevents.http import CloudEvent

from luci_scheduler import guards, startup
from luci_scheduler.logs import ensure_logging

__all__ = ["console", "on_build_completion", "on_cloud_build", "on_github_push", "on_gitiles_commit", "on_task"]


@functions_framework.cloud_event
def on_gitiles_commit(event: CloudEvent) -> None:
    """Handle a commit: the jobs that watch its ref get their triggers, invocations and builds."""
    entry.finish_event(entry.commit(entry.current_app(), event))


@functions_framework.cloud_event
def on_build_completion(event: CloudEvent) -> None:
    """Handle a notification about a build: its invocation is updated."""
    entry.finish_event(entry.notification(entry.current_app(), event))


@functions_framework.cloud_event
def on_cloud_build(event: CloudEvent) -> None:
    """Handle a message about a build of Cloud Build: if it is one of ours, its invocation is updated."""
    entry.finish_event(entry.cloud_build(entry.current_app(), event))


@functions_framework.http
def on_task(request: flask.Request) -> flask.typing.ResponseReturnValue:
    """Run a task of Cloud Tasks or Cloud Scheduler."""
    return entry.task(entry.current_app(), request)


@functions_framework.http
def console(request: flask.Request) -> flask.typing.ResponseReturnValue:
    """Serve the web UI and the pRPC API."""
    return entry.page(entry.current_app(), request)


@functions_framework.http
def on_github_push(request: flask.Request) -> flask.typing.ResponseReturnValue:
    """Publish the commit event of a push to a GitHub repository."""
    return webhook.push(webhook.current_hook(), request)


startup.postpone_collections(flask.current_app)
ensure_logging()
guards.log_refusals(flask.current_app)
if flask.current_app.name == on_github_push.__name__:
    from luci_scheduler import webhook

    guards.refuse_other_sites(flask.current_app, webhook.is_local)
    webhook.answer_every_path(flask.current_app)
else:
    from luci_scheduler import entry

    guards.refuse_other_sites(flask.current_app, entry.is_local)
    entry.bound_events(flask.current_app)
