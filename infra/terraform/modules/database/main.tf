# The Firestore database. Only queried fields have an index, and expired documents are deleted automatically.

locals {
  # Every collection that the functions write.
  collections = toset(["deferred", "invocations", "jobs", "pollers", "probes", "projects", "repositories", "triggers"])

  # Queried fields. Only lists of jobs need composite indexes.
  indexed = {
    deferred_next_due    = { collection = "deferred", field = "next_due", scope = "COLLECTION", array = false }
    deferred_revision    = { collection = "deferred", field = "revision", scope = "COLLECTION", array = false }
    invocations_next_due = { collection = "invocations", field = "next_due", scope = "COLLECTION_GROUP", array = false }
    invocations_status   = { collection = "invocations", field = "status", scope = "COLLECTION", array = false }
    jobs_next_due        = { collection = "jobs", field = "next_due", scope = "COLLECTION_GROUP", array = false }
    jobs_triggers        = { collection = "jobs", field = "triggers", scope = "COLLECTION", array = true }
    triggers_pending     = { collection = "triggers", field = "pending", scope = "COLLECTION", array = false }
    triggers_revision    = { collection = "triggers", field = "revision", scope = "COLLECTION_GROUP", array = false }
  }

  # Lists of a project's jobs: all, in some realms, in one state, or both, by place. A sum over the last field grows with
  # each change of a list.
  job_lists = {
    all            = ["project"]
    realms         = ["project", "realm"]
    state          = ["project", "state"]
    state_in_realm = ["project", "realm", "state"]
  }

  # Firestore deletes a document within about a day after the time in its field expire_at.
  expiring = toset(["invocations", "probes", "triggers"])
}

resource "google_firestore_database" "this" {
  project                           = var.project_id
  name                              = var.name
  location_id                       = var.location
  type                              = "FIRESTORE_NATIVE"
  database_edition                  = "STANDARD"
  concurrency_mode                  = "PESSIMISTIC"
  app_engine_integration_mode       = "DISABLED"
  point_in_time_recovery_enablement = var.point_in_time_recovery ? "POINT_IN_TIME_RECOVERY_ENABLED" : "POINT_IN_TIME_RECOVERY_DISABLED"
  delete_protection_state           = var.delete_protection ? "DELETE_PROTECTION_ENABLED" : "DELETE_PROTECTION_DISABLED"
  # Without this, a destroy would keep the database. The protection above prevents an accidental destroy.
  deletion_policy = "DELETE"

  dynamic "cmek_config" {
    for_each = var.kms_key[*]
    content {
      kms_key_name = cmek_config.value
    }
  }
}

resource "google_firestore_field" "unindexed" {
  for_each = local.collections

  project    = var.project_id
  database   = google_firestore_database.this.name
  collection = each.value
  field      = "*"

  index_config {}
}

resource "google_firestore_field" "indexed" {
  for_each = local.indexed

  project    = var.project_id
  database   = google_firestore_database.this.name
  collection = each.value.collection
  field      = each.value.field

  index_config {
    indexes {
      order        = each.value.array ? null : "ASCENDING"
      array_config = each.value.array ? "CONTAINS" : null
      query_scope  = each.value.scope
    }
  }
}

resource "google_firestore_index" "job_lists" {
  for_each = local.job_lists

  project     = var.project_id
  database    = google_firestore_database.this.name
  collection  = "jobs"
  query_scope = "COLLECTION"

  dynamic "fields" {
    for_each = concat(each.value, ["place", "commits"])
    content {
      field_path = fields.value
      order      = "ASCENDING"
    }
  }
}

resource "google_firestore_field" "expiring" {
  for_each = local.expiring

  project    = var.project_id
  database   = google_firestore_database.this.name
  collection = each.value
  field      = "expire_at"

  # An index on ever-growing times would create a hot key range.
  index_config {}

  ttl_config {}
}

resource "google_firestore_backup_schedule" "daily" {
  count = var.daily_backup_days > 0 ? 1 : 0

  project   = var.project_id
  database  = google_firestore_database.this.name
  retention = "${var.daily_backup_days * 86400}s"

  daily_recurrence {}
}

resource "google_firestore_backup_schedule" "weekly" {
  count = var.weekly_backup_weeks > 0 ? 1 : 0

  project   = var.project_id
  database  = google_firestore_database.this.name
  retention = "${var.weekly_backup_weeks * 604800}s"

  weekly_recurrence {
    day = "SUNDAY"
  }
}

# A database has no IAM policy. The condition limits the role to this database.
resource "google_project_iam_member" "user" {
  for_each = var.users

  project = var.project_id
  role    = "roles/datastore.user"
  member  = each.value

  condition {
    title      = "only ${var.name}"
    expression = "resource.name == \"projects/${var.project_id}/databases/${google_firestore_database.this.name}\""
  }
}
