# Signing keys. Each secret version holds one key, and each generation has one version.
# The key of the next generation exists already, so that it verifies for a whole generation before it signs.

locals {
  last = var.generation + (var.next ? 1 : 0)
  # Revisions of the previous generation may still start. They read the version of the generation before theirs.
  generations = { for number in range(max(1, var.generation - 2), local.last + 1) : tostring(number) => number }
}

# Secret Manager refuses a time in the past, so a replaced secret needs a new time.
resource "time_static" "created" {
  triggers = {
    project = var.project_id
    region  = var.region
    name    = var.name
    kms_key = coalesce(var.kms_key, "none")
  }
}

resource "google_secret_manager_secret" "this" {
  project   = var.project_id
  secret_id = var.name
  labels    = var.labels

  replication {
    user_managed {
      replicas {
        location = var.region

        dynamic "customer_managed_encryption" {
          for_each = var.kms_key[*]
          content {
            kms_key_name = customer_managed_encryption.value
          }
        }
      }
    }
  }

  # Secret Manager does not create keys. It publishes to the topic when a key is due.
  topics {
    name = var.reminder_topic
  }

  rotation {
    rotation_period    = "${var.rotation_days * 86400}s"
    next_rotation_time = timeadd(time_static.created.rfc3339, "${var.rotation_days * 24}h")
  }

  # Secret Manager advances the time at each reminder, and refuses a time in the past. The first time is past by then.
  lifecycle {
    ignore_changes = [rotation[0].next_rotation_time]
  }
}

# The key is write-only: Terraform draws it, sends it and forgets it. Each uuid has 122 random bits.
resource "google_secret_manager_secret_version" "key" {
  for_each = local.generations

  secret                 = google_secret_manager_secret.this.id
  secret_data_wo         = "${uuid()}${uuid()}"
  secret_data_wo_version = each.value

  # Terraform destroys a version after the functions have changed to other versions.
  lifecycle {
    create_before_destroy = true
  }
}

# Before write-only values, one version held two keys. It stays for revisions that one may roll back to.
removed {
  from = google_secret_manager_secret_version.this

  lifecycle {
    destroy = false
  }
}

resource "google_secret_manager_secret_iam_member" "reader" {
  project   = var.project_id
  secret_id = google_secret_manager_secret.this.secret_id
  role      = "roles/secretmanager.secretAccessor"
  member    = var.reader
}

# Cloud Run refuses a revision until its account's grant has spread.
resource "time_sleep" "reader_known" {
  create_duration = "120s"
  triggers        = { secret = google_secret_manager_secret_iam_member.reader.secret_id }
}
