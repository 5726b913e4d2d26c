output "reference" {
  description = "Image that the functions run: the given reference, otherwise the built image, by digest."
  value       = var.image.reference != null ? var.image.reference : one(data.google_artifact_registry_docker_image.built[*].self_link)
}
