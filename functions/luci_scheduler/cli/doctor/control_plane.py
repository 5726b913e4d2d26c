"""Checks through Google's APIs: parts that only the control plane of Google Cloud shows."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

from luci_scheduler.cli.doctor.checks import Check, FailedError
from luci_scheduler.cli.doctor.google_apis import GoogleApis, NoSuchResourceError
from luci_scheduler.cli.doctor.inside import Names
from luci_scheduler.core.frozen import frozen

__all__ = ["INDEXES", "ControlPlane"]

INDEXES = frozenset(
    {
        ("deferred", "next_due"),
        ("deferred", "revision"),
        ("invocations", "next_due"),
        ("jobs", "next_due"),
        ("triggers", "pending"),
        ("triggers", "revision"),
    }
)
"""Collection and field of each index that the queries need, see infra/terraform/modules/database."""

_WEBHOOK = "on_github_push"
_BUILD_API = "cloudbuild.googleapis.com"
_ACCOUNT = re.compile(r"[^@]+@(?P<project>[a-z0-9.-]+)\.iam\.gserviceaccount\.com|(?P<number>[0-9]+)-compute@.+")
_DELIVERIES = timedelta(days=30)  # Cloud Monitoring keeps metrics of Cloud Run for six weeks
_RECENT = timedelta(minutes=2)
_OLDEST_TASK = timedelta(minutes=15)  # the queue's longest pause between attempts is ten minutes
_EACH_MINUTE = "* * * * *"
_APPLY = "run `terraform apply`"


@frozen
class ControlPlane:
    """The checks through Google's APIs."""

    google: GoogleApis
    names: Callable[[], Names]

    def checks(self) -> list[Check]:
        """Return the checks in their order."""
        needs = ("inside",)
        return [
            Check("revisions", self._revisions, needs, 60),
            Check("queue", self._queue, needs, 60),
            Check("schedules", self._schedules, needs, 60),
            Check("index-states", self._index_states, needs, 60),
            Check("dead-letters", self._dead_letters, needs, 60),
            Check("key-rotation", self._key_rotation, needs, 60),
            Check("alerts", self._alerts, needs, 60),
            Check("webhook", self._webhook, (*needs, "revisions"), 60),
            Check("build-projects", self._build_projects, needs, 60),
        ]

    def _revisions(self) -> str:
        names = self.names()
        shown = []
        for function in names.functions:
            if (found := self._service(function)) is None:
                raise FailedError(f"there is no service {names.service(function)}", _APPLY)
            shown.append(self._revision(function, found))
        if (webhook := self._service(_WEBHOOK)) is not None:
            shown.append(self._revision(_WEBHOOK, webhook))
        return "; ".join(shown)

    def _service(self, function: str) -> Mapping[str, Any] | None:
        """Return the Cloud Run service of a function; None if there is none."""
        names = self.names()
        path = f"/v2/projects/{names.project}/locations/{names.location}/services/{names.service(function)}"
        try:
            return self.google.get("run.googleapis.com", path)
        except NoSuchResourceError:
            return None

    def _revision(self, function: str, found: Mapping[str, Any]) -> str:
        names = self.names()
        service = names.service(function)
        where = f"--project={names.project} --region={names.location}"
        condition = found.get("terminalCondition", {})
        newest, ready = found.get("latestCreatedRevision", ""), found.get("latestReadyRevision", "")
        if condition.get("state") != "CONDITION_SUCCEEDED" or newest != ready:
            reason = condition.get("message") or f"{_last(newest)} is not ready"
            raise FailedError(f"{service}: {reason}", f"run `gcloud run services describe {service} {where}`")
        # One revision may have two shares: as a named one, and as the newest one.
        shares: Counter[str] = Counter()
        for item in found.get("trafficStatuses", []):
            shares[_last(item.get("revision") or ready)] += item.get("percent", 0)
        return f"{function}: {', '.join(f'{name} {share} %' for name, share in shares.items() if share)}"

    def _queue(self) -> str:
        names = self.names()
        path = f"/v2/projects/{names.project}/locations/{names.location}/queues/{names.queue}"
        where = f"--project={names.project} --location={names.location}"
        state = self.google.get("cloudtasks.googleapis.com", path).get("state")
        if state != "RUNNING":
            raise FailedError(
                f"the queue {names.queue} is {state}", f"run `gcloud tasks queues resume {names.queue} {where}`"
            )
        page = self.google.get("cloudtasks.googleapis.com", f"{path}/tasks", pageSize="1000")
        waiting = _longest([_first_due(task) for task in page.get("tasks", [])])
        if waiting > _OLDEST_TASK:
            raise FailedError(
                f"a task of {names.queue} has been due for {_minutes(waiting)}",
                f"see its last attempt: `gcloud tasks list --queue={names.queue} {where}`, and on_task's log",
            )
        return f"{names.queue} runs; the oldest due task waits for {waiting.total_seconds():.0f} s"

    def _schedules(self) -> str:
        return ", ".join(self._schedule(kind) for kind in ("sync", "sweep"))

    def _schedule(self, kind: str) -> str:
        names = self.names()
        job = f"{names.prefix}luci-scheduler-{kind}"
        where = f"{job} --project={names.project} --location={names.location}"
        path = f"/v1/projects/{names.project}/locations/{names.location}/jobs/{job}"
        found = self.google.get("cloudscheduler.googleapis.com", path)
        if found.get("state") != "ENABLED":
            raise FailedError(
                f"the schedule {job} is {found.get('state')}", f"run `gcloud scheduler jobs resume {where}`"
            )
        _require_recent(kind, found, where)
        if code := found.get("status", {}).get("code", 0):
            raise FailedError(
                f"the last {kind} ended with status {code}",
                f"read on_task's log; run `gcloud scheduler jobs run {where}`",
            )
        return f"the {kind} ran at {found['lastAttemptTime']}"

    def _index_states(self) -> str:
        names = self.names()
        fields = self._fields(names)
        indexed = {_field(item) for item in fields if _states(item)}
        if missing := sorted(INDEXES - indexed):
            raise FailedError(f"there is no index of {missing[0][0]}.{missing[0][1]}", _APPLY)
        building = [item for item in fields if set(_states(item)) - {"READY", "ACTIVE"}]
        if building:
            collection, field = _field(building[0])
            where = f"--database={names.database} --project={names.project}"
            raise FailedError(
                f"{collection}.{field} is {', '.join(_states(building[0]))}",
                f"wait, and look with `gcloud firestore indexes fields list {where}`",
            )
        return f"{len(indexed)} fields have their indexes or expire"

    def _fields(self, names: Names) -> list[Mapping[str, Any]]:
        # The API lists only fields with settings, only with this filter, and accepts no page size.
        return list(
            self.google.items(
                "firestore.googleapis.com",
                f"/v1/projects/{names.project}/databases/{quote(names.database)}/collectionGroups/-/fields",
                "fields",
                filter="indexConfig.usesAncestorConfig:false OR ttlConfig:*",
            )
        )

    def _dead_letters(self) -> str:
        names = self.names()
        for subscription in (f"{name}-dead-letter" for name in names.subscriptions):
            if self._has_message(subscription):
                raise FailedError(
                    f"{_last(subscription)} holds messages that were refused too often",
                    f"run `luci-scheduler dead-letters list --cloud-project {names.project}`",
                )
        return f"subscriptions without a message: {len(names.subscriptions)}"

    def _has_message(self, subscription: str) -> bool:
        path = f"/v1/{quote(subscription)}"
        pulled = self.google.post(
            "pubsub.googleapis.com", f"{path}:pull", {"maxMessages": 1, "returnImmediately": True}
        )
        ids = [item["ackId"] for item in pulled.get("receivedMessages", [])]
        if ids:  # the message becomes available again at once
            self.google.post(
                "pubsub.googleapis.com", f"{path}:modifyAckDeadline", {"ackIds": ids, "ackDeadlineSeconds": 0}
            )
        return bool(ids)

    def _key_rotation(self) -> str:
        ages = [self._key_age(account) for account in ("functions", "console")]
        return f"the newest keys are {max(ages).days} days old"

    def _key_age(self, account: str) -> timedelta:
        names = self.names()
        secret = f"{names.prefix}luci-scheduler-{account}"
        path = f"/v1/projects/{names.project}/secrets/{secret}"
        period = self.google.get("secretmanager.googleapis.com", path).get("rotation", {}).get("rotationPeriod", "")
        enabled = "state:ENABLED"
        found = list(self.google.items("secretmanager.googleapis.com", f"{path}/versions", "versions", filter=enabled))
        if not found:
            raise FailedError(f"the secret {secret} has no enabled version", _APPLY)
        age = _now() - max(_instant(item["createTime"]) for item in found)
        due = float(period.rstrip("s")) / 86400 if period else age.days + 1
        if age > timedelta(days=due):
            text = f"the newest key of {secret} is {age.days} days old, and was due after {due:g}"
            raise FailedError(text, "raise signing_key_generation by one, and apply")
        return age

    def _alerts(self) -> str:
        names = self.names()
        start = f"{names.prefix}luci-scheduler: "
        policies = self._policies(names, start)
        if not policies:
            raise FailedError("there is no alert policy", "set monitoring.enabled, and apply")
        for policy in policies:
            name = policy["displayName"].removeprefix(start)
            if not policy.get("enabled", True):
                raise FailedError(f"the alert {name} is disabled", _APPLY)
            if not policy.get("notificationChannels"):
                raise FailedError(
                    f"the alert {name} notifies no channel", "set monitoring.emails or monitoring.channels, and apply"
                )
        return f"{len(policies)} alert policies have channels"

    def _webhook(self) -> str:
        if self._service(_WEBHOOK) is None:
            return "there is no webhook: polls and published events deliver commits"
        counts, days = self._deliveries(), _DELIVERIES.days
        if taken := counts["2xx"]:
            return (
                f"deliveries of GitHub in {days} days: {taken} taken, {counts['4xx']} refused, {counts['5xx']} failed"
            )
        if counts["4xx"]:
            raise FailedError(
                f"{_WEBHOOK} refused all {counts['4xx']} requests of {days} days",
                "store the webhook's secret of GitHub's page as a new version of github.webhook.secret, and apply with "
                "its version; the content type on that page must be application/json",
            )
        raise FailedError(
            f"{_WEBHOOK} has taken no delivery in {days} days",
            "on GitHub's page of the webhook, set the address of `terraform output -raw github_webhook`, and redeliver "
            "the ping of its recent deliveries",
        )

    def _deliveries(self) -> Counter[str]:
        """Return the number of the webhook's answers by class, such as ``2xx``."""
        names, now = self.names(), _now().replace(microsecond=0)
        ours = f'resource.labels.service_name="{names.service(_WEBHOOK)}"'
        query = {
            "filter": f'metric.type="run.googleapis.com/request_count" AND {ours}',
            "interval.startTime": (now - _DELIVERIES).isoformat(),
            "interval.endTime": now.isoformat(),
            "aggregation.alignmentPeriod": f"{_DELIVERIES.total_seconds():.0f}s",
            "aggregation.perSeriesAligner": "ALIGN_SUM",
            "aggregation.crossSeriesReducer": "REDUCE_SUM",
            "aggregation.groupByFields": "metric.labels.response_code_class",
        }
        path = f"/v3/projects/{names.project}/timeSeries"
        counts: Counter[str] = Counter()
        try:
            found = list(self.google.items("monitoring.googleapis.com", path, "timeSeries", **query))
        except NoSuchResourceError:  # no service of the project has had a request
            return counts
        for series in found:
            kind = series["metric"]["labels"]["response_code_class"]
            counts[kind] += sum(int(point["value"].get("int64Value", 0)) for point in series.get("points", []))
        return counts

    def _build_projects(self) -> str:
        names = self.names()
        for project in names.build_projects:
            self._require_api(project)
        for account in names.build_accounts:
            self._require_account(account)
        if not names.build_projects:
            return "no job builds with Cloud Build"
        accounts = ", ".join(names.build_accounts) or "the default account of each project"
        return f"the API is enabled in {', '.join(names.build_projects)}; builds run as {accounts}"

    def _require_api(self, project: str) -> None:
        found = self.google.get("serviceusage.googleapis.com", f"/v1/projects/{project}/services/{_BUILD_API}")
        if found.get("state") != "ENABLED":
            remedy = f"run `gcloud services enable {_BUILD_API} --project={project}`"
            raise FailedError(f"the Cloud Build API is not enabled in {project}", remedy)

    def _require_account(self, account: str) -> None:
        # Google answers 403 about a missing account unless the address names its project.
        home = _ACCOUNT.fullmatch(account)
        if home is None:
            return  # an account that Google manages
        project = home["number"] or _project_of(home["project"])
        try:
            found = self.google.get("iam.googleapis.com", f"/v1/projects/{project}/serviceAccounts/{account}")
        except NoSuchResourceError as error:
            remedy = "run `terraform apply`, or name another account in cloud_build.account and the jobs' configs"
            raise FailedError(f"there is no account {account}, which builds run as", remedy) from error
        if found.get("disabled"):
            remedy = f"run `gcloud iam service-accounts enable {account} --project={project}`"
            raise FailedError(f"the account {account}, which builds run as, is disabled", remedy)

    def _policies(self, names: Names, start: str) -> list[Mapping[str, Any]]:
        found = self.google.items(
            "monitoring.googleapis.com",
            f"/v3/projects/{names.project}/alertPolicies",
            "alertPolicies",
            filter=f'display_name = starts_with("{start}")',
        )
        return [item for item in found if str(item.get("displayName", "")).startswith(start)]


def _require_recent(kind: str, found: Mapping[str, Any], where: str) -> None:
    """Require an attempt in the last two minutes, or for a rarer schedule, that the next run is not overdue."""
    last, coming = found.get("lastAttemptTime"), found.get("scheduleTime")
    run = f"run `gcloud scheduler jobs run {where}`, and read on_task's log"
    if not last:
        raise FailedError(f"the {kind} has never run", f"wait a minute after the first apply; else {run}")
    due = last if found.get("schedule") == _EACH_MINUTE or not coming else coming
    if (late := _now() - _instant(due)) > _RECENT:
        raise FailedError(f"the {kind} last ran at {last}, {_minutes(late)} ago or overdue", run)


def _project_of(domain: str) -> str:
    """Return the project in an account's address, which writes the project ``example.com:p`` as ``p.example.com``."""
    name, _, rest = domain.partition(".")
    return f"{rest}:{name}" if rest else name


def _field(item: Mapping[str, Any]) -> tuple[str, str]:
    """Return collection and field of ``.../collectionGroups/<collection>/fields/<field>``."""
    parts = str(item["name"]).split("/")
    return parts[-3], parts[-1]


def _states(item: Mapping[str, Any]) -> list[str]:
    indexes = [str(index.get("state", "READY")) for index in item.get("indexConfig", {}).get("indexes", [])]
    return [*indexes, *([str(item["ttlConfig"].get("state", "ACTIVE"))] if "ttlConfig" in item else [])]


def _first_due(task: Mapping[str, Any]) -> str:
    """Return when a task was due first; each retry has a later time."""
    return str(task.get("firstAttempt", {}).get("scheduleTime") or task["scheduleTime"])


def _longest(times: Sequence[str]) -> timedelta:
    """Return for how long the first of these times is past; zero if none is."""
    return max([timedelta(), *(_now() - _instant(text) for text in times)])


def _instant(text: str) -> datetime:
    """Read a time of RFC 3339; Google sends up to nine digits of a second, and Python reads six."""
    whole, _, fraction = text.rstrip("Z").partition(".")
    return datetime.fromisoformat(f"{whole}.{fraction[:6]:0<6}+00:00")


def _now() -> datetime:
    return datetime.fromtimestamp(time.time(), UTC)


def _minutes(span: timedelta) -> str:
    return f"{span.total_seconds() / 60:.0f} minutes"


def _last(name: str) -> str:
    return name.rpartition("/")[2]
