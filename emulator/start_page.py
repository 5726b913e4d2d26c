"""The start page of the local cloud: the addresses, a button that commits, switches for faults, and time.

Its forms change the local cloud, so only this machine's browser may post them. Like all servers of the local cloud,
this server refuses pages of other sites, and each form carries a token that only the page knows.
"""

from __future__ import annotations

import hmac
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Self
from urllib.parse import urlencode

import jinja2
from werkzeug.utils import redirect
from werkzeug.wrappers import Request, Response

from emulator.branches import HEADS, WatchedRepo, watched_repos
from emulator.buildbucket.faults import Fault
from emulator.buildbucket.notifications import NotificationFault
from emulator.clock import AdjustableClock
from emulator.errors import LocalCloudError
from emulator.gitiles.projects import find_repository
from emulator.gitiles.repository import Repository
from emulator.local_cloud import LocalCloud
from emulator.serving.local_server import LocalServer
from emulator.tcp_ports import HOST
from luci_scheduler.config.config_rules import ConfigRules
from luci_scheduler.config.folder import FILE, read_folder
from luci_scheduler.config.reader import ConfigError, ProjectConfig, read_config
from luci_scheduler.core.errors import TransientError
from luci_scheduler.core.instants import SECOND, Instant, format_rfc3339
from luci_scheduler.core.repo_url import parse_repo_url

__all__ = ["SWITCHES", "StartPage"]

SWITCHES: Mapping[str, str] = {
    "lose": "notifications of builds are lost",
    "fail": "Buildbucket answers 502",
    "slow": "Buildbucket answers three seconds late",
}
_SLOW_SECONDS = 3.0
_SPEEDS = (1, 10, 60, 600)
_STEPS = {"10 seconds": 10, "1 minute": 60, "10 minutes": 600, "1 hour": 3600}
_MINUTE = 60  # seconds, as in _STEPS: how often Cloud Scheduler starts sweep and sync
_MAX_FORM = 10_000
_CONFIGS_KEPT = 64
_FILE = "change.txt"


@dataclass(frozen=True, slots=True)
class _Done:
    """The result of a form, and a page that shows more of it."""

    text: str
    link: str = ""


class StartPage:
    """Serves the start page of a running local cloud, on a free port, inside a ``with`` block."""

    def __init__(self, cloud: LocalCloud) -> None:
        self._cloud = cloud
        self._token = secrets.token_urlsafe(24)
        self._on: set[str] = set()
        self._commits = 0
        self._done: _Done | None = None
        self._server = LocalServer(Request.application(self._answer), HOST, 0)
        self._actions: dict[str, Callable[[Mapping[str, str]], _Done]] = {
            "/commit": self._commit,
            "/switch": self._switch,
            "/time": self._change_time,
        }

    def __enter__(self) -> Self:
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stop()

    @property
    def url(self) -> str:
        """The address; known once the server has started."""
        return self._server.url

    def _answer(self, request: Request) -> Response:
        if request.method in ("GET", "HEAD") and request.path == "/":
            done, self._done = self._done, None
            return self._page(done, 200)
        action = self._actions.get(request.path)
        if action is None:
            return _text("there is nothing here", 404)
        if request.method != "POST":
            return _text("this address accepts only posted forms", 405)
        return self._act(request, action)

    def _act(self, request: Request, action: Callable[[Mapping[str, str]], _Done]) -> Response:
        """Apply a form and redirect to the page, so that a reload does not repeat the action."""
        request.max_content_length = _MAX_FORM
        if not hmac.compare_digest(request.form.get("token", "").encode(), self._token.encode()):
            return _text("this form belongs to another page or to an earlier run: load the page again", 403)
        try:
            self._done = action(request.form.to_dict())
        except KeyError as error:
            return self._page(_Done(f"That did not work: the form has no {error}, or its value is unknown"), 400)
        except (ValueError, LocalCloudError, TransientError) as error:
            return self._page(_Done(f"That did not work: {error}"), 400)
        return redirect("/", 303)

    # Forms ----------------------------------------------------------------------------------------------------------

    def _commit(self, form: Mapping[str, str]) -> _Done:
        repo, ref = _place(form)
        if not any(item.repo == repo and item.watches(ref) for item in self._watched()):
            raise ValueError("no config watches that branch")
        repository = self._cloud.repository(repo)
        if not repository.can_hold(ref):
            raise ValueError(f"git does not accept the branch name {ref.removeprefix(HEADS)}")
        self._commits += 1
        files = {_file(form): f"change {self._commits} of this run at {time.time_ns()}\n"}
        revision = repository.commit(f"Change {self._commits}", files, ref, at=time.time_ns())
        self._cloud.publish_commit(repo, ref, revision)
        query = urlencode({"repo": repo, "revision": revision, "ref": ref})
        return _Done(f"Committed {revision} to {ref} of {repo}.", f"{self._cloud.console_url}/commits?{query}")

    def _watched(self) -> list[WatchedRepo]:
        """Return the repositories that the valid configs watch."""
        configs = (
            _config(file.project, file.text, self._cloud.options.config_rules)
            for file in read_folder(self._cloud.configs)
        )
        return watched_repos((config for config in configs if config is not None), self._existing)

    def _existing(self, repo: str) -> list[str]:
        url = parse_repo_url(repo)
        path = find_repository(self._cloud.repositories / url.host, url.project)
        return Repository(path).branches() if path else []

    def _switch(self, form: Mapping[str, str]) -> _Done:
        name, on = form["name"], form["on"] == "yes"
        if name not in SWITCHES:
            raise ValueError("there is no such switch")
        self._on = self._on | {name} if on else self._on - {name}
        buildbucket = self._cloud.buildbucket
        buildbucket.faults.clear()
        buildbucket.notifier.clear_faults()
        if "lose" in self._on:
            buildbucket.notifier.add_fault(NotificationFault("drop", times=None))
        if "fail" in self._on:
            buildbucket.faults.add(Fault("http", times=None, status=502, body="switched off on the start page"))
        if "slow" in self._on:
            buildbucket.faults.add(Fault("slow", times=None, seconds=_SLOW_SECONDS))
        return _Done(f"{'On' if on else 'Off'}: {SWITCHES[name]}.")

    def _change_time(self, form: Mapping[str, str]) -> _Done:
        clock = self._cloud.clock
        if not isinstance(clock, AdjustableClock):
            raise LocalCloudError("official emulators and processes use real time; start with --store memory")
        if "speed" in form:
            speed = int(form["speed"])
            if speed not in _SPEEDS:
                raise ValueError("there is no such speed")
            clock.run_at(speed)
            return _Done(f"Time runs {_pace(speed)}.")
        seconds = _STEPS[form["step"]]
        clock.advance(seconds * SECOND)
        if seconds < _MINUTE:
            return _Done(f"Time was advanced by {form['step']}; sweep and sync were not started.")
        # Their timer runs in real time, so without this call they would not notice the minute.
        for kind in ("sweep", "sync"):
            self._cloud.task(kind)
        return _Done(f"Time was advanced by {form['step']}; sweep and sync were started.")

    # Page -----------------------------------------------------------------------------------------------------------

    def _page(self, done: _Done | None, status: int) -> Response:
        clock = self._cloud.clock
        now = clock.now() if isinstance(clock, AdjustableClock) else None
        watched = self._watched()
        html = _template().render(
            done=done,
            token=self._token,
            console=self._cloud.console_url,
            places=self._places(),
            branches=[f"{item.repo}@{ref}" for item in watched for ref in item.branches],
            open=[item.repo for item in watched if item.takes_more],
            default_file=_FILE,
            switches=[(name, text, name in self._on) for name, text in SWITCHES.items()],
            now="" if now is None else format_rfc3339(Instant(now // SECOND * SECOND)),
            pace=_pace(clock.speed) if isinstance(clock, AdjustableClock) else "",
            speeds={speed: _pace(speed).capitalize() for speed in _SPEEDS},
            steps=_STEPS,
        )
        return Response(html, status, content_type="text/html; charset=utf-8")

    def _places(self) -> dict[str, str]:
        cloud, in_memory = self._cloud, self._cloud.memory is not None
        return {
            "Firestore": "in memory, nothing is kept" if in_memory else cloud.firestore_address,
            "Pub/Sub": "in memory, for this process only" if in_memory else cloud.pubsub_address,
            "Cloud Tasks": cloud.cloud_tasks.grpc_address,
            "Buildbucket": cloud.buildbucket.url,
            "Gitiles": cloud.gitiles.url,
            **{name: function.url for name, function in cloud.functions.items()},
            "Configs": f"{cloud.configs}/<project>/{FILE}",
            "Repositories": f"{cloud.repositories}/<host>/<project>",
        }


def _place(form: Mapping[str, str]) -> tuple[str, str]:
    """Return the repository and the full name of the branch in a form; the name is empty if the form has none."""
    if "where" in form:
        repo, _, ref = form["where"].partition("@")
        return repo, ref
    branch = form["branch"].strip().removeprefix(HEADS)
    return form["repo"], f"{HEADS}{branch}" if branch else ""


def _file(form: Mapping[str, str]) -> str:
    path = form.get("file") or _FILE
    if not path.isprintable() or any(name in ("", ".", "..", ".git") for name in path.split("/")):
        raise ValueError(f"{path!r} is not the path of a file in a repository; write one such as src/change.txt")
    return path


def _pace(speed: float) -> str:
    return "at real speed" if speed == 1 else f"{speed:g} times as fast"


@lru_cache(_CONFIGS_KEPT)
def _config(project: str, text: str | bytes, rules: ConfigRules) -> ProjectConfig | None:
    """Return a project's config; None if it is not valid. Reading a large config takes a second."""
    try:
        return read_config(project, text, rules=rules)
    except ConfigError:
        return None


def _text(text: str, status: int) -> Response:
    return Response(f"{text}\n", status, content_type="text/plain; charset=utf-8")


@cache
def _template() -> jinja2.Template:
    source = Path(__file__).with_suffix(".html").read_text(encoding="utf-8")
    return jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined).from_string(source)
