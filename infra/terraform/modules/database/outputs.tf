output "name" {
  description = "Name of the database, known when its indexes exist."
  value       = google_firestore_database.this.name

  # Without the indexes, Firestore would refuse the queries of new functions.
  depends_on = [google_firestore_field.indexed, google_firestore_index.job_lists]
}
