# The image that the four functions share, and everything that builds it out of the folder functions/.

locals {
  # At most 63 characters: a project ID has 30, and a prefix with its dash 11.
  bucket = "${var.project_id}-${var.prefix}luci-scheduler-source"
  # The functions service keeps a copy of every archive in this bucket.
  service_bucket = "gcf-v2-sources-${var.project_number}-${var.region}"
  repository     = "${var.prefix}luci-scheduler"
  registry       = "${var.region}-docker.pkg.dev/${var.project_id}/${local.repository}"

  build = var.image.build ? 1 : 0
  # A given image wins. A rollback must not need the built image, which may be gone.
  read = var.image.reference == null ? local.build : 0
  # A promoted image may come from this project's own repository.
  keep_repository = var.image.build || startswith(coalesce(var.image.reference, "-"), "${local.registry}/") ? 1 : 0
}

data "archive_file" "functions" {
  count = local.build

  type             = "zip"
  source_dir       = var.folder
  output_path      = "${path.root}/.terraform/${var.prefix}luci-scheduler.zip"
  output_file_mode = "0644"
  # Python creates these when functions/ runs locally.
  excludes = ["**/__pycache__/**", "**/*.pyc"]
}

resource "google_storage_bucket" "source" {
  # checkov:skip=CKV_GCP_62: the bucket holds public source text, and the audit log records deployments
  count = local.build

  project                     = var.project_id
  name                        = local.bucket
  location                    = var.region
  uniform_bucket_level_access = true
  public_access_prevention    = "enforced"
  # The bucket only holds copies of functions/.
  force_destroy = true
  labels        = var.labels

  versioning {
    enabled = true
  }

  lifecycle_rule {
    condition {
      days_since_noncurrent_time = 30
    }
    action {
      type = "Delete"
    }
  }

  dynamic "encryption" {
    for_each = var.kms_key[*]
    content {
      default_kms_key_name = encryption.value
    }
  }
}

# The name contains the content's hash. A new source is a new object, so a new image is built.
resource "google_storage_bucket_object" "functions" {
  count = local.build

  bucket = google_storage_bucket.source[0].name
  name   = "functions-${data.archive_file.functions[0].output_sha256}.zip"
  source = data.archive_file.functions[0].output_path
}

resource "google_artifact_registry_repository" "images" {
  # checkov:skip=CKV_GCP_84: a customer-managed key is optional, see the variable kms_key
  count = local.keep_repository

  project       = var.project_id
  location      = var.region
  repository_id = local.repository
  description   = "Images of the LUCI Scheduler"
  format        = "DOCKER"
  kms_key_name  = var.kms_key
  labels        = var.labels

  cleanup_policies {
    id     = "keep the last five"
    action = "KEEP"
    most_recent_versions {
      keep_count = 5
    }
  }

  cleanup_policies {
    id     = "delete after a month"
    action = "DELETE"
    condition {
      older_than = "2592000s"
    }
  }
}

resource "google_artifact_registry_repository_iam_member" "build" {
  count = local.build

  project    = var.project_id
  location   = var.region
  repository = google_artifact_registry_repository.images[0].repository_id
  role       = "roles/artifactregistry.writer"
  member     = var.build_account.member
}

# The build reads the service's copy of the archive. That bucket does not exist before the first deployment.
resource "google_project_iam_member" "build_reads_source" {
  count = local.build

  project = var.project_id
  role    = "roles/storage.objectViewer"
  member  = var.build_account.member

  condition {
    title      = "only ${local.service_bucket}"
    expression = "resource.name.startsWith(\"projects/_/buckets/${local.service_bucket}\")"
  }
}

resource "google_storage_bucket_iam_member" "build" {
  count = local.build

  bucket = google_storage_bucket.source[0].name
  role   = "roles/storage.objectViewer"
  member = var.build_account.member
}

# The role for writing logs exists only on projects.
resource "google_project_iam_member" "build_logs" {
  count = local.build

  project = var.project_id
  role    = "roles/logging.logWriter"
  member  = var.build_account.member
}

# A build fails until its account's grants have spread.
resource "time_sleep" "build_account_known" {
  count = local.build

  create_duration = "120s"
  triggers = {
    images = google_artifact_registry_repository_iam_member.build[0].member
    copy   = google_project_iam_member.build_reads_source[0].member
    source = google_storage_bucket_iam_member.build[0].member
    logs   = google_project_iam_member.build_logs[0].member
  }
}

# Nothing calls this function. It is the provider's only resource that builds an image out of source.
resource "google_cloudfunctions2_function" "builder" {
  count = local.build

  project      = var.project_id
  location     = var.region
  name         = "${var.prefix}luci-scheduler-image"
  description  = "LUCI Scheduler: builds the image of the four functions, and serves nothing"
  kms_key_name = var.kms_key
  labels       = var.labels

  build_config {
    runtime           = var.image.runtime
    entry_point       = "on_task"
    docker_repository = google_artifact_registry_repository.images[0].id
    service_account   = var.build_account.name
    worker_pool       = var.image.worker_pool

    # The image contains its base. With automatic updates, the base would be absent from the image.
    on_deploy_update_policy {}

    source {
      storage_source {
        bucket = google_storage_bucket.source[0].name
        object = google_storage_bucket_object.functions[0].name
      }
    }
  }

  service_config {
    service_account_email            = var.build_account.email
    available_cpu                    = "0.3333"
    available_memory                 = "512Mi"
    max_instance_request_concurrency = 1
    min_instance_count               = 0
    max_instance_count               = 1
    timeout_seconds                  = 60
    ingress_settings                 = "ALLOW_INTERNAL_ONLY"
    all_traffic_on_latest_revision   = true
  }

  depends_on = [time_sleep.build_account_known]
}

resource "google_cloud_run_v2_service_iam_binding" "builder" {
  count = local.build

  project  = var.project_id
  location = var.region
  name     = google_cloudfunctions2_function.builder[0].name
  role     = "roles/run.invoker"
  members  = []
}

# The output checks what these data sources return. If they had conditions, Terraform would read them only at apply when any
# ancestor changes, such as the set of APIs. The plan would then show an update of all four functions.

data "google_cloud_run_v2_service" "builder" {
  count = local.read

  project  = var.project_id
  location = var.region
  name     = google_cloudfunctions2_function.builder[0].name

  # A new build must be over before the image is read.
  depends_on = [google_cloudfunctions2_function.builder]
}

# A new build may reuse the tag of an earlier one. Only the digest names one image.
data "google_artifact_registry_docker_image" "built" {
  count = local.read

  project       = var.project_id
  location      = var.region
  repository_id = google_artifact_registry_repository.images[0].repository_id
  image_name    = trimprefix(data.google_cloud_run_v2_service.builder[0].template[0].containers[0].image, "${local.registry}/")
}
