# What is deployed: the folder functions/, and where its images are kept.

locals {
  # 63 characters at most: a project name has 30, a prefix with its dash 11.
  bucket = "${var.project_id}-${var.prefix}luci-scheduler-source"
  # The functions service keeps its own copy of every archive here.
  service_bucket = "gcf-v2-sources-${var.project_number}-${var.region}"
}

data "archive_file" "functions" {
  type             = "zip"
  source_dir       = var.folder
  output_path      = "${path.root}/.terraform/${var.prefix}luci-scheduler.zip"
  output_file_mode = "0644"
  # Python leaves these behind where functions/ is run.
  excludes = ["**/__pycache__/**", "**/*.pyc"]
}

resource "google_storage_bucket" "source" {
  # checkov:skip=CKV_GCP_62: the bucket holds public source text; who deploys it is in the audit log
  project                     = var.project_id
  name                        = local.bucket
  location                    = var.region
  uniform_bucket_level_access = true
  public_access_prevention    = "enforced"
  # It holds nothing that is not in functions/.
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

# The name holds the content's hash: a new source is a new object, and the functions are built again.
resource "google_storage_bucket_object" "functions" {
  bucket = google_storage_bucket.source.name
  name   = "functions-${data.archive_file.functions.output_sha256}.zip"
  source = data.archive_file.functions.output_path
}

resource "google_artifact_registry_repository" "images" {
  # checkov:skip=CKV_GCP_84: a key of one's own is an option, see the variable kms_key
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

# The build reads the service's own copy of the archive; that bucket does not exist before the first deployment.
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

# The right to write logs exists for projects only.
resource "google_project_iam_member" "build_logs" {
  project = var.project_id
  role    = "roles/logging.logWriter"
  member  = var.build_account.member
}

# Functions wait for this module. A build fails until its account's grants have spread.
resource "time_sleep" "build_account_known" {
  create_duration = "120s"
  triggers = {
    images = google_artifact_registry_repository_iam_member.build.member
    copy   = google_project_iam_member.build_reads_source.member
    source = google_storage_bucket_iam_member.build.member
    logs   = google_project_iam_member.build_logs.member
  }
}
