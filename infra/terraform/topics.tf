# Topics, each with a push subscription to a function and a dead-letter topic.

locals {
  # These are also the functions' time limits.
  ack_deadline_seconds = {
    on_gitiles_commit   = 300
    on_build_completion = 120
    on_cloud_build      = 120
  }

  commit_topic = "${local.prefix}gitiles-commit"

  # The original derives these names. A publisher may serve several hosts.
  publisher_topics = {
    for publisher in toset([for server in var.buildbucket_servers : server.publisher if server.notifications]) :
    publisher => "${local.prefix}scheduler.buildbucket.${replace(publisher, "@", "~")}"
  }

  topics = merge(
    {
      commits = { name = local.commit_topic, function = "on_gitiles_commit", publishers = var.commit_publishers }
    },
    {
      for publisher, name in local.publisher_topics : publisher => {
        name       = name
        function   = "on_build_completion"
        publishers = ["${endswith(publisher, ".gserviceaccount.com") ? "serviceAccount" : "user"}:${publisher}"]
      }
    },
  )
}

module "topic" {
  source   = "./modules/push_topic"
  for_each = local.topics

  project_id           = local.project_id
  name                 = each.value.name
  publishers           = each.value.publishers
  url                  = local.urls[each.value.function]
  push_account         = google_service_account.this["push"].email
  ack_deadline_seconds = local.ack_deadline_seconds[each.value.function]
  pubsub_agent         = google_project_service_identity.this["pubsub.googleapis.com"].member
  kms_key              = local.kms_key
  labels               = var.labels

  # Messages must not arrive before the push account may call the function.
  depends_on = [module.function]
}
