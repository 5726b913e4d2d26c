"""Reading a project's ``luci-scheduler.cfg``: text in, job definitions and watchers out, or every problem found."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from google.protobuf import text_format

from luci_scheduler.config.schema import project_config_class
from luci_scheduler.core.identifiers import JobId
from luci_scheduler.core.job import Flavor, JobDefinition, PolicyKind, TaskDefinition, TriggeringPolicy
from luci_scheduler.core.repo_url import BadRepoUrlError, parse_repo_url
from luci_scheduler.ports import Watcher

__all__ = ["ConfigError", "ProjectConfig", "read_config"]

_ID = re.compile(r"[0-9A-Za-z_\-. )(]{1,100}")
_TASKS = ("noop", "url_fetch", "gitiles", "buildbucket")
_FILTERS = ("refs", "path_regexps", "path_regexps_exclude")


class ConfigError(Exception):
    """A config is not valid; ``problems`` lists all that is wrong, each with its place."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


@dataclass(frozen=True, slots=True)
class ProjectConfig:
    """What a valid config defines; disabled definitions are left out."""

    jobs: Mapping[JobId, JobDefinition]
    watchers: Mapping[str, tuple[Watcher, ...]]
    """Normalised repository URL → the jobs that its commits reach."""


def read_config(project: str, text: str, revision: str = "", revision_url: str = "") -> ProjectConfig:
    """Read a config.

    Raises:
        ConfigError: it does not parse, or definitions are wrong; nothing of it is to be used.
    """
    try:
        message = text_format.Parse(text, project_config_class()(), allow_unknown_field=False)
    except text_format.ParseError as error:
        line, column = error.GetLine(), error.GetColumn()
        raise ConfigError([f"line {line}, column {column}: {error}" if line else str(error)]) from error
    problems = list(_problems(message))
    if problems:
        raise ConfigError(problems)
    definitions = [(item, False) for item in message.job] + [(item, True) for item in message.trigger]
    jobs = {
        JobId(f"{project}/{item.id}"): replace(
            _definition(project, item, is_trigger=is_trigger), revision=revision, revision_url=revision_url
        )
        for item, is_trigger in definitions
        if not item.disabled
    }
    return ProjectConfig(jobs, _watchers(jobs))


def _problems(message: Any) -> Iterator[str]:
    items = [("job", item) for item in message.job] + [("trigger", item) for item in message.trigger]
    counts = Counter(item.id for _, item in items)
    for kind, item in items:
        place = f"{kind} {item.id or '(empty)'}"
        if not item.id:
            yield f"{place}: missing 'id' field'"
        elif not _ID.fullmatch(item.id):
            yield f"{place}: \"{item.id}\" is not valid value for 'id' field"
        elif counts[item.id] > 1:
            yield f'{place}: duplicate id "{item.id}"'
            counts[item.id] = 1  # said once
        if kind == "trigger":
            yield from (
                f"{place}: referencing unknown job \"{name}\" in 'triggers' field"
                for name in item.triggers
                if name not in counts
            )
        yield from (f"{place}: {problem}" for problem in _task_problems(item))


def _task_problems(item: Any) -> Iterator[str]:
    tasks = [name for name in _TASKS if name in item.DESCRIPTOR.fields_by_name and item.HasField(name)]
    if not tasks:
        yield "can't find a recognized task definition"
    if len(tasks) > 1:
        yield f"only one field with task definition must be set, at least two are given ({', '.join(tasks)})"
    if tasks == ["buildbucket"]:
        if not item.buildbucket.server:
            yield "buildbucket: field 'server' is required"
        elif "//" in item.buildbucket.server:
            yield f"buildbucket: field 'server' should be just a host, not a URL: \"{item.buildbucket.server}\""
        if not item.buildbucket.builder:
            yield "buildbucket: 'builder' field is required"
    if tasks == ["gitiles"] and not item.gitiles.repo:
        yield "gitiles: field 'repository' is required"


def _definition(project: str, item: Any, *, is_trigger: bool) -> JobDefinition:
    kind = next(name for name in _TASKS if name in item.DESCRIPTOR.fields_by_name and item.HasField(name))
    task = getattr(item, kind)
    fields = {
        field.name: list(getattr(task, field.name)) if field.is_repeated else getattr(task, field.name)
        for field in task.DESCRIPTOR.fields
    }
    schedule = item.schedule or ("with 30s interval" if is_trigger else "triggered")
    flavor = Flavor.TRIGGER if is_trigger else Flavor.TRIGGERED if schedule == "triggered" else Flavor.PERIODIC
    targets = sorted({JobId(f"{project}/{name}") for name in item.triggers}) if is_trigger else ()
    return JobDefinition(
        task=TaskDefinition(kind, {name: value for name, value in fields.items() if value}),
        schedule=schedule,
        flavor=flavor,
        realm=item.realm or "@legacy",
        policy=_policy(item.triggering_policy),
        triggered_jobs=tuple(targets),
    )


def _policy(item: Any) -> TriggeringPolicy:
    default = TriggeringPolicy()
    kinds = item.DESCRIPTOR.enum_types_by_name["Kind"].values_by_number
    name = kinds[item.kind].name if item.kind in kinds else "UNDEFINED"
    return TriggeringPolicy(
        kind=default.kind if name == "UNDEFINED" else PolicyKind(name),
        max_concurrent_invocations=item.max_concurrent_invocations or default.max_concurrent_invocations,
        max_batch_size=item.max_batch_size or default.max_batch_size,
        log_base=item.log_base,
        pending_timeout=item.pending_timeout.ToNanoseconds() or default.pending_timeout,
    )


def _watchers(jobs: Mapping[JobId, JobDefinition]) -> Mapping[str, tuple[Watcher, ...]]:
    by_repo: dict[str, list[Watcher]] = {}
    for trigger_job_id, definition in jobs.items():
        if definition.task.kind != "gitiles":
            continue
        repo = definition.task.fields["repo"]
        filters = [tuple(definition.task.fields.get(name, ())) for name in _FILTERS]
        try:
            normalised = str(parse_repo_url(repo))
        except BadRepoUrlError:
            continue  # valid in a config, as in the original; its polls fail and say why
        by_repo.setdefault(normalised, []).extend(
            Watcher(target, trigger_job_id, repo, *filters) for target in definition.triggered_jobs if target in jobs
        )
    return {repo: tuple(watchers) for repo, watchers in by_repo.items()}
