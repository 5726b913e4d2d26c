# Optional: commits of GitHub. Credentials come from existing secrets, so Terraform never knows their values.

locals {
  github_app = var.github == null ? null : var.github.app

  # Environment variable → the secret version that authenticates calls to GitHub.
  github_credentials = {
    for variable, given in {
      SCHEDULER_GITHUB_TOKEN       = try(var.github.token, null)
      SCHEDULER_GITHUB_PRIVATE_KEY = try(var.github.app.private_key, null)
    } : variable => given if given != null
  }
  # Repositories of GitHub: an owner and a name.
  github_repo = "^https://(${join("|", [for host in concat(["github.com"], keys(try(var.github.hosts, {}))) : replace(host, ".", "\\.")])})/[A-Za-z0-9._-]+/[A-Za-z0-9._-]+$"

  # These functions call commit hosts: for new commits, for polls and configs, and for people. With statuses, every function
  # that ends invocations needs the credentials, although on_task alone sends.
  github_callers = concat(
    ["on_gitiles_commit", "on_task", "console"], try(var.github.statuses, false) ? concat(["on_build_completion"], local.optional_functions) : [],
  )

  # The names are known when the account may read the secrets.
  github_secrets = {
    for function in local.github_callers : function => {
      for variable, given in local.github_credentials : variable => {
        name    = time_sleep.github_readers_known[0].triggers["${function == "console" ? "console" : "functions"} ${given.secret}"]
        version = given.version
      }
    }
  }

  # A secret's access, by account.
  github_readers = {
    for pair in setproduct(["functions", "console"], [for given in values(local.github_credentials) : given.secret]) :
    "${pair[0]} ${pair[1]}" => { account = pair[0], secret = pair[1] }
  }

  # An app's ID without its key is no credential, so the same functions have both.
  github_app_environment = {
    for name, value in {
      SCHEDULER_GITHUB_APP_ID          = try(local.github_app.id, null)
      SCHEDULER_GITHUB_INSTALLATION_ID = try(local.github_app.installation_id, null)
    } : name => value if value != null
  }

  # Without this setting there is github.com alone, and it gets the credentials.
  commit_hosts_environment = length(try(var.github.hosts, {})) == 0 ? {} : {
    SCHEDULER_COMMIT_HOSTS = jsonencode({
      for host, api in merge({ "github.com" = "https://api.github.com" }, var.github.hosts) :
      host => merge({ kind = "github", api = api }, host == var.github.credentials_host ? { credentials = true } : {})
    })
  }

  github_environment = merge(
    local.commit_hosts_environment,
    try(var.github.statuses, false) ? { SCHEDULER_GITHUB_STATUSES = "true" } : {},
  )

  webhook      = var.github == null ? null : var.github.webhook
  webhook_name = "${local.prefix}luci-scheduler-on-github-push"

  actions = var.github == null ? null : var.github.actions
}

resource "google_secret_manager_secret_iam_member" "github" {
  for_each = local.github_readers

  project   = local.project_id
  secret_id = each.value.secret
  role      = "roles/secretmanager.secretAccessor"
  member    = google_service_account.this[each.value.account].member

  # Instances of the present revisions read the old secret until the functions have changed.
  lifecycle {
    create_before_destroy = true
  }
}

# Cloud Run refuses a revision until its account's grant has spread.
resource "time_sleep" "github_readers_known" {
  count = length(local.github_readers) == 0 ? 0 : 1

  create_duration = "120s"
  triggers        = { for reader, grant in google_secret_manager_secret_iam_member.github : reader => grant.secret_id }

  lifecycle {
    create_before_destroy = true
  }
}

module "github_webhook" {
  source = "./modules/github_webhook"
  count  = local.webhook == null ? 0 : 1

  project_id = local.project_id
  region     = var.region
  prefix     = local.prefix
  name       = local.webhook_name
  image      = module.image.reference
  topic      = module.topic["commits"].topic
  secret     = { name = local.webhook.secret, version = local.webhook.version }
  environment = merge(local.commit_hosts_environment, {
    SCHEDULER_PROJECT      = var.project_id
    SCHEDULER_COMMIT_TOPIC = module.topic["commits"].topic
  })
  invoker_iam_disabled = local.webhook.invoker_iam_disabled
  kms_key              = local.kms_key
  labels               = var.labels
}

# Workflows of GitHub Actions exchange their token for one of Google's, without a key.
resource "google_iam_workload_identity_pool" "github" {
  count = local.actions == null ? 0 : 1

  project                   = local.project_id
  workload_identity_pool_id = "${local.prefix}${local.actions.pool}"
  display_name              = "${local.prefix}luci-scheduler"
  description               = "Workflows of GitHub Actions that publish commits."

  lifecycle {
    precondition {
      condition     = !startswith("${local.prefix}${local.actions.pool}", "gcp-")
      error_message = "Google reserves names of pools that begin with \"gcp-\": change prefix or github.actions.pool."
    }
  }
}

resource "google_iam_workload_identity_pool_provider" "github" {
  count = local.actions == null ? 0 : 1

  project                            = local.project_id
  workload_identity_pool_id          = google_iam_workload_identity_pool.github[0].workload_identity_pool_id
  workload_identity_pool_provider_id = "github"
  display_name                       = "GitHub Actions"
  description                        = "Tokens of workflows in repositories of one owner."

  # All of GitHub shares the issuer, and the name of an owner can change hands, so the condition names the owner's number.
  attribute_condition = join(" && ", compact([
    "assertion.repository_owner_id == \"${local.actions.owner_id}\"",
    local.actions.ref == null ? "" : "assertion.ref == \"${coalesce(local.actions.ref, "-")}\"",
  ]))
  attribute_mapping = {
    "google.subject"                = "assertion.sub"
    "attribute.repository_id"       = "assertion.repository_id"
    "attribute.repository_owner_id" = "assertion.repository_owner_id"
    "attribute.ref"                 = "assertion.ref"
  }

  oidc {
    issuer_uri = "https://token.actions.githubusercontent.com"
  }
}

resource "google_pubsub_topic_iam_member" "actions" {
  for_each = toset(local.actions == null ? [] : local.actions.repository_ids)

  project = local.project_id
  topic   = basename(module.topic["commits"].topic)
  role    = "roles/pubsub.publisher"
  member = join("/", [
    "principalSet://iam.googleapis.com/projects/${data.google_project.this.number}/locations/global/workloadIdentityPools",
    google_iam_workload_identity_pool.github[0].workload_identity_pool_id,
    "attribute.repository_id/${each.value}",
  ])
}
