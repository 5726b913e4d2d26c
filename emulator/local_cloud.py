"""A running local cloud: the addresses of its parts, and actions on it."""

from __future__ import annotations

import signal
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote

import requests

from emulator.buildbucket.server import BuildbucketServer
from emulator.clock import Clock
from emulator.cloud_build.server import CloudBuildServer
from emulator.cloud_scheduler import CloudScheduler
from emulator.cloud_tasks.server import CloudTasksServer
from emulator.commit_events import CommitEvents
from emulator.errors import LocalCloudError, one_line
from emulator.feed import Feed
from emulator.front_end.front_end import FrontEnd
from emulator.github.server import GitHubServer
from emulator.gitiles.projects import find_repository, is_read_only, read_only_sentence, repository_path
from emulator.gitiles.repository import Repository
from emulator.gitiles.server import GitilesServer
from emulator.memory_host import MemoryHost
from emulator.message_faults import FaultyPubSub
from emulator.official import clear_documents
from emulator.optional_servers import GITHUB, OptionalServers
from emulator.options import Options
from emulator.processes import Output
from emulator.run_task import run_task
from emulator.settings import QUEUE_RATES, QUEUE_RETRIES, queue_path
from emulator.topics import PushSubscription
from luci_scheduler.core.commit_hosts import DEFAULT_HOSTS
from luci_scheduler.core.instants import Instant
from luci_scheduler.core.repo_url import RepoUrl
from luci_scheduler.ports import Queue, QueueTask

__all__ = ["Function", "LocalCloud"]

_SYNC_SECONDS = 30.0


class Function(Protocol):
    """A function of a local cloud, in a separate process or in this one."""

    output: Output
    url: str
    starts: int
    """How often it was started."""

    @property
    def restarts(self) -> int:
        """How often it was restarted after it had died."""

    @property
    def pid(self) -> int | None:
        """The process ID; None while no process runs."""

    def start(self) -> None:
        """Start without waiting."""

    def wait_until_ready(self) -> None:
        """Wait until the function accepts connections."""

    def kill(self, number: signal.Signals = signal.SIGKILL) -> None:
        """Send a signal to the function's processes."""

    def stop(self) -> None:
        """Stop the function; may be repeated."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalCloud:
    """The started parts of a local cloud; made by `emulator.start.start_local_cloud`."""

    options: Options
    clock: Clock
    feed: Feed
    """The events, one line each."""
    configs: Path
    """The folder with ``<project>/luci-scheduler.cfg``."""
    repositories: Path
    """The folder with a repository in ``<host>/<project>`` each."""
    firestore_address: str
    """``host:port`` of the Firestore emulator; empty in memory."""
    pubsub_address: str
    """``host:port`` of the Pub/Sub emulator; empty in memory."""
    pubsub: FaultyPubSub
    """Pub/Sub: the official emulator, or topics in memory."""
    commit_events: CommitEvents
    """Publishes commits of the local repositories."""
    subscriptions: Sequence[PushSubscription]
    cloud_tasks: CloudTasksServer
    tasks_client: Any
    """A client of `cloud_tasks`, from Google's library."""
    queue: Queue
    """The queue of the functions, reached as they reach it."""
    buildbucket: BuildbucketServer
    gitiles: GitilesServer
    optional: OptionalServers
    """Cloud Build and GitHub, if the options want them."""
    environment: Mapping[str, str]
    """The environment of ``on_task``; with a front end, that of the others differs: see `FrontEnd.settings`."""
    functions: Mapping[str, Function]
    """The functions by entry point; none if the caller hosts them."""
    console_url: str
    """Where the pages are."""
    memory: MemoryHost | None
    """The application in this process; None on the official emulators."""
    front_end: FrontEnd | None
    """The front end before the functions, if the options name one."""
    schedules: dict[str, CloudScheduler] = field(default_factory=dict)
    """Kind of task → its running schedule."""

    @property
    def project(self) -> str:
        """The cloud project."""
        return self.options.project

    @property
    def cloud_build(self) -> CloudBuildServer:
        """The Cloud Build server.

        Raises:
            LocalCloudError: the options do not want it.
        """
        if self.optional.cloud_build is None:
            raise LocalCloudError("Cloud Build is not served here: start with --cloud-build")
        return self.optional.cloud_build

    @property
    def github(self) -> GitHubServer:
        """The GitHub server.

        Raises:
            LocalCloudError: the options do not want it.
        """
        if self.optional.github is None:
            raise LocalCloudError("GitHub is not served here: start with --github")
        return self.optional.github

    def repository(self, repo: str) -> Repository:
        """Return the repository for ``https://<host>/<project>``; a missing one is created, bare and with branch main.

        Raises:
            LocalCloudError: its folder holds no repository, or its name is not allowed.
        """
        url = DEFAULT_HOSTS.parse(repo)
        if found := find_repository(self.repositories / url.host, url.project):
            return Repository(found, self.repositories)
        path = repository_path(self.repositories / url.host, url.project)
        if path is None:
            raise LocalCloudError(f"{url.project} is not a valid repository name: no part may begin with a dot")
        if path.exists():
            raise LocalCloudError(f"{path} is not a git repository: run git init there, or move it away")
        if is_read_only(path, self.repositories):
            raise LocalCloudError(read_only_sentence(path))
        return Repository.create(path)

    def clone_url(self, url: RepoUrl) -> str:
        """Return the address at which git clients reach a repository."""
        github = self.optional.github
        if github is not None and url.host == GITHUB:
            return github.clone_url(url.project)
        return f"{self.gitiles.url}/{url.host}/{url.project}"

    def task(self, kind: str, payload: Mapping[str, Any] | None = None) -> None:
        """Enqueue a task for ``on_task`` that is due now, such as ``sync`` or ``sweep``."""
        self.queue.enqueue(QueueTask(kind, payload or {}, Instant(self.clock.now())))

    def sync(self) -> None:
        """Run a sync, and wait until it has activated the valid configs.

        An invalid config leaves the project's last valid one active.

        Raises:
            LocalCloudError: the functions do not finish it in time.
        """
        target = self.environment["SCHEDULER_TASK_URL"]
        account = self.environment["SCHEDULER_TASK_ACCOUNT"]
        audience = self.environment.get("SCHEDULER_TASK_AUDIENCE", target)
        try:
            run_task(self.tasks_client, queue_path(self.project), f"{target}/sync", account, audience, _SYNC_SECONDS)
        except LocalCloudError as error:
            said = self.functions["on_task"].output.last_words() if self.functions else "it is not run here"
            raise LocalCloudError(f"{error}; the last output of on_task: {said}") from error

    def publish_commit(self, repo: str, ref: str, revision: str) -> str:
        """Publish a commit event (a ref that now points to a revision); return the message's ID."""
        return self.commit_events.publish(repo, ref, revision)

    def page(self, path: str) -> Any:
        """Return the JSON twin of a page as the developer sees it, or None while it does not exist.

        Raises:
            LocalCloudError: the console does not answer.
        """
        url = f"{self.console_url}/{path.lstrip('/')}"
        headers = self.front_end.developer_headers() if self.front_end else {}
        try:
            with requests.Session() as session:
                session.trust_env = False
                answer = session.get(url, params={"format": "json"}, headers=headers, timeout=20)
            return answer.json() if answer.status_code == requests.codes.ok else None
        except requests.RequestException as error:
            raise LocalCloudError(
                f"the console on {self.console_url} does not answer: {one_line(str(error))}"
            ) from error

    def invocations(self, job: str) -> list[dict[str, Any]]:
        """Return a job's invocations (``<project>/<job>``), newest first, as their pages show them, log included."""
        page = self.page(f"jobs/{quote(job)}")
        listed = page["invocations"] if page else []
        found = [self.page(f"jobs/{quote(job)}/{item['invocation_id']}") for item in listed]
        return [item for item in found if item is not None]

    def kill(self, name: str, number: signal.Signals = signal.SIGKILL) -> None:
        """Send a signal to a function; see `FunctionProcess.kill`.

        Raises:
            LocalCloudError: the function runs in this process.
        """
        self.functions[name].kill(number)

    def reset(self) -> None:
        """Forget documents, tasks, messages, faults and plans, then read the configs again.

        Repositories and builds stay. Running builds send further notifications, which the scheduler acknowledges and
        ignores.

        Raises:
            LocalCloudError: a part does not answer.
        """
        self.cloud_tasks.reset()
        self.pubsub.drop_backlog(self.subscriptions, time.time_ns())
        self.buildbucket.plans.clear()
        self.buildbucket.faults.clear()
        self.buildbucket.notifier.clear_faults()
        self.buildbucket.clear_requests()
        self.gitiles.clear_requests()
        self.optional.reset()
        self._clear_documents()
        self.cloud_tasks.create_queue(queue_path(self.project), QUEUE_RATES, QUEUE_RETRIES)
        if self.functions:
            self.sync()

    def _clear_documents(self) -> None:
        if self.memory is not None:
            self.memory.clear()
        else:
            clear_documents(self.firestore_address, self.project)
