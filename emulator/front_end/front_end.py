"""The front end of a local cloud: the services, their entrances, and the callers on the platform's side."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass

from werkzeug.datastructures import Headers

from emulator.front_end.authority import GCLOUD_CLIENT, Authority
from emulator.front_end.caller import WithToken
from emulator.front_end.cloud_run import SERVERLESS, CloudRun
from emulator.front_end.entrance import Entrance
from emulator.front_end.exchange import Answer, Handler, Message
from emulator.front_end.forward import Forward
from emulator.front_end.iap import Iap, Sessions
from emulator.front_end.modes import Mode, Stripping
from emulator.front_end.platform_apis import IAP_KEYS, PlatformApis
from emulator.front_end.services import Ingress, Network, Service, Services
from emulator.tcp_ports import HOST, require_free

__all__ = ["EVENT_FUNCTIONS", "Accounts", "FrontEnd", "service_name"]

LOCAL_CLIENT = "123456789012-local.apps.googleusercontent.com"
"""The OAuth client whose ID tokens programs may send to IAP."""
_NUMBER = "123456789012"  # the project's; only names contain it
EVENT_FUNCTIONS = ("on_gitiles_commit", "on_build_completion", "on_cloud_build")
"""The functions that Pub/Sub pushes to."""
_SECONDS = {
    "on_gitiles_commit": 300.0,
    "on_build_completion": 120.0,
    "on_task": 630.0,
    "console": 60.0,
    "on_cloud_build": 120.0,
    "on_github_push": 10.0,
}
"""Function → timeout of its service (see infra/terraform/functions.tf)."""
_EVERYWHERE = ("on_gitiles_commit", "on_build_completion", "on_task", "console")
_PUBLIC = "on_github_push"
"""The function whose invokers include everyone: it verifies the signature of each request."""
_APIS = "apis"
_TOKEN = "/_local/token"  # noqa: S105 - a path
_INGRESS: Mapping[Mode, Ingress] = {"load_balancer": Ingress.LOAD_BALANCER}

Place = tuple[str, str]
"""Names an entrance: function, and the network or the caller that uses it."""


@dataclass(frozen=True, slots=True)
class Accounts:
    """The accounts of an installation, by e-mail address."""

    tasks: str
    """In the tokens of Cloud Tasks."""
    schedules: str
    """In the tokens of Cloud Scheduler."""
    push: str
    """In the tokens of Pub/Sub."""
    people: tuple[str, ...]
    """May open the console; the first is the developer."""
    outsider: str
    """May not open it. The sign-in page offers this account so that a developer sees the refusal."""

    @property
    def iap_agent(self) -> str:
        """IAP's service agent."""
        return f"service-{_NUMBER}@gcp-sa-iap.iam.gserviceaccount.com"


def service_name(function: str) -> str:
    """Return the name of a function's service, as the Terraform module names it."""
    return f"luci-scheduler-{function.replace('_', '-')}"


class FrontEnd:
    """Stands before the functions, from `start` to `stop`. All addresses are known before.

    Attributes:
        accounts: the accounts of the installation.
        apis: Google's servers that the functions read.
        authority: signs all tokens.
        members: the members of IAP; may be replaced at any time.
        services: the services; a change takes effect at once.
    """

    def __init__(
        self,
        mode: Mode,
        *,
        project: str,
        location: str,
        accounts: Accounts,
        now: Callable[[], int],
        stripping: Stripping = "documented",
        console_port: int = 0,
        functions: Iterable[str] = _EVERYWHERE,
    ) -> None:
        """Choose the addresses.

        Args:
            mode: the console's front end.
            project: the cloud project.
            location: the region of the services.
            accounts: see `Accounts`.
            now: the clock, in nanoseconds.
            stripping: which tokens lose their signature.
            console_port: the port of the address that people open; 0 is a free one.
            functions: the functions of the installation.

        Raises:
            LocalCloudError: the port is in use.
        """
        self.mode = mode
        self._functions = tuple(functions)
        self.accounts = accounts
        self.authority = Authority()
        self.services = Services(project, location)
        self.apis = PlatformApis(self.services, self.authority)
        self.members = frozenset(f"user:{person}" for person in accounts.people)
        self._now = now
        self._stripping = stripping
        self._ports = {place: require_free(0, "the front end") for place in self._places()}
        if console_port:
            self._ports[self._people_use()] = require_free(console_port, "the console")
        self._sessions = Sessions(f"LOCAL_IAP_{self._ports[self._people_use()]}", now)
        self._stack = ExitStack()
        self._handlers: Mapping[Place, Handler] = {}
        self.services.add(map(self._service, self._functions))

    def _places(self) -> list[Place]:
        people = self._people_use()
        return [
            *((function, network) for function in self._functions for network in ("internet", "internal")),
            *((function, "push") for function in self._functions if function in EVENT_FUNCTIONS),
            *([people] if people[1] != "internet" else []),
            (_APIS, ""),
        ]

    def _people_use(self) -> Place:
        return "console", {"load_balancer": "load balancer", "proxy": "gcloud"}.get(self.mode, "internet")

    def _service(self, function: str) -> Service:
        accounts = self.accounts
        invokers = {
            "on_task": frozenset({_account(accounts.tasks), _account(accounts.schedules)}),
            "console": self._console_invokers(),
            _PUBLIC: frozenset({"allUsers"}),
        }
        is_console = function == "console"
        return Service(
            name=service_name(function),
            uri=self.url(function, "internet"),
            ingress=self._ingress(function),
            invokers=invokers.get(function, frozenset({_account(accounts.push)})),
            iap_enabled=is_console and self.mode == "iap",
        )

    def _ingress(self, function: str) -> Ingress:
        if function == "console":
            return _INGRESS.get(self.mode, Ingress.ALL)
        return Ingress.ALL if function == _PUBLIC else Ingress.INTERNAL

    def _console_invokers(self) -> frozenset[str]:
        if self.mode == "public":
            return frozenset({"allUsers"})
        return self.members if self.mode == "proxy" else frozenset({_account(self.accounts.iap_agent)})

    # Addresses --------------------------------------------------------------------------------------------------------

    def url(self, function: str, place: str) -> str:
        """Return the base URL of an entrance.

        Args:
            function: the function behind it.
            place: ``internet``, where clients of the whole world knock. ``internal``, for Google's services in the
                project. ``push``, which adds Pub/Sub's token. For the console also ``load balancer`` or ``gcloud``
                (the stand-in for ``gcloud run services proxy``), if the mode has it.
        """
        return f"http://{HOST}:{self._ports[function, place]}"

    def uri(self, function: str) -> str:
        """Return the address of a function's service, which is also the audience of tokens for it."""
        return self.url(function, "internet")

    @property
    def console_url(self) -> str:
        """Where people open the console."""
        return self.url(*self._people_use())

    @property
    def iap_audience(self) -> str:
        """The audience of IAP's assertions; empty without IAP."""
        if self.mode == "load_balancer":
            return f"/projects/{_NUMBER}/global/backendServices/1234567890123456789"
        service = f"/projects/{_NUMBER}/locations/{self.services.location}/services/{service_name('console')}"
        return service if self.mode == "iap" else ""

    @property
    def token_url(self) -> str:
        """Serves a token with which a program reaches the console as the developer; empty if it needs none.

        It is the stand-in for ``gcloud`` and for OAuth clients. Every program on this machine may read it.
        """
        return "" if self.mode == "proxy" else f"{self.apis_url}{_TOKEN}"

    @property
    def apis_url(self) -> str:
        """The base URL of Google's servers."""
        return self.url(_APIS, "")

    def settings(self, function: str) -> Mapping[str, str]:
        """Return the settings of a function behind this front end; empty ones replace those of other local clouds."""
        on_task = {
            "SCHEDULER_LOCAL_USER": "",
            "SCHEDULER_LOCAL_SERVICE": service_name(function),
            "SCHEDULER_TRUST_FRONT_END": "true",
            "SCHEDULER_RUN_API_URL": self.apis_url,
            "SCHEDULER_TASK_URL": self.url("on_task", "internal"),
            "SCHEDULER_TASK_AUDIENCE": self.uri("on_task"),
            "SCHEDULER_TASK_CALLERS": self.accounts.schedules,
        }
        if function in EVENT_FUNCTIONS:
            return on_task | {
                "SCHEDULER_PUSH_ACCOUNT": self.accounts.push,
                "SCHEDULER_PUSH_AUDIENCE": self.uri(function),
            }
        return on_task | (self._console_settings() if function == "console" else {})

    def _console_settings(self) -> dict[str, str]:
        audiences = (self.uri("console"), *((GCLOUD_CLIENT,) if self.mode == "proxy" else ()))
        settings = {
            "SCHEDULER_CONSOLE_AUDIENCES": ",".join(audiences),
            "SCHEDULER_IAP_AUDIENCE": self.iap_audience,
            "SCHEDULER_IAP_CERTS_URL": f"{self.apis_url}{IAP_KEYS}",
        }
        # As the Terraform module has it: only callers of `proxy` reach the console with their own token, stripped.
        # Behind IAP the assertion counts, and in front of a public service no platform verifies tokens.
        return settings | ({} if self.mode == "proxy" else {"SCHEDULER_TRUST_FRONT_END": "false"})

    # Life -------------------------------------------------------------------------------------------------------------

    def start(self, containers: Mapping[str, str]) -> None:
        """Open the entrances before the functions at these base URLs, which need not listen yet.

        Raises:
            OSError: a port is taken.
        """
        self._handlers = {place: self._handler(place, containers) for place in self._ports}
        for place, handler in self._handlers.items():
            entrance = Entrance(handler, self._ports[place])
            entrance.start()
            self._stack.callback(entrance.stop)

    def stop(self) -> None:
        """Close the entrances; may be repeated."""
        self._stack.close()

    def _handler(self, place: Place, containers: Mapping[str, str]) -> Handler:
        function, way = place
        if function == _APIS:
            return self._apis
        container = Forward(containers[function], _SECONDS[function])
        run = self._cloud_run(function, _NETWORKS[way], container)
        if self.mode in ("iap", "load_balancer") and place == self._people_use():
            return self._iap(run)
        return self._as_caller(function, way, run)

    def _apis(self, message: Message) -> Answer:
        if message.method == "GET" and message.target == _TOKEN:
            return Answer(200, Headers({"Content-Type": "text/plain", "Cache-Control": "no-store"}), self._token())
        return self.apis(message)

    def _token(self) -> bytes:
        return self.developer_headers().get("Authorization", "").removeprefix("Bearer ").encode()

    def _cloud_run(self, function: str, network: Network, container: Handler) -> CloudRun:
        name = service_name(function)
        return CloudRun(lambda: self.services.get(name), network, self.authority, self._now, self._stripping, container)

    def _as_caller(self, function: str, way: str, run: Handler) -> Handler:
        if way == "push":
            return WithToken("Authorization", lambda: self.service_token(self.accounts.push, function), run)
        if way == "gcloud":
            return WithToken(SERVERLESS, self.developer_token, run)
        return run

    def _iap(self, run: Handler) -> Iap:
        return Iap(
            members=lambda: self.members,
            clients=frozenset({LOCAL_CLIENT}),
            audience=self.iap_audience,
            agent=self.accounts.iap_agent,
            service_uri=lambda: self.uri("console"),
            accounts=(*self.accounts.people, self.accounts.outsider),
            authority=self.authority,
            sessions=self._sessions,
            now=self._now,
            next=run,
        )

    # Callers ----------------------------------------------------------------------------------------------------------

    def service_token(self, account: str, function: str) -> str:
        """Return the ID token that Google signs for a service account that calls a function."""
        return self.authority.issuer.issue(account, self.uri(function), self._now())

    def developer_token(self) -> str:
        """Return the identity token that gcloud prints for the developer."""
        return self.authority.person_token(self.accounts.people[0], self._now())

    def developer_headers(self) -> Mapping[str, str]:
        """Return the headers with which a program reaches the console as the developer."""
        developer = self.accounts.people[0]
        if self.mode == "proxy":
            return {}  # the stand-in for gcloud adds the token
        if self.mode == "public":
            return {"Authorization": f"Bearer {self.service_token(developer, 'console')}"}
        return {"Authorization": f"Bearer {self.authority.person_token(developer, self._now(), LOCAL_CLIENT)}"}

    def run_schedule(self, kind: str) -> Answer:
        """Call ``on_task`` as Cloud Scheduler does, and return the answer; blocks until then."""
        headers = {
            "Host": f"{HOST}:{self._ports['on_task', 'internal']}",
            "Authorization": f"Bearer {self.service_token(self.accounts.schedules, 'on_task')}",
            "Content-Type": "application/json",
            "User-Agent": "Google-Cloud-Scheduler",
            "X-CloudScheduler": "true",
            "X-CloudScheduler-JobName": kind,
        }
        return self._handlers["on_task", "internal"](Message("POST", f"/{kind}", Headers(headers), b"{}", HOST))


_NETWORKS: Mapping[str, Network] = {
    "internet": Network.INTERNET,
    "gcloud": Network.INTERNET,
    "internal": Network.INTERNAL,
    "push": Network.INTERNAL,
    "load balancer": Network.LOAD_BALANCER,
}
"""The way into an entrance → the network of its requests."""


def _account(email: str) -> str:
    return f"serviceAccount:{email}"
