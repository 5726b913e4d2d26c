output "archive" {
  description = "Location of the source archive."
  value = {
    bucket = google_storage_bucket.source.name
    object = google_storage_bucket_object.functions.name
  }
}

output "repository" {
  description = "Full name of the Docker repository."
  value       = google_artifact_registry_repository.images.id
}
