# A permanent installation: state in a bucket, members, alerts, backups, a budget, and pages behind Identity-Aware Proxy.

terraform {
  required_version = ">= 1.11"

  # Run terraform init -backend-config=bucket=BUCKET. The state describes the whole installation, so restrict access to that bucket.
  backend "gcs" {
    prefix = "luci-scheduler"
  }
}

variable "project_id" {
  type        = string
  description = "Project of the installation."
}

variable "billing_account" {
  type        = string
  description = "Billing account of the budget, e.g. \"012345-6789AB-CDEF01\"."
}

variable "team" {
  type        = string
  description = "Google group that sees all jobs, e.g. \"builders@example.com\"."
}

variable "admins" {
  type        = set(string)
  description = "People who may do everything, e.g. [\"user:me@example.com\"]."
}

variable "canary" {
  type        = object({ percent = number, stable = map(string) })
  default     = null
  description = "Traffic split during an upgrade, see README.md."
}

variable "image" {
  type        = object({ build = optional(bool), reference = optional(string) })
  default     = {}
  description = "Image to run instead of a new build, see README.md."
}

variable "oncall" {
  type        = string
  description = "E-mail address that receives alerts."
}

variable "configs" {
  type        = map(string)
  description = "LUCI project → repository with its luci-scheduler.cfg on the branch \"generated\"."
}

variable "destroying" {
  type        = bool
  default     = false
  description = "Set it and apply before a destroy. Otherwise the database is protected."
}

module "scheduler" {
  source     = "../.."
  project_id = var.project_id

  buildbucket_servers = [
    { host = "cr-buildbucket.appspot.com", publisher = "cr-buildbucket@appspot.gserviceaccount.com" },
    { host = "cr-buildbucket-dev.appspot.com", publisher = "cr-buildbucket-dev@appspot.gserviceaccount.com" },
  ]
  configs = [
    for project, repo in var.configs : { project = project, repo = repo, ref = "refs/heads/generated", path = "luci/luci-scheduler.cfg" }
  ]
  commit_publishers = ["serviceAccount:git-hook@${var.project_id}.iam.gserviceaccount.com"]

  console = {
    members = ["group:${var.team}"]
    admins  = var.admins
    access = jsonencode({
      version = 1
      admins  = var.admins
      # Identity-Aware Proxy admits only the team and the administrators.
      grants = [{ project = "*", role = "READER", to = ["allAuthenticatedUsers"] }]
    })
  }

  image  = var.image
  canary = var.canary

  database = {
    delete_protection      = !var.destroying
    point_in_time_recovery = true
    daily_backup_days      = 14
    weekly_backup_weeks    = 8
  }

  monitoring = { emails = [var.oncall] }
  budget     = { billing_account = var.billing_account, monthly_amount = 50 }
  labels     = { system = "luci-scheduler" }
}

output "next" {
  description = "Commands and addresses for the next steps."
  value       = module.scheduler
}
