# The image with mocked providers: a build, a rollback, promotions, and a build without a result.

mock_provider "google" {
  mock_data "google_cloud_run_v2_service" {
    defaults = { template = [{ containers = [{ image = "us-central1-docker.pkg.dev/my-project/blue-luci-scheduler/built:version_1" }] }] }
  }
  mock_data "google_artifact_registry_docker_image" {
    defaults = { self_link = "us-central1-docker.pkg.dev/my-project/blue-luci-scheduler/built@sha256:0123" }
  }
}

mock_provider "archive" {
  mock_data "archive_file" {
    defaults = { output_sha256 = "0123456789abcdef" }
  }
}

mock_provider "time" {}

variables {
  project_id     = "my-project"
  project_number = "123456789012"
  region         = "us-central1"
  prefix         = "blue-"
  folder         = "../../functions"
  image          = { build = true, reference = null, runtime = "python313", worker_pool = "projects/p/locations/l/workerPools/w" }
  build_account  = { name = "n", email = "build@my-project.iam.gserviceaccount.com", member = "serviceAccount:build@my-project.iam.gserviceaccount.com" }
  kms_key        = null
  labels         = {}
}

run "built" {
  module {
    source = "./modules/image"
  }

  assert {
    condition     = data.google_artifact_registry_docker_image.built[0].image_name == "built:version_1"
    error_message = "The digest is that of the image which the builder's service runs."
  }
  assert {
    condition     = output.reference == "us-central1-docker.pkg.dev/my-project/blue-luci-scheduler/built@sha256:0123"
    error_message = "The output names the image by digest, because a new build may reuse the tag."
  }
  assert {
    condition     = google_cloudfunctions2_function.builder[0].build_config[0].runtime == "python313" && google_cloudfunctions2_function.builder[0].build_config[0].worker_pool == "projects/p/locations/l/workerPools/w"
    error_message = "The build uses the given runtime and pool."
  }
  assert {
    condition     = length(google_cloudfunctions2_function.builder[0].build_config[0].on_deploy_update_policy) == 1
    error_message = "The image contains its base. Otherwise the four services would start without Python."
  }
  assert {
    condition     = length(google_cloud_run_v2_service_iam_binding.builder[0].members) == 0 && google_cloudfunctions2_function.builder[0].service_config[0].ingress_settings == "ALLOW_INTERNAL_ONLY"
    error_message = "Nothing may call the builder."
  }
}

run "rolled_back" {
  command = plan

  module {
    source = "./modules/image"
  }

  variables {
    image = { build = true, reference = "us-central1-docker.pkg.dev/my-project/blue-luci-scheduler/built@sha256:0000", runtime = "python313", worker_pool = null }
  }

  assert {
    condition     = output.reference == var.image.reference && length(data.google_artifact_registry_docker_image.built) == 0
    error_message = "The given image wins over the built one, which may be gone."
  }
}

run "promoted_from_another_project" {
  command = plan

  module {
    source = "./modules/image"
  }

  variables {
    image         = { build = false, reference = "us-central1-docker.pkg.dev/staging/luci-scheduler/built@sha256:0123", runtime = "python313", worker_pool = null }
    build_account = null
  }

  assert {
    condition = sum([
      length(google_artifact_registry_repository.images), length(google_artifact_registry_repository_iam_member.build), length(google_cloud_run_v2_service_iam_binding.builder),
      length(google_cloudfunctions2_function.builder), length(google_project_iam_member.build_logs), length(google_project_iam_member.build_reads_source),
      length(google_storage_bucket.source), length(google_storage_bucket_iam_member.build), length(google_storage_bucket_object.functions), length(time_sleep.build_account_known),
    ]) == 0
    error_message = "None of the build's parts exists."
  }
}

run "promoted_within_the_project" {
  command = plan

  module {
    source = "./modules/image"
  }

  variables {
    image         = { build = false, reference = "us-central1-docker.pkg.dev/my-project/blue-luci-scheduler/built@sha256:0123", runtime = "python313", worker_pool = null }
    build_account = null
  }

  assert {
    condition     = length(google_artifact_registry_repository.images) == 1 && length(google_cloudfunctions2_function.builder) == 0
    error_message = "The repository stays, because it holds the image."
  }
}

run "a_build_without_an_image" {
  command = plan

  module {
    source = "./modules/image"
  }

  override_data {
    target = data.google_artifact_registry_docker_image.built[0]
    values = { self_link = "" }
  }

  expect_failures = [output.reference]
}
