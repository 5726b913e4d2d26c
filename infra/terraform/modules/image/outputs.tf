output "reference" {
  description = "Image that the functions run: the given reference, otherwise the built image, by digest."
  value       = var.image.reference != null ? var.image.reference : one(data.google_artifact_registry_docker_image.built[*].self_link)

  precondition {
    condition     = var.image.reference != null || coalesce(one(data.google_artifact_registry_docker_image.built[*].self_link), "-") != "-"
    error_message = "The repository ${local.repository} has no built image: run `terraform apply -replace='module.image.google_cloudfunctions2_function.builder[0]'` to build again."
  }
}
