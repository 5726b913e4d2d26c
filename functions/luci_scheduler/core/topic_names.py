"""Names of the Pub/Sub topics that Buildbucket servers publish to, with the original's derivation."""

from __future__ import annotations

from urllib.parse import quote

from luci_scheduler.core.frozen import frozen

__all__ = ["TopicNames", "topic_names"]


@frozen
class TopicNames:
    """The resources of one publisher."""

    topic: str
    subscription: str
    iam_member: str
    """The IAM member that needs the right to publish."""
    push_endpoint: str
    """The URL to which the original had notifications pushed; empty if it pulled them."""


def topic_names(project: str, manager: str, publisher: str, *, dev_server: bool = False) -> TopicNames:
    """Return the names for notifications from ``publisher`` (an email address) to a task manager."""
    prefix = "dev-scheduler" if dev_server else "scheduler"
    # A topic's name cannot contain an @.
    name = f"{prefix}.{manager}.{publisher.replace('@', '~')}"
    member = "serviceAccount" if publisher.endswith(".gserviceaccount.com") else "user"
    endpoint = (
        f"https://{project}.appspot.com/pubsub?kind={quote(manager, safe='')}&publisher={quote(publisher, safe='')}"
    )
    return TopicNames(
        topic=f"projects/{project}/topics/{name}",
        subscription=f"projects/{project}/subscriptions/{name}",
        iam_member=f"{member}:{publisher}",
        push_endpoint="" if dev_server else endpoint,
    )
