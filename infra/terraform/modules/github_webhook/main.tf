# The webhook of GitHub: a public function, whose account may publish commits and may do nothing else.
# The module `function` is for functions with known callers, and lets each of them read its own invokers.

locals {
  entry_point = "on_github_push"
  # GitHub waits ten seconds.
  timeout_seconds = 10
  # Both bound the cost of requests by strangers.
  concurrency   = 40
  max_instances = 2

  environment = merge(var.environment, {
    # The functions framework reads these.
    FUNCTION_TARGET           = local.entry_point
    THREADS                   = tostring(local.concurrency)
    CLOUD_RUN_TIMEOUT_SECONDS = tostring(local.timeout_seconds)
    LOG_EXECUTION_ID          = "true"
  })
}

resource "google_service_account" "this" {
  project      = var.project_id
  account_id   = "${var.prefix}sched-webhook"
  display_name = "LUCI Scheduler webhook"
  description  = "Account that publishes commits: on_github_push."
}

resource "google_pubsub_topic_iam_member" "publisher" {
  project = var.project_id
  topic   = basename(var.topic)
  role    = "roles/pubsub.publisher"
  member  = google_service_account.this.member
}

resource "google_secret_manager_secret_iam_member" "reader" {
  project   = var.project_id
  secret_id = var.secret.name
  role      = "roles/secretmanager.secretAccessor"
  member    = google_service_account.this.member

  # Instances of the present revision read the old secret until the service has changed.
  lifecycle {
    create_before_destroy = true
  }
}

# Cloud Run refuses a revision until its account's grant has spread.
resource "time_sleep" "reader_known" {
  create_duration = "120s"
  triggers        = { secret = google_secret_manager_secret_iam_member.reader.secret_id }

  lifecycle {
    create_before_destroy = true
  }
}

resource "google_cloud_run_v2_service" "this" {
  # The argument iap_enabled is only in the beta provider's version 6.
  provider = google-beta

  project              = var.project_id
  location             = var.region
  name                 = var.name
  description          = "LUCI Scheduler: ${local.entry_point}"
  labels               = var.labels
  ingress              = "INGRESS_TRAFFIC_ALL"
  iap_enabled          = false
  invoker_iam_disabled = var.invoker_iam_disabled
  deletion_protection  = false

  template {
    service_account                  = google_service_account.this.email
    timeout                          = "${local.timeout_seconds}s"
    max_instance_request_concurrency = local.concurrency
    encryption_key                   = var.kms_key

    scaling {
      max_instance_count = local.max_instances
    }

    containers {
      image = var.image

      resources {
        # Cloud Run permits parallel requests from one CPU on.
        limits            = { cpu = "1", memory = "256Mi" }
        cpu_idle          = true
        startup_cpu_boost = true
      }

      dynamic "env" {
        for_each = local.environment
        content {
          name  = env.key
          value = env.value
        }
      }

      env {
        name = "SCHEDULER_GITHUB_WEBHOOK_SECRETS"
        value_source {
          secret_key_ref {
            secret  = time_sleep.reader_known.triggers.secret
            version = var.secret.version
          }
        }
      }
    }
  }

  # Cloud Run returns this block with zeros even if none is given, and every plan would show its removal.
  scaling {
    min_instance_count = 0
  }

  traffic {
    type    = "TRAFFIC_TARGET_ALLOCATION_TYPE_LATEST"
    percent = 100
  }
}

# Cloud Run writes an entry for each request, also of strangers, and Cloud Logging bills them. Few are enough for an
# operator. The alert counts requests and needs no entry.
resource "google_logging_project_exclusion" "refused" {
  project     = var.project_id
  name        = "${var.name}-refused"
  description = "Most entries for refused requests of the webhook."
  filter = join(" AND ", [
    "resource.type=\"cloud_run_revision\"",
    "resource.labels.service_name=\"${var.name}\"",
    "log_id(\"run.googleapis.com/requests\")",
    "httpRequest.status>=400",
    "httpRequest.status<500",
    "sample(insertId, 0.99)",
  ])
}

# GitHub has no account at Google. The function checks the signature of each request instead.
resource "google_cloud_run_v2_service_iam_binding" "invokers" {
  project  = var.project_id
  location = var.region
  name     = google_cloud_run_v2_service.this.name
  role     = "roles/run.invoker"
  members  = var.invoker_iam_disabled ? [] : ["allUsers"]
}
