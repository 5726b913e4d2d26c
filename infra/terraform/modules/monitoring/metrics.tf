# Log-based metrics. Each counts the lines of certain events, or measures a value in them.

locals {
  builds = var.cloud_build ? "jsonPayload.kind=(\"buildbucket\" OR \"cloud_build\")" : "jsonPayload.kind=\"buildbucket\""

  # Metrics of our own lines.
  events = {
    stuck           = { events = ["swept"], says = "overdue tasks that were enqueued again" }
    hanging         = { events = ["invocation_hangs"], says = "invocations that do not end" }
    lost_commits    = { events = ["commit_discarded", "deferred_dropped", "trigger_set_aside"], says = "dropped commits and other dropped work" }
    unwatched       = { events = ["cleanup_gave_up", "build_unknown"], says = "builds that may run although no invocation watches them" }
    doubled         = { events = ["builds_doubled"], says = "second builds of invocations" }
    sweeps          = { events = ["sweep_done"], says = "finished sweeps" }
    finished        = { events = ["invocation_finished"], says = "invocations that ended" }
    poll_failures   = { events = ["invocation_finished", "launch_failed"], and = "jsonPayload.kind=\"gitiles\" AND (jsonPayload.message=\"launch_failed\" OR jsonPayload.status!=\"SUCCEEDED\")", says = "failed polls of repositories" }
    failing_pollers = { events = ["polls_keep_failing"], says = "jobs whose polls keep failing" }
    arrivals        = { events = ["triggers_arrived"], says = "commits and emitted triggers that jobs get" }
    launches        = { events = ["launched"], and = local.builds, says = "accepted requests for builds" }
    launch_failures = { events = ["launch_failed", "launch_refused"], and = local.builds, says = "failed requests for builds" }
    builds_in_time  = { events = ["launched"], and = "${local.builds} AND jsonPayload.commit_latency_ms<=${var.latency.seconds * 1000}", says = "builds for commits, requested in time" }
    builds_late     = { events = ["launched", "launch_given_up"], and = "${local.builds} AND jsonPayload.commit_latency_ms>=0 AND (jsonPayload.message=\"launch_given_up\" OR jsonPayload.commit_latency_ms>${var.latency.seconds * 1000})", says = "builds for commits, requested late or never" }
    commit_latency  = { events = ["launched"], and = "${local.builds} AND jsonPayload.commit_latency_ms>=0", value = "jsonPayload.commit_latency_ms", unit = "ms", says = "time from a commit to the accepted request for its build" }
    config_refused  = { events = ["config_invalid", "config_unreadable", "config_source_unreadable", "config_not_synced"], label = "project", says = "configs that could not be activated" }
    access_denied   = { events = ["access_denied_to_all"], says = "calls that an unusable access policy refused" }
    errors          = { events = ["unexpected_error", "api_fault", "page_fault", "config_sync_defect", "document_unreadable", "bad_watcher"], says = "defects of the functions" }
    refused         = { events = ["malformed", "refused_by_framework"], says = "refused messages and calls" }
    unauthenticated = { events = ["unauthenticated"], says = "calls of the functions without a valid token" }
  }

  requests = "${local.of_private_services} AND log_id(\"run.googleapis.com/requests\")"

  # Metrics of the platform's lines. Cloud Run's own metric of requests leaves these requests out.
  platform = {
    turned_away       = { filter = "${local.requests} AND httpRequest.status=(401 OR 403)", says = "calls of the functions that were refused for their caller" }
    throttled         = { filter = "${local.requests} AND httpRequest.status=429", says = "calls of the functions that found no instance" }
    schedule_failures = { filter = "resource.type=\"cloud_scheduler_job\" AND resource.labels.job_id=(${join(" OR ", [for name in sort(values(var.schedule_jobs)) : "\"${name}\""])}) AND jsonPayload.\"@type\"=\"type.googleapis.com/google.cloud.scheduler.logging.AttemptFinished\" AND severity>=ERROR", says = "failed calls of Cloud Scheduler" }
  }

  of_our_services = "resource.type=\"cloud_run_revision\" AND resource.labels.service_name=(${join(" OR ", [for name in sort(values(var.services)) : "\"${name}\""])})"
  # Anyone may call the webhook, so only its defects count, and its refusals have an alert without a metric of lines.
  of_all_services     = "resource.type=\"cloud_run_revision\" AND resource.labels.service_name=(${join(" OR ", [for name in sort(concat(values(var.services), compact([var.webhook]))) : "\"${name}\""])})"
  of_private_services = "resource.type=\"cloud_run_revision\" AND resource.labels.service_name=(${join(" OR ", sort([for function, name in var.services : "\"${name}\"" if function != "console"]))})"

  metrics = merge(local.platform, {
    for key, metric in local.events : key => merge(metric, {
      filter = join(" AND ", compact([
        key == "errors" ? local.of_all_services : local.of_our_services,
        "jsonPayload.message=(${join(" OR ", [for event in metric.events : "\"${event}\""])})",
        try(metric.and, ""),
      ]))
    })
  })
}

resource "google_logging_metric" "this" {
  for_each = local.metrics

  project          = var.project_id
  name             = "${var.prefix}luci-scheduler/${each.key}"
  description      = "LUCI Scheduler: ${each.value.says}."
  filter           = each.value.filter
  value_extractor  = try("EXTRACT(${each.value.value})", null)
  label_extractors = try({ (each.value.label) = "EXTRACT(jsonPayload.${each.value.label})" }, null)

  metric_descriptor {
    metric_kind = "DELTA"
    value_type  = can(each.value.value) ? "DISTRIBUTION" : "INT64"
    unit        = try(each.value.unit, "1")

    dynamic "labels" {
      for_each = try([each.value.label], [])
      content {
        key         = labels.value
        value_type  = "STRING"
        description = "Member of the line."
      }
    }
  }

  # From 100 ms to about eighteen hours, each bound twice the one before.
  dynamic "bucket_options" {
    for_each = try([each.value.value], [])
    content {
      exponential_buckets {
        num_finite_buckets = 20
        growth_factor      = 2
        scale              = 100
      }
    }
  }
}

# Google refuses an alert on a metric that was created up to ten minutes ago. The functions' image is built meanwhile.
resource "time_sleep" "metrics_known" {
  create_duration = "600s"
  triggers        = { for key, metric in google_logging_metric.this : key => metric.name }
}
