"""The function ``on_github_push`` inside this process, for a local cloud in memory.

In a process of the functions framework, the function reads its settings from the environment, which this process shares
with all functions of the local cloud. So here the function gets its settings directly.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import flask

from luci_scheduler import guards, webhook
from luci_scheduler.adapters.http import sessions
from luci_scheduler.adapters.pubsub import PubsubTopic
from luci_scheduler.ports import Clock
from luci_scheduler.settings_reader import read_webhook_settings

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

__all__ = ["webhook_app"]

_METHODS = ["GET", "POST", "PUT", "DELETE", "PATCH"]


def webhook_app(environment: Mapping[str, str], clock: Clock) -> WSGIApplication:
    """Return the function as the functions framework serves it.

    Args:
        environment: the settings.
        clock: the local cloud's time.

    Raises:
        SettingsError: the settings are incomplete or wrong.
    """
    settings = read_webhook_settings(environment)
    topic = PubsubTopic(settings.commit_topic, settings.pubsub_url, sessions(authenticated=False))
    hook = webhook.Hook(settings.github_webhook_secrets, settings.commit_hosts, topic, clock)
    server = flask.Flask("on_github_push")

    def serve(path: str) -> flask.typing.ResponseReturnValue:  # noqa: ARG001 - the function serves every path
        flask.g.reached = True
        return webhook.push(hook, flask.request)

    for rule in ("/", "/<path:path>"):
        server.add_url_rule(
            rule, f"serve {rule}", serve, defaults={"path": ""} if rule == "/" else {}, methods=_METHODS
        )
    guards.log_refusals(server)
    guards.refuse_other_sites(server, lambda: True)
    return server
