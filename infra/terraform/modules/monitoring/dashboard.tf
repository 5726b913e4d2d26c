# One dashboard: incoming work, the objective, late work, failures.

locals {
  charts = concat(local.common_charts, [for chart in local.webhook_charts : chart if var.webhook != null])

  webhook_charts = [
    { title = "Requests of the webhook by answer", filter = local.webhook_requests, aligner = "ALIGN_RATE", reducer = "REDUCE_SUM", by = ["metric.label.response_code"] },
    { title = "Instances of the webhook", filter = "metric.type=\"run.googleapis.com/container/instance_count\" AND resource.type=\"cloud_run_revision\" AND resource.labels.service_name=\"${coalesce(var.webhook, "none")}\"", aligner = "ALIGN_MAX", reducer = "REDUCE_SUM", by = ["metric.label.state"] },
  ]

  common_charts = [
    { title = "Requests by answer", filter = "metric.type=\"run.googleapis.com/request_count\" AND ${local.services}", aligner = "ALIGN_RATE", reducer = "REDUCE_SUM", by = ["resource.label.service_name", "metric.label.response_code_class"] },
    { title = "Time per request, 95th percentile", filter = "metric.type=\"run.googleapis.com/request_latencies\" AND ${local.services}", aligner = "ALIGN_PERCENTILE_95", reducer = "REDUCE_MAX", by = ["resource.label.service_name"] },
    { title = "Requests of each revision by answer", filter = "metric.type=\"run.googleapis.com/request_count\" AND ${local.services}", aligner = "ALIGN_RATE", reducer = "REDUCE_SUM", by = ["resource.label.revision_name", "metric.label.response_code_class"] },
    { title = "Time per request of each revision, 95th percentile", filter = "metric.type=\"run.googleapis.com/request_latencies\" AND ${local.services}", aligner = "ALIGN_PERCENTILE_95", reducer = "REDUCE_MAX", by = ["resource.label.revision_name"] },
    { title = "Invocations that ended", filter = local.metric.finished, aligner = "ALIGN_DELTA", reducer = "REDUCE_SUM", by = [] },
    { title = "Failed polls", filter = local.metric.poll_failures, aligner = "ALIGN_DELTA", reducer = "REDUCE_SUM", by = [] },
    { title = "Dropped commits and other dropped work", filter = local.metric.lost_commits, aligner = "ALIGN_DELTA", reducer = "REDUCE_SUM", by = [] },
    { title = "Failed requests for builds", filter = local.metric.launch_failures, aligner = "ALIGN_DELTA", reducer = "REDUCE_SUM", by = [] },
    { title = "Requested builds", filter = local.metric.launches, aligner = "ALIGN_DELTA", reducer = "REDUCE_SUM", by = [] },
    { title = "Commit to build, 95th percentile (ms)", filter = local.metric.commit_latency, aligner = "ALIGN_PERCENTILE_95", reducer = "REDUCE_MAX", by = [] },
    { title = "Builds for commits, in time", filter = local.metric.builds_in_time, aligner = "ALIGN_DELTA", reducer = "REDUCE_SUM", by = [] },
    { title = "Builds for commits, late or never", filter = local.metric.builds_late, aligner = "ALIGN_DELTA", reducer = "REDUCE_SUM", by = [] },
    { title = "Error budget that is left", filter = "select_slo_budget_fraction(\"${local.slo}\")", aligner = "ALIGN_NEXT_OLDER", reducer = "REDUCE_NONE", by = [] },
    { title = "Commits and triggers that arrive", filter = local.metric.arrivals, aligner = "ALIGN_DELTA", reducer = "REDUCE_SUM", by = [] },
    { title = "Jobs whose polls keep failing", filter = local.metric.failing_pollers, aligner = "ALIGN_DELTA", reducer = "REDUCE_SUM", by = [] },
    { title = "Refused configs", filter = local.metric.config_refused, aligner = "ALIGN_DELTA", reducer = "REDUCE_SUM", by = ["metric.label.project"] },
    { title = "Calls that the access policy refused", filter = local.metric.access_denied, aligner = "ALIGN_DELTA", reducer = "REDUCE_SUM", by = [] },
    { title = "Calls without a valid token", filter = local.metric.unauthenticated, aligner = "ALIGN_DELTA", reducer = "REDUCE_SUM", by = [] },
    { title = "Calls that Cloud Run turned away", filter = local.metric.turned_away, aligner = "ALIGN_DELTA", reducer = "REDUCE_SUM", by = ["resource.label.service_name"] },
    { title = "Calls that found no instance", filter = local.metric.throttled, aligner = "ALIGN_DELTA", reducer = "REDUCE_SUM", by = ["resource.label.service_name"] },
    { title = "Failed calls of Cloud Scheduler", filter = local.metric.schedule_failures, aligner = "ALIGN_DELTA", reducer = "REDUCE_SUM", by = ["resource.label.job_id"] },
    { title = "Refused messages and calls", filter = local.metric.refused, aligner = "ALIGN_DELTA", reducer = "REDUCE_SUM", by = [] },
    { title = "Overdue work found by the sweep", filter = local.metric.stuck, aligner = "ALIGN_DELTA", reducer = "REDUCE_SUM", by = [] },
    { title = "Invocations that hang", filter = local.metric.hanging, aligner = "ALIGN_DELTA", reducer = "REDUCE_SUM", by = [] },
    { title = "Builds that may run unwatched", filter = local.metric.unwatched, aligner = "ALIGN_DELTA", reducer = "REDUCE_SUM", by = [] },
    { title = "Second builds of invocations", filter = local.metric.doubled, aligner = "ALIGN_DELTA", reducer = "REDUCE_SUM", by = [] },
    { title = "Tasks on the queue", filter = "metric.type=\"cloudtasks.googleapis.com/queue/depth\" AND resource.type=\"cloud_tasks_queue\" AND resource.labels.queue_id=\"${var.queue}\"", aligner = "ALIGN_MAX", reducer = "REDUCE_MAX", by = [] },
    { title = "Lateness of tasks, 95th percentile (ms)", filter = "metric.type=\"cloudtasks.googleapis.com/queue/task_attempt_delays\" AND resource.type=\"cloud_tasks_queue\" AND resource.labels.queue_id=\"${var.queue}\"", aligner = "ALIGN_PERCENTILE_95", reducer = "REDUCE_MAX", by = [] },
    { title = "Age of the oldest message (s)", filter = "metric.type=\"pubsub.googleapis.com/subscription/oldest_unacked_message_age\" AND resource.type=\"pubsub_subscription\" AND ${local.subscriptions}", aligner = "ALIGN_MAX", reducer = "REDUCE_MAX", by = ["resource.label.subscription_id"] },
    { title = "Dead letters", filter = "metric.type=\"pubsub.googleapis.com/subscription/num_undelivered_messages\" AND resource.type=\"pubsub_subscription\" AND ${local.dead_letter_subscriptions}", aligner = "ALIGN_MAX", reducer = "REDUCE_MAX", by = ["resource.label.subscription_id"] },
    { title = "Instances", filter = "metric.type=\"run.googleapis.com/container/instance_count\" AND ${local.services}", aligner = "ALIGN_MAX", reducer = "REDUCE_SUM", by = ["resource.label.service_name"] },
    { title = "Memory of an instance, 99th percentile of its limit", filter = "metric.type=\"run.googleapis.com/container/memory/utilizations\" AND ${local.services}", aligner = "ALIGN_PERCENTILE_99", reducer = "REDUCE_MAX", by = ["resource.label.service_name"] },
  ]
}

resource "google_monitoring_dashboard" "this" {
  project = var.project_id

  dashboard_json = jsonencode({
    displayName = "${var.prefix}luci-scheduler"
    labels      = {}
    mosaicLayout = {
      columns = 48
      tiles = [for number, chart in local.charts : {
        width  = 24
        height = 16
        xPos   = number % 2 * 24
        yPos   = floor(number / 2) * 16
        widget = {
          title = chart.title
          xyChart = {
            dataSets = [{
              plotType = "LINE"
              timeSeriesQuery = {
                timeSeriesFilter = {
                  filter = chart.filter
                  aggregation = {
                    alignmentPeriod    = "60s"
                    perSeriesAligner   = chart.aligner
                    crossSeriesReducer = chart.reducer
                    groupByFields      = chart.by
                  }
                }
              }
            }]
          }
        }
      }]
    }
  })
}
