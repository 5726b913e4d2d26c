# Service accounts. One account launches all builds, because Buildbucket recognizes a repeated request by its caller.

locals {
  accounts = merge(
    {
      functions = { id = "sched-functions", does = "launches and watches builds: on_gitiles_commit, on_build_completion, on_task" }
      console   = { id = "sched-console", does = "shows pages and serves the API, and launches nothing" }
      push      = { id = "sched-push", does = "authenticates Pub/Sub when it pushes messages" }
      tasks     = { id = "sched-tasks", does = "authenticates Cloud Tasks when it calls on_task" }
      cron      = { id = "sched-cron", does = "authenticates Cloud Scheduler when it calls on_task" }
    },
    { for account in ["build"] : account => { id = "sched-build", does = "builds the functions' image during a deployment" } if var.image.build },
  )
}

resource "google_service_account" "this" {
  for_each = local.accounts

  project      = local.project_id
  account_id   = "${local.prefix}${each.value.id}"
  display_name = "LUCI Scheduler ${each.key}"
  description  = "Account that ${each.value.does}."
}

# Both accounts enqueue tasks, and the account `tasks` signs each task.
resource "google_service_account_iam_member" "enqueuers_act_as_tasks" {
  for_each = toset(["functions", "console"])

  service_account_id = google_service_account.this["tasks"].name
  role               = "roles/iam.serviceAccountUser"
  member             = google_service_account.this[each.value].member
}

# In projects from before April 2021, Pub/Sub's service agent lacks this role.
resource "google_service_account_iam_member" "pubsub_signs_as_push" {
  service_account_id = google_service_account.this["push"].name
  role               = "roles/iam.serviceAccountOpenIdTokenCreator"
  member             = google_project_service_identity.this["pubsub.googleapis.com"].member
}

# Read access to configs in buckets. Gitiles itself grants access to configs in repositories.
resource "google_storage_bucket_iam_member" "configs" {
  for_each = toset([for source in var.configs : source.bucket if source.bucket != null])

  bucket = each.value
  role   = "roles/storage.objectViewer"
  member = google_service_account.this["functions"].member
}
