"""The API's methods and messages: one table for decoding requests, encoding replies and describing the API.

Names and numbers of ``scheduler.Scheduler`` are the original's, so its clients work unchanged, in JSON and in binary.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, struct_pb2

from luci_scheduler.api.access import Permission
from luci_scheduler.api.causes import CauseKind
from luci_scheduler.api.explanation import Origin, Reason
from luci_scheduler.api.requested import TriggerState
from luci_scheduler.core.frozen import frozen
from luci_scheduler.core.job import JobState, Status
from luci_scheduler.core.trigger import PayloadKind

__all__ = [
    "ADMIN",
    "ALWAYS",
    "ENUMS",
    "MESSAGES",
    "METHODS",
    "NAMES_ONE_JOB",
    "NEEDS",
    "OPERATOR",
    "SCHEDULER",
    "Field",
    "Method",
    "fields_of",
    "message_class",
]

_PACKAGE = "scheduler"
_FIELD = descriptor_pb2.FieldDescriptorProto
_SCALARS = {
    "string": _FIELD.TYPE_STRING,
    "bool": _FIELD.TYPE_BOOL,
    "int32": _FIELD.TYPE_INT32,
    "int64": _FIELD.TYPE_INT64,
}

SCHEDULER = "scheduler.Scheduler"
OPERATOR = "scheduler.Operator"
ADMIN = "internal.admin.Admin"


@frozen
class Method:
    """A method of a service."""

    service: str
    name: str
    request: str
    reply: str
    permission: str
    """The permission that the caller needs, for people."""
    summary: str

    @property
    def path(self) -> str:
        """The path under which pRPC clients call it."""
        return f"/prpc/{self.service}/{self.name}"

    @property
    def plain_path(self) -> str:
        """The path under which clients call it in plain JSON."""
        return f"/api/v1/{self.service}/{self.name}"


@frozen
class Field:
    """A field of a message; ``kind`` is a scalar, ``Struct`` or a message."""

    number: int
    name: str
    kind: str
    is_repeated: bool
    is_payload: bool
    """Whether the field is one of the alternatives of a trigger's payload."""

    @property
    def is_time(self) -> bool:
        """Whether the number is a time, in microseconds since 1970."""
        return self.kind == "int64" and (self.name.endswith("_ts") or self.name == "timestamp")

    @property
    def is_message(self) -> bool:
        """Whether the value is a message of the table."""
        return self.kind in MESSAGES


METHODS: tuple[Method, ...] = (
    Method(SCHEDULER, "GetJobs", "JobsRequest", "JobsReply", "get",
           "Returns the visible jobs of a project, or of all projects; a missing project has no jobs. "
           "Not paged: with a cursor the reply is empty."),
    Method(SCHEDULER, "GetInvocations", "InvocationsRequest", "InvocationsReply", "get",
           "Returns a page of a job's invocations, newest first; no cursor in the reply means the end."),
    Method(SCHEDULER, "GetInvocation", "InvocationRef", "Invocation", "get", "Returns an invocation."),
    Method(SCHEDULER, "PauseJob", "JobRef", "Empty", "pause", "Pauses a job; a paused job does not change."),
    Method(SCHEDULER, "ResumeJob", "JobRef", "Empty", "resume", "Resumes a paused job; an active job does not change."),
    Method(SCHEDULER, "AbortJob", "JobRef", "Empty", "abort",
           "Aborts all active invocations of a job, and cancels their builds."),
    Method(SCHEDULER, "AbortInvocation", "InvocationRef", "Empty", "abort",
           "Aborts an invocation, and cancels its build; a finished invocation does not change."),
    Method(SCHEDULER, "EmitTriggers", "EmitTriggersRequest", "Empty", "trigger on every job",
           "Emits triggers, oldest batch first, for all jobs or for none. A job skips a trigger ID that it has seen."),
    Method(OPERATOR, "GetJob", "JobRef", "JobDetails", "get",
           "Returns a job, and who paused or resumed it last, when and why."),
    Method(OPERATOR, "GetInvocationLog", "InvocationRef", "InvocationLog", "get",
           "Returns an invocation and its debug log."),
    Method(OPERATOR, "PauseJob", "JobAction", "JobActionReply", "pause",
           "Pauses a job and keeps the reason. A paused job does not change, and changed is false."),
    Method(OPERATOR, "ResumeJob", "JobAction", "JobActionReply", "resume",
           "Resumes a job and keeps the reason. An active job does not change, and changed is false."),
    Method(OPERATOR, "AbortJob", "JobAction", "Aborted", "abort",
           "Aborts all active invocations of a job, cancels their builds, keeps the reason, and returns them."),
    Method(OPERATOR, "AbortInvocation", "InvocationAction", "Aborted", "abort",
           "Aborts an invocation, cancels its build, keeps the reason, and returns it. "
           "An invocation that has ended does not change and is not returned."),
    Method(OPERATOR, "TriggerJob", "TriggerJobRequest", "TriggerIds", "trigger",
           "Triggers a job, with a revision for that commit; the same request_id has no second effect. "
           "Refused while the job is paused."),
    Method(OPERATOR, "RerunInvocation", "RerunInvocationRequest", "TriggerIds", "trigger",
           "Emits the triggers of an invocation again; the same request_id has no second effect. "
           "A running build goes on. Refused while the job is paused."),
    Method(OPERATOR, "BackfillCommits", "BackfillCommitsRequest", "BackfillCommitsReply", "trigger on every job",
           "Emits a trigger for each commit after from_revision up to to_revision, or only lists the commits "
           "(preview); the same request_id has no second effect."),
    Method(OPERATOR, "DescribeJob", "JobRef", "JobDescription", "get",
           "Returns a job's task, triggers, pending triggers, next run, polls, active invocations and latest results."),
    Method(OPERATOR, "GetHistory", "HistoryRequest", "History", "get",
           "Returns a page of a job's invocations with commits and causes, newest first, perhaps with one status."),
    Method(OPERATOR, "ListJobs", "ListJobsRequest", "ListJobsReply", "get",
           "Returns a part of a project's jobs with their latest results: failing jobs first, or only some jobs."),
    Method(OPERATOR, "DescribeInvocation", "InvocationRef", "InvocationDetails", "get",
           "Returns an invocation with its commit, cause, triggers, attempts, and the reason of its failure or abort."),
    Method(OPERATOR, "GetTriggers", "TriggersRequest", "TriggersReply", "get",
           "Returns the outcome of triggers of a job: the invocation that took each of them."),
    Method(OPERATOR, "GetNames", "NamesRequest", "Names", "get",
           "Returns the names of a project's visible jobs, or of the projects."),
    Method(OPERATOR, "ExplainCommit", "ExplainCommitRequest", "ExplainCommitReply", "get",
           "Explains the outcome of a commit in every visible job that watches its repository."),
    Method(OPERATOR, "GetDefinitions", "DefinitionsRequest", "Definitions", "get",
           "Returns the active definitions of a project's visible jobs, and the config revision. "
           "Triggered jobs that the caller may not see are left out."),
    Method(OPERATOR, "ExportInvocation", "InvocationRef", "Exported", "get",
           "Returns an invocation as a scenario and a config that the local cloud replays."),
    Method(OPERATOR, "WhoAmI", "Empty", "Caller", "everyone",
           "Returns the caller's identity and rights. It answers even if the access policy is not valid."),
    Method(OPERATOR, "Inspect", "Empty", "Inspection", "administrators only",
           "Returns the names of the installation's parts, and the state of every project's config."),
    Method(OPERATOR, "StartProbe", "Empty", "Probe", "administrators only",
           "Makes a probe and enqueues its task. Functions mark it for ten minutes."),
    Method(OPERATOR, "GetProbe", "ProbeRef", "Probe", "administrators only",
           "Returns a probe with the marks of the functions that it has reached, and the findings of its task."),
    Method(ADMIN, "GetDebugJobState", "JobRef", "DebugJobState", "administrators only",
           "Returns the stored state of a job."),
)  # fmt: skip

NEEDS: Mapping[str, Permission | None] = {
    "get": Permission.GET,
    "pause": Permission.PAUSE,
    "resume": Permission.RESUME,
    "abort": Permission.ABORT,
    "trigger": Permission.TRIGGER,
    "trigger on every job": Permission.TRIGGER,
    "everyone": Permission.GET,
    "administrators only": None,
}
"""`Method.permission` → the permission that the policy must grant; None: only administrators may call it.

A request to a method for everyone must be small unless the policy grants its sender this permission."""

NAMES_ONE_JOB = frozenset(
    {
        "JobRef",
        "InvocationRef",
        "InvocationsRequest",
        "JobAction",
        "InvocationAction",
        "TriggerJobRequest",
        "RerunInvocationRequest",
        "HistoryRequest",
        "TriggersRequest",
    }
)
"""Requests about one job. For a caller who sees no job, these fail as if the job did not exist."""

MESSAGES: Mapping[str, str] = {
    "Empty": "",
    "JobRef": "1 project string, 2 job string",
    "InvocationRef": "1 job_ref JobRef, 2 invocation_id int64",
    "JobsRequest": "1 project string, 2 cursor string, 3 page_size int32",
    "JobsReply": "1 jobs Job*, 2 next_cursor string",
    "Job": "1 job_ref JobRef, 2 schedule string, 3 state JobState, 4 paused bool",
    "JobState": "1 ui_status string",
    "InvocationsRequest": "1 job_ref JobRef, 2 cursor string, 3 page_size int32",
    "InvocationsReply": "1 invocations Invocation*, 2 next_cursor string",
    "Invocation": "1 invocation_ref InvocationRef, 2 started_ts int64, 3 finished_ts int64, 4 triggered_by string, "
    "5 status string, 6 final bool, 7 config_revision string, 8 view_url string",
    "EmitTriggersRequest": "1 batches Batch*, 2 timestamp int64",
    "Batch": "1 trigger Trigger, 2 jobs JobRef*",
    "Trigger": "1 id string, 2 title string, 3 url string, 40 cron CronTrigger|, 41 webui WebUITrigger|, "
    "50 noop NoopTrigger|, 51 gitiles GitilesTrigger|, 52 buildbucket BuildbucketTrigger|",
    "CronTrigger": "1 generation int64",
    "WebUITrigger": "",
    "NoopTrigger": "1 data string",
    "GitilesTrigger": "1 repo string, 2 ref string, 3 revision string, 4 properties Struct, 5 tags string*",
    "BuildbucketTrigger": "1 properties Struct, 2 tags string*",
    "JobDetails": "1 job Job, 2 change JobChange",
    "JobChange": "1 who string, 2 when_ts int64, 3 reason string",
    "InvocationLog": "1 invocation Invocation, 2 debug_log string",
    "JobAction": "1 job_ref JobRef, 2 reason string",
    "JobActionReply": "1 changed bool",
    "InvocationAction": "1 invocation_ref InvocationRef, 2 reason string",
    "TriggerJobRequest": "1 job_ref JobRef, 2 request_id string, 3 repo string, 4 ref string, 5 revision string",
    "RerunInvocationRequest": "1 invocation_ref InvocationRef, 2 request_id string",
    "TriggerIds": "1 trigger_ids string*, 2 repeated bool",
    "Aborted": "1 invocation_ids int64*",
    "TriggerCommit": "1 repo string, 2 ref string, 3 revision string, 4 subject string, 5 author string, "
    "6 other_commits int32",
    "Cause": "1 kind string, 2 by string",
    "TriggerDetails": "1 id string, 2 title string, 3 url string, 4 kind string, 5 created_ts int64, 6 cause Cause",
    "InvocationDetails": "1 invocation Invocation, 2 commit TriggerCommit, 3 cause Cause, 4 summary string, "
    "5 attempts int32, 6 next_attempt_ts int64, 7 abort_requested_by string, 8 abort_reason string, "
    "9 triggers TriggerDetails*, 10 trigger_count int32",
    "ListJobsRequest": "1 project string, 2 filter string, 3 cursor string, 4 page_size int32",
    "ListJobsReply": "1 jobs ListedJob*, 2 next_cursor string",
    "ListedJob": "1 job Job, 2 latest InvocationDetails",
    "HistoryRequest": "1 job_ref JobRef, 2 cursor string, 3 page_size int32, 4 status string",
    "History": "1 invocations InvocationDetails*, 2 next_cursor string",
    "JobDescription": "1 job Job, 2 change JobChange, 3 definition Struct, 4 triggered_by JobRef*, "
    "5 next_run_ts int64, 6 last_poll_ts int64, 7 failed_polls int32, 8 known_refs int32, 9 pending TriggerDetails*, "
    "10 has_more_pending bool, 11 invocations InvocationDetails*, 12 triggers JobRef*",
    "TriggersRequest": "1 job_ref JobRef, 2 trigger_ids string*",
    "TriggersReply": "1 triggers TriggerState*",
    "TriggerState": "1 trigger_id string, 2 state string, 3 invocation_id int64, 4 reason string",
    "NamesRequest": "1 project string",
    "Names": "1 names string*, 2 is_cut bool",
    "BackfillCommitsRequest": "1 jobs JobRef*, 2 repo string, 3 ref string, 4 from_revision string, "
    "5 to_revision string, 6 preview bool, 7 request_id string",
    "BackfillCommitsReply": "1 commits BackfillCommit*, 2 jobs BackfillJob*, 3 emitted bool, 4 from_revision string, "
    "5 to_revision string, 6 repeated bool",
    "BackfillCommit": "1 revision string, 2 committed_ts int64, 3 author string, 4 subject string",
    "BackfillJob": "1 job_ref JobRef, 2 note string, 3 trigger_ids string*, 4 ran string*, 5 filtered string*",
    "ExplainCommitRequest": "1 repo string, 2 revision string, 3 ref string",
    "ExplainCommitReply": "1 explanations Explanation*, 2 commit Commit",
    "Commit": "1 revision string, 2 author string, 3 subject string, 4 committed_ts int64, 5 files string*, "
    "6 more_files int32, 7 problem string, 8 note string",
    "Explanation": "1 job_ref JobRef, 2 reason string, 3 sentence string, 4 ref string, 5 trigger_id string, "
    "6 invocation_id int64, 7 status string, 8 since_ts int64, 9 waiting_for int64*, 10 origin string, "
    "11 asked_by string, 12 poll_job JobRef, 13 poll_invocation_id int64, 14 next_poll_ts int64, "
    "15 summary string, 16 started_ts int64, 17 finished_ts int64",
    "DefinitionsRequest": "1 project string",
    "Definitions": "1 revision string, 2 definitions Definition*",
    "Definition": "1 job_ref JobRef, 2 definition Struct",
    "Exported": "1 scenario string, 2 config string",
    "Caller": "1 identity string, 2 is_admin bool, 3 sees_some bool, 4 policy_problem string",
    "Inspection": "1 now_ts int64, 2 service string, 3 revision string, 4 task_version int32, 5 cloud_project string, "
    "6 location string, 7 database string, 8 queue string, 9 account string, 10 topics string*, "
    "11 projects InspectedProject*, 12 build_projects string*, 13 build_accounts string*",
    "InspectedProject": "1 project string, 2 revision string, 3 jobs int32, 4 problems string*, 5 warning_count int32",
    "ProbeRef": "1 probe_id string",
    "Probe": "1 probe_id string, 2 created_ts int64, 3 now_ts int64, 4 marks ProbeMark*, 5 findings ProbeFinding*, "
    "6 done bool",
    "ProbeMark": "1 name string, 2 at_ts int64, 3 revision string, 4 schema int32, 5 task_version int32, "
    "6 unexplained string*",
    "ProbeFinding": "1 check string, 2 subject string, 3 problem string, 4 is_permission bool, 5 note string",
    "DebugJobState": "1 enabled bool, 2 paused bool, 3 last_triage_ts int64, 4 cron_state DebugCronState, "
    "5 active_invocations int64*, 6 pending_triggers string*, 7 triage_log string, 8 known_refs Struct",
    "DebugCronState": "1 enabled bool, 2 generation int64, 3 last_rewind_ts int64, 4 last_tick_when_ts int64, "
    "5 last_tick_nonce int64",
}  # fmt: skip
"""Message → ``number name type``; ``*`` marks a repeated field, ``|`` an alternative. ``..._ts`` are µs since 1970."""


_STATUSES = tuple(str(status) for status in Status)
ENUMS: Mapping[str, tuple[str, ...]] = {
    "JobState.ui_status": tuple(str(state) for state in JobState),
    "Invocation.status": _STATUSES,
    "HistoryRequest.status": _STATUSES,
    "Explanation.status": _STATUSES,
    "Explanation.reason": tuple(str(reason) for reason in Reason),
    "Explanation.origin": tuple(str(origin) for origin in Origin if origin),
    "Cause.kind": tuple(str(kind) for kind in CauseKind),
    "TriggerState.state": tuple(str(state) for state in TriggerState),
    "TriggerDetails.kind": tuple(str(kind) for kind in PayloadKind),
}
"""Message and field of a text → its values. A newer version of the functions may add values."""


ALWAYS = frozenset(
    {
        "Invocation.invocation_ref", "Invocation.started_ts", "Invocation.status", "Job.job_ref", "Job.state",
        "JobState.ui_status", "JobDetails.job", "InvocationLog.invocation", "InvocationDetails.invocation",
        "JobDescription.job", "Explanation.job_ref", "Explanation.reason", "Definition.job_ref",
        "Definition.definition", "BackfillJob.job_ref", "Inspection.now_ts", "Probe.created_ts", "Probe.now_ts",
        "ProbeMark.at_ts",
    }
)  # fmt: skip
"""Message and field of a reply → never empty, although the form of the field allows it."""


def fields_of(message: str) -> Iterator[Field]:
    """Yield the fields of a message, in the table's order."""
    for text in filter(None, MESSAGES[message].split(", ")):
        number, name, kind = text.split()
        yield Field(int(number), name, kind.rstrip("*|"), kind.endswith("*"), kind.endswith("|"))


def message_class(name: str) -> Any:
    """Return the class of a message."""
    return _classes()[name]


@cache
def _classes() -> Mapping[str, Any]:
    pool = descriptor_pool.DescriptorPool()
    struct = descriptor_pb2.FileDescriptorProto()
    struct_pb2.DESCRIPTOR.CopyToProto(struct)
    pool.Add(struct)
    file = descriptor_pb2.FileDescriptorProto(
        name="luci_scheduler/api.proto", package=_PACKAGE, syntax="proto3", dependency=[struct.name]
    )
    for name in MESSAGES:
        message = file.message_type.add(name=name)
        for field in fields_of(name):
            _add(message, field)
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.{name}")) for name in MESSAGES
    }


def _add(message: descriptor_pb2.DescriptorProto, field: Field) -> None:
    added = message.field.add(name=field.name, number=field.number)
    added.label = _FIELD.LABEL_REPEATED if field.is_repeated else _FIELD.LABEL_OPTIONAL
    if field.kind in _SCALARS:
        added.type = _SCALARS[field.kind]
    else:
        added.type = _FIELD.TYPE_MESSAGE
        added.type_name = ".google.protobuf.Struct" if field.kind == "Struct" else f".{_PACKAGE}.{field.kind}"
    if field.is_payload:
        if not message.oneof_decl:
            message.oneof_decl.add(name="payload")
        added.oneof_index = 0
