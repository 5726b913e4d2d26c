"""What users of a world have and do apart from faults: their jobs and their commits."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from emulator.storm.choices import Choices
from emulator.storm.faults import Kind

__all__ = [
    "APPROVED_TRIGGER",
    "CLOUD_HOST",
    "CLOUD_TRIGGER",
    "DRAWN",
    "GITHUB_REPO",
    "PROJECT",
    "REPO",
    "SCENARIOS",
    "V1_HOST",
    "V2_HOST",
    "JobSpec",
    "Script",
    "UserAction",
    "config_text",
]

PROJECT = "p"
REPO = "https://r.googlesource.com/repo"
GITHUB_REPO = "https://github.com/example/repo"
CLOUD_HOST = "cloudbuild.googleapis.com"
CLOUD_TRIGGER, APPROVED_TRIGGER = "run-me", "run-me-approved"
"""The triggers of Cloud Build. A build of the second one waits until a person approves or rejects it."""
V1_HOST = "v1-buildbucket.appspot.com"
V2_HOST = "cr-buildbucket.appspot.com"
MAIN = "refs/heads/main"

_POLICIES = (
    "kind: GREEDY_BATCHING max_concurrent_invocations: 1",
    "kind: GREEDY_BATCHING max_concurrent_invocations: 2 max_batch_size: 1",
    "kind: LOGARITHMIC_BATCHING max_concurrent_invocations: 1 log_base: 2",
    "kind: NEWEST_FIRST max_concurrent_invocations: 1 pending_timeout { seconds: 1800 }",
)
CLOUD_KINDS = ("steps", "run", "approved")
_BUILD_KINDS = ("v1", "v2", *CLOUD_KINDS)
_BUSY_SECONDS = 420
_BUSY_ACTIONS = (Kind.ABORT, Kind.ABORT, Kind.ABORT_JOB, Kind.TRIGGER, Kind.POLICY_CHANGE, Kind.CONFIG_CHANGE)
_CRONS = ("with 7m interval", "*/10 * * * *", "*/10 * * * *")


@dataclass(frozen=True, slots=True)
class JobSpec:
    """A job of the config."""

    name: str
    kind: str
    """``v1`` or ``v2`` for a build of Buildbucket; ``steps``, ``run`` or ``approved`` for one of Cloud Build: inline
    steps, a trigger, or a trigger whose builds people approve; ``noop``, or ``gitiles``."""
    schedule: str = "triggered"
    policy: int = 0
    """An index of the triggering policies."""
    targets: tuple[str, ...] = ()
    """The jobs that it triggers."""
    repo: str = REPO
    """The repository that a ``gitiles`` job watches."""

    def text(self) -> str:
        """Return the job as a part of a ``luci-scheduler.cfg``."""
        task = {
            "v1": f'buildbucket {{ server: "{V1_HOST}" bucket: "luci.p.ci" builder: "{self.name}" }}',
            "v2": f'buildbucket {{ server: "{V2_HOST}" bucket: "ci" builder: "{self.name}" }}',
            "steps": 'cloud_build { steps { name: "ubuntu" script: "make" } }',
            "run": f'cloud_build {{ trigger: "{CLOUD_TRIGGER}" }}',
            "approved": f'cloud_build {{ trigger: "{APPROVED_TRIGGER}" }}',
            "noop": "noop { sleep_ms: 100 triggers_count: 1 }",
            "gitiles": f'gitiles {{ repo: "{self.repo}" refs: "{MAIN}" }}',
        }[self.kind]
        what = "trigger" if self.targets else "job"
        targets = "".join(f' triggers: "{name}"' for name in self.targets)
        policy = f"triggering_policy {{ {_POLICIES[self.policy % len(_POLICIES)]} }}"
        return f'{what} {{ id: "{self.name}" realm: "ci" schedule: "{self.schedule}" {policy} {task}{targets} }}'


@dataclass(frozen=True, slots=True)
class UserAction:
    """Something that a user does in any case, not as a fault. ``kind`` and ``amount`` are those of a fault."""

    second: int
    kind: Kind
    amount: int = 0


@dataclass(frozen=True, slots=True)
class Script:
    """The jobs and their commits."""

    jobs: tuple[JobSpec, ...]
    pushes: tuple[tuple[int, bool], ...]
    """Second of each push to the main branch, and whether an event announces it."""
    minutes: int
    """How long faults can happen."""
    actions: tuple[UserAction, ...] = ()
    repo: str = REPO
    """The repository of the commits."""

    @property
    def has_cloud_builds(self) -> bool:
        """Whether a job builds with Cloud Build."""
        return any(job.kind in CLOUD_KINDS for job in self.jobs)


def config_text(jobs: Sequence[JobSpec]) -> str:
    """Return a ``luci-scheduler.cfg``. Targets without a job are left out."""
    names = {job.name for job in jobs}
    known = [replace(job, targets=tuple(name for name in job.targets if name in names)) for job in jobs]
    return "\n".join(job.text() for job in known if job.targets or job.kind != "gitiles")


def _random(choices: Choices) -> Script:
    """Draw two to four jobs of both protocols, some with a schedule, and eight to 20 minutes of commits.

    A quarter of the scripts also has jobs of Cloud Build, and a quarter has its commits on GitHub.
    """
    shape = choices.draw("script/shape")
    kinds = CLOUD_KINDS if shape.second >> 20 & 3 == 0 else ()
    jobs = [_build(choices, number, kinds) for number in range(2 + shape.below(3))]
    repo = GITHUB_REPO if shape.second >> 22 & 3 == 0 else REPO
    watched = tuple(job.name for job in jobs)
    poll = ("triggered", "with 3m interval")[shape.second & 1]
    jobs.append(JobSpec("watch", "gitiles", poll, targets=watched, repo=repo))
    if shape.second & 2:
        jobs.append(JobSpec("chain", "noop", "with 9m interval", targets=watched[:1]))
    minutes = 8 + shape.second % 13
    pushes = tuple(_pushes(choices, minutes * 60, is_polled=poll != "triggered"))
    return Script(tuple(jobs), pushes, minutes, repo=repo)


def _build(choices: Choices, number: int, more: Sequence[str] = ()) -> JobSpec:
    """Draw a job of Buildbucket, or with ``more`` kinds in three of four cases a job of one of them."""
    draw = choices.draw("script/job")
    kind = "v1" if draw.below(3) == 0 else "v2"
    if more and draw.second >> 16 & 3:
        kind = more[(draw.second >> 18) % len(more)]
    schedule = _CRONS[draw.second % 3] if draw.second & 24 == 0 else "triggered"
    return JobSpec(f"build{number}", kind, schedule, policy=draw.second >> 8)


def _pushes(choices: Choices, seconds: int, *, is_polled: bool) -> list[tuple[int, bool]]:
    found, second = [], 90
    while second < seconds:
        draw = choices.draw("script/push")
        found.append((second, not is_polled or draw.second & 3 > 0))
        second += 5 + draw.below(240)
    return found


def _busy(choices: Choices, kinds: Sequence[str] = (), repo: str = REPO) -> Script:
    """Draw bursts of commits for jobs with few slots, and users who act within seconds of them."""
    shape = choices.draw("script/shape")
    jobs = [_build(choices, number, kinds) for number in range(1 + shape.below(3))]
    watch = JobSpec("watch", "gitiles", targets=tuple(job.name for job in jobs), repo=repo)
    pushes, actions, second = [], [], 70
    while second < _BUSY_SECONDS:
        draw, act = choices.draw("script/push"), choices.draw("script/act")
        pushes.append((second, True))
        if act.second & 1:
            kind = _BUSY_ACTIONS[act.below(len(_BUSY_ACTIONS))]
            actions.append(UserAction(second + 1 + act.second % 12, kind, (act.second >> 8) % 256))
        second += (3 + draw.second % 25) if draw.below(3) else 60 + draw.second % 90
    return Script((*jobs, watch), tuple(pushes), 8, tuple(actions), repo)


def _fixed(
    *jobs: JobSpec,
    pushes: Sequence[int] = (90,),
    minutes: int = 6,
    actions: Sequence[UserAction] = (),
    repo: str = REPO,
) -> Script:
    targets = tuple(job.name for job in jobs if job.kind in _BUILD_KINDS)
    poll = "with 3m interval" if not pushes or minutes > 10 else "triggered"  # noqa: PLR2004 - minutes
    watch = JobSpec("watch", "gitiles", poll, targets=targets, repo=repo)
    published = tuple((second, poll == "triggered") for second in pushes)
    return Script((*jobs, watch), published, minutes, tuple(actions), repo)


_V2, _V1 = JobSpec("one", "v2"), JobSpec("two", "v1")
_CLOUD = (JobSpec("steps", "steps"), JobSpec("run", "run"), JobSpec("approved", "approved"))

SCENARIOS: Mapping[str, Callable[[Choices], Script]] = {
    "random": _random,
    "busy": _busy,
    "cloud-busy": lambda choices: _busy(choices, CLOUD_KINDS, GITHUB_REPO),
    "commit": lambda _: _fixed(_V2),
    "commit-v1": lambda _: _fixed(_V1),
    "two-jobs": lambda _: _fixed(_V2, _V1, pushes=(90, 120)),
    "poll": lambda _: _fixed(_V2, pushes=(90,), minutes=12),
    "cron": lambda _: _fixed(JobSpec("one", "v2", "*/10 * * * *"), JobSpec("two", "v2", "*/10 * * * *"), minutes=12),
    "abort": lambda _: _fixed(_V2, _V1, actions=(UserAction(150, Kind.ABORT_JOB, 0), UserAction(200, Kind.ABORT, 0))),
    "pause": lambda _: _fixed(_V2, pushes=(90, 200), actions=(UserAction(120, Kind.PAUSE, 60),)),
    "reconfigure": lambda _: _fixed(
        _V2, _V1, pushes=(90, 200),
        actions=(UserAction(100, Kind.JOB_REMOVED, 90 << 8), UserAction(130, Kind.POLICY_CHANGE)),
    ),
    "chain": lambda _: _fixed(_V2, JobSpec("chain", "noop", "with 4m interval", targets=("one",))),
    "cloud-build": lambda _: _fixed(*_CLOUD, actions=(UserAction(200, Kind.TRIGGER, 0),)),
    "github": lambda _: _fixed(
        JobSpec("one", "v2"), JobSpec("steps", "steps"), pushes=(90, 200), repo=GITHUB_REPO,
        actions=(UserAction(150, Kind.FORCE_PUSH), UserAction(260, Kind.BACKFILL)),
    ),
    "github-poll": lambda _: _fixed(_V2, pushes=(90, 300), minutes=14, repo=GITHUB_REPO),
    "trigger": lambda _: _fixed(_V2, actions=(UserAction(100, Kind.TRIGGER), UserAction(150, Kind.BACKFILL))),
}  # fmt: skip
"""Name → the script that it makes from a run's choices. All but those of `DRAWN` are short and always the same."""

DRAWN = ("random", "busy", "cloud-busy")
"""The scenarios that depend on the seed."""
