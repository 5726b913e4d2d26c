"""Dry runs of builds: whether Buildbucket accepts our account in the buckets that jobs name, and our topic."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from luci_scheduler.core.era import Era
from luci_scheduler.core.errors import PermanentError
from luci_scheduler.core.frozen import frozen
from luci_scheduler.core.identifiers import project_of
from luci_scheduler.core.job import Job
from luci_scheduler.managers.buildbucket.builder_id import builder_id, canonical_bucket, server_of
from luci_scheduler.ports import Buildbucket, BuildbucketError

__all__ = ["BuildServer", "DryRun", "dry_runs"]

_MAX_BUCKETS = 40  # each costs a call; a large installation uses some dozens


@frozen
class BuildServer:
    """A Buildbucket server."""

    protocol: Era
    topic: str
    """The topic that it publishes notifications to; empty if it publishes none."""


@frozen
class DryRun:
    """A call that requests no build, but needs the same permissions."""

    host: str
    server: BuildServer
    project: str
    bucket: str
    builder: str
    bucket_of_v1: str

    @property
    def subject(self) -> str:
        """The realm and its server, for people: ``<project>:<bucket> on <host>``."""
        return f"{self.project}:{self.bucket} on {self.host}"

    def send(self, wire: Buildbucket) -> None:
        """Make the call.

        In v2 it is ``ScheduleBuild`` with ``dry_run``, so Buildbucket checks the right to add builds, and its own right
        to publish to the topic. In v1 it is a search, which proves the right to read builds.

        Raises:
            BuildbucketError: Buildbucket refuses the account or the topic, or does not answer.
        """
        if self.server.protocol is Era.V1:
            query = [("bucket", self.bucket_of_v1), ("max_builds", "1")]
            found = wire.v1(self.host, "GET", "search", query=query)
            if isinstance(error := found.get("error"), Mapping):
                raise BuildbucketError(str(error.get("reason")), str(error.get("message", "")), transient=False)
            return
        wire.v2(self.host, "ScheduleBuild", self._request())

    def _request(self) -> dict[str, Any]:
        builder = {"project": self.project, "bucket": self.bucket, "builder": self.builder}
        notify = {"notify": {"pubsubTopic": self.server.topic}} if self.server.topic else {}
        return {"builder": builder, "dryRun": True, **notify}


def dry_runs(jobs: Iterable[Job], servers: Mapping[str, BuildServer]) -> list[DryRun]:
    """Return a dry run for each bucket that enabled jobs name, with one builder of it, in the order of the jobs."""
    found: dict[tuple[str, str, str], DryRun] = {}
    for item in _all_runs(jobs, servers):
        found.setdefault((item.host, item.project, item.bucket), item)
    return list(found.values())[:_MAX_BUCKETS]


def _all_runs(jobs: Iterable[Job], servers: Mapping[str, BuildServer]) -> Iterator[DryRun]:
    for job in jobs:
        task = job.definition.task
        server = server_of(servers, task.fields.get("server", ""))  # only jobs with builds name one
        if job.enabled and server is not None:
            named = str(task.fields.get("bucket", ""))
            realm = f"{project_of(job.id)}:{job.definition.realm}"
            try:
                project, bucket, builder = builder_id(realm, canonical_bucket(named), task.fields.get("builder", ""))
            except PermanentError:
                continue  # the config's validation reports it
            yield DryRun(task.fields["server"], server, project, bucket, builder, named)
