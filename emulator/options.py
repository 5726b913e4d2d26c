"""The options of a local cloud."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from emulator.buildbucket.plans import Plan
from emulator.clock import Clock
from emulator.front_end.modes import Mode, Stripping
from emulator.interceptors import Interceptors, NoInterceptors
from emulator.kept_state import KeptState
from emulator.supervisor import ALL_FUNCTIONS
from luci_scheduler.config.config_rules import ConfigRules

__all__ = ["Options", "TcpPorts", "fresh_project"]


def fresh_project() -> str:
    """Return a new name of a cloud project, which no web page can guess."""
    return f"local-{uuid.uuid4().hex[:8]}"


@dataclass(frozen=True, slots=True)
class TcpPorts:
    """TCP ports of the servers; 0 is a free port, so that several local clouds can run at once."""

    firestore: int = 0
    pubsub: int = 0
    cloud_tasks: int = 0
    cloud_tasks_keys: int = 0
    buildbucket: int = 0
    gitiles: int = 0
    cloud_build: int = 0
    github: int = 0
    on_gitiles_commit: int = 0
    on_build_completion: int = 0
    on_cloud_build: int = 0
    on_github_push: int = 0
    on_task: int = 0
    console: int = 0


@dataclass(frozen=True, slots=True)
class Options:
    """The options of `emulator.start.start_local_cloud`; each has a default."""

    config_folder: Path | None = None
    """Holds ``<project>/luci-scheduler.cfg``; ``<folder>/configs`` if None."""
    check_interval_seconds: int = 60
    """Time between two status checks of a build; 0 means the protocol's default."""
    protocol: str = "v2"
    """The API that the Buildbucket server speaks: ``v1`` (2021) or ``v2``."""
    plan: Plan | None = None
    """The default plan of builds; `LocalCloud.buildbucket` accepts others while it runs."""
    build: str = ""
    """A line for the shell that every build runs, on a checkout of its commit; empty: builds follow ``plan``. Builds of
    Cloud Build run it unless they run their steps."""
    builders: Path | None = None
    """A file that maps builders to commands (see `emulator.builds.builders_file`), which precede ``build``; if None,
    ``builders.toml`` in ``folder``, if there is one."""
    cloud_build: bool = False
    """Whether Cloud Build is served, so that jobs may have ``cloud_build`` tasks."""
    run_steps: bool = False
    """Whether builds of Cloud Build run their steps as programs on this machine; if not, they follow a plan."""
    triggers: Path | None = None
    """A file with the triggers of Cloud Build (see `emulator.cloud_build.triggers`); if None, ``triggers.toml`` in
    ``folder``, if there is one."""
    github: bool = False
    """Whether GitHub is served: repositories of ``github.com``, webhooks for their pushes, and commit statuses."""
    clock: Clock | None = None
    """The clock of the servers; a `RealClock` with ``speed`` if None."""
    project: str = field(default_factory=fresh_project)
    """The cloud project. The default is a fresh name that no web page can guess."""
    on_progress: Callable[[str], None] = lambda _: None
    """Gets one line of text for each step of the start."""
    store: Literal["emulators", "memory"] = "emulators"
    """``emulators``: the official Firestore and Pub/Sub emulators, and the functions as processes. ``memory``: both in
    this process, for machines without Java and for time that runs faster; a process has one such local cloud at a
    time."""
    folder: Path | None = None
    """Where repositories, logs and configs are; a temporary folder, removed at the end, if None."""
    kept: KeptState | None = None
    """The state of an earlier run to continue, which this run replaces at its end; None: nothing is kept."""
    speed: float = 1.0
    """Speed as a multiple of real time. Only a local cloud in memory can run faster, because official emulators and
    processes use real time."""
    ports: TcpPorts = TcpPorts()
    """The ports of the servers and functions."""
    host_functions: bool = True
    """If False, the caller runs the functions, with `LocalCloud.environment`."""
    sweep_seconds: float = 60.0
    """Time between two sweeps, in real time; with 0, a sweep runs only through `LocalCloud.task`."""
    sync_seconds: float = 60.0
    """Time between two reads of the configs, in real time; with 0, they are read only at the start."""
    firestore_address: str = ""
    """A Firestore emulator that is already running, as ``host:port``; if empty, the local cloud starts one."""
    pubsub_address: str = ""
    """A Pub/Sub emulator that is already running, as ``host:port``; if empty, the local cloud starts one."""
    download_url: str = ""
    """The folder to download emulators from if no Google Cloud SDK is installed; empty: the public one."""
    settings: Mapping[str, str] = field(default_factory=dict)
    """More ``SCHEDULER_...`` variables for the functions."""
    events: str | None = None
    """Announce invocations on the topic ``invocation-events``, which pushes to this address; with an empty address, no
    subscription is made. None: nothing is announced."""
    front_end: Mode | None = None
    """The front end that checks callers before the functions. None: none, and every caller is the developer."""
    stripping: Stripping = "documented"
    """Which tokens lose their signature in the front end."""
    interceptors: Interceptors = field(default_factory=NoInterceptors)
    """Choose the addresses under which the parts reach each other."""

    @property
    def functions(self) -> Mapping[str, str]:
        """The functions that the local cloud runs: entry point → signature type."""
        wanted = {"on_cloud_build": self.cloud_build, "on_github_push": self.github}
        return {name: kind for name, kind in ALL_FUNCTIONS.items() if wanted.get(name, True)}

    @property
    def config_rules(self) -> ConfigRules:
        """The rules by which the functions read configs."""
        return ConfigRules(lenient_triggers=self.settings.get("SCHEDULER_LENIENT_TRIGGERS") == "true")
