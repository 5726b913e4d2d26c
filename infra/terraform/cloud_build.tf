# Optional: jobs of the kind `cloud_build`. Each project with builds has its topic, and its grants for the scheduler.

locals {
  # The project and the account of a definition that names none.
  builds_project = var.cloud_build == null ? null : coalesce(var.cloud_build.project, var.project_id)
  build_account  = var.cloud_build == null ? null : coalesce(var.cloud_build.account, one(module.build_project[local.builds_project].account[*]))

  # Project → the existing accounts that builds may run as there, and whether its topic is made here.
  build_projects = var.cloud_build == null ? {} : merge(
    { for project, more in var.cloud_build.projects : project => more },
    {
      (local.builds_project) = {
        accounts     = setunion(compact([var.cloud_build.account]), try(var.cloud_build.projects[local.builds_project].accounts, []))
        create_topic = var.cloud_build.create_topic && try(var.cloud_build.projects[local.builds_project].create_topic, true)
      }
    },
  )

  pool_projects = toset(var.cloud_build == null ? [] : [for pool in var.cloud_build.private_pools : split("/", pool)[1]])

  cloud_build_environment = var.cloud_build == null ? {} : {
    SCHEDULER_CLOUD_BUILD          = "true"
    SCHEDULER_CLOUD_BUILD_PROJECT  = local.builds_project
    SCHEDULER_CLOUD_BUILD_LOCATION = var.cloud_build.location
    SCHEDULER_CLOUD_BUILD_ACCOUNT  = local.build_account
    # Without this setting, a definition may name only the default project and the default account.
    SCHEDULER_CLOUD_BUILD_PROJECTS = length(var.cloud_build.projects) == 0 ? null : jsonencode({
      for project, given in local.build_projects : project => sort(distinct(concat(
        project == local.builds_project ? [local.build_account] : [], tolist(given.accounts),
      )))
    })
    SCHEDULER_CLOUD_BUILD_CHECK_INTERVAL_SECONDS = var.cloud_build.check_interval_seconds
    SCHEDULER_CLOUD_BUILD_RUN_SECONDS            = var.cloud_build.run_seconds
  }
}

module "build_project" {
  source   = "./modules/build_project"
  for_each = local.build_projects

  project_id     = each.key == var.project_id ? local.project_id : each.key
  prefix         = local.prefix
  enable_apis    = each.key != var.project_id
  scheduler      = google_service_account.this["functions"].member
  role           = var.cloud_build.role
  create_account = each.key == local.builds_project && var.cloud_build.account == null
  accounts       = each.value.accounts
  create_topic   = each.value.create_topic
  # A key of this project's agents does not serve another project.
  kms_key = each.key == var.project_id ? local.kms_key : null
  labels  = var.labels
}

# Every subscription is in this project: only here a push may sign as the push account, a private function counts the
# push as internal traffic, and the alerts see the subscription.
module "build_notifications" {
  source   = "./modules/push_subscription"
  for_each = local.build_projects

  project_id           = local.project_id
  name                 = "${local.prefix}cloud-builds${each.key == local.builds_project ? "" : "-${each.key}"}"
  topic                = module.build_project[each.key].topic
  filter               = "attributes.status != \"WORKING\""
  url                  = local.urls.on_cloud_build
  push_account         = google_service_account.this["push"].email
  ack_deadline_seconds = local.ack_deadline_seconds.on_cloud_build
  pubsub_agent         = google_project_service_identity.this["pubsub.googleapis.com"].member
  kms_key              = local.kms_key
  labels               = var.labels

  # Messages must not arrive before the push account may call the function.
  depends_on = [module.function]
}

# Google offers the role on projects only.
resource "google_project_iam_member" "private_pools" {
  for_each = local.pool_projects

  # A project with builds may have just got its APIs.
  project = try(module.build_project[each.value].project_id, each.value == var.project_id ? local.project_id : each.value)
  role    = "roles/cloudbuild.workerPoolUser"
  member  = google_service_account.this["functions"].member

  lifecycle {
    create_before_destroy = true
  }
}

# Cloud Build refuses a build for good until the scheduler's grants have spread, so the functions change after that.
resource "time_sleep" "build_grants_known" {
  count = var.cloud_build == null ? 0 : 1

  create_duration = "120s"
  triggers = merge(
    { for project, builds in module.build_project : project => join(" ", builds.grants) },
    { for project, grant in google_project_iam_member.private_pools : "private pools of ${project}" => grant.role },
  )

  lifecycle {
    create_before_destroy = true
  }
}
