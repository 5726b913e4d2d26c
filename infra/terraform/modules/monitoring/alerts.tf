# Alerts. Each has a runbook of the same name in docs/operations.

locals {
  metric = { for key, name in time_sleep.metrics_known.triggers : key => "metric.type=\"logging.googleapis.com/user/${name}\" AND resource.type=\"cloud_run_revision\"" }

  subscriptions             = "resource.labels.subscription_id=one_of(${join(",", [for name in sort(var.subscriptions) : "\"${name}\""])})"
  dead_letter_subscriptions = "resource.labels.subscription_id=one_of(${join(",", [for name in sort(var.dead_letter_subscriptions) : "\"${name}\""])})"
  services                  = "resource.type=\"cloud_run_revision\" AND resource.labels.service_name=one_of(${join(",", [for name in sort(var.services) : "\"${name}\""])})"

  # A condition holds when a value has been above its threshold for `seconds`.
  alerts = {
    dead-letters = {
      severity = "ERROR"
      says     = "Messages were refused twenty times. They stay in a dead-letter subscription for a week."
      conditions = {
        "there are dead letters" = {
          filter  = "metric.type=\"pubsub.googleapis.com/subscription/num_undelivered_messages\" AND resource.type=\"pubsub_subscription\" AND ${local.dead_letter_subscriptions}"
          aligner = "ALIGN_MAX", above = 0, seconds = 0
        }
      }
    }
    stuck-invocations = {
      severity = "ERROR"
      says     = "The sweep keeps finding overdue work, or a build may run that no invocation watches."
      conditions = {
        "a build may run unwatched"            = { filter = local.metric.unwatched, aligner = "ALIGN_DELTA", above = 0, seconds = 0 }
        "an invocation had two builds"         = { filter = local.metric.doubled, aligner = "ALIGN_DELTA", above = 0, seconds = 0 }
        "an invocation hangs"                  = { filter = local.metric.hanging, aligner = "ALIGN_DELTA", above = 0, seconds = 0 }
        "the sweep keeps finding overdue work" = { filter = local.metric.stuck, aligner = "ALIGN_DELTA", above = 5, seconds = 900 }
      }
    }
    poll-failures = {
      severity = "WARNING"
      says     = "Polls of Gitiles fail, so commits are seen late or not at all."
      conditions = {
        "polls fail" = { filter = local.metric.poll_failures, aligner = "ALIGN_DELTA", above = 2, seconds = 900 }
      }
    }
    lost-commits = {
      severity = "ERROR"
      says     = "A commit was dropped because its repository never served it or it is not on its ref. Or other acknowledged work failed for a week, or a trigger cannot be read."
      conditions = {
        "acknowledged work was dropped" = { filter = local.metric.lost_commits, aligner = "ALIGN_DELTA", above = 0, seconds = 0 }
      }
    }
    error-rate = {
      severity = "ERROR"
      says     = "Functions answer with server errors, or have a defect."
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
      says     = "Messages or tasks are minutes late, so builds start late and their ends are seen late."
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
      says     = "A signing key is due for rotation."
      conditions = {
        "Secret Manager requests a rotation" = {
          filter  = "metric.type=\"pubsub.googleapis.com/subscription/num_undelivered_messages\" AND resource.type=\"pubsub_subscription\" AND resource.labels.subscription_id=\"${var.rotation_subscription}\""
          aligner = "ALIGN_MAX", above = 0, seconds = 0
        }
      }
    }
  }
}

resource "google_monitoring_notification_channel" "email" {
  for_each = var.emails

  project      = var.project_id
  display_name = "${var.prefix}luci-scheduler: ${each.value}"
  type         = "email"
  labels       = { email_address = each.value }
  user_labels  = var.labels
}

resource "google_monitoring_alert_policy" "threshold" {
  for_each = local.alerts

  project               = var.project_id
  display_name          = "${var.prefix}luci-scheduler: ${each.key}"
  combiner              = "OR"
  severity              = each.value.severity
  notification_channels = [for channel in google_monitoring_notification_channel.email : channel.name]
  user_labels           = var.labels

  dynamic "conditions" {
    for_each = each.value.conditions
    content {
      display_name = conditions.key

      condition_threshold {
        filter             = conditions.value.filter
        denominator_filter = try(conditions.value.denominator, null)
        comparison         = "COMPARISON_GT"
        threshold_value    = conditions.value.above
        duration           = "${conditions.value.seconds}s"

        aggregations {
          alignment_period     = "300s"
          per_series_aligner   = conditions.value.aligner
          cross_series_reducer = startswith(conditions.value.aligner, "ALIGN_PERCENTILE") ? "REDUCE_MAX" : conditions.value.aligner == "ALIGN_MAX" ? "REDUCE_MAX" : "REDUCE_SUM"
        }

        dynamic "denominator_aggregations" {
          for_each = try([conditions.value.denominator], [])
          content {
            alignment_period     = "300s"
            per_series_aligner   = conditions.value.aligner
            cross_series_reducer = "REDUCE_SUM"
          }
        }

        trigger {
          count = 1
        }
      }
    }
  }

  documentation {
    mime_type = "text/markdown"
    content   = "${each.value.says}\n\nRunbook: ${var.runbooks}/${each.key}.md"
  }

  alert_strategy {
    auto_close = "86400s"
  }
}

# The sweep repairs everything else, so its absence has a separate alert.
resource "google_monitoring_alert_policy" "no_sweep" {
  project               = var.project_id
  display_name          = "${var.prefix}luci-scheduler: no-sweep"
  combiner              = "OR"
  severity              = "ERROR"
  notification_channels = [for channel in google_monitoring_notification_channel.email : channel.name]
  user_labels           = var.labels

  conditions {
    display_name = "no sweep for fifteen minutes"

    condition_absent {
      filter   = local.metric.sweeps
      duration = "900s"

      aggregations {
        alignment_period     = "300s"
        per_series_aligner   = "ALIGN_DELTA"
        cross_series_reducer = "REDUCE_SUM"
      }
    }
  }

  documentation {
    mime_type = "text/markdown"
    content   = "The sweep does not run, so lost tasks are not enqueued again.\n\nRunbook: ${var.runbooks}/no-sweep.md"
  }

  alert_strategy {
    auto_close = "86400s"
  }
}
