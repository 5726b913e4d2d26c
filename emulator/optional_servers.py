"""The servers that a local cloud starts only if its options want them: Cloud Build and GitHub."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from http.client import BAD_REQUEST
from pathlib import Path
from typing import Any

from emulator.builds.checkouts import Remote
from emulator.builds.sources import Sources
from emulator.clock import Clock
from emulator.cloud_build.builds import Build
from emulator.cloud_build.plans import RunSteps
from emulator.cloud_build.server import CloudBuildServer
from emulator.cloud_build.triggers import FILE, Trigger, read_triggers
from emulator.commit_events import CommitEvents
from emulator.errors import LocalCloudError
from emulator.feed import Feed
from emulator.github.deliveries import Delivery, Webhook
from emulator.github.server import GitHubServer
from emulator.github.statuses import CommitStatus
from emulator.message_faults import PubSub
from emulator.options import Options
from emulator.tcp_ports import require_free
from emulator.topics import COMMIT_TOPIC
from luci_scheduler.core.instants import SECOND

__all__ = ["GITHUB", "OptionalServers", "choose_triggers", "start_optional_servers"]

GITHUB = "github.com"
"""The host whose repositories the GitHub server serves."""
WEBHOOK_PATH = "/github"
_SHORT = 12  # digits of a hash that people read
_SECRET_BYTES = 32
_URLS = 20  # earlier addresses whose links still work
_TOKEN = "local-token"  # noqa: S105 - the local server takes every token
_FAILED = frozenset({"FAILURE", "INTERNAL_ERROR", "TIMEOUT", "EXPIRED"})


@dataclass(frozen=True, slots=True)
class OptionalServers:
    """The servers that run; a server that the options do not want is None."""

    cloud_build: CloudBuildServer | None = None
    github: GitHubServer | None = None
    secret: str = ""
    """Signs the webhooks."""

    def settings(self, options: Options, intercept: Callable[[str, str], str]) -> dict[str, str]:
        """Return the settings of the functions that belong to these servers.

        Args:
            options: of the local cloud.
            intercept: returns the address that functions get for a server, by its name and its own address.
        """
        found: dict[str, str] = {}
        if self.cloud_build is not None:
            url = intercept("cloud_build", self.cloud_build.url)
            found |= {"SCHEDULER_CLOUD_BUILD": "true", "SCHEDULER_CLOUD_BUILD_URL": url}
            if seconds := options.check_interval_seconds:
                found["SCHEDULER_CLOUD_BUILD_CHECK_INTERVAL_SECONDS"] = str(seconds)
        if self.github is not None:
            host = {"kind": "github", "api": intercept("github", self.github.url)}
            found |= {
                "SCHEDULER_COMMIT_HOSTS": json.dumps({GITHUB: host}),
                "SCHEDULER_GITHUB_TOKEN": _TOKEN,
                "SCHEDULER_GITHUB_WEBHOOK_SECRETS": self.secret,
                "SCHEDULER_GITHUB_STATUSES": "true",
                "SCHEDULER_COMMIT_TOPIC": f"projects/{options.project}/topics/{COMMIT_TOPIC}",
            }
        return found

    def links(self, kept: Mapping[str, Any]) -> dict[str, str]:
        """Return the local pages that take the place of repositories, and of the builds of earlier runs.

        Args:
            kept: the state that the run before has exported.
        """
        found = {f"https://{GITHUB}/": f"{self.github.url}/"} if self.github else {}
        if self.cloud_build is not None:
            found |= {f"{url}/": f"{self.cloud_build.url}/" for url in _urls(kept) if url != self.cloud_build.url}
        return found

    def send_webhooks_to(self, url: str) -> None:
        """Send the events of GitHub's repositories to the function at a base URL."""
        if self.github is not None:
            self.github.webhook = Webhook(f"{url.rstrip('/')}{WEBHOOK_PATH}", self.secret)

    def know_console(self, url: str) -> None:
        """Let the pages of the servers link to the console."""
        if self.cloud_build is not None:
            self.cloud_build.around.console_url = url
        if self.github is not None:
            self.github.around.console_url = url

    def export_state(self, kept: Mapping[str, Any]) -> dict[str, Any]:
        """Return the builds and the commit statuses, as JSON for `import_state` of a later run.

        Args:
            kept: the state that the run before has exported; the addresses in it stay.
        """
        found: dict[str, Any] = {}
        if self.cloud_build is not None:
            urls = dict.fromkeys([*_urls(kept), self.cloud_build.url])
            found["cloud_build"] = {**self.cloud_build.export_state(), "urls": [*urls][-_URLS:]}
        if self.github is not None:
            found["github_statuses"] = self.github.statuses.exported()
        return found

    def import_state(self, state: Mapping[str, Any]) -> None:
        """Continue with the builds and statuses of an earlier run.

        Raises:
            ValueError: the state is damaged.
        """
        if self.cloud_build is not None and "cloud_build" in state:
            self.cloud_build.import_state(state["cloud_build"])
        if self.github is not None and "github_statuses" in state:
            self.github.statuses.restore(state["github_statuses"])

    def reset(self) -> None:
        """Forget plans, faults and requests; builds and statuses stay."""
        if self.cloud_build is not None:
            self.cloud_build.plans.clear()
            self.cloud_build.faults.clear()
            self.cloud_build.notifier.clear_faults()
            self.cloud_build.clear_requests()
        if self.github is not None:
            self.github.faults.clear()
            self.github.clear_requests()


def _urls(kept: Mapping[str, Any]) -> list[str]:
    """Return the addresses of the Cloud Build server in earlier runs, to which the documents of invocations link."""
    return list(kept.get("cloud_build", {}).get("urls", ()))


def choose_triggers(wanted: Path | None, folder: Path | None) -> list[Trigger]:
    """Return the triggers of the wanted file, else of that in the local cloud's folder, which need not exist.

    Raises:
        LocalCloudError: the wanted file is missing, or the file is not valid.
    """
    if wanted is not None and not wanted.is_file():
        raise LocalCloudError(f"there is no file {wanted}: write it, or name another one in --triggers")
    file = wanted or (folder / FILE if folder else None)
    return read_triggers(file) if file is not None and file.is_file() else []


def start_optional_servers(
    options: Options,
    clock: Clock,
    repositories: Path,
    pubsub: PubSub,
    events: CommitEvents,
    feed: Feed,
    remote: Remote,
    stack: ExitStack,
) -> OptionalServers:
    """Start the servers that the options want.

    Args:
        options: of the local cloud.
        clock: the time of the servers.
        repositories: the folder of repositories.
        pubsub: gets the notifications of builds.
        events: gets the pushes to GitHub's repositories.
        feed: gets a line for each build and each commit status.
        remote: returns the address of a repository of another host for git clients.
        stack: stops the servers.

    Raises:
        LocalCloudError: a port is in use, or the file of triggers is not valid.
    """
    github = _start_github(options, clock, repositories, events, feed, stack) if options.github else None
    reach = _with_github(github, remote)
    cloud_build = _start_cloud_build(options, clock, repositories, pubsub, feed, reach, stack)
    if cloud_build is not None and github is not None:
        cloud_build.around.commit_urls = {f"https://{GITHUB}/": f"{github.url}/"}
    return OptionalServers(cloud_build, github, secrets.token_hex(_SECRET_BYTES))


def _with_github(github: GitHubServer | None, remote: Remote) -> Remote:
    def reach(host: str, project: str) -> str:
        return github.clone_url(project) if github is not None and host == GITHUB else remote(host, project)

    return reach


def _start_github(
    options: Options, clock: Clock, repositories: Path, events: CommitEvents, feed: Feed, stack: ExitStack
) -> GitHubServer:
    server = GitHubServer(repositories, port=require_free(options.ports.github, "GitHub"), clock=clock)
    around = server.around
    # The webhook announces a push to this server; changes without a push need a call.
    around.pushed = partial(events.pushed, is_announced=options.host_functions)
    around.status = partial(_say_status, feed)
    around.delivered = partial(_say_failure, feed)
    if options.host_functions:
        events.hooks[GITHUB] = server.announce
    server.start()
    stack.callback(server.stop)
    return server


def _start_cloud_build(
    options: Options,
    clock: Clock,
    repositories: Path,
    pubsub: PubSub,
    feed: Feed,
    remote: Remote,
    stack: ExitStack,
) -> CloudBuildServer | None:
    if not options.cloud_build:
        return None
    sources = Sources(repositories, remote)
    server = CloudBuildServer(
        clock,
        pubsub,
        port=require_free(options.ports.cloud_build, "Cloud Build"),
        default_plan=_plan(options, sources),
        triggers=choose_triggers(options.triggers, options.folder),
        resolve=sources.resolve,
    )
    server.on_change(partial(_say_build, feed, lambda: server.url))
    server.start()
    stack.callback(server.stop)
    return server


def _plan(options: Options, sources: Sources) -> RunSteps | None:
    """Return the plan of builds: their steps, else the command of every build, else None for that of the server."""
    if options.run_steps:
        return RunSteps(sources)
    return RunSteps(sources, options.build) if options.build else None


def _say_build(feed: Feed, url: Callable[[], str], build: Build) -> None:
    """Write a build that has started or ended into the feed."""
    link, name = f"{url()}/builds/{build.id}", build.job or f"build {build.id[:8]}"
    revision = build.substitutions.get("_REVISION", "")
    facts = {"build": build.id, "job": build.job, "status": build.status, "revision": revision}
    facts |= {"invocation": build.invocation} if build.invocation else {}
    shown = f"{name}{f' at {revision[:_SHORT]}' if revision else ''}"
    if not build.ended:
        feed.post("build_started", f"{shown} started in Cloud Build", link, **facts)
        return
    start, end = build.instant("startTime"), build.instant("finishTime")
    seconds = (end - start) / SECOND if start is not None and end is not None else 0.0
    is_failed = build.status in _FAILED
    reason = str(build.body.get("statusDetail", ""))
    text = f"{shown} {build.status} after {seconds:.1f} s{f': {reason}' if reason and is_failed else ''}"
    feed.post("failure" if is_failed else "build_ended", text, link, seconds=round(seconds), **facts)


def _say_status(feed: Feed, status: CommitStatus) -> None:
    text = f"commit status {status.state} on {status.revision[:_SHORT]} of {status.repository}: {status.context}"
    facts = {"revision": status.revision, "status": status.state, "context": status.context}
    feed.post("note", text, status.target_url, repo=f"https://{GITHUB}/{status.repository}", **facts)


def _say_failure(feed: Feed, delivery: Delivery) -> None:
    """Write a webhook that was refused or not answered into the feed: GitHub does not repeat it."""
    if delivery.status == 0 or delivery.status >= BAD_REQUEST:
        answer = f"{delivery.status} {delivery.answer}" if delivery.status else delivery.answer
        feed.post("problem", f"the webhook {delivery.id} of GitHub was not accepted ({answer}); polls find its commits")
