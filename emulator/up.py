"""``python -m emulator up``: a local cloud until Ctrl-C."""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
import threading
from contextlib import ExitStack
from pathlib import Path
from types import FrameType
from typing import NoReturn

from emulator.clock import AdjustableClock
from emulator.errors import LocalCloudError
from emulator.local_cloud import LocalCloud
from emulator.local_control_plane import LocalControlPlane
from emulator.options import Options, TcpPorts
from emulator.settings import THIS_MACHINE
from emulator.start import start_local_cloud
from emulator.start_page import StartPage, make_sample
from luci_scheduler.config.folder import FILE

__all__ = ["addresses", "until_stopped", "up"]

_INTERRUPTED = 130


def up(options: argparse.Namespace) -> int:
    """Start the local cloud, print the addresses, and stop it on Ctrl-C or SIGTERM.

    Returns:
        0 if it was up, 130 if it was stopped before that.

    Raises:
        LocalCloudError: something cannot start; nothing is left running.
    """
    with ExitStack() as stack:
        folder = options.folder
        if folder is None and options.configs is None:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="local-cloud-")))
        _prepare(options.configs, folder)
        return until_stopped(_read_options(options, folder))


def _prepare(configs: Path | None, folder: Path | None) -> None:
    """Check the folder of configs, and put a sample into it if it is empty.

    Raises:
        LocalCloudError: the named folder is missing or unusable, or a config is next to the project folders instead of
            inside one.
    """
    if configs is not None and not configs.is_dir():
        raise LocalCloudError(f"there is no folder {configs}: make it, or name another one in --configs")
    for place in (configs, folder):
        if place is not None and (place / FILE).exists():
            inside = "" if place == configs else "configs/"
            raise LocalCloudError(f"{place / FILE} belongs to no project: move it to {place}/{inside}PROJECT/{FILE}")
    try:
        make_sample(configs or Path(folder or "") / "configs")
    except OSError as error:
        raise LocalCloudError(
            f"the folder {configs or folder} cannot be used: {error.strerror}: {error.filename}; name another one"
        ) from error


def _read_options(options: argparse.Namespace, folder: Path | None) -> Options:
    # Only in memory all parts run on the local cloud's clock, so only there it can be adjusted.
    clock = AdjustableClock(options.speed) if options.store == "memory" else None
    return Options(
        clock=clock,
        config_folder=options.configs,
        folder=folder,
        check_interval_seconds=options.check_interval,
        protocol=options.protocol,
        **({"project": options.project} if options.project else {}),
        settings=_settings(options),
        store=options.store,
        speed=options.speed,
        ports=TcpPorts(
            console=options.console_port,
            firestore=options.firestore_port,
            pubsub=options.pubsub_port,
            cloud_tasks=options.cloud_tasks_port,
            buildbucket=options.buildbucket_port,
            gitiles=options.gitiles_port,
        ),
        front_end=options.front_end,
        stripping=options.stripping,
        download_url=options.download_url,
        on_progress=lambda text: print(text, file=sys.stderr, flush=True),
    )


def _settings(options: argparse.Namespace) -> dict[str, str]:
    """Return the functions' settings that differ from those of every local cloud."""
    settings = {"SCHEDULER_LENIENT_TRIGGERS": "true"} if options.lenient_triggers else {}
    if options.allow_fetch:
        settings["SCHEDULER_FETCH_ALLOWED_HOSTS"] = ",".join((*THIS_MACHINE, *options.allow_fetch))
    return settings


def until_stopped(options: Options) -> int:
    """Run a local cloud until Ctrl-C or SIGTERM; see `up`."""
    # A shell starts background commands with SIGINT ignored. A SIGINT that still arrives is intentional.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    was_up = False
    try:
        with start_local_cloud(options) as cloud, StartPage(cloud) as page, LocalControlPlane(cloud) as apis:
            was_up = True
            print(addresses(cloud, page.url, apis.url), flush=True)
            threading.Event().wait()
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
    return 0 if was_up else _INTERRUPTED


def addresses(cloud: LocalCloud, start_page: str = "", google_apis: str = "") -> str:
    """Return the addresses of all parts, as text."""
    in_memory = cloud.memory is not None
    rows = {
        **({"Start page": start_page} if start_page else {}),
        "Console": cloud.console_url,
        **_token_row(cloud),
        "Project": cloud.project,
        "Firestore": "in memory, nothing is kept" if in_memory else cloud.firestore_address,
        "Pub/Sub": "in memory, for this process only" if in_memory else cloud.pubsub_address,
        "Cloud Tasks": cloud.cloud_tasks.grpc_address,
        "Buildbucket": cloud.buildbucket.url,
        "Gitiles": cloud.gitiles.url,
        **({"Google APIs": google_apis} if google_apis else {}),
        **{f"- {name}": _address(cloud, name) for name in cloud.functions},
        "Configs": f"{cloud.configs}/<project>/luci-scheduler.cfg",
        "Repositories": f"{cloud.repositories}/<host>/<project>",
    }
    width = max(map(len, rows))
    return "\n".join(
        [
            "",
            f"The local cloud is up{', in memory' if in_memory else ''}. Ctrl-C stops it.",
            "",
            *(f"  {name:<{width}}  {value}" for name, value in rows.items()),
            "",
        ]
    )


def _token_row(cloud: LocalCloud) -> dict[str, str]:
    """Return the option with which ``luci-scheduler`` passes the front end as the developer."""
    url = cloud.front_end.token_url if cloud.front_end else ""
    return {"Sign-in": f'--token "$(curl -s {url})"'} if url else {}


def _address(cloud: LocalCloud, name: str) -> str:
    """Return where clients reach a function."""
    return cloud.front_end.uri(name) if cloud.front_end else cloud.functions[name].url


def _interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt
