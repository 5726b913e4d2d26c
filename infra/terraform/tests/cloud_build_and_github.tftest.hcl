# Choices of the optional objects that no applied configuration has: an existing topic, role and account; no public member.

mock_provider "google" {
  mock_resource "google_service_account" {
    defaults = {
      email  = "mock@my-project.iam.gserviceaccount.com"
      member = "serviceAccount:mock@my-project.iam.gserviceaccount.com"
      name   = "projects/my-project/serviceAccounts/mock@my-project.iam.gserviceaccount.com"
    }
  }
}

mock_provider "google-beta" {
  mock_resource "google_project_service_identity" {
    defaults = { member = "serviceAccount:service-1@gcp-sa-cloudbuild.iam.gserviceaccount.com" }
  }
}

mock_provider "time" {}

run "a_project_with_a_topic_a_role_and_an_account" {
  module {
    source = "./modules/build_project"
  }

  variables {
    project_id     = "my-project"
    prefix         = "staging-"
    enable_apis    = false
    scheduler      = "serviceAccount:functions@my-project.iam.gserviceaccount.com"
    role           = "roles/cloudbuild.builds.editor"
    create_account = false
    accounts       = ["builds-1@other-project.iam.gserviceaccount.com"]
    create_topic   = false
    kms_key        = null
    labels         = {}
  }

  assert {
    condition     = output.topic == "projects/my-project/topics/cloud-builds" && length(google_pubsub_topic.cloud_builds) == 0 && length(google_pubsub_topic_iam_member.publisher) == 0
    error_message = "Another configuration owns the topic and its grant, so a destroy of this one leaves both."
  }
  assert {
    condition     = length(google_project_iam_custom_role.builds) == 0 && google_project_iam_member.scheduler.role == "roles/cloudbuild.builds.editor"
    error_message = "A given role replaces the new one."
  }
  assert {
    condition     = output.account == null && length(google_project_iam_member.logs) == 0
    error_message = "A given account gets no role."
  }
  assert {
    condition     = [for grant in google_service_account_iam_member.scheduler_acts_as : grant.service_account_id] == ["projects/other-project/serviceAccounts/builds-1@other-project.iam.gserviceaccount.com"]
    error_message = "The scheduler may act as the account, which is in the project of its address."
  }
  assert {
    condition     = length(google_project_service.this) == 0
    error_message = "The root enables the APIs of the installation's own project."
  }
}

run "another_project_gets_its_apis_first" {
  module {
    source = "./modules/build_project"
  }

  variables {
    project_id     = "other-project"
    prefix         = ""
    enable_apis    = true
    scheduler      = "serviceAccount:functions@my-project.iam.gserviceaccount.com"
    role           = null
    create_account = true
    accounts       = []
    create_topic   = true
    kms_key        = null
    labels         = {}
  }

  assert {
    condition     = keys(google_project_service.this) == ["cloudbuild.googleapis.com", "cloudresourcemanager.googleapis.com", "iam.googleapis.com", "pubsub.googleapis.com"] && time_sleep.apis_known[0].create_duration == "60s"
    error_message = "Every API has a minute before its first use."
  }
  assert {
    condition     = google_project_iam_custom_role.builds[0].role_id == "luci_scheduler_builds" && google_project_iam_custom_role.builds[0].project == "other-project"
    error_message = "A role of a project serves that project only."
  }
  assert {
    condition     = google_service_account.steps[0].project == "other-project" && google_service_account_iam_member.scheduler_acts_as_steps[0].role == "roles/iam.serviceAccountUser"
    error_message = "The account of the builds is in their project, and the scheduler may act as it."
  }
}

run "no_public_member" {
  module {
    source = "./modules/github_webhook"
  }

  variables {
    project_id           = "my-project"
    region               = "us-central1"
    prefix               = ""
    name                 = "luci-scheduler-on-github-push"
    image                = "us-central1-docker.pkg.dev/my-project/luci-scheduler/built@sha256:0123"
    topic                = "projects/my-project/topics/gitiles-commit"
    secret               = { name = "github-webhook", version = "2" }
    environment          = {}
    invoker_iam_disabled = true
    kms_key              = null
    labels               = {}
  }

  assert {
    condition     = length(google_cloud_run_v2_service_iam_binding.invokers.members) == 0 && google_cloud_run_v2_service.this.invoker_iam_disabled
    error_message = "Where allUsers is forbidden, Cloud Run checks no caller, and there is no member."
  }
  assert {
    condition     = [for variable in google_cloud_run_v2_service.this.template[0].containers[0].env : variable.value_source[0].secret_key_ref[0].version if variable.name == "SCHEDULER_GITHUB_WEBHOOK_SECRETS"] == ["2"]
    error_message = "A version can be pinned."
  }
}
