variable "project_id" { type = string }

module "scheduler" {
  source     = "../.."
  project_id = var.project_id
  buildbucket_servers = [
    { host = "cr-buildbucket.appspot.com", publisher = "cr-buildbucket@appspot.gserviceaccount.com" },
  ]
}

output "next" { value = module.scheduler }
