variable "project_id" { type = string }
variable "repo" { type = string } # "https://github.com/OWNER/NAME" with luci-scheduler.cfg
variable "you" { type = string }  # e.g. "user:me@example.com"

module "scheduler" {
  source      = "../.."
  project_id  = var.project_id
  configs     = [{ project = "demo", repo = var.repo, ref = "refs/heads/main" }]
  console     = { front_end = "proxy", members = [var.you], admins = [var.you] }
  cloud_build = {}
  github      = { token = { secret = "github-token" } }
}
output "next" { value = module.scheduler }
