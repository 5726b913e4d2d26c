"""Checks through the console's API: the caller, the configs, and probes of the functions."""

from __future__ import annotations

import base64
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from luci_scheduler.cli.doctor.checks import Check, FailedError
from luci_scheduler.cli.doctor.google_apis import GoogleApis, NoSuchResourceError
from luci_scheduler.cli.errors import CommandError
from luci_scheduler.cli.front_end import FrontEnd, front_end
from luci_scheduler.cli.session import Session
from luci_scheduler.core.frozen import frozen
from luci_scheduler.core.probe import ATTRIBUTE, LABEL

__all__ = ["Inside", "Names"]

_POLL = 0.5  # seconds between two looks at the probe
_MAX_SKEW = 30.0  # seconds; tokens tolerate five minutes
_ACCOUNT = "the account of `terraform output -raw grant_in_luci`"
_DATA = base64.b64encode(b"probe").decode()
_PUBSUB = "pubsub.googleapis.com"
_LATER = "run the command again; if it fails for longer, look at the service's status page"
_ANONYMOUS = "all 60 requests"
_CONSOLE = "luci-scheduler-console"
_PROJECT = "[a-z0-9][a-z0-9.:-]*"
_FORMS = {
    "cloudProject": _PROJECT,
    "location": "[a-z0-9-]+",
    "database": r"\(default\)|[a-z0-9-]+",
    "queue": "[A-Za-z0-9-]+",
    "service": f"([a-z0-9-]+-)?{_CONSOLE}|",
}
"""Member of the console's answer → its form. The names become parts of addresses at Google, which the command calls
with the operator's credentials, and of commands that people copy. So a name of another form is refused."""
_LISTS = {
    "topics": f"projects/{_PROJECT}/topics/[A-Za-z][A-Za-z0-9._~+-]*",
    "buildProjects": _PROJECT,
    "buildAccounts": r"[A-Za-z0-9._-]+@[a-z0-9.-]+\.gserviceaccount\.com",
}
"""Member with several names → the form of each name."""
_PASSES_FILTER = {"status": "PROBE"}
"""Attributes that no message of Cloud Build has. The subscription of ``cloud-builds`` leaves out one status."""


@frozen
class Names:
    """The names of an installation's parts, as Terraform makes them."""

    project: str
    location: str
    database: str
    queue: str
    prefix: str
    """Precedes every name: empty, or a word and a dash."""
    build_topics: tuple[str, ...]
    """Full names of the topics of Buildbucket servers."""
    build_projects: tuple[str, ...] = ()
    """The projects with builds of Cloud Build, the default first."""
    build_accounts: tuple[str, ...] = ()
    """E-mails of the accounts that builds of Cloud Build may run as."""

    @classmethod
    def read(cls, inspection: Mapping[str, Any]) -> Names:
        """Return the names in the answer of ``Inspect``. The console's own name has the prefix.

        Raises:
            FailedError: a name has a form that no part of an installation has.
        """
        wrong = [name for name, form in _FORMS.items() if not re.fullmatch(form, str(inspection.get(name, "")))]
        wrong += [
            str(name)
            for member, form in _LISTS.items()
            for name in inspection.get(member, ())
            if not re.fullmatch(form, str(name))
        ]
        if wrong:
            raise FailedError(f"the answer is not one of a console: {wrong[0]} has an impossible form", "check --url")
        return cls(
            str(inspection.get("cloudProject", "")),
            str(inspection.get("location", "")),
            str(inspection.get("database", "")),
            str(inspection.get("queue", "")),
            str(inspection.get("service", "")).removesuffix(_CONSOLE),
            *(tuple(inspection.get(member, ())) for member in _LISTS),
        )

    @property
    def commit_topic(self) -> str:
        """Full name of the topic for commit events."""
        return f"projects/{self.project}/topics/{self.prefix}gitiles-commit"

    @property
    def subscriptions(self) -> list[str]:
        """Full names of all push subscriptions. Those of Cloud Build's topics are in the installation's project."""
        own = [topic.replace("/topics/", "/subscriptions/") for topic in (self.commit_topic, *self.build_topics)]
        start = f"projects/{self.project}/subscriptions/{self.prefix}cloud-builds"
        others = [f"{start}-{project}" for project in self.build_projects[1:]]
        return [*own, *([start] if self.build_projects else []), *others]

    @property
    def functions(self) -> list[str]:
        """The functions that every such installation has. A webhook may be there as well."""
        common = ["console", "on_build_completion", "on_gitiles_commit", "on_task"]
        return [*common, "on_cloud_build"] if self.build_projects else common

    def service(self, function: str) -> str:
        """Return the Cloud Run service of a function."""
        return f"{self.prefix}luci-scheduler-{function.replace('_', '-')}"


@dataclass(slots=True)
class Inside:
    """The checks through the console. Later checks use the results of earlier checks."""

    session: Session
    google: GoogleApis
    patience: Callable[[str], float]
    """Check → seconds to wait for a probe."""
    caller: Mapping[str, Any] = field(default_factory=dict)
    inspection: Mapping[str, Any] = field(default_factory=dict)
    probe: Mapping[str, Any] = field(default_factory=dict)

    @property
    def names(self) -> Names:
        """The names of the parts; only after the check ``inside`` has succeeded."""
        return Names.read(self.inspection)

    def first_checks(self) -> list[Check]:
        """Return the checks before those of the control plane."""
        return [
            Check("console", self._console, seconds=60),
            Check("caller", self._caller, ("console",), 60),
            Check("access-policy", self._policy, ("caller",)),
            Check("inside", self._inside, ("access-policy",), 60),
            Check("clock", self._clock, ("inside",)),
            Check("config", self._config, ("inside",)),
        ]

    def probe_checks(self) -> list[Check]:
        """Return the checks that send probes; a broken queue or revision explains their failure, so it comes first."""
        ways = ("inside", "revisions")
        return [
            Check("task", self._task, (*ways, "queue"), 90),
            Check("commit-message", self._commit_message, ways, 90),
            Check("build-messages", self._build_messages, ways, 90),
            Check("cloud-messages", self._cloud_messages, ways, 90),
            Check("signing-keys", self._keys, ("task", "commit-message", "build-messages")),
            Check("versions", self._versions, ("task",)),
            Check("indexes", self._indexes, ("task", "index-states"), 90),
            Check("github", self._github, ("indexes",)),
            Check("gitiles", self._gitiles, ("indexes", "github")),
            Check("buildbucket", self._buildbucket, ("indexes",)),
            Check("cloud-build", self._cloud_build, ("indexes", "build-projects")),
        ]

    # The caller -------------------------------------------------------------------------------------------------------

    def _console(self) -> str:
        remedy = "use the address of `terraform output -raw console_url`"
        try:
            answer = self.session.knock()
        except CommandError as error:
            raise FailedError(str(error), remedy) from error
        front = front_end(answer.status_code, answer.headers)
        if front is FrontEnd.OTHER:
            raise FailedError(f"{self.session.url} answers HTTP {answer.status_code}, and not as a console", remedy)
        return f"{self.session.url} answers; a call without a token reaches {front}"

    def _caller(self) -> str:
        login = f"run `luci-scheduler login --url {self.session.url}`"
        if self.session.is_local:  # which has no login
            login = "pass a token of the local cloud in --token"
        try:
            self.caller = self.session.call("WhoAmI", {})
        except CommandError as error:
            raise FailedError(str(error), login) from error
        who = str(self.caller.get("identity", "")).removeprefix("user:")
        if "@" not in who:
            raise FailedError("the console takes you for anonymous", login)
        if self.caller.get("policyProblem"):
            return f"you are {who}"
        if not self.caller.get("isAdmin"):
            raise FailedError(f"you are {who}, and no administrator", f"add user:{who} to console.admins, and apply")
        return f"you are {who}, an administrator"

    def _policy(self) -> str:
        if problem := self.caller.get("policyProblem"):
            log = "gcloud logging read 'jsonPayload.message=\"access_denied_to_all\"' --freshness=1h --limit=1"
            raise FailedError(str(problem), f"read the reason with `{log}`, mend console.access, and apply")
        return "the access policy is valid"

    def _inside(self) -> str:
        self.inspection = self.session.call("Inspect", {})
        names = self.names
        return f"project {names.project}, {names.location}, database {names.database}"

    def _clock(self) -> str:
        before = time.time()
        there = int(self.session.call("Inspect", {}).get("nowTs", 0)) / 1e6
        after = time.time()
        skew = max(before - there, there - after, 0.0)
        if skew > _MAX_SKEW:
            raise FailedError(f"the clocks of this machine and of the console differ by {skew:.0f} s", "set the clock")
        return "this machine and the console agree about the time"

    def _config(self) -> str:
        projects = self.inspection.get("projects", [])
        sync = "run the command of `terraform output -raw sync_configs`"
        if not projects:
            raise FailedError("no config is active", f"set the variable configs, and apply; or {sync}")
        for item in projects:
            if problems := item.get("problems"):
                raise FailedError(
                    f"the newest config of {item['project']} is refused: {problems[0]}",
                    "mend it: `luci-scheduler config validate FILE` lists every problem",
                )
            if not item.get("revision"):
                raise FailedError(f"the config of {item['project']} was never read", sync)
        return ", ".join(f"{item['project']} at {item['revision'][:12]}: {_jobs(item)}" for item in projects)

    # Probes -----------------------------------------------------------------------------------------------------------

    def _begin(self) -> None:
        if not self.probe:
            self.probe = self.session.call("StartProbe", {})

    def _task(self) -> str:
        self._begin()
        self._await_mark(
            "task",
            "on_task",
            "no authenticated task reached on_task",
            "`unauthenticated` there means that the account or the audience of tasks is wrong: apply again",
        )
        return "a task reached on_task and was authenticated"

    def _commit_message(self) -> str:
        self._publish("commit-message", "on_gitiles_commit", self.names.commit_topic)
        return "a message reached on_gitiles_commit and was authenticated"

    def _build_messages(self) -> str:
        for topic in self.names.build_topics:
            self._publish("build-messages", "on_build_completion", topic)
        count = len(self.names.build_topics)
        return f"topics that reach on_build_completion: {count}" if count else "no server has a topic"

    def _cloud_messages(self) -> str:
        projects = self.names.build_projects
        for project in projects:
            self._publish("cloud-messages", "on_cloud_build", f"projects/{project}/topics/cloud-builds", project)
        return f"topics that reach on_cloud_build: {len(projects)}" if projects else "no job builds with Cloud Build"

    def _publish(self, check: str, function: str, topic: str, label: str = "") -> None:
        self._begin()
        label = label or topic.rpartition("/")[2]
        # The functions framework refuses a message without data.
        attributes = {ATTRIBUTE: str(self.probe["probeId"]), LABEL: label, **_PASSES_FILTER}
        message = {"data": _DATA, "attributes": attributes}
        try:
            self.google.post(_PUBSUB, f"/v1/{topic}:publish", {"messages": [message]})
        except NoSuchResourceError as error:
            raise FailedError(f"there is no topic {topic}", "run `terraform apply`") from error
        self._await_mark(
            check,
            f"{function} {label}",
            f"no authenticated message of {topic} reached {function}",
            "`unauthenticated` there, or 401 and 403 in the request log, mean that the push account or the audience "
            "is wrong: apply again",
        )

    def _await_mark(self, check: str, name: str, fault: str, remedy: str) -> None:
        function = name.partition(" ")[0]
        names = self.names
        filters = f'resource.labels.service_name="{names.service(function)}"'
        log = f"gcloud logging read '{filters}' --project={names.project} --freshness=10m"

        def is_there() -> bool:
            return any(mark["name"] == name for mark in self.probe.get("marks", []))

        if not self._wait(check, is_there):
            raise FailedError(fault, f"read `{log}`; {remedy}")

    def _wait(self, check: str, is_done: Callable[[], bool]) -> bool:
        end = time.monotonic() + self.patience(check)
        while not is_done():
            if time.monotonic() > end:
                return False
            self.session.pause(_POLL)
            self.probe = self.session.call("GetProbe", {"probeId": self.probe["probeId"]})
        return True

    def _keys(self) -> str:
        marks = self._marks("on_build_completion")
        if not marks:
            return "no server sends notifications, so no function verifies their tokens"
        for mark in marks:
            if unexplained := mark.get("unexplained"):
                raise FailedError(
                    f"on_build_completion (revision {mark.get('revision') or '-'}) does not know the key with which "
                    f"{unexplained[0]} signs: notifications of its builds are refused",
                    "finish the rollout: run `terraform apply`, and move all traffic to the newest revisions",
                )
        return "on_build_completion accepts the tokens that on_task and on_gitiles_commit sign"

    def _marks(self, function: str) -> list[Mapping[str, Any]]:
        return [mark for mark in self.probe.get("marks", []) if mark["name"].partition(" ")[0] == function]

    def _versions(self) -> str:
        """Compare the versions that the functions write. The console reports only that of its tasks."""
        rows = {mark["name"].partition(" ")[0]: _version(mark) for mark in self.probe.get("marks", [])}
        schemas = {row[0] for row in rows.values()}
        tasks = {row[1] for row in rows.values()} | {int(self.inspection.get("taskVersion", 0))}
        if len(schemas) > 1 or len(tasks) > 1:
            detail = ", ".join(f"{name} writes documents {row[0]}, tasks {row[1]}" for name, row in rows.items())
            raise FailedError(
                f"functions of different versions run: {detail}",
                "finish the rollout: run `terraform apply`, and move all traffic to the newest revisions",
            )
        shown = ", ".join(f"{name} {row[2]}" for name, row in sorted(rows.items()))
        return f"documents of version {max(schemas)}, tasks of version {max(tasks)}; revisions: {shown}"

    # Findings of on_task ----------------------------------------------------------------------------------------------

    def _indexes(self) -> str:
        if not self._wait("indexes", lambda: bool(self.probe.get("done"))):
            raise FailedError("on_task has not finished its checks", "run the command again")
        found = self._findings("index")
        _raise_first(found, lambda _: f"run `gcloud firestore indexes fields list --database={self.names.database}`")
        return f"{len(found)} queries have their indexes"

    def _github(self) -> str:
        found = self._findings("github")
        _raise_first(found, _credentials_remedy)
        return "; ".join(str(item.get("note", "")) for item in found) if found else "no repository is on GitHub"

    def _gitiles(self) -> str:
        found = self._findings("gitiles")
        _raise_first(found, _repository_remedy)
        return f"{len(found)} repositories are readable: {_subjects(found)}" if found else "no repository is watched"

    def _buildbucket(self) -> str:
        found = self._findings("buildbucket")
        _raise_first(found, _build_remedy)
        return f"our account may start builds in {_subjects(found)}" if found else "no job starts builds"

    def _cloud_build(self) -> str:
        found = self._findings("cloud_build")
        _raise_first(found, _cloud_remedy)
        return f"our account may read {_subjects(found)}" if found else "no job builds with Cloud Build"

    def _findings(self, check: str) -> list[Mapping[str, Any]]:
        return [item for item in self.probe.get("findings", []) if item["check"] == check]


def _raise_first(found: Sequence[Mapping[str, Any]], remedy: Callable[[Mapping[str, Any]], str]) -> None:
    bad = [item for item in found if item.get("problem")]
    if bad:
        others = f" (and {len(bad) - 1} more)" if len(bad) > 1 else ""
        raise FailedError(f"{bad[0]['subject']}: {bad[0]['problem']}{others}", remedy(bad[0]))


def _repository_remedy(item: Mapping[str, Any]) -> str:
    if ".googlesource.com/" in str(item["subject"]):
        return f"let {_ACCOUNT} read the repository, in the access settings of its host"
    if _code(item) == "no commit host is configured for it":
        return "add the host to github.hosts, and apply; or change the config that watches the repository"
    if _code(item) in ("NOT_FOUND", "PERMISSION_DENIED"):
        return "give the GitHub App or the token the right to read the repository's contents, or check the name"
    return _LATER


def _credentials_remedy(item: Mapping[str, Any]) -> str:
    problem = str(item["problem"])
    if _code(item) == "UNAUTHENTICATED":
        return "renew the token, or install the GitHub App again; store new credentials as a new version of the secret"
    if _ANONYMOUS in problem:
        return "set github.token or github.app, and apply: without credentials GitHub answers 60 requests an hour"
    if "used up" in problem:
        return "poll less often, or let a webhook announce commits; use a GitHub App, whose limit is separate"
    return _LATER


def _cloud_remedy(item: Mapping[str, Any]) -> str:
    problem, subject = str(item["problem"]), str(item["subject"])
    if "SCHEDULER_CLOUD_BUILD" in problem:
        return "change cloud_build in the Terraform variables, and apply; or change the config of the job"
    if "SERVICE_DISABLED" in problem:
        return "enable cloudbuild.googleapis.com in the project of the builds"
    if item.get("isPermission"):
        return "run `terraform apply`, which grants our account the right to use builds in cloud_build.projects"
    if _code(item) in ("NOT_FOUND", "INVALID_ARGUMENT"):
        kind = "trigger" if subject.startswith("trigger ") else "project and location"
        return f"make the {kind} in Cloud Build, or correct the name in the job's config"
    return _LATER


def _code(item: Mapping[str, Any]) -> str:
    """Return the code at the start of a problem, such as ``NOT_FOUND``."""
    return str(item["problem"]).partition(":")[0]


def _build_remedy(item: Mapping[str, Any]) -> str:
    realm = str(item["subject"]).partition(" on ")[0]
    if "notify:" in str(item["problem"]):
        return "grant Buildbucket's account roles/pubsub.publisher and roles/pubsub.viewer on the topic: apply again"
    if item.get("isPermission") or "NOT_FOUND" in str(item["problem"]):
        return f"in LUCI, grant role/buildbucket.triggerer and role/buildbucket.reader in {realm} to {_ACCOUNT}"
    return _LATER


def _version(mark: Mapping[str, Any]) -> tuple[int, int, str]:
    return int(mark.get("schema", 0)), int(mark.get("taskVersion", 0)), str(mark.get("revision") or "(local)")


def _jobs(item: Mapping[str, Any]) -> str:
    warnings = item.get("warningCount", 0)
    return f"{item.get('jobs', 0)} jobs" + (f", {warnings} warnings" if warnings else "")


def _subjects(found: Sequence[Mapping[str, Any]]) -> str:
    shown = [str(item["subject"]) for item in found[:3]]
    return ", ".join([*shown, *(["..."] if len(found) > 3 else [])])  # noqa: PLR2004 - three names fit a line
