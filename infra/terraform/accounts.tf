# Who acts. One account launches everything: Buildbucket recognises a repeated request by its caller.

locals {
  accounts = {
    functions = { id = "sched-functions", does = "launches and watches builds: on_gitiles_commit, on_build_completion, on_task" }
    console   = { id = "sched-console", does = "shows pages and serves the API; launches nothing" }
    push      = { id = "sched-push", does = "is whom Pub/Sub pushes messages as" }
    tasks     = { id = "sched-tasks", does = "is whom Cloud Tasks calls on_task as" }
    cron      = { id = "sched-cron", does = "is whom Cloud Scheduler calls on_task as" }
    build     = { id = "sched-build", does = "builds the functions' images when they are deployed" }
  }
}

resource "google_service_account" "this" {
  for_each = local.accounts

  project      = local.project_id
  account_id   = "${local.prefix}${each.value.id}"
  display_name = "LUCI Scheduler ${each.key}"
  description  = "Account that ${each.value.does}."
}

# Both put tasks on the queue, and a task is signed as the account `tasks`.
resource "google_service_account_iam_member" "enqueuers_act_as_tasks" {
  for_each = toset(["functions", "console"])

  service_account_id = google_service_account.this["tasks"].name
  role               = "roles/iam.serviceAccountUser"
  member             = google_service_account.this[each.value].member
}

# Projects made before April 2021 lack this right of Pub/Sub's own account.
resource "google_service_account_iam_member" "pubsub_signs_as_push" {
  service_account_id = google_service_account.this["push"].name
  role               = "roles/iam.serviceAccountOpenIdTokenCreator"
  member             = google_project_service_identity.this["pubsub.googleapis.com"].member
}

# Configs that are kept in buckets; those in repositories are read with rights given in Gitiles.
resource "google_storage_bucket_iam_member" "configs" {
  for_each = toset([for source in var.configs : source.bucket if source.bucket != null])

  bucket = each.value
  role   = "roles/storage.objectViewer"
  member = google_service_account.this["functions"].member
}
