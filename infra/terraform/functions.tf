# The four functions. None has an event trigger: Pub/Sub reaches them through separate push subscriptions (topics.tf).

locals {
  functions = {
    on_gitiles_commit = {
      account = "functions"
      invokers = {
        push = google_service_account.this["push"].member
      }
      # Pub/Sub waits no longer than the acknowledgment deadline.
      timeout_seconds = local.ack_deadline_seconds.on_gitiles_commit
      size            = var.functions.on_gitiles_commit
      ingress         = "ALLOW_INTERNAL_ONLY"
      secret          = "functions"
    }
    on_build_completion = {
      account = "functions"
      invokers = {
        push = google_service_account.this["push"].member
      }
      timeout_seconds = local.ack_deadline_seconds.on_build_completion
      size            = var.functions.on_build_completion
      ingress         = "ALLOW_INTERNAL_ONLY"
      secret          = "functions"
    }
    on_task = {
      account = "functions"
      invokers = {
        tasks = google_service_account.this["tasks"].member
        cron  = google_service_account.this["cron"].member
      }
      # A little longer than a task's dispatch deadline of 600 s.
      timeout_seconds = 630
      size            = var.functions.on_task
      ingress         = "ALLOW_INTERNAL_ONLY"
      secret          = "functions"
    }
    console = {
      account = "console"
      invokers = merge(
        { for member in var.console.members : member => member if var.console.iap == null },
        var.console.iap == null ? {} : { iap = google_project_service_identity.this["iap.googleapis.com"].member },
      )
      timeout_seconds = 60
      size            = var.functions.console
      ingress         = var.console.iap == null ? "ALLOW_ALL" : "ALLOW_INTERNAL_AND_GCLB"
      secret          = "console"
    }
  }

  names = { for function in keys(local.functions) : function => "${local.prefix}luci-scheduler-${replace(function, "_", "-")}" }

  # Cloud Run gives every service this address. It is known in advance, so on_task's environment can contain its address.
  urls = { for function, name in local.names : function => "https://${name}-${data.google_project.this.number}.${var.region}.run.app" }

  console_host = var.console.iap == null ? trimprefix(local.urls.console, "https://") : var.console.iap.domain

  # Each member of var.tuning is the setting of that name.
  tuning = { for name, value in var.tuning : "SCHEDULER_${upper(name)}" => value }

  environment = { for name, value in merge(local.tuning, {
    SCHEDULER_PROJECT      = var.project_id
    SCHEDULER_LOCATION     = var.region
    SCHEDULER_DATABASE     = module.database.name
    SCHEDULER_QUEUE        = module.queue.name
    SCHEDULER_TASK_URL     = local.urls.on_task
    SCHEDULER_TASK_ACCOUNT = google_service_account.this["tasks"].email
    SCHEDULER_TASK_CALLERS = google_service_account.this["cron"].email
    SCHEDULER_APP_ID       = var.app_id
    SCHEDULER_HOSTNAME     = local.console_host
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
        for name, value in merge(source, { kind = source.bucket == null ? "gitiles" : "bucket" }) : name => value if value != null
      }
    ])
    SCHEDULER_ACCESS                = var.console.access
    SCHEDULER_CONSOLE_AUDIENCES     = join(",", distinct([local.urls.console, "https://${local.console_host}"]))
    SCHEDULER_CONSOLE_OAUTH_CLIENTS = length(var.console.oauth_clients) == 0 ? null : join(",", sort(var.console.oauth_clients))
    SCHEDULER_IAP_AUDIENCE          = one(module.console_iap[*].audience)
    SCHEDULER_FETCH_ALLOWED_HOSTS   = length(var.fetch_allowed_hosts) == 0 ? null : join(",", sort(var.fetch_allowed_hosts))
  }) : name => tostring(value) if value != null }
}

module "source" {
  source = "./modules/source"

  project_id     = local.project_id
  project_number = data.google_project.this.number
  region         = var.region
  prefix         = local.prefix
  folder         = "${path.module}/../../functions"
  build_account  = google_service_account.this["build"]
  kms_key        = local.kms_key
  labels         = var.labels
}

module "function" {
  source   = "./modules/function"
  for_each = local.functions

  project_id      = local.project_id
  region          = var.region
  name            = local.names[each.key]
  entry_point     = each.key
  account         = google_service_account.this[each.value.account].email
  invokers        = each.value.invokers
  ingress         = each.value.ingress
  timeout_seconds = each.value.timeout_seconds
  size            = each.value.size
  environment     = local.environment
  secret          = module.signing_secret[each.value.secret]
  archive         = module.source.archive
  repository      = module.source.repository
  build_account   = google_service_account.this["build"].name
  vpc_connector   = one(google_vpc_access_connector.this[*].id)
  kms_key         = local.kms_key
  labels          = var.labels

  depends_on = [module.source]
}
