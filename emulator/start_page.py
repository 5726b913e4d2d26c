"""The start page of the local cloud: what happens, a button that commits, configs, faults, time, and all addresses.

Its forms change the local cloud, so only this machine's browser may post them. Like all servers of the local cloud,
this server refuses pages of other sites, and each form carries a token that only the page knows.
The page needs no script; with one, new entries of the feed appear by themselves.
"""

from __future__ import annotations

import hmac
import json
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Self

import jinja2
from werkzeug.utils import redirect
from werkzeug.wrappers import Request, Response

from emulator.banner import builds_row, function_url, log_folder, server_rows, state_row
from emulator.branches import HEADS
from emulator.clock import AdjustableClock
from emulator.errors import LocalCloudError
from emulator.feed import PROBLEMS, Entry
from emulator.gitiles.refs import Push, RefChange
from emulator.gitiles.repository import Repository
from emulator.local_cloud import LocalCloud
from emulator.local_configs import project_files
from emulator.serving.local_server import LocalServer
from emulator.switches import Switches
from emulator.tcp_ports import HOST
from emulator.terminal import WORDS, clock_time
from emulator.watched import push_command, read_only, watched
from luci_scheduler.config.folder import FILE
from luci_scheduler.core.commit_hosts import DEFAULT_HOSTS
from luci_scheduler.core.errors import TransientError
from luci_scheduler.core.instants import SECOND, Instant, format_rfc3339
from luci_scheduler.web.addresses import address
from luci_scheduler.web.static_files import static_address, static_file

__all__ = ["StartPage"]

_SPEEDS = (1, 10, 60, 600)
_STEPS = {"10 seconds": 10, "1 minute": 60, "10 minutes": 600, "1 hour": 3600}
_MINUTE = 60  # seconds, as in _STEPS: how often Cloud Scheduler starts sweep and sync
_MAX_FORM = 10_000
_FILE = "change.txt"
_SHOWN = 60  # entries of the feed
_WAIT_SECONDS = 10.0
"""How long a request for new entries waits for one."""
_POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
_OWN_FILES = {"start_page.css": "text/css; charset=utf-8", "start_page.js": "text/javascript; charset=utf-8"}
_SHARED_FILES = ("style.css", "icon.svg")
"""The files of the console that the page uses, so that both look alike."""


@dataclass(frozen=True, slots=True)
class _Done:
    """The result of a form, and a page that shows more of it."""

    text: str
    link: str = ""
    failed: bool = False


class StartPage:
    """Serves the start page of a running local cloud, on a free port, inside a ``with`` block."""

    def __init__(self, cloud: LocalCloud) -> None:
        self._cloud = cloud
        self._token = secrets.token_urlsafe(24)
        self._switches = Switches(cloud)
        self._commits = 0
        self._done: _Done | None = None
        self._server = LocalServer(Request.application(self._answer), HOST, 0)
        self._actions: dict[str, Callable[[Mapping[str, str]], _Done]] = {
            "/commit": self._commit,
            "/configs": self._read_configs,
            "/kill": self._kill,
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
        if request.method in ("GET", "HEAD"):
            return self._show(request)
        action = self._actions.get(request.path)
        if action is None or request.method != "POST":
            return _text("there is nothing here", 404)
        return self._act(request, action)

    def _show(self, request: Request) -> Response:
        if request.path == "/":
            done, self._done = self._done, None
            return self._page(done, 200)
        if request.path == "/feed":
            return self._news(request.args.get("after", 0, int))
        if request.path.startswith("/assets/"):
            return _file(request.path.removeprefix("/assets/"))
        is_form = request.path in self._actions
        return _text("this address accepts only posted forms", 405) if is_form else _text("there is nothing here", 404)

    def _act(self, request: Request, action: Callable[[Mapping[str, str]], _Done]) -> Response:
        """Apply a form and redirect to the page, so that a reload does not repeat the action."""
        request.max_content_length = _MAX_FORM
        if not hmac.compare_digest(request.form.get("token", "").encode(), self._token.encode()):
            return _text("this form belongs to another page or to an earlier run: load the page again", 403)
        try:
            self._done = action(request.form.to_dict())
        except KeyError as error:
            return self._failed(f"the form has no {error}, or its value is unknown")
        except (ValueError, LocalCloudError, TransientError) as error:
            return self._failed(str(error))
        return redirect("/", 303)

    def _failed(self, reason: str) -> Response:
        return self._page(_Done(f"That did not work: {reason}", failed=True), 400)

    # Forms ----------------------------------------------------------------------------------------------------------

    def _commit(self, form: Mapping[str, str]) -> _Done:
        repo, ref = _place(form)
        if not any(item.repo == repo and item.watches(ref) for item in watched(self._cloud)):
            raise ValueError("no config watches that branch")
        repository = self._cloud.repository(repo)
        if not repository.can_hold(ref):
            raise ValueError(f"git does not accept the branch name {ref.removeprefix(HEADS)}")
        _refuse_checked_out(repository, ref)
        self._commits += 1
        files = {_file_name(form): f"change {self._commits} of this run at {time.time_ns()}\n"}
        before = repository.resolve(ref)
        revision = repository.commit(f"Change {self._commits}", files, ref, at=time.time_ns())
        url = DEFAULT_HOSTS.parse(repo)
        change = RefChange(ref, before, revision)
        self._cloud.commit_events.committed(Push(url.host, url.project, repository.path, (change,)))
        link = f"{self._cloud.console_url}{address('commits', repo=repo, revision=revision, ref=ref)}"
        return _Done(f"Committed {revision} to {ref} of {repo}.", link)

    def _read_configs(self, _: Mapping[str, str]) -> _Done:
        self._cloud.sync()
        return _Done("The configs were read. The list shows which of them are in force.")

    def _kill(self, form: Mapping[str, str]) -> _Done:
        name = form["name"]
        if name not in self._cloud.functions:
            raise ValueError("there is no such function")
        self._cloud.kill(name)
        self._cloud.feed.post("note", f"the function {name} was killed; it starts again by itself")
        return _Done(f"Killed the function {name}. It starts again by itself.")

    def _switch(self, form: Mapping[str, str]) -> _Done:
        name, on = form["name"], form["on"] == "yes"
        self._switches.turn(name, on=on)
        text = f"{'On' if on else 'Off'}: {self._switches.texts[name]}"
        self._cloud.feed.post("note", text)
        return _Done(f"{text}.")

    def _change_time(self, form: Mapping[str, str]) -> _Done:
        clock = self._cloud.clock
        if not isinstance(clock, AdjustableClock):
            raise LocalCloudError("official emulators and processes use real time; start with --store memory")
        text = self._change_speed(clock, form["speed"]) if "speed" in form else self._advance(clock, form["step"])
        self._cloud.feed.post("note", text)
        return _Done(f"{text}.")

    def _change_speed(self, clock: AdjustableClock, wanted: str) -> str:
        speed = int(wanted)
        if speed not in _SPEEDS:
            raise ValueError("there is no such speed")
        clock.run_at(speed)
        return f"Time runs {_pace(speed)}"

    def _advance(self, clock: AdjustableClock, step: str) -> str:
        seconds = _STEPS[step]
        clock.advance(seconds * SECOND)
        if seconds < _MINUTE:
            return f"Time was advanced by {step}; sweep and sync were not started"
        # Their timer runs in real time, so without this call they would not notice the minute.
        for kind in ("sweep", "sync"):
            self._cloud.task(kind)
        return f"Time was advanced by {step}; sweep and sync were started"

    # Page -----------------------------------------------------------------------------------------------------------

    def _page(self, done: _Done | None, status: int) -> Response:
        cloud, repos = self._cloud, watched(self._cloud)
        owned = {item.repo: reason for item in repos if (reason := read_only(cloud, item.repo))}
        ours = [item for item in repos if item.repo not in owned]
        entries = cloud.feed.after(0)[-_SHOWN:]
        html = _template("start_page.html").render(
            done=done,
            token=self._token,
            console=cloud.console_url,
            entries=_rows(entries),
            last=entries[-1].number if entries else 0,
            projects=list(project_files(cloud.configs, cloud.options.config_rules)),
            configs=str(cloud.configs.resolve()),
            project_address=lambda project: cloud.console_url + address("jobs", project),
            branches=[f"{item.repo}@{ref}" for item in ours for ref in item.branches],
            open=[item.repo for item in ours if item.takes_more],
            owned=list(owned.values()),
            push=push_command(cloud, repos),
            default_file=_FILE,
            switches=[(name, text, name in self._switches.on) for name, text in self._switches.texts.items()],
            killable=[] if cloud.memory else list(cloud.functions),
            links={
                "Console": cloud.console_url,
                "Buildbucket": cloud.buildbucket.url,
                "Gitiles": cloud.gitiles.url,
                **server_rows(cloud),
            },
            places=self._places(),
            builds=builds_row(cloud),
            state=state_row(cloud),
            steps=_STEPS,
            **_time_facts(cloud),
        )
        answer = Response(html, status, content_type="text/html; charset=utf-8")
        answer.headers["Content-Security-Policy"] = _POLICY
        return answer

    def _news(self, after: int) -> Response:
        """Answer with the entries after a number, as rows of the page, as soon as there are any."""
        entries = self._cloud.feed.after(after, _WAIT_SECONDS)[-_SHOWN:]
        rows = _template("start_page_feed.html").render(entries=_rows(entries))
        last = entries[-1].number if entries else after
        answer = {"last": last, "rows": rows}
        return Response(json.dumps(answer), content_type="application/json", headers={"Cache-Control": "no-store"})

    def _places(self) -> dict[str, str]:
        cloud, in_memory = self._cloud, self._cloud.memory is not None
        return {
            "Firestore": "in memory" if in_memory else cloud.firestore_address,
            "Pub/Sub": "in memory, for this process only" if in_memory else cloud.pubsub_address,
            "Cloud Tasks": cloud.cloud_tasks.grpc_address,
            **{name: function_url(cloud, name) for name in cloud.functions},
            "Configs": f"{cloud.configs.resolve()}/PROJECT/{FILE}",
            "Repositories": f"{cloud.repositories.resolve()}/HOST/PROJECT",
            "Logs": str(log_folder(cloud) or "not written"),
        }


def _place(form: Mapping[str, str]) -> tuple[str, str]:
    """Return the repository and the full name of the branch in a form; the name is empty if the form has none."""
    if "where" in form:
        repo, _, ref = form["where"].partition("@")
        return repo, ref
    branch = form["branch"].strip().removeprefix(HEADS)
    return form["repo"], f"{HEADS}{branch}" if branch else ""


def _refuse_checked_out(repository: Repository, ref: str) -> None:
    """Refuse to move a branch that a work tree has checked out: its files would seem to revert the commit.

    Raises:
        LocalCloudError: the branch is checked out in the repository's folder.
    """
    if not (repository.path / ".git").exists():
        return
    if repository.head() == ref:
        raise LocalCloudError(f"{ref} is checked out in {repository.path}: commit there with git")


def _file_name(form: Mapping[str, str]) -> str:
    path = form.get("file") or _FILE
    if not path.isprintable() or any(name in ("", ".", "..", ".git") for name in path.split("/")):
        raise ValueError(f"{path!r} is not the path of a file in a repository; write one such as src/change.txt")
    return path


def _pace(speed: float) -> str:
    return "at real speed" if speed == 1 else f"{speed:g} times as fast"


def _time_facts(cloud: LocalCloud) -> dict[str, Any]:
    clock = cloud.clock
    if not isinstance(clock, AdjustableClock):
        return {"now": "", "pace": "", "speeds": {}}
    now = Instant(clock.now() // SECOND * SECOND)
    speeds = {speed: _pace(speed).capitalize() for speed in _SPEEDS}
    return {"now": format_rfc3339(now), "pace": _pace(clock.speed), "speeds": speeds}


def _rows(entries: list[Entry]) -> list[dict[str, str]]:
    """Return the rows of the feed, newest first."""
    return [
        {
            "at": format_rfc3339(entry.at),
            "time": clock_time(entry.at),
            "word": WORDS[entry.kind].lower(),
            "look": "danger" if entry.kind in PROBLEMS else _LOOKS.get(entry.kind, ""),
            "text": entry.text,
            "link": entry.link,
        }
        for entry in reversed(entries)
    ]


_LOOKS = {"build_ended": "success", "config": "info", "commit": "primary", "push": "primary"}
"""Kind of an entry → the class of its label in the console's style sheet."""


def _text(text: str, status: int) -> Response:
    return Response(f"{text}\n", status, content_type="text/plain; charset=utf-8")


def _file(name: str) -> Response:
    if name in _OWN_FILES:
        content = Path(__file__).with_name(name).read_bytes()
        return Response(content, content_type=_OWN_FILES[name], headers={"Cache-Control": "no-cache"})
    shared = static_file(name) if name in _SHARED_FILES else None
    if shared is None:
        return _text("there is nothing here", 404)
    body, status, headers = shared
    return Response(body, status, headers)


@cache
def _template(name: str) -> jinja2.Template:
    loader = jinja2.FileSystemLoader(Path(__file__).parent)
    environment = jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined)
    environment.globals["static_address"] = static_address
    return environment.get_template(name)
