# Signing keys: the first signs, and all verify. A new generation adds a new key and keeps the previous one.

resource "random_password" "key" {
  for_each = toset([for number in range(max(1, var.generation - 1), var.generation + 1) : tostring(number)])

  length  = 48
  special = false
  keepers = { generation = each.key }
}

resource "time_static" "created" {}

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

resource "google_secret_manager_secret_version" "this" {
  secret      = google_secret_manager_secret.this.id
  secret_data = join("\n", [for number in [var.generation, var.generation - 1] : random_password.key[tostring(number)].result if number > 0])

  # Instances of the previous revision still read the old version during the rollout.
  lifecycle {
    create_before_destroy = true
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
