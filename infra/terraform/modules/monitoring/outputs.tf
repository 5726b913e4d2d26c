output "alerts" {
  description = "Names of the alerts, each of which has a page in docs/operations."
  value       = concat(keys(local.alerts), ["no-sweep"])
}
