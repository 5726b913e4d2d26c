# The service level objective: the share of commits whose builds are requested in time.

resource "google_monitoring_custom_service" "this" {
  project      = var.project_id
  service_id   = "${var.prefix}luci-scheduler"
  display_name = "${var.prefix}luci-scheduler"
  user_labels  = var.labels
}

resource "google_monitoring_slo" "commit_latency" {
  project             = var.project_id
  service             = google_monitoring_custom_service.this.service_id
  slo_id              = "commit-latency"
  display_name        = "${var.latency.goal * 100} % of the builds for commits are requested within ${var.latency.seconds} seconds"
  goal                = var.latency.goal
  rolling_period_days = 28
  user_labels         = var.labels

  request_based_sli {
    good_total_ratio {
      good_service_filter = local.metric.builds_in_time
      bad_service_filter  = local.metric.builds_late
    }
  }
}
