"""``python -m emulator up``: a local cloud until Ctrl-C."""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import FrameType
from typing import NoReturn

from emulator.banner import addresses, addresses_json, server_rows
from emulator.builds.builder_commands import BuilderCommands, choose_builders
from emulator.builds.builders_file import FILE as BUILDERS_FILE
from emulator.clock import AdjustableClock
from emulator.cloud_build.triggers import FILE as TRIGGERS_FILE
from emulator.commit_events import RefWatcher
from emulator.config_watch import ConfigWatch
from emulator.errors import LocalCloudError
from emulator.kept_state import KeptState, kept_state
from emulator.local_cloud import LocalCloud
from emulator.local_configs import valid_configs
from emulator.local_control_plane import LocalControlPlane
from emulator.optional_servers import GITHUB, choose_triggers
from emulator.options import Options, TcpPorts, fresh_project
from emulator.processes import wait_for_interruption
from emulator.sample import make_sample
from emulator.settings import THIS_MACHINE
from emulator.start import start_local_cloud
from emulator.start_page import StartPage
from emulator.stores import choose_store
from emulator.terminal import Form, Terminal
from emulator.watched import look_at_repositories
from emulator.watching import choose_repository, watch
from luci_scheduler.config.folder import FILE

__all__ = ["until_stopped", "up"]

_INTERRUPTED = 130
_PARTS = ("configs", "repositories", "logs", "state", BUILDERS_FILE, TRIGGERS_FILE)
"""The content of the folder of a local cloud."""


def up(options: argparse.Namespace) -> int:
    """Start the local cloud, print the addresses and what happens, and stop it on Ctrl-C or SIGTERM.

    Returns:
        0 if it was up, 130 if it was stopped before that.

    Raises:
        LocalCloudError: something cannot start; nothing is left running.
    """
    _check_folders(options.configs, options.folder)
    BuilderCommands(choose_builders(options.builders, options.folder))  # refuses a bad file before anything is written
    choose_triggers(options.triggers, options.folder)
    with ExitStack() as stack:
        is_new = options.folder is None or _is_new(options.folder)
        kept = stack.enter_context(kept_state(options.folder, fresh=options.fresh)) if options.folder else None
        folder = options.folder or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="local-cloud-")))
        folder = folder.resolve()  # sentences that name it are read in other terminals, which have another folder
        form: Form = "json" if options.json else "quiet" if options.quiet else "text"
        local = _read_options(options, folder, kept, form)
        is_watching = _watch(options, folder, local, form)
        if is_new and options.configs is None and not is_watching:
            _add_sample(folder, local)
        local = _with_servers(options, options.configs or folder / "configs", local)
        _say_if_empty(options.configs or folder / "configs", local)
        return until_stopped(local, form)


def _check_folders(configs: Path | None, folder: Path | None) -> None:
    """Refuse folders that were hardly meant; nothing has been written yet.

    Raises:
        LocalCloudError: a folder is missing or unusable, holds other files, or a config is next to the project folders
            instead of inside one.
    """
    if configs is not None and not configs.is_dir():
        raise LocalCloudError(f"there is no folder {configs}: make it, or name another one in --configs")
    for place in (configs, folder):
        if place is not None and (place / FILE).exists():
            inside = "" if place == configs else "configs/"
            raise LocalCloudError(f"{place / FILE} belongs to no project: move it to {place}/{inside}PROJECT/{FILE}")
    if folder is not None and folder.exists():
        _check_content(folder)


def _check_content(folder: Path) -> None:
    try:
        found = {path.name for path in folder.iterdir()}
    except OSError as error:
        raise LocalCloudError(f"the folder {folder} cannot be used: {error.strerror}; name another one") from error
    if found and not found.intersection(_PARTS):
        raise LocalCloudError(
            f"{folder} holds other files and no local cloud: name a new or an empty folder, or make {folder}/configs"
        )


def _is_new(folder: Path) -> bool:
    """Return whether no local cloud has started in a folder; a refused start leaves only the lock of the state."""
    return not folder.is_dir() or not {path.name for path in folder.iterdir()} - {"state"}


def _watch(options: argparse.Namespace, folder: Path, local: Options, form: Form) -> bool:
    """Watch the repository that the user names, or the one around the current folder if the user wants that."""
    if options.watch is False:
        return False
    ask = _ask if form == "text" and sys.stdin.isatty() and sys.stderr.isatty() else None
    found = choose_repository(options.watch, Path.cwd(), ask, local.on_progress)
    if found is None:
        return False
    configs, is_ours = options.configs or folder / "configs", options.configs is None
    said = watch(
        found, folder / "repositories", configs, rules=local.config_rules, is_ours=is_ours, command=local.build
    )
    local.on_progress(said)
    return True


def _ask(question: str) -> bool:
    print(f"{question} [y/n] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _say_if_empty(configs: Path, options: Options) -> None:
    if not any(configs.glob(f"*/{FILE}")):
        options.on_progress(f"there is no config yet: save one as {configs.resolve()}/PROJECT/{FILE}")


def _add_sample(folder: Path, options: Options) -> None:
    try:
        file = make_sample(folder / "configs")
    except OSError as error:
        raise LocalCloudError(
            f"the folder {folder} cannot be used: {error.strerror}: {error.filename}; name another one"
        ) from error
    options.on_progress(f"made a sample project for the new folder: {file.resolve()}")


def _read_options(options: argparse.Namespace, folder: Path, kept: KeptState | None, form: Form) -> Options:
    store, reason = choose_store(options.store, kept, download_url=options.download_url)
    if form == "text" and reason:
        _say(f"{reason}, so everything runs in memory")
    return Options(
        # Only in memory all parts run on the local cloud's clock, so only there it can be adjusted.
        clock=AdjustableClock(options.speed, _start_time(kept)) if store == "memory" else None,
        config_folder=options.configs,
        folder=folder,
        kept=kept,
        check_interval_seconds=options.check_interval,
        build=options.build or "",
        builders=options.builders,
        protocol=options.protocol,
        project=_project(options.project, kept) or fresh_project(),
        settings=_settings(options),
        store=store,
        speed=options.speed,
        ports=_ports(options),
        events=options.events,
        front_end=options.front_end,
        stripping=options.stripping,
        download_url=options.download_url,
        on_progress=_say if form == "text" else lambda _: None,
    )


def _settings(options: argparse.Namespace) -> dict[str, str]:
    """Return the functions' settings that differ from those of every local cloud."""
    settings = {"SCHEDULER_LENIENT_TRIGGERS": "true"} if options.lenient_triggers else {}
    if options.allow_fetch:
        settings["SCHEDULER_FETCH_ALLOWED_HOSTS"] = ",".join((*THIS_MACHINE, *options.allow_fetch))
    return settings


def _start_time(kept: KeptState | None) -> int:
    """Return the time at which the clock starts: now, or the end of the run before if its time ran ahead."""
    return max(time.time_ns(), kept.header.now if kept and kept.header else 0)


def _with_servers(options: argparse.Namespace, configs: Path, local: Options) -> Options:
    """Return the options with the servers that the user or a config wants."""
    needed = _needed(configs, local)
    return replace(
        local,
        cloud_build=any((options.cloud_build, options.cloud_build_port, options.run_steps, "Cloud Build" in needed)),
        run_steps=options.run_steps,
        triggers=options.triggers,
        github=any((options.github, options.github_port, "GitHub" in needed)),
    )


def _needed(configs: Path, options: Options) -> set[str]:
    """Return the names of the optional servers that valid configs need."""
    found = list(valid_configs(configs, options.config_rules)) if configs.is_dir() else []
    has_jobs = any(job.task.kind == "cloud_build" for config in found for job in config.jobs.values())
    has_repos = any(repo.startswith(f"https://{GITHUB}/") for config in found for repo in config.watchers)
    return {name for name, needs in {"Cloud Build": has_jobs, "GitHub": has_repos}.items() if needs}


def _sync(cloud: LocalCloud) -> None:
    """Have the functions read changed configs, and report servers that a config needs and that do not run."""
    cloud.sync()
    for name in sorted(_needed(cloud.configs, cloud.options) - server_rows(cloud).keys()):
        text = f"a config needs {name}, which this local cloud does not serve: stop it with Ctrl-C and start it again"
        cloud.feed.post("problem", text)


def _project(wanted: str | None, kept: KeptState | None) -> str:
    """Return the name of the cloud project; empty for a fresh one.

    Raises:
        LocalCloudError: the kept documents are of another project than the wanted one.
    """
    before = kept.header.project if kept and kept.header else ""
    if kept and wanted and before and wanted != before:
        raise LocalCloudError(
            f"the state in {kept.folder} is of project {before}: leave out --project, or use --fresh, "
            "which forgets the state"
        )
    return wanted or before


def _ports(options: argparse.Namespace) -> TcpPorts:
    return TcpPorts(
        console=options.console_port,
        firestore=options.firestore_port,
        pubsub=options.pubsub_port,
        cloud_tasks=options.cloud_tasks_port,
        buildbucket=options.buildbucket_port,
        gitiles=options.gitiles_port,
        cloud_build=options.cloud_build_port,
        github=options.github_port,
    )


def until_stopped(options: Options, form: Form = "text") -> int:
    """Run a local cloud until Ctrl-C or SIGTERM, and print its feed; see `up`."""
    # A shell starts background commands with SIGINT ignored. A SIGINT that still arrives is intentional.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    was_up = False
    try:
        with ExitStack() as stack:
            cloud = stack.enter_context(start_local_cloud(options))
            was_up = True
            page = stack.enter_context(StartPage(cloud))
            apis = stack.enter_context(LocalControlPlane(cloud))
            stack.enter_context(RefWatcher(cloud.repositories, cloud.commit_events, cloud.feed))
            stack.enter_context(ConfigWatch(cloud.configs, partial(_sync, cloud), cloud.feed))
            show = addresses_json if form == "json" else addresses
            print(show(cloud, page.url, apis.url), flush=True)
            stack.enter_context(Terminal(cloud.feed, form))
            look_at_repositories(cloud)
            wait_for_interruption()
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
    return 0 if was_up else _INTERRUPTED


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt
