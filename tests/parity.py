"""The parity checklist: each duty of a replacement of the original, with the tests that prove it.

``python -m tests.parity`` writes ``docs/reference/parity.md`` from this table. A test checks that the file is current
and that every named test exists. Rows of the API and the pages are added next to their tests.
"""

from __future__ import annotations

import ast
import textwrap
from dataclasses import dataclass
from pathlib import Path

__all__ = ["PAGE", "ROWS", "Row", "missing_tests", "page"]

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "reference" / "parity.md"


@dataclass(frozen=True, slots=True)
class Row:
    """A feature of the original, the tests that cover it (``file::function`` below ``tests``), and the differences."""

    feature: str
    tests: tuple[str, ...]
    differs: str = ""


_V1, _V2 = "unit/managers/test_buildbucket_v1.py", "unit/managers/test_buildbucket_v2.py"
_RACES, _FAILING = "unit/engine/test_races.py", "unit/engine/test_failing_calls.py"
_CRON, _PARITY = "unit/engine/test_cron.py", "unit/engine/test_parity.py"
_OPERATIONS, _GITILES, _VECTORS = (
    "budgets/test_paths.py", "unit/managers/test_gitiles.py", "vectors/test_vectors.py",
)  # fmt: skip
_SCHEDULING, _READING = "vectors/test_vectors_scheduling.py", "unit/api/test_reading.py"

ROWS = (
    Row("Invocation ID", (f"{_VECTORS}::test_vector_invocation_ids",)),
    Row(
        "CAS save",
        (
            "contract/test_store.py::test_an_update_under_a_stale_version_writes_nothing",
            f"{_RACES}::test_everything_three_times_in_parallel",
        ),
        "after a lost race, a handler decides again a few times before it answers 409",
    ),
    Row(
        "No-op save",
        (f"{_VECTORS}::test_vector_mutation_counter_scenarios", f"{_PARITY}::test_a_duplicate_leaves_the_counter"),
    ),
    Row("Timer IDs", (f"{_VECTORS}::test_vector_timer_ids", "golden/test_golden.py::test_log_and_page_are_byte_equal")),
    Row(
        "Timer consumption", (f"{_OPERATIONS}::test_status_check",), "the second delivery is answered with 200, not 202"
    ),
    Row("Timers of finished invocations", (f"{_PARITY}::test_a_timer_of_a_finished_invocation_is_ignored",)),
    Row(
        "Log format and trim",
        (
            f"{_VECTORS}::test_vector_debug_log_trimming",
            "unit/core/test_debug_log.py::test_format_line_cuts_the_utc_time_of_day_to_milliseconds",
        ),
        "a log above 200,000 bytes is cut when it is shown, not at each save, so a very long log is cut at other "
        "lines; see decision 0002",
    ),
    Row(
        "Texts of transport errors",
        (
            "golden/test_golden.py::test_log_and_page_are_byte_equal",
            "unit/adapters/test_buildbucket.py::test_a_call_ends_at_its_deadline",
        ),
        "the line around an error is the original's, but the error's text is ours: `UNAVAILABLE: no answer: "
        "ConnectionError` for Go's `rpc error: code = Unavailable desc = ...`",
    ),
    Row(
        "Page replay",
        (
            "golden/test_golden.py::test_log_and_page_are_byte_equal",
            "golden/test_golden.py::test_the_golden_log_equals_the_log_of_the_original",
        ),
    ),
    Row(
        "Launch retries",
        (f"{_FAILING}::test_fifty_failures_end_the_invocation", f"{_FAILING}::test_backoff_doubles_to_ten_minutes"),
        "the document counts the attempts, not the queue; the next attempt searches for a build of a failed one; a "
        "quota refusal is retried",
    ),
    Row(
        "Failed launch",
        (
            "unit/engine/test_everything_ends.py::test_everything_ends",
            "unit/engine/test_cleanup.py::test_the_build_is_canceled_when_buildbucket_answers_again",
        ),
        "a build that may exist is canceled, even at the first attempt; if Buildbucket does not answer, a cleanup "
        "cancels it later",
    ),
    Row(
        "Silent Buildbucket",
        ("unit/engine/test_cleanup.py::test_silence_ends_a_running_invocation_only_after_the_life_of_any_build",),
        "a running invocation fails after six days without an answer; the original polls forever",
    ),
    Row(
        "Launch conflict",
        (f"{_OPERATIONS}::test_abort_while_starting", f"{_FAILING}::test_reply_of_schedule_is_lost"),
        "the answer is kept and recorded in another commit; no call is repeated",
    ),
    Row(
        "Notification while STARTING",
        (f"{_FAILING}::test_notification_before_the_build_id_is_known",),
        "409 at once: the redelivery replaces the original's wait of one second",
    ),
    Row("Final states are inert", (f"{_OPERATIONS}::test_completion_with_nothing_waiting",)),
    Row(
        "Abort RUNNING",
        (
            f"{_OPERATIONS}::test_abort_of_a_running_invocation",
            "unit/api/test_actions.py::test_aborting_five_times_at_once_cancels_one_build",
        ),
        "pages and API put the abort on the queue and answer at once, so a page may still show RUNNING for a moment; "
        "if Buildbucket does not answer, the invocation ends ten minutes after the request, and a cleanup cancels "
        "the build",
    ),
    Row(
        "Abort STARTING (HEAD)",
        (f"{_OPERATIONS}::test_abort_while_starting",),
        "in both eras; the build is canceled as soon as its ID is known",
    ),
    Row(
        "Async abort during retry",
        (
            f"{_FAILING}::test_abort_of_a_retrying_invocation_looks_for_the_build",
            f"{_PARITY}::test_an_abort_before_the_launch_skips_it",
        ),
    ),
    Row("v1 request", (f"{_VECTORS}::test_vector_buildbucket_v1_requests",)),
    Row(
        "v2 request",
        (f"{_VECTORS}::test_vector_buildbucket_v2_requests", f"{_V2}::test_the_printed_request_to_the_byte"),
    ),
    Row(
        "Token redaction",
        (f"{_V1}::test_the_token_is_sent_and_never_printed", f"{_VECTORS}::test_vector_buildbucket_v2_requests"),
    ),
    Row(
        "Summary of a build",
        ("unit/engine/test_summaries.py::test_a_check_asks_for_the_summary",),
        "a status check also asks for `summaryMarkdown`, and the page shows it; the original does not",
    ),
    Row(
        "Errors of Buildbucket v2",
        (
            "unit/core/test_transience.py::test_the_grpc_code_decides",
            "unit/engine/test_foreign_answers.py::test_a_status_check_without_an_answer_changes_nothing",
        ),
        "RESOURCE_EXHAUSTED, ABORTED, and 401 and 403 from a server in front are also transient; see failures.md",
    ),
    Row(
        "Errors of Buildbucket v1",
        ("unit/adapters/test_buildbucket.py::test_v1_refusals_need_the_services_own_error",),
        "redirects, and other statuses without the service's own JSON error, are transient; see failures.md",
    ),
    Row(
        "Foreign text in the debug log",
        (
            "unit/test_canaries.py::test_echoed_secrets_are_redacted_everywhere",
            "unit/test_canaries.py::test_a_fetched_body_forges_no_line",
        ),
        "control characters are escaped, secrets redacted, forged lines marked; see failures.md",
    ),
    Row(
        "Trigger cap",
        (
            f"{_V1}::test_more_than_a_hundred_triggers_are_capped_to_the_latest",
            f"{_V2}::test_more_than_a_hundred_triggers_are_capped_to_the_latest",
        ),
    ),
    Row(
        "Dedup",
        (
            f"{_FAILING}::test_the_same_commit_after_half_an_hour_counts_as_new",
            f"{_PARITY}::test_the_same_trigger_within_half_an_hour",
        ),
        "the same message never counts as a new request, and neither does a poll that finds a commit of an earlier "
        "event",
    ),
    Row("Trigger order", (f"{_VECTORS}::test_vector_trigger_order",)),
    Row("Request derivation", (f"{_VECTORS}::test_vector_request_from_trigger",)),
    Row("Policies", (f"{_SCHEDULING}::test_vector_policies", f"{_SCHEDULING}::test_vector_policy_factory")),
    Row(
        "Triage limit",
        (
            f"{_PARITY}::test_more_than_a_thousand_waiting_triggers_lose_their_oldest",
            "unit/core/test_triage_log.py::test_surplus_and_discarded_triggers_are_distinguished",
        ),
        "a setting lowers the limit for projects with very many jobs",
    ),
    Row(
        "Triage throttle",
        (
            f"{_SCHEDULING}::test_vector_triage_throttle",
            f"{_PARITY}::test_ten_simultaneous_triage_requests_make_one_task",
        ),
        "most triages are part of the commit that causes them",
    ),
    Row(
        "Paused job",
        (f"{_CRON}::test_pausing_discards_pending_triggers", f"{_PARITY}::test_a_paused_job_drops_new_triggers"),
        "the discarded triggers stay visible, with the reason",
    ),
    Row(
        "Cron machine",
        (
            f"{_SCHEDULING}::test_vector_cron_machine",
            "simulation/test_simulation.py::test_without_faults_the_engine_equals_the_naive_model",
        ),
    ),
    Row(
        "Schedules",
        (
            f"{_SCHEDULING}::test_vector_schedules",
            "unit/core/test_cron.py::test_the_next_tick_equals_the_slow_calendars",
        ),
    ),
    Row("Long delays", (f"{_CRON}::test_distant_ticks_are_reached_by_a_chain_of_tasks",)),
    Row(
        "Interval restart",
        (f"{_CRON}::test_an_interval_counts_from_the_end",),
        "it counts from the commit that ends the invocation, which includes the triage",
    ),
    Row("Gitiles new ref", (f"{_GITILES}::test_the_first_poll_emits_the_tips_of_new_refs",)),
    Row(
        "Gitiles 50/100 limits",
        (
            f"{_GITILES}::test_sixty_commits_give_fifty_triggers_and_report_ten_skipped",
            f"{_GITILES}::test_the_third_busy_ref_waits",
        ),
        "limits are settings; skipped commits are logged",
    ),
    Row(
        "Gitiles force push",
        (f"{_GITILES}::test_a_force_push_emits_the_new_head", f"{_GITILES}::test_a_force_push_backwards_emits_nothing"),
    ),
    Row("Gitiles deleted ref", (f"{_GITILES}::test_deleted_and_unwatched_refs_are_forgotten",)),
    Row("Gitiles missing ref", (f"{_GITILES}::test_a_configured_ref_that_is_missing_fails_the_poll",)),
    Row(
        "Gitiles tags (HEAD)",
        (f"{_GITILES}::TestTags::test_existing_tags_give_no_trigger",),
        "a setting selects the rules of 2021",
    ),
    Row(
        "Gitiles crash safety",
        ("unit/engine/test_polling.py::test_state_is_never_ahead_of_triggers",),
        "state and triggers are in one commit",
    ),
    Row(
        "Path filters",
        (
            "vectors/test_vectors_gitiles.py::test_vector_path_filters",
            "unit/engine/test_commit.py::test_refs_and_paths_are_filtered_as_by_polls",
        ),
    ),
    Row("Config validation", ("vectors/test_vectors_config.py::test_vector_config_validation",)),
    Row(
        "Config import",
        (f"{_PARITY}::test_a_new_revision_alone_changes_no_job",),
        "the project's record gets the revision; a config with errors changes nothing, unless a setting makes "
        "unknown targets a warning",
    ),
    Row(
        "Job removal",
        (
            f"{_PARITY}::test_a_removed_job_loses_pending_triggers_and_its_invocations_end",
            "unit/web/test_lists.py::test_a_removed_job_stays_readable",
        ),
        "its page and its invocations stay readable until they expire",
    ),
    Row("Pub/Sub names", (f"{_VECTORS}::test_vector_topic_names",)),
    Row("Auth token", (f"{_VECTORS}::test_vector_pubsub_tokens", f"{_VECTORS}::test_vector_pubsub_notification_token")),
    Row(
        "API paging",
        (
            f"{_READING}::test_paging_over_ten_thousand_invocations_visits_each_once_while_new_ones_arrive",
            "vectors/test_vectors_api.py::test_vector_invocation_cursors",
        ),
    ),
    Row(
        "EmitTriggers checks",
        (
            "unit/api/test_actions.py::test_emitting_to_one_forbidden_or_missing_job_emits_nothing",
            "unit/api/test_samples.py::test_the_emitted_triggers_of_the_sample_reach_the_jobs",
            "unit/api/test_doors.py::test_each_rule_at_each_door",
        ),
        "tags, sizes and commits are also checked: a trigger whose commit is not on its ref is deferred, and "
        "discarded after a day",
    ),
    Row(
        "Permissions",
        (
            "unit/api/test_actions.py::test_without_permission_nothing_happens",
            "unit/web/test_actions.py::test_hidden_and_missing_jobs_give_the_same_error",
        ),
        "from the installation's own file instead of LUCI's realms; see access.md",
    ),
    Row(
        "UI states and classes",
        (
            f"{_SCHEDULING}::test_vector_job_public_state",
            "unit/web/test_pages.py::test_a_running_and_a_finished_invocation",
            "unit/web/test_pages.py::test_failing_jobs_come_first_and_jobs_that_poll_last",
        ),
        "the states are the same, the style is ours; lists begin with failing jobs",
    ),
    Row("Relative times", (f"{_VECTORS}::test_vector_humanized_time",)),
    Row("HTTP codes", ("vectors/test_coverage.py::test_vector_http_codes",), "200 instead of 202; see status-codes.md"),
    Row(
        "Duration metric",
        (f"{_PARITY}::test_one_point_for_each_end",),
        "a log line with seconds and status, which a log-based metric reads",
    ),
)


def missing_tests() -> list[str]:
    """Return the faults of the table: rows without tests, and missing tests."""
    found = [f"{row.feature}: no test" for row in ROWS if not row.tests]
    for row in ROWS:
        found += [f"{row.feature}: there is no test {test}" for test in row.tests if not _exists(test)]
    return found


def _exists(test: str) -> bool:
    file, *_, name = test.split("::")
    path = ROOT / "tests" / file
    if not path.is_file():
        return False
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return any(isinstance(node, ast.FunctionDef) and node.name == name for node in ast.walk(tree))


def page() -> str:
    """Return the reference page."""
    lines = [
        "# Parity with LUCI Scheduler",
        "",
        "Generated by `python -m tests.parity` from `tests/parity.py`; a test fails if a row's test is missing.",
        "",
        "Paths of tests are relative to `tests/`. A feature without a difference behaves as the original does.",
        "",
    ]
    for row in ROWS:
        lines.append(f"- **{row.feature}**")
        if row.differs:
            lines += textwrap.wrap(f"Difference: {row.differs}.", 150, initial_indent="  ", subsequent_indent="  ")
        lines += [f"  - `{test}`" for test in row.tests]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
