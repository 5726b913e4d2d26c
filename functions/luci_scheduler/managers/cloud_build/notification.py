"""Messages of the topic ``cloud-builds``: which invocation of ours a message is about. Pure.

A message has neither a token nor a signature, so it proves nothing. It only names a build to fetch.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from luci_scheduler.core.foreign_json import read_answer
from luci_scheduler.core.frozen import frozen
from luci_scheduler.core.identifiers import PROJECT_NAME, InvocationId, JobId
from luci_scheduler.core.untrusted import check_values
from luci_scheduler.managers.cloud_build.build import BUILD_ID

__all__ = ["Announced", "read_message"]

_JOB_NAME = re.compile(r"[0-9A-Za-z_\-. )(]{1,100}")
_NUMBER = re.compile(r"[1-9][0-9]{0,18}")
_MAX_INVOCATION = 1 << 63


@frozen
class Announced:
    """A build and the invocation that its substitutions name."""

    build_id: str
    job_id: JobId
    invocation_id: InvocationId


def read_message(data: bytes, app_id: str) -> Announced | None:
    """Return the build that a message announces; None if it is no build of this scheduler.

    The topic has the messages of all builds of the project. ``app_id`` is the scheduler's name in its builds.
    """
    try:
        check_values(data)  # a parsed document takes up to a hundred times its size
        build = read_answer(data)
    except ValueError:
        return None
    values, build_id = build.get("substitutions"), build.get("id")
    if not isinstance(values, Mapping) or values.get("_SCHEDULER_APP") != app_id:
        return None
    names = (build_id, values.get("_SCHEDULER_JOB"), values.get("_SCHEDULER_INVOCATION"))
    if not all(isinstance(name, str) for name in names):
        return None
    return _announced(*map(str, names))


def _announced(build_id: str, job_id: str, invocation_id: str) -> Announced | None:
    project, _, name = job_id.partition("/")
    if not (BUILD_ID.fullmatch(build_id) and PROJECT_NAME.fullmatch(project) and _JOB_NAME.fullmatch(name)):
        return None
    if not _NUMBER.fullmatch(invocation_id) or int(invocation_id) >= _MAX_INVOCATION:
        return None
    return Announced(build_id, JobId(job_id), InvocationId(int(invocation_id)))
