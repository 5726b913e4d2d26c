# Log-based metrics. Each counts the lines of certain events.

locals {
  metrics = {
    stuck           = { events = ["swept"], says = "overdue tasks that were enqueued again" }
    hanging         = { events = ["invocation_hangs"], says = "invocations that do not end" }
    lost_commits    = { events = ["commit_discarded", "deferred_dropped", "trigger_set_aside"], says = "dropped commits and other dropped work" }
    unwatched       = { events = ["cleanup_gave_up", "build_unknown"], says = "builds that may run although no invocation watches them" }
    doubled         = { events = ["builds_doubled"], says = "second builds of invocations" }
    sweeps          = { events = ["sweep_done"], says = "finished sweeps" }
    finished        = { events = ["invocation_finished"], says = "invocations that ended" }
    poll_failures   = { events = ["invocation_finished"], and = "jsonPayload.kind=\"gitiles\" AND jsonPayload.status!=\"SUCCEEDED\"", says = "failed polls of Gitiles" }
    launch_failures = { events = ["launch_failed", "launch_refused"], says = "failed requests for builds" }
    errors          = { events = ["unexpected_error", "api_fault", "page_fault", "config_sync_defect", "document_unreadable", "bad_watcher"], says = "defects of the functions" }
    refused         = { events = ["malformed", "unauthenticated", "refused_by_framework"], says = "refused messages and calls" }
  }

  of_our_services = "resource.type=\"cloud_run_revision\" AND resource.labels.service_name=(${join(" OR ", [for name in sort(var.services) : "\"${name}\""])})"
}

resource "google_logging_metric" "this" {
  for_each = local.metrics

  project     = var.project_id
  name        = "${var.prefix}luci-scheduler/${each.key}"
  description = "LUCI Scheduler: ${each.value.says}."
  filter = join(" AND ", compact([
    local.of_our_services,
    "jsonPayload.message=(${join(" OR ", [for event in each.value.events : "\"${event}\""])})",
    try(each.value.and, ""),
  ]))

  metric_descriptor {
    metric_kind = "DELTA"
    value_type  = "INT64"
  }
}

# Google refuses an alert on a metric that was created a moment ago.
resource "time_sleep" "metrics_known" {
  create_duration = "60s"
  triggers        = { for key, metric in google_logging_metric.this : key => metric.name }
}
