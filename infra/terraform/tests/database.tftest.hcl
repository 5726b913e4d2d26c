# Indexes, exemptions, expiry, protection and backups.

mock_provider "google" {}

variables {
  project_id             = "my-project"
  name                   = "luci-scheduler"
  location               = "us-central1"
  delete_protection      = true
  point_in_time_recovery = false
  daily_backup_days      = 7
  weekly_backup_weeks    = 0
  users                  = { functions = "serviceAccount:functions@my-project.iam.gserviceaccount.com" }
  kms_key                = null
}

run "protected" {
  command = plan

  module {
    source = "./modules/database"
  }

  assert {
    condition     = google_firestore_database.this.delete_protection_state == "DELETE_PROTECTION_ENABLED" && google_firestore_database.this.deletion_policy == "DELETE"
    error_message = "A protected database cannot be destroyed, and an unprotected database is really deleted."
  }
  assert {
    condition     = length(google_firestore_backup_schedule.daily) == 1 && google_firestore_backup_schedule.daily[0].retention == "604800s" && length(google_firestore_backup_schedule.weekly) == 0
    error_message = "There are daily backups for a week."
  }
  assert {
    condition     = toset([for field in google_firestore_field.indexed : "${field.collection}.${field.field}" if one(one(field.index_config).indexes).query_scope == "COLLECTION_GROUP"]) == toset(["invocations.next_due", "jobs.next_due", "triggers.revision"])
    error_message = "The queries over all jobs have indexes: two of the sweep, and the query for a commit's triggers."
  }
  assert {
    condition     = alltrue([for field in google_firestore_field.expiring : length(field.ttl_config) == 1 && length(one(field.index_config).indexes) == 0])
    error_message = "Expiring documents have a time to live that is not indexed."
  }
  assert {
    condition     = google_project_iam_member.user["functions"].condition[0].expression == "resource.name == \"projects/my-project/databases/luci-scheduler\""
    error_message = "Users of the database may use no other database."
  }
}

run "open_to_destroy_without_backups" {
  command = plan

  module {
    source = "./modules/database"
  }

  variables {
    delete_protection   = false
    daily_backup_days   = 0
    weekly_backup_weeks = 4
  }

  assert {
    condition     = google_firestore_database.this.delete_protection_state == "DELETE_PROTECTION_DISABLED"
    error_message = "Protection can be turned off."
  }
  assert {
    condition     = length(google_firestore_backup_schedule.daily) == 0 && google_firestore_backup_schedule.weekly[0].retention == "2419200s"
    error_message = "Backups follow the variables."
  }
}

run "a_key_elsewhere_is_refused" {
  command = plan

  variables {
    project_id          = "my-project"
    configs             = [{ project = "demo", repo = "https://demo.googlesource.com/demo" }]
    buildbucket_servers = [{ host = "cr-buildbucket.appspot.com", publisher = "cr-buildbucket@appspot.gserviceaccount.com" }]
    kms_key             = "projects/my-project/locations/us-central1/keyRings/ring/cryptoKeys/key"
    database            = { location = "nam5" }
  }

  expect_failures = [var.kms_key]
}
