# The console's front end, which decides who reaches the console, and how a caller signs in.

locals {
  # Administrators use the console, too.
  console_users = setunion(var.console.members, var.console.admins)

  behind_iap = contains(["iap", "load_balancer"], var.console.front_end)

  iap_agent = [for agent in google_project_service_identity.this : agent.member if agent.service == "iap.googleapis.com"]

  # The OAuth client of gcloud. Identity tokens that gcloud makes for people have this audience.
  gcloud_client = "32555940559.apps.googleusercontent.com"

  front_ends = {
    iap = {
      ingress      = "INGRESS_TRAFFIC_ALL"
      invokers     = local.iap_agent
      host         = trimprefix(local.urls.console, "https://")
      audiences    = [local.urls.console]
      iap_audience = "/projects/${data.google_project.this.number}/locations/${var.region}/services/${local.names.console}"
      open         = "echo ${local.urls.console}"
      login        = " --client CLIENT.json"
    }
    proxy = {
      ingress      = "INGRESS_TRAFFIC_ALL"
      invokers     = local.console_users
      host         = trimprefix(local.urls.console, "https://")
      audiences    = [local.urls.console, local.gcloud_client]
      iap_audience = null
      open         = "gcloud run services proxy ${local.names.console} --project=${var.project_id} --region=${var.region}"
      login        = ""
    }
    load_balancer = {
      ingress      = "INGRESS_TRAFFIC_INTERNAL_LOAD_BALANCER"
      invokers     = local.iap_agent
      host         = coalesce(var.console.domain, "invalid")
      audiences    = [local.urls.console, "https://${coalesce(var.console.domain, "invalid")}"]
      iap_audience = one(module.console_iap[*].audience)
      open         = "echo https://${coalesce(var.console.domain, "invalid")}"
      login        = " --client CLIENT.json"
    }
    public = {
      ingress      = "INGRESS_TRAFFIC_ALL"
      invokers     = []
      host         = trimprefix(local.urls.console, "https://")
      audiences    = [local.urls.console]
      iap_audience = null
      open         = "echo ${local.urls.console}"
      login        = " --service-account EMAIL"
    }
  }

  front_end = merge(local.front_ends[var.console.front_end], {
    iap_enabled          = var.console.front_end == "iap"
    iam_checks           = var.console.front_end == "proxy"
    invoker_iam_disabled = var.console.front_end == "public"
  })

  # A policy for the administrators alone, unless a policy is given.
  access = var.console.access != null || length(var.console.admins) == 0 ? var.console.access : jsonencode({
    version = 1
    # The policy has no separate kind for service accounts.
    admins = sort([for admin in var.console.admins : replace(admin, "/^serviceAccount:/", "user:")])
  })

  console_environment = { for name, value in {
    SCHEDULER_ACCESS                = local.access
    SCHEDULER_CONSOLE_AUDIENCES     = join(",", local.front_end.audiences)
    SCHEDULER_CONSOLE_OAUTH_CLIENTS = length(var.console.oauth_clients) == 0 ? null : join(",", sort(var.console.oauth_clients))
    SCHEDULER_IAP_AUDIENCE          = local.front_end.iap_audience
  } : name => value if value != null }
}

# The complete list of callers that Identity-Aware Proxy lets pass. Cloud Run itself accepts only the proxy.
resource "google_iap_web_cloud_run_service_iam_binding" "users" {
  count = local.front_end.iap_enabled ? 1 : 0

  project                = local.project_id
  location               = var.region
  cloud_run_service_name = module.function["console"].name
  role                   = "roles/iap.httpsResourceAccessor"
  members                = local.console_users
}

module "console_iap" {
  source = "./modules/console_iap"
  count  = var.console.front_end == "load_balancer" ? 1 : 0

  project_id     = local.project_id
  project_number = data.google_project.this.number
  region         = var.region
  name           = "${local.prefix}luci-scheduler-console"
  # By name: the console's environment contains the load balancer's audience, so the console is created after it.
  service = local.names.console
  domain  = var.console.domain
  members = local.console_users
}

# OAuth clients of commands and programs that sign in through Identity-Aware Proxy.
resource "google_iap_settings" "console" {
  count = length(var.console.programmatic_clients) == 0 ? 0 : 1

  name = join("/", [
    "projects/${data.google_project.this.number}/iap_web",
    local.front_end.iap_enabled ? "cloud_run-${var.region}/services/${module.function["console"].name}" : "compute/services/${one(module.console_iap[*].backend)}",
  ])

  access_settings {
    oauth_settings {
      programmatic_clients = sort(var.console.programmatic_clients)
    }
  }
}
