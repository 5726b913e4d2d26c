"""Connects the Buildbucket server with the local cloud around it: commands, files of builds, feed and links."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from emulator.buildbucket.builds import Build, BuildSpec
from emulator.buildbucket.plans import Plan
from emulator.builds.builder_commands import BuilderCommands, choose_builders
from emulator.builds.checkouts import Checkouts, Remote
from emulator.feed import Feed
from emulator.local_configs import valid_configs
from emulator.options import Options
from luci_scheduler.core.instants import SECOND
from luci_scheduler.core.watcher import Watcher

__all__ = ["BuildFeed", "LocalBuilds"]

_SHORT = 12  # digits of a hash that people read
_FAILED = frozenset({"FAILURE", "INFRA_FAILURE"})
_TAGS = {"job": "scheduler_job_id", "invocation": "scheduler_invocation_id"}
"""Field of an entry → the tag of a build that has its value."""


class LocalBuilds:
    """The plans of builds: the commands of the options, on the files of their commits.

    Args:
        options: the options of the local cloud.
        configs: the folder of configs, which say what a job watches.
        repositories: the folder of repositories.
        remote: returns the address at which git clients reach a repository, by host and project.
        feed: gets a line when the file of builders changes.

    Raises:
        LocalCloudError: the file of builders is missing or not valid.
    """

    def __init__(self, options: Options, configs: Path, repositories: Path, remote: Remote, feed: Feed) -> None:
        self._options = options
        self._configs = configs
        file = choose_builders(options.builders, options.folder)
        self._commands = BuilderCommands(file, options.build, post=feed.post)
        self._checkouts = Checkouts(repositories, remote, self._watchers)

    @property
    def parallel(self) -> int:
        """The number of commands that run at once."""
        return self._commands.parallel

    def plan(self, spec: BuildSpec) -> Plan | None:
        """Return the plan of a build; None if its builder has no command."""
        command = self._commands.find(spec.builder)
        return None if command is None else replace(command, workspace=self._checkouts)

    def _watchers(self, job: str) -> Iterable[Watcher]:
        for config in valid_configs(self._configs, self._options.config_rules):
            for watchers in config.watchers.values():
                yield from (watcher for watcher in watchers if watcher.job_id == job)


class BuildFeed:
    """Writes builds that start and end into the feed.

    Args:
        feed: gets the lines.
        url: the address of the Buildbucket server, whose pages the lines link.
    """

    def __init__(self, feed: Feed, url: str) -> None:
        self._feed = feed
        self._url = url

    def changed(self, build: Build) -> None:
        """Post a build that has started or ended."""
        spec, link = build.spec, f"{self._url}/build/{build.id}"
        commit = spec.gitiles_commit or {}
        revision = str(commit.get("id", ""))
        facts = {"build": str(build.id), "builder": str(spec.builder), "status": build.status, "revision": revision}
        facts |= {name: value for name, tag in _TAGS.items() for key, value in spec.tags if key == tag}
        name = f"{spec.builder}{f' at {revision[:_SHORT]}' if revision else ''}"
        if not build.ended:
            self._feed.post("build_started", f"{name} started", link, **facts)
            return
        begin, end = build.start_time or build.create_time, build.end_time or build.update_time
        seconds = max(0, end - begin) / SECOND
        is_failed = build.status in _FAILED
        reason = _reason(build) if is_failed else ""
        text = f"{name} {build.status} after {seconds:.1f} s{f': {reason}' if reason else ''}"
        self._feed.post("failure" if is_failed else "build_ended", text, link, seconds=round(seconds), **facts)


def _reason(build: Build) -> str:
    """Return the last line of a build's summary: the last words of its command."""
    lines = build.outcome.summary.split("\n") if build.outcome else []
    return next((line.strip() for line in reversed(lines) if line.strip()), "")
