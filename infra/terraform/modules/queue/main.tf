# The queue of status checks, launches, aborts and cron ticks.

resource "google_cloud_tasks_queue" "this" {
  project  = var.project_id
  location = var.region
  name     = var.name

  rate_limits {
    max_dispatches_per_second = var.dispatches_per_second
    # The capacity of on_task. A task without a free instance would slow the whole queue down.
    max_concurrent_dispatches = var.concurrent_dispatches
  }

  # The queue retries a task until it succeeds. A handler gives up by answering 200.
  retry_config {
    max_attempts       = -1
    max_retry_duration = "0s"
    min_backoff        = "1s"
    max_backoff        = "600s"
    max_doublings      = 10
  }
}

resource "google_cloud_tasks_queue_iam_member" "enqueuer" {
  for_each = var.enqueuers

  project  = var.project_id
  location = var.region
  name     = google_cloud_tasks_queue.this.name
  role     = "roles/cloudtasks.enqueuer"
  member   = each.value
}
