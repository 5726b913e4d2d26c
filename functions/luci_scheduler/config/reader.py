"""Reads a project's ``luci-scheduler.cfg`` into job definitions and watchers, or reports every problem."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import replace
from typing import Any

from luci_scheduler.config.config_rules import ConfigRules
from luci_scheduler.config.folder import FILE
from luci_scheduler.config.problems import Problem
from luci_scheduler.config.schema import UNDEFINED_POLICY
from luci_scheduler.config.task_rules import task_blocks, task_fields
from luci_scheduler.config.validator import pending_timeout, validate
from luci_scheduler.core.commit_hosts import CommitHosts
from luci_scheduler.core.frozen import frozen
from luci_scheduler.core.identifiers import JobId
from luci_scheduler.core.instants import Instant
from luci_scheduler.core.job import MAX_PENDING, Flavor, JobDefinition, TaskDefinition, TriggeringPolicy
from luci_scheduler.core.repo_url import BadRepoUrlError
from luci_scheduler.core.watcher import Watcher
from luci_scheduler.managers.registry import kind_of

__all__ = ["ConfigError", "ProjectConfig", "read_config"]

_DEFAULT_RULES = ConfigRules()
_EPOCH = Instant(0)


class ConfigError(Exception):
    """A config is invalid; ``problems`` lists all errors, each with its place."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = tuple(problems)


@frozen
class ProjectConfig:
    """The content of a valid config, without disabled definitions."""

    jobs: Mapping[JobId, JobDefinition]
    watchers: Mapping[str, tuple[Watcher, ...]]
    """Normalized repository URL → the jobs that its commits trigger."""
    warnings: tuple[Problem, ...] = ()
    """Problems that do not prevent the use of the config."""


def read_config(
    project: str,
    content: str | bytes,
    revision: str = "",
    revision_url: str = "",
    file: str = FILE,
    *,
    rules: ConfigRules = _DEFAULT_RULES,
    now: Instant = _EPOCH,
) -> ProjectConfig:
    """Read a config by today's rules; ``file`` is its name in problems.

    Old access rules and old bucket names cause warnings. If the rules allow unknown jobs in ``triggers``, the reader
    omits them.

    Raises:
        ConfigError: the config does not parse, or has invalid definitions.
    """
    validated = validate(content, project=project, file=file, rules=rules, now=now)
    if validated.errors:
        raise ConfigError(validated.errors)
    message = validated.message
    definitions = [(item, False) for item in message.job] + [(item, True) for item in message.trigger]
    known = {item.id for item, _ in definitions}
    enabled = [(item, is_trigger) for item, is_trigger in definitions if not item.disabled]
    share = _pending_share(rules.max_pending_triggers, len(enabled))
    jobs = {
        JobId(f"{project}/{item.id}"): replace(
            _definition(project, item, known, is_trigger=is_trigger),
            revision=revision,
            revision_url=revision_url,
            max_pending=share,
        )
        for item, is_trigger in enabled
    }
    return ProjectConfig(jobs, _watchers(jobs, rules.hosts), validated.warnings)


def _pending_share(limit: int, jobs: int) -> int:
    """Return how many pending triggers each of ``jobs`` jobs keeps, if all of them together keep ``limit``.

    The share is a power of two below the original's limit, so that one more job seldom changes the share of all others.
    """
    share = max(1, limit // max(1, jobs))
    return MAX_PENDING if share >= MAX_PENDING else 1 << (share.bit_length() - 1)


def _definition(project: str, item: Any, known: Container[str], *, is_trigger: bool) -> JobDefinition:
    ((kind, task),) = task_blocks(item)
    schedule = item.schedule or ("with 30s interval" if is_trigger else "triggered")
    flavor = Flavor.TRIGGER if is_trigger else Flavor.TRIGGERED if schedule == "triggered" else Flavor.PERIODIC
    targets = sorted({JobId(f"{project}/{name}") for name in item.triggers if name in known}) if is_trigger else ()
    return JobDefinition(
        task=TaskDefinition(kind.name, task_fields(task)),
        schedule=schedule,
        flavor=flavor,
        realm=item.realm or "@legacy",
        policy=_policy(item.triggering_policy),
        triggered_jobs=tuple(targets),
    )


def _policy(item: Any) -> TriggeringPolicy:
    default = TriggeringPolicy()
    kind = item.DESCRIPTOR.enum_types_by_name["Kind"].values_by_number[item.kind].name
    return TriggeringPolicy(
        kind=default.kind if kind == UNDEFINED_POLICY else kind,
        max_concurrent_invocations=item.max_concurrent_invocations or default.max_concurrent_invocations,
        max_batch_size=item.max_batch_size or default.max_batch_size,
        log_base=item.log_base or default.log_base,
        pending_timeout=pending_timeout(item) or default.pending_timeout,
    )


def _watchers(jobs: Mapping[JobId, JobDefinition], hosts: CommitHosts) -> Mapping[str, tuple[Watcher, ...]]:
    by_repo: dict[str, list[Watcher]] = {}
    for trigger_job_id, definition in jobs.items():
        polled = kind_of(definition.task).polled_repo(definition.task)
        if polled is None:
            continue
        try:
            normalized = str(hosts.parse(polled.url))
        except BadRepoUrlError:
            continue  # valid in a config, as in the original; its polls fail with the cause
        by_repo.setdefault(normalized, []).extend(
            Watcher(target, trigger_job_id, polled.url, polled.refs, polled.path_regexps, polled.path_regexps_exclude)
            for target in definition.triggered_jobs
            if target in jobs
        )
    return {repo: tuple(watchers) for repo, watchers in by_repo.items()}
