# One function and its invokers, without an event trigger.

locals {
  token_secrets = {
    current  = "SCHEDULER_TOKEN_SECRETS"
    next     = "SCHEDULER_NEXT_TOKEN_SECRET"
    previous = "SCHEDULER_PREVIOUS_TOKEN_SECRET"
  }
}

resource "google_cloudfunctions2_function" "this" {
  # checkov:skip=CKV_GCP_124: the calling module decides. Only the console is open to other networks, and only to its invokers
  project      = var.project_id
  location     = var.region
  name         = var.name
  description  = "LUCI Scheduler: ${var.entry_point}"
  kms_key_name = var.kms_key
  labels       = var.labels

  build_config {
    runtime           = "python311"
    entry_point       = var.entry_point
    docker_repository = var.repository
    service_account   = var.build_account

    source {
      storage_source {
        bucket = var.archive.bucket
        object = var.archive.object
      }
    }
  }

  service_config {
    service_account_email            = var.account
    available_cpu                    = var.size.cpu
    available_memory                 = var.size.memory
    max_instance_request_concurrency = var.size.concurrency
    min_instance_count               = 0
    max_instance_count               = var.size.max_instances
    timeout_seconds                  = var.timeout_seconds
    ingress_settings                 = var.ingress
    all_traffic_on_latest_revision   = true
    vpc_connector                    = var.vpc_connector
    vpc_connector_egress_settings    = var.vpc_connector == null ? null : "PRIVATE_RANGES_ONLY"

    # One thread for each concurrent request.
    environment_variables = merge(var.environment, { THREADS = tostring(var.size.concurrency) })

    dynamic "secret_environment_variables" {
      for_each = var.secret.versions
      content {
        key        = local.token_secrets[secret_environment_variables.key]
        project_id = var.project_id
        secret     = var.secret.name
        version    = secret_environment_variables.value
      }
    }
  }
}

resource "google_cloud_run_v2_service_iam_member" "invoker" {
  for_each = var.invokers

  project  = var.project_id
  location = var.region
  name     = google_cloudfunctions2_function.this.name
  role     = "roles/run.invoker"
  member   = each.value
}
