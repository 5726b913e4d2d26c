"""The API's methods: from a request message to the service layer, and from its result to the reply."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import partial
from typing import Any

from luci_scheduler.api import (
    backfill,
    debug,
    explain,
    export,
    history,
    inspection,
    job_description,
    only_choice,
    requested,
    service,
    triggering,
)
from luci_scheduler.api.commit_trigger import WantedCommit, trigger_at_commit
from luci_scheduler.api.context import Context
from luci_scheduler.api.explain_paths import MAX_FILES, changed_files
from luci_scheduler.api.explanation import CommitFacts
from luci_scheduler.api.history_messages import invocation_details, listed_job, trigger_details
from luci_scheduler.api.messages import (
    empty,
    invocation_id_of,
    invocation_message,
    job_id_of,
    job_ids_of,
    job_message,
    job_ref,
    microseconds,
    trigger_of,
)
from luci_scheduler.api.schema import ADMIN, OPERATOR, SCHEDULER, message_class
from luci_scheduler.config.definitions import definition_values
from luci_scheduler.core.job import Job
from luci_scheduler.core.probe import Probe
from luci_scheduler.core.project_record import ProjectRecord
from luci_scheduler.core.queue_tasks import VERSION

__all__ = ["HANDLERS", "Handler"]

Handler = Callable[[Context, Any], Any]
"""(caller's context, request) → reply; raises ``ApiError`` and the errors of the service layer."""


def _get_jobs(context: Context, request: Any) -> Any:
    reply = message_class("JobsReply")()
    if not request.cursor:  # there is only one page, so any cursor gets an empty reply, as in the original
        reply.jobs.extend(job_message(job) for job in service.get_jobs(context, request.project))
    return reply


def _get_invocations(context: Context, request: Any) -> Any:
    page = service.get_invocations(context, job_id_of(request.job_ref), request.cursor, request.page_size)
    invocations = [invocation_message(item) for item in page.invocations]
    return message_class("InvocationsReply")(invocations=invocations, next_cursor=page.next_cursor)


def _get_invocation(context: Context, request: Any) -> Any:
    return invocation_message(service.get_invocation(context, *invocation_id_of(request)))


def _pause_job(context: Context, request: Any) -> Any:
    service.pause_job(context, job_id_of(request))
    return empty()


def _resume_job(context: Context, request: Any) -> Any:
    service.resume_job(context, job_id_of(request))
    return empty()


def _abort_job(context: Context, request: Any) -> Any:
    service.abort_job(context, job_id_of(request))
    return empty()


def _abort_invocation(context: Context, request: Any) -> Any:
    service.abort_invocation(context, *invocation_id_of(request))
    return empty()


def _emit_triggers(context: Context, request: Any) -> Any:
    # The counts are checked before anything is converted: a batch of two bytes becomes objects of several hundred
    # bytes.
    triggering.check_count(len(request.batches))
    triggering.check_count(sum(len(batch.jobs) for batch in request.batches))
    job_ids = [job_ids_of(batch.jobs) for batch in request.batches]
    context.require_visible_project([job_id for ids in job_ids for job_id in ids])
    batches = [
        triggering.Batch(trigger_of(batch.trigger), ids) for batch, ids in zip(request.batches, job_ids, strict=True)
    ]
    triggering.emit_triggers(context, batches, request.timestamp)
    return empty()


def _get_job(context: Context, request: Any) -> Any:
    job = service.get_job(context, job_id_of(request))
    reply = message_class("JobDetails")(job=job_message(job))
    _add_change(reply, job)
    return reply


def _add_change(reply: Any, job: Job) -> None:
    if job.changed_when is not None:
        change = {"who": job.changed_by, "when_ts": microseconds(job.changed_when), "reason": job.change_reason}
        reply.change.MergeFrom(message_class("JobChange")(**change))


def _get_invocation_log(context: Context, request: Any) -> Any:
    found = service.get_invocation_log(context, *invocation_id_of(request))
    return message_class("InvocationLog")(invocation=invocation_message(found.invocation), debug_log=found.log)


def _pause_job_for(context: Context, request: Any) -> Any:
    changed = service.pause_job(context, job_id_of(request.job_ref), request.reason)
    return message_class("JobActionReply")(changed=changed)


def _resume_job_for(context: Context, request: Any) -> Any:
    changed = service.resume_job(context, job_id_of(request.job_ref), request.reason)
    return message_class("JobActionReply")(changed=changed)


def _abort_job_for(context: Context, request: Any) -> Any:
    aborted = service.abort_job(context, job_id_of(request.job_ref), request.reason)
    return message_class("Aborted")(invocation_ids=aborted)


def _abort_invocation_for(context: Context, request: Any) -> Any:
    aborted = service.abort_invocation(context, *invocation_id_of(request.invocation_ref), request.reason)
    return message_class("Aborted")(invocation_ids=aborted)


def _trigger_job(context: Context, request: Any) -> Any:
    job_id, key = job_id_of(request.job_ref), request.request_id
    if request.revision or request.ref or request.repo:
        wanted = WantedCommit(request.repo, request.ref, request.revision)
        emitted = trigger_at_commit(context, job_id, wanted, key)
    else:
        emitted = triggering.trigger_job(context, job_id, key)
    return message_class("TriggerIds")(**asdict(emitted))


def _rerun_invocation(context: Context, request: Any) -> Any:
    job_id, invocation_id = invocation_id_of(request.invocation_ref)
    emitted = triggering.rerun_invocation(context, job_id, invocation_id, request.request_id)
    return message_class("TriggerIds")(**asdict(emitted))


def _backfill_commits(context: Context, request: Any) -> Any:
    plan = backfill.backfill_commits(
        context,
        backfill.Backfill(
            job_ids=job_ids_of(request.jobs),
            repo=request.repo,
            ref=request.ref,
            from_revision=request.from_revision,
            to_revision=request.to_revision,
        ),
        preview=request.preview,
        request_id=request.request_id,
    )
    return message_class("BackfillCommitsReply")(
        commits=[
            {
                "revision": item.id,
                "committed_ts": microseconds(item.committed),
                "author": item.author,
                "subject": item.subject,
            }
            for item in plan.commits
        ],
        jobs=[
            {
                "job_ref": job_ref(job_id),
                "note": note,
                "trigger_ids": plan.trigger_ids.get(job_id, ()),
                "ran": list(plan.ran.get(job_id, ())),
                "filtered": sorted(plan.filtered.get(job_id, ())),
            }
            for job_id, note in plan.notes.items()
        ],
        emitted=plan.emitted,
        repeated=plan.repeated,
        from_revision=plan.from_revision,
        to_revision=plan.to_revision,
    )


def _describe_job(context: Context, request: Any) -> Any:
    found = job_description.describe_job(context, job_id_of(request))
    reply = message_class("JobDescription")(
        job=job_message(found.job),
        triggered_by=map(job_ref, found.sources),
        triggers=map(job_ref, found.targets),
        next_run_ts=microseconds(found.next_run),
        last_poll_ts=microseconds(found.last_poll),
        failed_polls=found.job.failed_polls,
        known_refs=len(found.poller.known) if found.poller else 0,
        pending=map(partial(trigger_details, context), found.pending),
        has_more_pending=found.has_more_pending,
        invocations=map(partial(invocation_details, context), found.invocations),
    )
    reply.definition.update(definition_values(found.job.definition))
    _add_change(reply, found.job)
    return reply


def _get_history(context: Context, request: Any) -> Any:
    job_id = job_id_of(request.job_ref)
    page = history.get_history(context, job_id, request.status, request.cursor, request.page_size)
    return message_class("History")(
        invocations=map(partial(invocation_details, context), page.invocations), next_cursor=page.next_cursor
    )


def _describe_invocation(context: Context, request: Any) -> Any:
    found = history.describe_invocation(context, *invocation_id_of(request))
    return invocation_details(context, found, with_triggers=True)


def _list_jobs(context: Context, request: Any) -> Any:
    page = history.list_jobs(context, request.project, request.filter, request.cursor, request.page_size)
    if page is None:
        return message_class("ListJobsReply")()
    return message_class("ListJobsReply")(jobs=map(listed_job, page.jobs), next_cursor=page.next_cursor)


def _get_triggers(context: Context, request: Any) -> Any:
    found = requested.get_triggers(context, job_id_of(request.job_ref), request.trigger_ids)
    return message_class("TriggersReply")(triggers=[{**asdict(item), "state": str(item.state)} for item in found])


def _get_names(context: Context, request: Any) -> Any:
    names, is_cut = requested.get_names(context, request.project)
    return message_class("Names")(names=names, is_cut=is_cut)


def _explain_commit(context: Context, request: Any) -> Any:
    repo = request.repo or only_choice.only_repo(context)
    answer = explain.explain_commit(context, repo, request.revision, request.ref)
    reply = message_class("ExplainCommitReply")(commit=_commit_facts(answer.facts))
    for item in answer.explanations:
        reply.explanations.add(
            job_ref=job_ref(item.job_id),
            reason=str(item.reason),
            sentence=item.sentence,
            ref=item.ref,
            trigger_id=item.trigger_id,
            invocation_id=item.invocation_id,
            status=item.status,
            since_ts=microseconds(item.since),
            waiting_for=item.waiting_for,
            origin=str(item.origin),
            asked_by=item.asked_by,
            poll_job=job_ref(item.poll_job) if item.poll_job else None,
            poll_invocation_id=item.poll_invocation,
            next_poll_ts=microseconds(item.next_poll),
            summary=item.summary,
            started_ts=microseconds(item.started),
            finished_ts=microseconds(item.finished),
        )
    return reply


def _commit_facts(facts: CommitFacts) -> Any:
    commit, message = facts.commit, message_class("Commit")
    if commit is None:
        return message(revision=facts.revision, problem=facts.problem)
    files = changed_files(commit.diff)
    return message(
        revision=facts.revision,
        author=commit.author,
        subject=commit.subject,
        committed_ts=microseconds(commit.committed),
        files=files[:MAX_FILES],
        more_files=max(0, len(files) - MAX_FILES),
        note=facts.note,
    )


def _get_definitions(context: Context, request: Any) -> Any:
    revision, jobs = service.get_definitions(context, request.project)
    reply = message_class("Definitions")(revision=revision)
    for job in jobs:
        added = reply.definitions.add(job_ref=job_ref(job.id))
        added.definition.update(definition_values(job.definition))
    return reply


def _export_invocation(context: Context, request: Any) -> Any:
    exported = export.export_invocation(context, *invocation_id_of(request))
    return message_class("Exported")(scenario=exported.scenario, config=exported.config)


def _get_debug_job_state(context: Context, request: Any) -> Any:
    state = debug.debug_job_state(context, job_id_of(request))
    cron = state.job.cron
    return message_class("DebugJobState")(
        enabled=state.job.enabled,
        paused=state.job.paused,
        last_triage_ts=microseconds(state.job.last_triage),
        cron_state={
            "enabled": cron.enabled,
            "generation": cron.generation,
            "last_rewind_ts": microseconds(cron.last_rewind),
            "last_tick_when_ts": microseconds(cron.last_tick_when),
            "last_tick_nonce": cron.last_tick_nonce,
        },
        active_invocations=state.job.active_invocations,
        pending_triggers=state.pending_triggers,
        triage_log=state.triage_log,
        known_refs=dict(state.known_refs),
    )


def _who_am_i(context: Context, _: Any) -> Any:
    return message_class("Caller")(
        identity=context.caller,
        is_admin=context.access.is_admin(context.caller),
        sees_some=context.sees_some(),
        policy_problem=context.access.problem,
    )


def _inspect(context: Context, _: Any) -> Any:
    found, names = inspection.inspect(context), context.installation
    return message_class("Inspection")(
        now_ts=microseconds(context.runtime.clock.now()),
        service=names.service,
        revision=names.revision,
        task_version=VERSION,
        cloud_project=names.project,
        location=names.location,
        database=names.database,
        queue=names.queue,
        account=names.account,
        topics=names.topics,
        build_projects=names.build_projects,
        build_accounts=names.build_accounts,
        projects=[_inspected(record) for record in found],
    )


def _inspected(record: ProjectRecord) -> dict[str, Any]:
    return {
        "project": record.id,
        "revision": record.revision,
        "jobs": len(record.job_ids),
        "problems": record.problems,
        "warning_count": record.warning_count,
    }


def _start_probe(context: Context, _: Any) -> Any:
    return _probe_message(context, inspection.start_probe(context))


def _get_probe(context: Context, request: Any) -> Any:
    return _probe_message(context, inspection.get_probe(context, request.probe_id))


def _probe_message(context: Context, probe: Probe) -> Any:
    reply = message_class("Probe")(
        probe_id=probe.id,
        created_ts=microseconds(probe.created),
        now_ts=microseconds(context.runtime.clock.now()),
        findings=[asdict(finding) for finding in probe.findings],
        done=probe.done,
    )
    for name, mark in probe.marks.items():
        reply.marks.add(
            name=name,
            at_ts=microseconds(mark.at),
            revision=mark.revision,
            schema=mark.schema,
            task_version=mark.task_version,
            unexplained=mark.unexplained,
        )
    return reply


HANDLERS: Mapping[tuple[str, str], Handler] = {
    (SCHEDULER, "GetJobs"): _get_jobs,
    (SCHEDULER, "GetInvocations"): _get_invocations,
    (SCHEDULER, "GetInvocation"): _get_invocation,
    (SCHEDULER, "PauseJob"): _pause_job,
    (SCHEDULER, "ResumeJob"): _resume_job,
    (SCHEDULER, "AbortJob"): _abort_job,
    (SCHEDULER, "AbortInvocation"): _abort_invocation,
    (SCHEDULER, "EmitTriggers"): _emit_triggers,
    (OPERATOR, "GetJob"): _get_job,
    (OPERATOR, "GetInvocationLog"): _get_invocation_log,
    (OPERATOR, "PauseJob"): _pause_job_for,
    (OPERATOR, "ResumeJob"): _resume_job_for,
    (OPERATOR, "AbortJob"): _abort_job_for,
    (OPERATOR, "AbortInvocation"): _abort_invocation_for,
    (OPERATOR, "TriggerJob"): _trigger_job,
    (OPERATOR, "RerunInvocation"): _rerun_invocation,
    (OPERATOR, "BackfillCommits"): _backfill_commits,
    (OPERATOR, "ExplainCommit"): _explain_commit,
    (OPERATOR, "DescribeJob"): _describe_job,
    (OPERATOR, "GetHistory"): _get_history,
    (OPERATOR, "ListJobs"): _list_jobs,
    (OPERATOR, "DescribeInvocation"): _describe_invocation,
    (OPERATOR, "GetTriggers"): _get_triggers,
    (OPERATOR, "GetNames"): _get_names,
    (OPERATOR, "GetDefinitions"): _get_definitions,
    (OPERATOR, "ExportInvocation"): _export_invocation,
    (OPERATOR, "WhoAmI"): _who_am_i,
    (OPERATOR, "Inspect"): _inspect,
    (OPERATOR, "StartProbe"): _start_probe,
    (OPERATOR, "GetProbe"): _get_probe,
    (ADMIN, "GetDebugJobState"): _get_debug_job_state,
}
