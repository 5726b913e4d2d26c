"""The names in a local cloud, and the environment of its functions."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from emulator.cloud_tasks.model import RateLimits, RetryConfig
from emulator.errors import LocalCloudError
from emulator.front_end.front_end import Accounts
from luci_scheduler.core.instants import SECOND
from luci_scheduler.settings_reader import SettingsError, read_settings

__all__ = [
    "BUILDBUCKET_HOST",
    "DEVELOPER",
    "GUEST",
    "LOCATION",
    "OUTSIDER",
    "PUBLISHER",
    "QUEUE",
    "QUEUE_RATES",
    "QUEUE_RETRIES",
    "THIS_MACHINE",
    "Addresses",
    "accounts_of",
    "function_environment",
    "queue_path",
]

BUILDBUCKET_HOST = "cr-buildbucket.appspot.com"
"""The usual Buildbucket server in configs. The local cloud's own server takes the place of every one."""
PUBLISHER = "cr-buildbucket@appspot.gserviceaccount.com"
"""The account that publishes the notifications of builds."""

LOCATION = "us-central1"
QUEUE = "luci-scheduler"
# Rates and retries are those of infra/terraform.
QUEUE_RATES = RateLimits(max_dispatches_per_second=500.0, max_concurrent_dispatches=50)
QUEUE_RETRIES = RetryConfig(max_attempts=-1, min_backoff=SECOND, max_backoff=600 * SECOND, max_doublings=10)

DEVELOPER = "dev@localhost"
"""May do everything. Without a front end, the console treats every visitor as this user."""
GUEST = "guest@localhost"
"""May pass the front end, but has no rights in any project."""
OUTSIDER = "outsider@localhost"
"""May not pass the front end."""
THIS_MACHINE = ("127.0.0.1", "localhost", "::1")
"""The hosts that ``url_fetch`` jobs may call."""
_THREADS = 16


def queue_path(project: str) -> str:
    """Return the full name of a local cloud's queue."""
    return f"projects/{project}/locations/{LOCATION}/queues/{QUEUE}"


def accounts_of(project: str) -> Accounts:
    """Return the accounts of a local cloud."""
    tasks, schedules, push = (f"{name}@{project}.iam.gserviceaccount.com" for name in ("tasks", "cron", "push"))
    return Accounts(tasks, schedules, push, people=(DEVELOPER, GUEST), outsider=OUTSIDER)


@dataclass(frozen=True, slots=True)
class Addresses:
    """The addresses of all parts: ``host:port`` for emulators and gRPC, base URLs for the others."""

    project: str
    firestore: str
    pubsub: str
    cloud_tasks: str
    certs: str
    buildbucket: str
    gitiles: str
    """Serves each Gitiles host below ``/h/<host>``."""
    on_task: str
    links: Mapping[str, str] = field(default_factory=dict)
    """Further local pages that take the place of others, as in ``SCHEDULER_LINKS``."""

    @property
    def task_account(self) -> str:
        """The account in the tokens of tasks."""
        return accounts_of(self.project).tasks


def _links(at: Addresses) -> dict[str, str]:
    """Return the local pages that take the place of builds and repositories."""
    builds = f"{at.buildbucket}/build/"
    return {
        "https://*.appspot.com/build/": builds,
        "https://ci.chromium.org/b/": builds,  # the builds of the protocol v1
        "https://*.googlesource.com/": f"{at.gitiles}/*.googlesource.com/",
        **at.links,
    }


def function_environment(
    at: Addresses, *, protocol: str, config_folder: Path, check_interval_seconds: int, extra: Mapping[str, str]
) -> dict[str, str]:
    """Return the environment of the functions; ``extra`` overrides it.

    Raises:
        LocalCloudError: the functions would refuse it.
    """
    server = {"host": "*", "publisher": PUBLISHER, "protocol": protocol, "url": at.buildbucket}
    environment = {
        "FIRESTORE_EMULATOR_HOST": at.firestore,
        "PUBSUB_EMULATOR_HOST": at.pubsub,
        "GOOGLE_CLOUD_PROJECT": at.project,
        "THREADS": str(_THREADS),
        "SCHEDULER_PROJECT": at.project,
        "SCHEDULER_LOCATION": LOCATION,
        "SCHEDULER_QUEUE": QUEUE,
        "SCHEDULER_TASK_URL": at.on_task,
        "SCHEDULER_TASK_ACCOUNT": at.task_account,
        "SCHEDULER_OIDC_CERTS_URL": at.certs,
        "SCHEDULER_CLOUD_TASKS_ENDPOINT": at.cloud_tasks,
        "SCHEDULER_TOKEN_SECRETS": "the local cloud's signing secret",
        "SCHEDULER_BUILDBUCKET_SERVERS": json.dumps([server]),
        "SCHEDULER_GITILES_URLS": json.dumps({"*": f"{at.gitiles}/h"}),
        "SCHEDULER_LINKS": json.dumps(_links(at)),
        "SCHEDULER_CONFIG_FOLDER": str(config_folder.resolve()),
        "SCHEDULER_FETCH_ALLOWED_HOSTS": ",".join(THIS_MACHINE),
        "SCHEDULER_LOCAL": "true",
        "SCHEDULER_LOCAL_USER": DEVELOPER,
        "SCHEDULER_ACCESS": json.dumps({"version": 1, "admins": [f"user:{DEVELOPER}"]}),
    }
    if check_interval_seconds:
        environment["SCHEDULER_CHECK_INTERVAL_SECONDS"] = str(check_interval_seconds)
    environment = {name: value for name, value in {**environment, **extra}.items() if value}
    try:
        read_settings(environment)
    except SettingsError as error:
        raise LocalCloudError(f"the functions would not run: {error}") from error
    return environment
