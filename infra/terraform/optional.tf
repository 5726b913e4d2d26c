# Optional parts: a budget alert, a customer-managed key, a VPC connector.

resource "google_billing_budget" "this" {
  count = var.budget == null ? 0 : 1

  billing_account = var.budget.billing_account
  display_name    = "${local.prefix}luci-scheduler"

  budget_filter {
    projects        = ["projects/${data.google_project.this.number}"]
    calendar_period = "MONTH"
  }

  amount {
    specified_amount {
      currency_code = var.budget.currency
      units         = tostring(var.budget.monthly_amount)
    }
  }

  dynamic "threshold_rules" {
    for_each = [0.5, 0.9, 1.0]
    content {
      threshold_percent = threshold_rules.value
    }
  }
}

locals {
  # Equals the variable. Resources that use this local wait until the service agents may use the key.
  kms_key      = one(time_sleep.kms_key_known[*].triggers.key)
  database_key = one(time_sleep.kms_key_known[*].triggers.database_key)
}

# Google refuses encrypted resources until the grants on the key have spread.
resource "time_sleep" "kms_key_known" {
  count = var.kms_key == null ? 0 : 1

  create_duration = "120s"
  triggers = {
    key          = one(distinct([for service, grant in google_kms_crypto_key_iam_member.this : grant.crypto_key_id if service != "firestore"]))
    database_key = google_kms_crypto_key_iam_member.this["firestore"].crypto_key_id
  }
}

# Grants for the service agents that encrypt and decrypt with `kms_key`.
resource "google_kms_crypto_key_iam_member" "this" {
  for_each = var.kms_key == null ? {} : merge(
    {
      for service in local.encrypting_services :
      service => google_project_service_identity.this["${service}.googleapis.com"].member
    },
    { storage = one(data.google_storage_project_service_account.this[*].member) },
  )

  crypto_key_id = each.key == "firestore" ? coalesce(var.database.kms_key, var.kms_key) : var.kms_key
  role          = "roles/cloudkms.cryptoKeyEncrypterDecrypter"
  member        = each.value
}

data "google_storage_project_service_account" "this" {
  count = var.kms_key == null ? 0 : 1

  project = local.project_looked_up
}

resource "google_vpc_access_connector" "this" {
  count = var.vpc_connector == null ? 0 : 1

  project       = local.project_id
  region        = var.region
  name          = "${local.prefix}scheduler"
  network       = var.vpc_connector.network
  ip_cidr_range = var.vpc_connector.ip_cidr_range
  min_instances = 2
  max_instances = 3
}
