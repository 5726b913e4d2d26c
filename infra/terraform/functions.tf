# The functions: Cloud Run services that run one image. Pub/Sub reaches them through separate push subscriptions
# (topics.tf, cloud_build.tf), because a service has no event trigger. The webhook of GitHub is in github.tf.

locals {
  # Pub/Sub waits no longer than the acknowledgment deadline, so the event functions have that time limit.
  common_functions = {
    on_gitiles_commit = {
      account         = "functions"
      invokers        = [google_service_account.this["push"].member]
      timeout_seconds = local.ack_deadline_seconds.on_gitiles_commit
      size            = var.functions.on_gitiles_commit
      ingress         = "INGRESS_TRAFFIC_INTERNAL_ONLY"
      environment     = merge(local.behind_iam, local.push, { SCHEDULER_PUSH_AUDIENCE = local.urls.on_gitiles_commit })
    }
    on_build_completion = {
      account         = "functions"
      invokers        = [google_service_account.this["push"].member]
      timeout_seconds = local.ack_deadline_seconds.on_build_completion
      size            = var.functions.on_build_completion
      ingress         = "INGRESS_TRAFFIC_INTERNAL_ONLY"
      environment     = merge(local.behind_iam, local.push, { SCHEDULER_PUSH_AUDIENCE = local.urls.on_build_completion })
    }
    on_task = {
      account  = "functions"
      invokers = [google_service_account.this["tasks"].member, google_service_account.this["cron"].member]
      # A little longer than a task's dispatch deadline of 600 s.
      timeout_seconds = 630
      size            = var.functions.on_task
      ingress         = "INGRESS_TRAFFIC_INTERNAL_ONLY"
      environment     = local.behind_iam
    }
    console = {
      account         = "console"
      invokers        = local.front_end.invokers
      timeout_seconds = 60
      size            = var.functions.console
      ingress         = local.front_end.ingress
      environment     = merge(local.front_end.iam_checks ? local.behind_iam : {}, local.console_environment)
    }
  }

  functions = merge(local.common_functions, {
    for function in local.optional_functions : function => {
      account         = "functions"
      invokers        = [google_service_account.this["push"].member]
      timeout_seconds = local.ack_deadline_seconds[function]
      size            = var.functions[function]
      ingress         = "INGRESS_TRAFFIC_INTERNAL_ONLY"
      environment     = merge(local.behind_iam, local.push, { SCHEDULER_PUSH_AUDIENCE = local.urls[function] })
    }
  })

  optional_functions = var.cloud_build == null ? [] : ["on_cloud_build"]

  names = {
    for function in concat(["on_gitiles_commit", "on_build_completion", "on_task", "console"], local.optional_functions) :
    function => "${local.prefix}luci-scheduler-${replace(function, "_", "-")}"
  }

  # Cloud Run gives every service this address. It is known in advance, so on_task's environment can contain its address.
  urls = { for function, name in local.names : function => "https://${name}-${data.google_project.this.number}.${var.region}.run.app" }

  # Cloud Run verifies each caller's token and removes its signature.
  behind_iam = { SCHEDULER_TRUST_FRONT_END = "true" }

  # Only an event function accepts pushes.
  push = { SCHEDULER_PUSH_ACCOUNT = google_service_account.this["push"].email }

  # Each member of var.tuning is the setting of that name.
  tuning = { for name, value in var.tuning : "SCHEDULER_${upper(name)}" => value }

  environment = { for name, value in merge(local.tuning, local.cloud_build_environment, local.github_environment, {
    SCHEDULER_PROJECT      = var.project_id
    SCHEDULER_LOCATION     = var.region
    SCHEDULER_DATABASE     = module.database.name
    SCHEDULER_QUEUE        = module.queue.name
    SCHEDULER_TASK_URL     = local.urls.on_task
    SCHEDULER_TASK_ACCOUNT = google_service_account.this["tasks"].email
    SCHEDULER_TASK_CALLERS = google_service_account.this["cron"].email
    SCHEDULER_APP_ID       = var.app_id
    SCHEDULER_HOSTNAME     = local.front_end.host
    SCHEDULER_BUILDBUCKET_SERVERS = jsonencode([
      for server in var.buildbucket_servers : { for name, value in {
        host          = server.host
        publisher     = server.publisher
        protocol      = server.protocol
        topic         = server.notifications ? "projects/${var.project_id}/topics/${local.publisher_topics[server.publisher]}" : null
        notifications = server.notifications ? null : false
      } : name => value if value != null }
    ])
    SCHEDULER_CONFIG_SOURCES = jsonencode([
      for source in var.configs : {
        for name, value in merge(source, { kind = source.bucket != null ? "bucket" : can(regex(local.gitiles_repo, source.repo)) ? "gitiles" : "github" }) : name => value if value != null
      }
    ])
    SCHEDULER_EVENTS_TOPIC        = one(google_pubsub_topic.events[*].id)
    SCHEDULER_FETCH_ALLOWED_HOSTS = length(var.fetch_allowed_hosts) == 0 ? null : join(",", sort(var.fetch_allowed_hosts))
  }) : name => tostring(value) if value != null }

  # Sizes as numbers, for the validation of `quota`. An unreadable number counts as zero, and has its own message.
  sizes = {
    for name, size in var.functions : name => {
      cpu       = try(tonumber(size.cpu), 0)
      gib       = try(tonumber(replace(size.memory, "/[MG]i$/", "")) / (endswith(size.memory, "Gi") ? 1 : 1024), 0)
      instances = size.max_instances
    }
  }

  # All other repositories with configs are GitHub's.
  gitiles_repo = "^https://([a-z0-9-]+|HOST)\\.googlesource\\.com/.+$"

  # Signing key → the environment variable that contains it.
  token_secrets = {
    current  = "SCHEDULER_TOKEN_SECRETS"
    next     = "SCHEDULER_NEXT_TOKEN_SECRET"
    previous = "SCHEDULER_PREVIOUS_TOKEN_SECRET"
  }
}

module "image" {
  source = "./modules/image"

  project_id     = local.project_id
  project_number = data.google_project.this.number
  region         = var.region
  prefix         = local.prefix
  folder         = "${path.module}/../../functions"
  image          = var.image
  build_account  = var.image.build ? google_service_account.this["build"] : null
  kms_key        = local.kms_key
  labels         = var.labels
}

module "function" {
  source   = "./modules/function"
  for_each = local.functions

  project_id           = local.project_id
  region               = var.region
  name                 = local.names[each.key]
  entry_point          = each.key
  image                = module.image.reference
  account              = google_service_account.this[each.value.account]
  invokers             = each.value.invokers
  ingress              = each.value.ingress
  iap_enabled          = each.key == "console" && local.front_end.iap_enabled
  invoker_iam_disabled = each.key == "console" && local.front_end.invoker_iam_disabled
  timeout_seconds      = each.value.timeout_seconds
  size                 = each.value.size
  environment = merge(
    local.environment, each.value.environment, contains(local.github_callers, each.key) ? local.github_app_environment : {},
  )
  secrets = merge(
    {
      for key, version in module.signing_secret[each.value.account].versions :
      local.token_secrets[key] => { name = module.signing_secret[each.value.account].name, version = version }
    },
    lookup(local.github_secrets, each.key, {}),
  )
  canary        = var.canary
  vpc_connector = one(google_vpc_access_connector.this[*].id)
  kms_key       = local.kms_key
  labels        = var.labels

  depends_on = [time_sleep.build_grants_known]
}
