"""A report about the commits of a run, counted from the console's pages and from Buildbucket's builds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from emulator.local_cloud import LocalCloud

__all__ = ["Report", "is_quiet", "job_config", "take_stock", "trigger_id"]


@dataclass(frozen=True, slots=True)
class Report:
    """The results of the commits of some jobs.

    Attributes:
        invocations: the number of invocations.
        builds: the number of their builds in Buildbucket.
        unfinished: the number of invocations that have not ended.
        unsuccessful: the number of invocations that ended without success.
        lost: names of triggers in no invocation, and of invocations that succeeded without a build.
        duplicated: names of triggers in several invocations, and of invocations with several builds or several ends.
    """

    invocations: int
    builds: int
    unfinished: int
    unsuccessful: int
    lost: tuple[str, ...]
    duplicated: tuple[str, ...]

    @property
    def holds(self) -> bool:
        """Whether each trigger led to exactly one successful build."""
        return not (self.lost or self.duplicated or self.unfinished or self.unsuccessful)


def trigger_id(repo: str, ref: str, revision: str) -> str:
    """Return the ID of a commit's trigger."""
    return f"{repo}/+/{ref}@{revision}"


def job_config(server: str, ref: str, watched: Mapping[str, Collection[str]], policy: str = "") -> str:
    """Return a config in which each commit to ``ref`` of a repository triggers its jobs.

    Builders are named like the jobs. ``policy`` is the content of each job's ``triggering_policy``.

    The triggers do not poll: commits arrive on the topic.
    """
    text = []
    for number, (repo, jobs) in enumerate(watched.items()):
        triggers = " ".join(f'triggers: "{name}"' for name in jobs)
        source = f'schedule: "triggered" gitiles {{ repo: "{repo}" refs: "{ref}" }}'
        text.append(f'trigger {{ id: "poller{number}" {source} {triggers} }}')
        task = f'server: "{server}" bucket: "ci"'
        rules = f"triggering_policy {{ {policy} }} " if policy else ""
        text += [f'job {{ id: "{name}" {rules}buildbucket {{ {task} builder: "{name}" }} }}' for name in jobs]
    return "\n".join(text)


def is_quiet(cloud: LocalCloud, jobs: Collection[str]) -> bool:
    """Return whether no invocation of the jobs is active. A page that cannot be loaded counts as active."""
    pages = [cloud.page(f"jobs/{job}") for job in jobs]
    return all(page is not None and not page["active_invocations"] for page in pages)


def take_stock(cloud: LocalCloud, wanted: Mapping[str, Collection[str]]) -> Report:
    """Return the report; ``wanted`` has the expected trigger IDs of each job (``<project>/<job>``)."""
    built = _builds(cloud)
    invocations: list[dict[str, Any]] = []
    lost: list[str] = []
    duplicated: list[str] = []
    builds = 0
    for job, triggers in wanted.items():
        requested = Counter(built.get(job, ()))
        found = _invocations(cloud, job, requested)
        invocations += found
        builds += requested.total()
        lost += [f"{job}: {name}" for name in _lost(found, triggers, requested)]
        duplicated += [f"{job}: {name}" for name in _duplicated(found, requested)]
    return Report(
        invocations=len(invocations),
        builds=builds,
        unfinished=sum(not item["final"] for item in invocations),
        unsuccessful=sum(item["final"] and item["status"] != "SUCCEEDED" for item in invocations),
        lost=tuple(lost),
        duplicated=tuple(duplicated),
    )


def _seen(invocations: Iterable[Mapping[str, Any]]) -> Counter[str]:
    """Count the triggers in invocations."""
    return Counter(trigger["id"] for item in invocations for trigger in item["incoming_triggers"])


def _lost(
    invocations: Sequence[Mapping[str, Any]], triggers: Collection[str], requested: Mapping[str, int]
) -> Iterator[str]:
    """Yield the triggers in no invocation, and the builds that successful invocations lack."""
    seen = _seen(invocations)
    yield from (trigger for trigger in triggers if trigger not in seen)
    for item in invocations:
        if item["status"] == "SUCCEEDED" and not requested.get(item["invocation_id"]):
            yield f"build of {item['invocation_id']}"


def _duplicated(invocations: Sequence[Mapping[str, Any]], requested: Mapping[str, int]) -> Iterator[str]:
    """Yield the triggers in several invocations, and the invocations with several builds or ends."""
    yield from (trigger for trigger, times in _seen(invocations).items() if times > 1)
    yield from (f"build of {name}" for name, times in requested.items() if times > 1)
    for item in invocations:
        if item["debug_log"].count("Invocation finished") > 1:
            yield f"end of {item['invocation_id']}"


def _builds(cloud: LocalCloud) -> Mapping[str, list[str]]:
    """Return the invocation IDs of the builds of each job, once per build."""
    by_job: dict[str, list[str]] = {}
    for build in cloud.buildbucket.builds.newest_first():
        tags = dict(build.spec.tags)
        by_job.setdefault(tags["scheduler_job_id"], []).append(tags["scheduler_invocation_id"])
    return by_job


def _invocations(cloud: LocalCloud, job: str, requested: Collection[str]) -> list[dict[str, Any]]:
    """Return the pages of a job's newest invocations, as its page lists them, and of all with a build."""
    page = cloud.page(f"jobs/{job}")
    listed = [item["invocation_id"] for item in page["invocations"]] if page else []
    pages = [cloud.page(f"jobs/{job}/{name}") for name in dict.fromkeys([*listed, *requested])]
    return [item for item in pages if item is not None]
