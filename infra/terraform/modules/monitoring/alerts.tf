# Alerts. The text of each is a page of docs/operations.

locals {
  # Filters for thresholds. They wait until Google knows the metrics.
  metric = { for key, name in time_sleep.metrics_known.triggers : key => "metric.type=\"logging.googleapis.com/user/${name}\" AND resource.type=\"${key == "schedule_failures" ? "cloud_scheduler_job" : "cloud_run_revision"}\"" }
  # Names for queries in PromQL, which may name a metric that has no points yet.
  series = { for key, metric in google_logging_metric.this : key => "logging_googleapis_com:user_${replace(metric.name, "/[^A-Za-z0-9_]/", "_")}{monitored_resource=\"cloud_run_revision\"}" }

  subscriptions             = "resource.labels.subscription_id=one_of(${join(",", [for name in sort(var.subscriptions) : "\"${name}\""])})"
  dead_letter_subscriptions = "resource.labels.subscription_id=one_of(${join(",", [for name in sort(var.dead_letter_subscriptions) : "\"${name}\""])})"
  services                  = "resource.type=\"cloud_run_revision\" AND resource.labels.service_name=one_of(${join(",", [for name in sort(values(var.services)) : "\"${name}\""])})"

  # Seconds within which a schedule certainly runs.
  period = {
    for name, cron in var.schedules : name =>
    can(regex("^([*]|[*]/[1-5]) [*] [*] [*] [*]$", cron)) ? 300 : can(regex("^[0-9*/,-]+ [*] [*] [*] [*]$", cron)) ? 3600 : 86400
  }
  # Google reads at most 25 hours of a log-based metric for a query.
  sweep_window = { "300" = 600, "3600" = 7200, "86400" = 90000 }[tostring(local.period.sweep)]

  slo = "projects/${var.project_id}/services/${google_monitoring_slo.commit_latency.service}/serviceLevelObjectives/${google_monitoring_slo.commit_latency.slo_id}"

  # Burn rates at which half, or 15 %, of the builds are late; whole numbers, because a fraction would show in each plan.
  burn = { for name, share in { fast = 0.5, slow = 0.15 } : name => max(1, floor(share / (1 - var.latency.goal) + 0.001)) }

  failed_share = {
    for window in ["30m", "6h"] : window =>
    "sum(increase(${local.series.launch_failures}[${window}])) / (sum(increase(${local.series.launch_failures}[${window}])) + (sum(increase(${local.series.launches}[${window}])) or vector(0)))"
  }

  # A condition with `filter` holds when a value of `period` seconds (300) has been above its threshold for `seconds`.
  # A condition with `query` holds when the query has had a result for `seconds`.
  alerts = merge(local.common_alerts, { for name, alert in local.webhook_alerts : name => alert if var.webhook != null })

  # Cloud Run counts these requests itself, so the alert needs no metric of lines.
  webhook_requests = "metric.type=\"run.googleapis.com/request_count\" AND resource.type=\"cloud_run_revision\" AND resource.labels.service_name=\"${coalesce(var.webhook, "none")}\""
  webhook_alerts = {
    webhook = {
      severity = "WARNING"
      conditions = {
        "more than ten requests a minute are refused" = {
          filter  = "${local.webhook_requests} AND metric.labels.response_code_class=\"4xx\""
          aligner = "ALIGN_DELTA", period = 60, above = 10, seconds = 300
        }
        "deliveries fail" = { filter = "${local.webhook_requests} AND metric.labels.response_code_class=\"5xx\"", aligner = "ALIGN_DELTA", above = 2, seconds = 0 }
      }
    }
  }

  common_alerts = {
    dead-letters = {
      severity = "ERROR"
      conditions = {
        "there are dead letters" = {
          filter  = "metric.type=\"pubsub.googleapis.com/subscription/num_undelivered_messages\" AND resource.type=\"pubsub_subscription\" AND ${local.dead_letter_subscriptions}"
          aligner = "ALIGN_MAX", above = 0, seconds = 0
        }
      }
    }
    stuck-invocations = {
      severity = "ERROR"
      conditions = {
        "a build may run unwatched"            = { filter = local.metric.unwatched, aligner = "ALIGN_DELTA", above = 0, seconds = 0 }
        "an invocation had two builds"         = { filter = local.metric.doubled, aligner = "ALIGN_DELTA", above = 0, seconds = 0 }
        "an invocation hangs"                  = { filter = local.metric.hanging, aligner = "ALIGN_DELTA", above = 0, seconds = 0 }
        "the sweep keeps finding overdue work" = { filter = local.metric.stuck, aligner = "ALIGN_DELTA", above = 5, seconds = 900 }
      }
    }
    poll-failures = {
      severity = "WARNING"
      conditions = {
        "polls fail"                      = { filter = local.metric.poll_failures, aligner = "ALIGN_DELTA", above = 2, seconds = 900 }
        "the polls of a job keep failing" = { filter = local.metric.failing_pollers, aligner = "ALIGN_DELTA", above = 0, seconds = 0 }
      }
    }
    lost-commits = {
      severity = "ERROR"
      conditions = {
        "acknowledged work was dropped" = { filter = local.metric.lost_commits, aligner = "ALIGN_DELTA", above = 0, seconds = 0 }
      }
    }
    error-rate = {
      severity = "ERROR"
      conditions = {
        "more than 5 % of the answers are server errors" = {
          filter      = "metric.type=\"run.googleapis.com/request_count\" AND ${local.services} AND metric.labels.response_code_class=\"5xx\""
          denominator = "metric.type=\"run.googleapis.com/request_count\" AND ${local.services}"
          aligner     = "ALIGN_RATE", above = 0.05, seconds = 600
        }
        "a function has a defect" = { filter = local.metric.errors, aligner = "ALIGN_DELTA", above = 0, seconds = 0 }
      }
    }
    lateness = {
      severity = "WARNING"
      conditions = {
        "the oldest message is ten minutes old" = {
          filter  = "metric.type=\"pubsub.googleapis.com/subscription/oldest_unacked_message_age\" AND resource.type=\"pubsub_subscription\" AND ${local.subscriptions}"
          aligner = "ALIGN_MAX", above = 600, seconds = 300
        }
        "one task in twenty is a minute late" = {
          filter  = "metric.type=\"cloudtasks.googleapis.com/queue/task_attempt_delays\" AND resource.type=\"cloud_tasks_queue\" AND resource.labels.queue_id=\"${var.queue}\""
          aligner = "ALIGN_PERCENTILE_95", above = 60000, seconds = 600
        }
      }
    }
    key-due = {
      severity = "WARNING"
      # The longest time that Google accepts: without it, a pause of the data would close the reminder.
      closes = "604800s"
      conditions = {
        "Secret Manager requests a rotation" = {
          filter  = "metric.type=\"pubsub.googleapis.com/subscription/num_undelivered_messages\" AND resource.type=\"pubsub_subscription\" AND resource.labels.subscription_id=\"${var.rotation_subscription}\""
          aligner = "ALIGN_MAX", above = 0, seconds = 0
        }
      }
    }
    # The sweep repairs everything else. An absence condition would need a first sweep; this query needs none.
    no-sweep = {
      severity = "ERROR"
      conditions = {
        "no sweep finishes" = {
          query   = "(sum(increase(${local.series.sweeps}[${local.sweep_window}s])) or vector(0)) < 1"
          seconds = local.period.sweep == 300 ? 600 : 0
        }
      }
    }
    builds-do-not-start = {
      severity = "CRITICAL"
      conditions = {
        "many requests for builds fail" = {
          query = join(" or ", [
            "(sum(increase(${local.series.launch_failures}[30m])) >= 3 and ${local.failed_share["30m"]} > 0.2)",
            "(sum(increase(${local.series.launch_failures}[6h])) >= 3 and ${local.failed_share["6h"]} > 0.5)",
          ])
          seconds = 0
        }
      }
    }
    # A condition in PromQL is alone in its policy.
    no-builds = {
      severity = "CRITICAL"
      runbook  = "builds-do-not-start"
      conditions = {
        "triggers arrive, and no build is requested" = {
          query   = "sum(increase(${local.series.arrivals}[${var.silence_hours}h])) >= 3 unless sum(increase(${local.series.launches}[${var.silence_hours}h])) > 0"
          seconds = 0
        }
      }
    }
    commit-latency = {
      severity = "ERROR"
      combiner = "AND"
      conditions = {
        "half of an hour's builds are late" = { filter = "select_slo_burn_rate(\"${local.slo}\", \"3600s\")", above = local.burn.fast, seconds = 0 }
        "three builds of an hour are late"  = { filter = local.metric.builds_late, aligner = "ALIGN_DELTA", period = 3600, above = 2, seconds = 0 }
      }
    }
    commit-latency-slow = {
      severity = "WARNING"
      runbook  = "commit-latency"
      combiner = "AND"
      conditions = {
        "one in seven of six hours' builds is late" = { filter = "select_slo_burn_rate(\"${local.slo}\", \"21600s\")", above = local.burn.slow, seconds = 0 }
        "six builds of six hours are late"          = { filter = local.metric.builds_late, aligner = "ALIGN_DELTA", period = 21600, above = 5, seconds = 0 }
      }
    }
    config-refused = {
      severity = "WARNING"
      conditions = {
        "a config is refused for longer than a few syncs" = {
          filter  = local.metric.config_refused
          aligner = "ALIGN_DELTA", by = ["metric.label.project"], period = local.period.sync, above = 0
          seconds = { "300" = 900, "3600" = 3600, "86400" = 0 }[tostring(local.period.sync)]
        }
        "the config sync fails" = {
          filter  = "${local.metric.schedule_failures} AND resource.labels.job_id=\"${var.schedule_jobs.sync}\""
          aligner = "ALIGN_DELTA", period = local.period.sync, above = 0
          seconds = { "300" = 900, "3600" = 3600, "86400" = 0 }[tostring(local.period.sync)]
        }
      }
    }
    access-denied = {
      severity = "ERROR"
      conditions = {
        "the access policy is unusable" = { filter = local.metric.access_denied, aligner = "ALIGN_DELTA", above = 0, seconds = 0 }
      }
    }
    calls-refused = {
      severity = "ERROR"
      conditions = {
        "functions refuse their callers" = { filter = local.metric.unauthenticated, aligner = "ALIGN_DELTA", above = 2, seconds = 0 }
        "Cloud Run refuses callers"      = { filter = local.metric.turned_away, aligner = "ALIGN_DELTA", above = 2, seconds = 0 }
      }
    }
    no-instance = {
      severity = "WARNING"
      conditions = {
        "calls find no instance" = { filter = local.metric.throttled, aligner = "ALIGN_DELTA", above = 0, seconds = 900 }
      }
    }
  }

  # Names in a runbook that depend on the installation, as regular expressions.
  placeholders = [
    ["/\\bPROJECT\\b/", var.project_id],
    ["/\\bREGION\\b/", var.region],
    ["/\\bQUEUE\\b/", var.queue],
    ["/\\bDATABASE\\b/", var.database],
    ["/\\bluci-scheduler-/", "${var.prefix}luci-scheduler-"],
    ["/\\bgitiles-commit\\b/", "${var.prefix}gitiles-commit"],
  ]
  pages = { for name in toset([for key, alert in local.alerts : try(alert.runbook, key)]) : name => file("${path.module}/../../../../docs/operations/${name}.md") }
  # A link within a page leads nowhere in a notification, and neither does a link to another page without `runbooks`.
  linked = {
    for name, page in local.pages : name => var.runbooks == null
    ? replace(page, "/\\[([^]]+)\\]\\([^)]*\\)/", "$1")
    : replace(replace(page, "/\\[([^]]+)\\]\\(#[^)]*\\)/", "$1"), "/\\]\\(([^):]+)\\)/", "](${coalesce(var.runbooks, "-")}/$1)")
  }
  runbooks = {
    for name, page in local.linked : name =>
    replace(replace(replace(replace(replace(replace(page,
      local.placeholders[0]...), local.placeholders[1]...), local.placeholders[2]...),
    local.placeholders[3]...), local.placeholders[4]...), local.placeholders[5]...)
  }
}

resource "google_monitoring_notification_channel" "email" {
  for_each = var.alerts ? var.emails : []

  project      = var.project_id
  display_name = "${var.prefix}luci-scheduler: ${each.value}"
  type         = "email"
  labels       = { email_address = each.value }
  user_labels  = var.labels
}

resource "google_monitoring_alert_policy" "this" {
  for_each = { for name, alert in local.alerts : name => alert if var.alerts }

  project               = var.project_id
  display_name          = "${var.prefix}luci-scheduler: ${each.key}"
  combiner              = try(each.value.combiner, "OR")
  severity              = each.value.severity
  notification_channels = concat([for channel in google_monitoring_notification_channel.email : channel.name], sort(var.channels))
  user_labels           = var.labels

  dynamic "conditions" {
    for_each = each.value.conditions
    content {
      display_name = conditions.key

      dynamic "condition_threshold" {
        for_each = can(conditions.value.filter) ? [conditions.value] : []
        content {
          filter             = condition_threshold.value.filter
          denominator_filter = try(condition_threshold.value.denominator, null)
          comparison         = "COMPARISON_GT"
          threshold_value    = condition_threshold.value.above
          duration           = "${condition_threshold.value.seconds}s"

          # The selector of a burn rate has an aggregation of its own.
          dynamic "aggregations" {
            for_each = try([condition_threshold.value.aligner], [])
            content {
              alignment_period     = "${try(condition_threshold.value.period, 300)}s"
              per_series_aligner   = aggregations.value
              cross_series_reducer = startswith(aggregations.value, "ALIGN_PERCENTILE") || aggregations.value == "ALIGN_MAX" ? "REDUCE_MAX" : "REDUCE_SUM"
              group_by_fields      = try(condition_threshold.value.by, null)
            }
          }

          dynamic "denominator_aggregations" {
            for_each = try([condition_threshold.value.denominator], [])
            content {
              alignment_period     = "300s"
              per_series_aligner   = condition_threshold.value.aligner
              cross_series_reducer = "REDUCE_SUM"
            }
          }

          trigger {
            count = 1
          }
        }
      }

      dynamic "condition_prometheus_query_language" {
        for_each = can(conditions.value.query) ? [conditions.value] : []
        content {
          query                     = condition_prometheus_query_language.value.query
          duration                  = "${condition_prometheus_query_language.value.seconds}s"
          evaluation_interval       = "60s"
          disable_metric_validation = true
        }
      }
    }
  }

  documentation {
    mime_type = "text/markdown"
    content   = local.runbooks[try(each.value.runbook, each.key)]

    dynamic "links" {
      for_each = var.runbooks == null ? [] : [var.runbooks]
      content {
        display_name = "Runbook"
        url          = "${links.value}/${try(each.value.runbook, each.key)}.md"
      }
    }
  }

  alert_strategy {
    auto_close = try(each.value.closes, "86400s")
  }

  lifecycle {
    precondition {
      condition     = length(local.runbooks[try(each.value.runbook, each.key)]) <= 8192
      error_message = "Cloud Monitoring accepts at most 8192 characters of documentation: shorten docs/operations/${try(each.value.runbook, each.key)}.md."
    }
  }
}

moved {
  from = google_monitoring_alert_policy.threshold
  to   = google_monitoring_alert_policy.this
}

moved {
  from = google_monitoring_alert_policy.no_sweep
  to   = google_monitoring_alert_policy.this["no-sweep"]
}
