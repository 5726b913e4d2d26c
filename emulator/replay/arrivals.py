"""Deliveries as the functions receive them: messages for topics, and work that on_task carries out."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from emulator.replay.buildbucket import ScriptedBuildbucket
from emulator.replay.deliveries import Abort, Arrival, Delivery
from emulator.replay.errors import ScenarioError
from emulator.replay.stage import Message
from emulator.topics import COMMIT_TOPIC
from luci_scheduler.core.deferred import Deferred
from luci_scheduler.core.identifiers import InvocationId, JobId
from luci_scheduler.core.instants import Instant
from luci_scheduler.engine.deferral import abort_work, trigger_work
from luci_scheduler.ports import Store

__all__ = ["cloud_builds_topic", "message_of", "work_of"]


def message_of(
    delivery: Delivery, project: str, buildbucket: ScriptedBuildbucket, name: str, at: Instant
) -> tuple[str, Message]:
    """Return the topic and the message of a commit, of a notification, or of Cloud Build about a build.

    Raises:
        ScenarioError: no earlier delivery requested the build of a notification.
    """
    match delivery.kind:
        case "commit":
            topic, data, attributes = f"projects/{project}/topics/{COMMIT_TOPIC}", delivery.body, {}
        case "build":
            topic, data, attributes = cloud_builds_topic(project), delivery.body, _attributes(delivery.body)
        case _:
            topic, data, attributes = _notification(delivery, buildbucket)
    published = at if delivery.published is None else delivery.published
    return topic, Message(json.dumps(data).encode(), attributes, delivery.message or name, published)


def cloud_builds_topic(project: str) -> str:
    """Return the full name of the topic to which Cloud Build sends its messages."""
    return f"projects/{project}/topics/cloud-builds"


def _attributes(build: Any) -> dict[str, str]:
    return {"buildId": str(build.get("id", "")), "status": str(build.get("status", ""))}


def _notification(delivery: Delivery, buildbucket: ScriptedBuildbucket) -> tuple[str, Any, dict[str, str]]:
    """Return topic, data and attributes of a notification, with the token from the request for the build."""
    build_id = delivery.body["build"]["id"]
    callback = buildbucket.callback(build_id)
    token = callback.user_data if delivery.token is None else delivery.token
    if callback.is_v1:
        return callback.topic, {**delivery.body, "user_data": ""}, {"auth_token": token, "build_id": build_id}
    return callback.topic, {"buildPubsub": delivery.body, "userData": token}, {"version": "v2"}


def work_of(delivery: Delivery, project: str, store: Store, name: str, now: Instant) -> Deferred:
    """Return the work of triggers or of an abort, as the API records it.

    Raises:
        ScenarioError: the abort names no invocation, and not exactly one is active.
    """
    if isinstance(delivery.body, Arrival):
        job = JobId(f"{project}/{delivery.body.job}")
        return trigger_work(job, delivery.body.triggers, delivery.message or name, now, now)
    abort: Abort = delivery.body
    job, invocation = _aborted(abort, project, store)
    return abort_work(job, invocation, abort.by, abort.reason, now)


def _aborted(abort: Abort, project: str, store: Store) -> tuple[JobId, InvocationId]:
    if abort.job:
        return JobId(f"{project}/{abort.job}"), InvocationId(abort.invocation)
    active = _active(project, store)
    if len(active) != 1:
        raise ScenarioError(f".abort: {len(active)} invocations are active: name one with 'job' and 'invocation'")
    return active[0]


def _active(project: str, store: Store) -> Sequence[tuple[JobId, InvocationId]]:
    found = store.project(project)
    jobs = [store.job(job_id) for job_id in found.value.job_ids] if found else []
    return [(job.value.id, number) for job in jobs if job for number in job.value.active_invocations]
