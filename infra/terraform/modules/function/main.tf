# One function as a Cloud Run service with its invokers, without an event trigger.

locals {
  environment = merge(var.environment, {
    # The functions framework reads these. On its own services, the functions service sets them.
    FUNCTION_TARGET = var.entry_point
    # One thread for each concurrent request.
    THREADS = tostring(var.size.concurrency)
    # With one thread, the framework stops a request at this limit. With more, the deadline of its calls ends it.
    CLOUD_RUN_TIMEOUT_SECONDS = tostring(var.timeout_seconds)
    # Log lines carry the ID of their request.
    LOG_EXECUTION_ID = "true"
  })

  # Traffic by revision. Without a canary, the latest revision has all of it.
  stable = var.canary == null ? null : lookup(var.canary.stable, var.entry_point, null)
  latest = local.stable == null ? 100 : var.canary.percent
  shares = [for share in [
    { type = "TRAFFIC_TARGET_ALLOCATION_TYPE_REVISION", revision = local.stable, percent = 100 - local.latest },
    { type = "TRAFFIC_TARGET_ALLOCATION_TYPE_LATEST", revision = null, percent = local.latest },
  ] : share if share.percent > 0]
}

resource "google_cloud_run_v2_service" "this" {
  # The argument iap_enabled is only in the beta provider's version 6.
  provider = google-beta

  project              = var.project_id
  location             = var.region
  name                 = var.name
  description          = "LUCI Scheduler: ${var.entry_point}"
  labels               = var.labels
  ingress              = var.ingress
  iap_enabled          = var.iap_enabled
  invoker_iam_disabled = var.invoker_iam_disabled
  deletion_protection  = false

  template {
    service_account                  = var.account.email
    timeout                          = "${var.timeout_seconds}s"
    max_instance_request_concurrency = var.size.concurrency
    encryption_key                   = var.kms_key

    scaling {
      max_instance_count = var.size.max_instances
    }

    dynamic "vpc_access" {
      for_each = var.vpc_connector[*]
      content {
        connector = vpc_access.value
        egress    = "PRIVATE_RANGES_ONLY"
      }
    }

    containers {
      image = var.image

      resources {
        limits = { cpu = var.size.cpu, memory = var.size.memory }
        # An instance has a CPU, and is billed, only while it starts or handles a request.
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

      dynamic "env" {
        for_each = var.secrets
        content {
          name = env.key
          value_source {
            secret_key_ref {
              secret  = env.value.name
              version = env.value.version
            }
          }
        }
      }
    }
  }

  # Cloud Run returns this block with zeros even if none is given, and every plan would show its removal.
  scaling {
    min_instance_count = 0
  }

  dynamic "traffic" {
    for_each = local.shares
    content {
      type     = traffic.value.type
      revision = traffic.value.revision
      percent  = traffic.value.percent
    }
  }
}

# The complete list of invokers: an apply removes any other member.
resource "google_cloud_run_v2_service_iam_binding" "invokers" {
  project  = var.project_id
  location = var.region
  name     = google_cloud_run_v2_service.this.name
  role     = "roles/run.invoker"
  members  = var.invokers
}

# The function reads its own invokers before it trusts a token without a signature.
resource "google_cloud_run_v2_service_iam_member" "reads_own_invokers" {
  project  = var.project_id
  location = var.region
  name     = google_cloud_run_v2_service.this.name
  role     = "roles/run.viewer"
  member   = var.account.member
}

# Earlier versions deployed with the functions service. Terraform forgets that function, and docs/how-to/upgrade.md
# says how its Cloud Run service is kept.
removed {
  from = google_cloudfunctions2_function.this

  lifecycle {
    destroy = false
  }
}

# The binding has these members now. Their removal would take them out of the binding.
removed {
  from = google_cloud_run_v2_service_iam_member.invoker

  lifecycle {
    destroy = false
  }
}
