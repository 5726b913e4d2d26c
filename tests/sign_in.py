"""A local cloud behind one front end, its callers, and their answers: who the caller is, or who refuses."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import requests

from emulator.clock import AdjustableClock
from emulator.cloud_tasks.oidc import TokenIssuer
from emulator.front_end.authority import GCLOUD_CLIENT, Authority, person_claims
from emulator.front_end.exchange import ANSWERED_BY
from emulator.front_end.front_end import LOCAL_CLIENT, FrontEnd, service_name
from emulator.front_end.modes import Stripping
from emulator.front_end.sign_in import SIGN_IN
from emulator.front_end.tokens import stripped
from emulator.local_cloud import LocalCloud
from emulator.options import Options
from emulator.settings import DEVELOPER, GUEST, OUTSIDER, accounts_of
from emulator.start import start_local_cloud
from luci_scheduler.core.instants import SECOND

__all__ = ["CALLERS", "FRONT_ENDS", "Site", "call", "site_behind", "who"]

ROBOT = "robot@other-project.iam.gserviceaccount.com"
_EVERYONE = "everyone"
_PROJECT = "local-sign-in"
_MACHINES = accounts_of(_PROJECT)
_NAMES = {
    DEVELOPER: "developer",
    GUEST: "guest",
    ROBOT: "robot",
    _MACHINES.tasks: "tasks",
    _MACHINES.schedules: "cron",
    _MACHINES.push: "push",
}
"""Account → the short name, which is also that of the only project that the account may see."""
_ADDRESS = "https://address.invalid"
FRONT_ENDS = ("iap", "load_balancer", "proxy", "public", "none", "opened", "unlocked")
"""``none``: the functions are reached directly, and trust no front end. ``opened``: ``proxy``, and by mistake everybody
may invoke all services. ``unlocked``: ``proxy``, and by mistake the services do not check invokers."""


@dataclass(frozen=True, slots=True)
class Site:
    """A running local cloud."""

    name: str
    cloud: LocalCloud
    clock: AdjustableClock

    @property
    def front_end(self) -> FrontEnd | None:
        """The front end; None if the functions are reached directly."""
        return self.cloud.front_end

    @property
    def issuer(self) -> TokenIssuer:
        """Signs as Google does."""
        return self.cloud.cloud_tasks.issuer

    def uri(self, function: str) -> str:
        """Return the address of a function, the audience of tokens for it."""
        if self.front_end is not None:
            return self.front_end.uri(function)
        return self.cloud.functions["on_task"].url if function == "on_task" else _ADDRESS

    def url(self, function: str, place: str = "") -> str:
        """Return where clients of the internet reach the console, and Google's services the other functions.

        ``place`` is another entrance, or ``direct`` for the function itself.
        """
        if self.front_end is None or place == "direct":
            return self.cloud.functions[function].url
        if function == "console":
            people = "load balancer" if self.name == "load_balancer" else "internet"
            return self.front_end.url("console", place or people)
        return self.front_end.url(function, place or "internal")

    def person(self, email: str, client: str = GCLOUD_CLIENT) -> str:
        """Return a person's ID token for an OAuth client."""
        return self.issuer.sign(person_claims(email, client, self.clock.now()))

    def service(self, email: str, audience: str) -> str:
        """Return a service account's ID token."""
        return self.issuer.issue(email, audience, self.clock.now())

    def session(self, account: str) -> dict[str, str]:
        """Return the cookie of a browser in which a person has signed in; without IAP it means nothing."""
        if self.name not in ("iap", "load_balancer"):
            return {"Cookie": "LOCAL_IAP=anything"}
        form = {"account": account, "next": "/"}
        answer = _send("POST", f"{self.url('console')}{SIGN_IN}", data=form)
        return {"Cookie": answer.headers["Set-Cookie"].partition(";")[0]}


@contextmanager
def site_behind(
    name: str,
    stripping: Stripping,
    folder: Path,
    settings: Mapping[str, str] | None = None,
    *,
    sweep_seconds: float = 0,
) -> Iterator[Site]:
    """Run a local cloud in memory behind a front end of `FRONT_ENDS`.

    Each caller may see one project that is named after the caller, and everyone may see another one.

    Args:
        name: the front end.
        stripping: which tokens it strips.
        folder: an empty folder for the configs.
        settings: further settings of the functions.
        sweep_seconds: the pause between sweeps; 0: none runs.
    """
    clock = AdjustableClock()
    for project in (*_NAMES.values(), _EVERYONE):
        config = folder / project / "luci-scheduler.cfg"
        config.parent.mkdir(parents=True)
        config.write_text('job { id: "j" noop {} }', encoding="utf-8")
    mode: Any = None if name == "none" else name if name in ("iap", "load_balancer", "public") else "proxy"
    options = Options(
        folder,
        project=_PROJECT,
        store="memory",
        clock=clock,
        sweep_seconds=sweep_seconds,
        sync_seconds=0,
        settings={**_settings(name), **(settings or {})},
        front_end=mode,
        stripping=stripping,
    )
    with start_local_cloud(options) as cloud:
        site = Site(name, cloud, clock)
        _prepare(site)
        yield site


def _settings(name: str) -> Mapping[str, str]:
    grants = [{"project": short, "role": "READER", "to": [f"user:{email}"]} for email, short in _NAMES.items()]
    grants.append({"project": _EVERYONE, "role": "READER", "to": ["allUsers"]})
    settings = {"SCHEDULER_ACCESS": json.dumps({"version": 1, "grants": grants})}
    if name != "none":
        return settings
    return settings | {
        "SCHEDULER_LOCAL_USER": "",
        "SCHEDULER_CONSOLE_AUDIENCES": _ADDRESS,
        "SCHEDULER_PUSH_ACCOUNT": _MACHINES.push,
        "SCHEDULER_PUSH_AUDIENCE": _ADDRESS,
        "SCHEDULER_TASK_CALLERS": _MACHINES.schedules,
    }


def _prepare(site: Site) -> None:
    """Let the robot call the console, and make the mistakes of the broken sites."""
    if site.front_end is None:
        return
    services = site.front_end.services
    if site.name in ("proxy", "opened", "unlocked"):
        console = service_name("console")
        services.change(console, invokers=services.get(console).invokers | {f"serviceAccount:{ROBOT}"})
    for function in site.cloud.functions:
        if site.name == "opened":
            services.open(service_name(function))
        if site.name == "unlocked":
            services.change(service_name(function), invoker_iam_disabled=True)
    site.clock.advance(61 * SECOND)  # the functions read a policy again after a minute


# Callers --------------------------------------------------------------------------------------------------------------

_Headers = dict[str, str]


@cache
def _stranger() -> Authority:
    """Return an authority whose keys are not published."""
    return Authority()


def _bearer(token: str, header: str = "Authorization") -> _Headers:
    return {header: f"Bearer {token}"}


def _expired(site: Site, function: str) -> _Headers:
    claims = person_claims(ROBOT, site.uri(function), site.clock.now() - 7200 * SECOND)
    return _bearer(site.issuer.sign(claims))


def _forged(site: Site, function: str) -> str:
    """Return a token of the best account for a function that only looks like a verified one."""
    accounts = {"console": DEVELOPER, "on_task": _MACHINES.tasks}
    client = GCLOUD_CLIENT if function == "console" and site.name != "none" else site.uri(function)
    claims = person_claims(accounts.get(function, _MACHINES.push), client, site.clock.now())
    return stripped(_stranger().issuer.sign(claims))


def _assertion(site: Site, signer: Authority, audience: str) -> _Headers:
    email = f"accounts.google.com:{DEVELOPER}"
    assertion = signer.assertion(DEVELOPER, audience, site.clock.now())
    return {"x-goog-iap-jwt-assertion": assertion, "x-goog-authenticated-user-email": email}


def _forged_assertion(site: Site, _: str = "") -> _Headers:
    audience = site.front_end.iap_audience if site.front_end is not None else ""
    return _assertion(site, _stranger(), audience)


def _foreign_assertion(site: Site, _: str) -> _Headers:
    signer = site.front_end.authority if site.front_end is not None else _stranger()
    return _assertion(site, signer, "/projects/666/global/backendServices/6")


_SERVERLESS = "X-Serverless-Authorization"

CALLERS: Mapping[str, Callable[[Site, str], _Headers]] = {
    "anonymous": lambda *_: {},
    "person, gcloud proxy": lambda site, _: _bearer(site.person(DEVELOPER), _SERVERLESS),
    "person, gcloud token": lambda site, _: _bearer(site.person(DEVELOPER)),
    "person outside, gcloud token": lambda site, _: _bearer(site.person(OUTSIDER)),
    "person, IAP session": lambda site, _: site.session(DEVELOPER),
    "person outside, IAP session": lambda site, _: site.session(OUTSIDER),
    "person, token of an IAP client": lambda site, _: _bearer(site.person(DEVELOPER, LOCAL_CLIENT)),
    "robot, this address": lambda site, function: _bearer(site.service(ROBOT, site.uri(function))),
    "robot, another address": lambda site, _: _bearer(site.service(ROBOT, "https://other.run.app")),
    "robot, expired": _expired,
    "forged stripped token": lambda site, function: _bearer(_forged(site, function)),
    "forged stripped, other header": lambda site, function: _bearer(_forged(site, function), _SERVERLESS),
    "forged beside a good token": lambda site, function: (
        _bearer(site.person(GUEST), _SERVERLESS) | _bearer(_forged(site, function))
    ),
    "forged IAP assertion": _forged_assertion,
    "forged assertion, IAP session": lambda site, _: site.session(GUEST) | _forged_assertion(site),
    "assertion for another site": _foreign_assertion,
    "Cloud Tasks": lambda site, function: _bearer(site.service(_MACHINES.tasks, site.uri(function))),
    "Cloud Scheduler": lambda site, function: _bearer(site.service(_MACHINES.schedules, site.uri(function))),
    "Pub/Sub": lambda site, function: _bearer(site.service(_MACHINES.push, site.uri(function))),
    # Cloud Run accepts gcloud's client as audience for every service, and the functions do not.
    "right account, gcloud's audience": lambda site, function: _bearer(
        site.service(_MACHINES.tasks if function == "on_task" else _MACHINES.push, GCLOUD_CLIENT)
    ),
}
"""Name → headers with which the caller calls a function."""


# Calls ----------------------------------------------------------------------------------------------------------------


def _send(method: str, url: str, **named: Any) -> requests.Response:
    with requests.Session() as session:
        session.trust_env = False
        return session.request(method, url, timeout=60, allow_redirects=False, **named)


def call(site: Site, endpoint: str, headers: Mapping[str, str], place: str = "") -> requests.Response:
    """Call an endpoint: ``page``, ``api``, or a function other than the console."""
    if endpoint == "page":
        return _send("GET", f"{site.url('console', place)}/", headers=headers)
    if endpoint == "api":
        url = f"{site.url('console', place)}/prpc/scheduler.Scheduler/GetJobs"
        return _send("POST", url, json={}, headers={**headers, "Accept": "application/json"})
    if endpoint == "on_task":
        return _send("POST", f"{site.url('on_task', place)}/sweep", json={}, headers=headers)
    topic = next(row.topic for row in site.cloud.subscriptions if row.function == endpoint)
    data = {"repo": "https://unwatched.googlesource.com/r", "ref": "refs/heads/main", "revision": "a" * 40}
    message = {
        "messageId": "1",
        "publishTime": "2026-03-01T12:00:00Z",
        "data": base64.b64encode(json.dumps(data).encode()).decode(),
    }
    body = {"message": message, "subscription": f"projects/{_PROJECT}/subscriptions/s"}
    return _send("POST", f"{site.url(endpoint, place)}/{topic}", json=body, headers=headers)


def who(answer: requests.Response, endpoint: str) -> str:
    """Return the identity of the caller, ``accepted`` for machines, or who refused with which status code."""
    by = answer.headers.get(ANSWERED_BY, "function")
    if by != "function" or answer.status_code in (401, 403, 404, 500, 503):
        return f"{by} {answer.status_code}"
    if endpoint not in ("page", "api"):
        return "accepted"
    assert answer.status_code == 200, answer.text
    return _of_page(answer.text) if endpoint == "page" else _of_api(answer.text)


def _of_page(text: str) -> str:
    match = re.search(r'<span class="who">(.*?)</span>', text)
    assert match is not None, text
    shown = {"Not signed in": "anonymous", **_NAMES}
    return shown.get(match[1], match[1])


def _of_api(text: str) -> str:
    jobs = json.loads(text.removeprefix(")]}'")).get("jobs", [])
    seen = {job["jobRef"]["project"] for job in jobs}
    assert _EVERYONE in seen, text
    (name,) = (seen - {_EVERYONE}) or {"anonymous"}
    return str(name)
