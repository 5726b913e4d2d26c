# Addresses of earlier versions. A move of the whole module would fail after `terraform import`, which creates the new
# module in the state.

moved {
  from = module.source.google_storage_bucket.source
  to   = module.image.google_storage_bucket.source[0]
}

moved {
  from = module.source.google_storage_bucket_object.functions
  to   = module.image.google_storage_bucket_object.functions[0]
}

moved {
  from = module.source.google_artifact_registry_repository.images
  to   = module.image.google_artifact_registry_repository.images[0]
}

moved {
  from = module.source.google_artifact_registry_repository_iam_member.build
  to   = module.image.google_artifact_registry_repository_iam_member.build[0]
}

moved {
  from = module.source.google_project_iam_member.build_reads_source
  to   = module.image.google_project_iam_member.build_reads_source[0]
}

moved {
  from = module.source.google_storage_bucket_iam_member.build
  to   = module.image.google_storage_bucket_iam_member.build[0]
}

moved {
  from = module.source.google_project_iam_member.build_logs
  to   = module.image.google_project_iam_member.build_logs[0]
}

moved {
  from = module.source.time_sleep.build_account_known
  to   = module.image.time_sleep.build_account_known[0]
}
