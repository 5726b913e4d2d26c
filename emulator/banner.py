"""The addresses of a local cloud, as text and as JSON."""

from __future__ import annotations

import json
from pathlib import Path

from emulator.builds.builders_file import FILE as BUILDERS_FILE
from emulator.local_cloud import LocalCloud
from emulator.watched import push_command, watched
from luci_scheduler.config.folder import FILE
from luci_scheduler.core.instants import Instant, format_rfc3339

__all__ = [
    "addresses",
    "addresses_json",
    "builds_row",
    "function_url",
    "log_folder",
    "server_rows",
    "state_folder",
    "state_row",
]


def addresses(cloud: LocalCloud, start_page: str = "", google_apis: str = "") -> str:
    """Return the addresses of all parts, as text."""
    in_memory = cloud.memory is not None
    rows = {
        **({"Start page": start_page} if start_page else {}),
        "Console": cloud.console_url,
        **_token_row(cloud),
        "Project": cloud.project,
        "Firestore": "in memory" if in_memory else cloud.firestore_address,
        "Pub/Sub": "in memory, for this process only" if in_memory else cloud.pubsub_address,
        **({} if cloud.options.events is None else {"Events": _events_row(cloud)}),
        "Cloud Tasks": cloud.cloud_tasks.grpc_address,
        "Buildbucket": cloud.buildbucket.url,
        "Gitiles": cloud.gitiles.url,
        **server_rows(cloud),
        **({"Google APIs": google_apis} if google_apis else {}),
        **{f"- {name}": function_url(cloud, name) for name in cloud.functions},
        "Builds": builds_row(cloud),
        "Configs": f"{cloud.configs.resolve()}/PROJECT/{FILE}",
        "Repositories": f"{cloud.repositories.resolve()}/HOST/PROJECT",
        "Logs": _log_row(cloud),
        "State": state_row(cloud),
    }
    width = max(map(len, rows))
    return "\n".join(
        [
            "",
            f"The local cloud is up{', in memory' if in_memory else ''}. Ctrl-C stops it.",
            "",
            *(f"  {name:<{width}}  {value}" for name, value in rows.items()),
            "",
            *(f"  {line}" for line in _gestures(cloud)),
            "",
        ]
    )


def addresses_json(cloud: LocalCloud, start_page: str = "", google_apis: str = "") -> str:
    """Return the addresses of all parts as one line of JSON, for programs."""
    return json.dumps(
        {
            "kind": "up",
            "time": format_rfc3339(Instant(cloud.clock.now())),
            "project": cloud.project,
            "store": cloud.options.store,
            "start_page": start_page,
            "console": cloud.console_url,
            "firestore": cloud.firestore_address,
            "pubsub": cloud.pubsub_address,
            "cloud_tasks": cloud.cloud_tasks.grpc_address,
            "buildbucket": cloud.buildbucket.url,
            "gitiles": cloud.gitiles.url,
            "cloud_build": server_rows(cloud).get("Cloud Build", ""),
            "github": server_rows(cloud).get("GitHub", ""),
            "google_apis": google_apis,
            "functions": {name: function_url(cloud, name) for name in cloud.functions},
            "configs": str(cloud.configs.resolve()),
            "repositories": str(cloud.repositories.resolve()),
            "logs": _text(log_folder(cloud)),
            "state": _text(state_folder(cloud)),
        }
    )


def server_rows(cloud: LocalCloud) -> dict[str, str]:
    """Return the addresses of the servers that run only if the options want them."""
    optional = cloud.optional
    found = {"Cloud Build": optional.cloud_build, "GitHub": optional.github}
    return {name: server.url for name, server in found.items() if server is not None}


def log_folder(cloud: LocalCloud) -> Path | None:
    """Return the folder of the functions' logs; None if they are not written to files."""
    folder = cloud.options.folder
    return folder.resolve() / "logs" if folder else None


def state_folder(cloud: LocalCloud) -> Path | None:
    """Return the folder in which the state is kept; None if it is not kept."""
    kept = cloud.options.kept
    return kept.folder.resolve() if kept else None


def function_url(cloud: LocalCloud, name: str) -> str:
    """Return where clients reach a function."""
    return cloud.front_end.uri(name) if cloud.front_end else cloud.functions[name].url


def builds_row(cloud: LocalCloud) -> str:
    """Return the command of builds, or that they run none: their success means nothing then."""
    options = cloud.options
    found = options.folder / BUILDERS_FILE if options.folder else None
    file = options.builders or (found if found and found.exists() else None)
    commands = [*([f"by {file.resolve()}"] if file else []), *([options.build] if options.build else [])]
    if options.run_steps:
        commands.append("the steps of Cloud Build")
    return ", else ".join(commands) or "run nothing and succeed: --build COMMAND makes them run a command"


def state_row(cloud: LocalCloud) -> str:
    """Return whether the state is kept, and where."""
    kept = state_folder(cloud)
    if kept is None:
        return "not kept: --folder FOLDER keeps it"
    return f"kept in {kept} at the end{', continued' if cloud.options.kept and cloud.options.kept.header else ''}"


def _log_row(cloud: LocalCloud) -> str:
    folder = log_folder(cloud)
    if folder is None:
        return "not written"
    return f"{folder}{'' if cloud.options.kept else ' (deleted at the end)'}"


def _gestures(cloud: LocalCloud) -> list[str]:
    """Return the lines that a developer pastes into another terminal."""
    push = push_command(cloud, watched(cloud))
    return [_exports(cloud), *([push] if push else [])]


def _exports(cloud: LocalCloud) -> str:
    """Return the line that points the commands of other terminals to this local cloud."""
    pubsub = f" PUBSUB_EMULATOR_HOST={cloud.pubsub_address}" if cloud.pubsub_address else ""
    return f"export LUCI_SCHEDULER_URL={cloud.console_url}{pubsub}"


def _events_row(cloud: LocalCloud) -> str:
    reader = f", pushed to {cloud.options.events}" if cloud.options.events else ""
    return f"topic invocation-events{reader}"


def _token_row(cloud: LocalCloud) -> dict[str, str]:
    """Return the option with which ``luci-scheduler`` passes the front end as the developer."""
    url = cloud.front_end.token_url if cloud.front_end else ""
    return {"Sign-in": f'--token "$(curl -s {url})"'} if url else {}


def _text(folder: Path | None) -> str:
    return str(folder) if folder else ""
