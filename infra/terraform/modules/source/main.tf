# The deployed source, which is the folder functions/, and the repository of its images.

locals {
  # At most 63 characters: a project ID has 30, and a prefix with its dash 11.
  bucket = "${var.project_id}-${var.prefix}luci-scheduler-source"
  # The functions service keeps a copy of every archive in this bucket.
  service_bucket = "gcf-v2-sources-${var.project_number}-${var.region}"
}

data "archive_file" "functions" {
  type             = "zip"
  source_dir       = var.folder
  output_path      = "${path.root}/.terraform/${var.prefix}luci-scheduler.zip"
  output_file_mode = "0644"
  # Python creates these when functions/ runs locally.
  excludes = ["**/__pycache__/**", "**/*.pyc"]
}

resource "google_storage_bucket" "source" {
  # checkov:skip=CKV_GCP_62: the bucket holds public source text, and the audit log records deployments
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

# The name contains the content's hash. A new source is a new object, so the functions are rebuilt.
resource "google_storage_bucket_object" "functions" {
  bucket = google_storage_bucket.source.name
  name   = "functions-${data.archive_file.functions.output_sha256}.zip"
  source = data.archive_file.functions.output_path
}

resource "google_artifact_registry_repository" "images" {
  # checkov:skip=CKV_GCP_84: a customer-managed key is optional, see the variable kms_key
  project       = var.project_id
  location      = var.region
  repository_id = "${var.prefix}luci-scheduler"
  description   = "Images of the LUCI Scheduler's functions"
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
  project    = var.project_id
  location   = var.region
  repository = google_artifact_registry_repository.images.repository_id
  role       = "roles/artifactregistry.writer"
  member     = var.build_account.member
}

# The build reads the service's copy of the archive. That bucket does not exist before the first deployment.
resource "google_project_iam_member" "build_reads_source" {
  project = var.project_id
  role    = "roles/storage.objectViewer"
  member  = var.build_account.member

  condition {
    title      = "only ${local.service_bucket}"
    expression = "resource.name.startsWith(\"projects/_/buckets/${local.service_bucket}\")"
  }
}

resource "google_storage_bucket_iam_member" "build" {
  bucket = google_storage_bucket.source.name
  role   = "roles/storage.objectViewer"
  member = var.build_account.member
}

# The role for writing logs exists only on projects.
resource "google_project_iam_member" "build_logs" {
  project = var.project_id
  role    = "roles/logging.logWriter"
  member  = var.build_account.member
}

# The functions depend on this module, because a build fails until its account's grants have spread.
resource "time_sleep" "build_account_known" {
  create_duration = "120s"
  triggers = {
    images = google_artifact_registry_repository_iam_member.build.member
    copy   = google_project_iam_member.build_reads_source.member
    source = google_storage_bucket_iam_member.build.member
    logs   = google_project_iam_member.build_logs.member
  }
}
