variable "project_id" {
  type        = string
  description = "ID of the project for all resources, e.g. \"my-project\"."

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{4,28}[a-z0-9]$", var.project_id))
    error_message = "project_id must be the ID of a project (6 to 30 lower-case letters, digits and dashes), not its name or number: look it up with `gcloud projects list`."
  }
}

variable "region" {
  type        = string
  default     = "us-central1"
  description = "Region of functions, queue, secrets and schedules; it must have Cloud Scheduler and Cloud Tasks."

  validation {
    condition     = can(regex("^[a-z]+-[a-z]+[0-9]+$", var.region))
    error_message = "region must be a region such as \"us-central1\", not a zone or a multi-region: choose one of `gcloud run regions list`."
  }
}

variable "prefix" {
  type        = string
  default     = ""
  description = "Precedes every name, with a dash, so that one project can hold several installations."

  validation {
    condition     = var.prefix == "" || (can(regex("^[a-z][a-z0-9-]{0,8}[a-z0-9]$", var.prefix)) && !startswith(var.prefix, "goog"))
    error_message = "prefix must be empty, or 2 to 10 lower-case letters, digits and dashes that begin with a letter, end without a dash and do not begin with \"goog\", which Pub/Sub and Cloud Storage refuse: choose e.g. \"staging\"."
  }
}

variable "app_id" {
  type        = string
  default     = "luci-scheduler"
  description = "Name of this scheduler in the tags of its builds."

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{0,62}$", var.app_id))
    error_message = "app_id must be lower-case letters, digits and dashes, since builds carry it in a tag: choose e.g. \"luci-scheduler\"."
  }
}

variable "buildbucket_servers" {
  type = list(object({
    host      = string
    publisher = string
    protocol  = optional(string, "v2")
  }))
  description = "Buildbucket servers that jobs may name: the host as in configs, the account that publishes notifications, and the protocol."

  validation {
    condition     = length(var.buildbucket_servers) > 0
    error_message = "buildbucket_servers is empty, so no job could start a build: name at least one, e.g. { host = \"cr-buildbucket.appspot.com\", publisher = \"cr-buildbucket@appspot.gserviceaccount.com\" }."
  }

  validation {
    condition     = alltrue([for server in var.buildbucket_servers : can(regex("^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$", server.host))])
    error_message = "buildbucket_servers: host must be a bare host name such as \"cr-buildbucket.appspot.com\": leave out https:// and slashes."
  }

  validation {
    condition     = alltrue([for server in var.buildbucket_servers : can(regex("^[A-Za-z0-9._+-]+@[A-Za-z0-9.-]+$", server.publisher)) && length(server.publisher) <= 200])
    error_message = "buildbucket_servers: publisher must be the e-mail address of an account, at most 200 characters, without \"serviceAccount:\": it is service_account_name in `<host>/auth/api/v1/server/info`."
  }

  validation {
    condition     = alltrue([for server in var.buildbucket_servers : contains(["v1", "v2"], server.protocol)])
    error_message = "buildbucket_servers: protocol must be \"v2\", or \"v1\" for a server older than 2023."
  }

  validation {
    condition     = length(distinct(var.buildbucket_servers[*].host)) == length(var.buildbucket_servers)
    error_message = "buildbucket_servers names a host twice: leave one of them."
  }
}

variable "configs" {
  type = list(object({
    project = string
    repo    = optional(string)
    ref     = optional(string)
    path    = optional(string)
    bucket  = optional(string)
    object  = optional(string)
  }))
  description = "Sources of configs: the luci-scheduler.cfg of each LUCI project, in a Gitiles repository (repo, ref, path) or in a bucket (bucket, object)."

  validation {
    condition     = length(var.configs) > 0
    error_message = "configs is empty, so there would be no job: name at least one, e.g. { project = \"demo\", repo = \"https://HOST.googlesource.com/REPO\" }."
  }

  validation {
    condition     = alltrue([for source in var.configs : can(regex("^[a-z0-9_-]+$", source.project))])
    error_message = "configs: project must be the name of a LUCI project: lower-case letters, digits, dashes and underscores."
  }

  validation {
    condition     = length(distinct(var.configs[*].project)) == length(var.configs)
    error_message = "configs names a project twice: leave one of them."
  }

  validation {
    condition = alltrue([for source in var.configs : source.repo != null
      ? source.bucket == null && source.object == null
      : source.bucket != null && source.object != null && source.ref == null && source.path == null
    ])
    error_message = "configs: each element must have either repo (with optional ref and path), or bucket and object: leave out the others."
  }

  validation {
    condition     = alltrue([for source in var.configs : source.repo == null || can(regex("^https://[a-z0-9-]+\\.googlesource\\.com/.+$", source.repo))])
    error_message = "configs: repo must be like \"https://HOST.googlesource.com/REPO\"; a config from elsewhere can be put into a bucket."
  }
}

variable "commit_publishers" {
  type        = set(string)
  default     = []
  description = "Publishers of the topic gitiles-commit, as IAM members, e.g. \"serviceAccount:ci@my-project.iam.gserviceaccount.com\"."

  validation {
    condition     = alltrue([for member in var.commit_publishers : can(regex("^(user|group|serviceAccount|domain|principal|principalSet):.+$", member))])
    error_message = "commit_publishers must be IAM members such as \"user:me@example.com\" or \"serviceAccount:...\"; allUsers is not accepted, because a publisher starts builds."
  }
}

variable "console" {
  type = object({
    members       = optional(set(string), [])
    iap           = optional(object({ domain = string }))
    access        = optional(string)
    oauth_clients = optional(set(string), [])
  })
  default     = {}
  description = "Access to the console. members: callers of the console, as IAM members. iap: the domain behind Identity-Aware Proxy (without it, use `gcloud run services proxy`). access: the access policy, a JSON document. oauth_clients: OAuth clients whose access tokens are accepted; \"service-accounts\" accepts all service accounts."

  validation {
    condition     = alltrue([for member in var.console.members : can(regex("^(user|group|serviceAccount|domain):.+$", member))])
    error_message = "console: members must be IAM members such as \"group:builders@example.com\"; allUsers is not accepted: use a group of people."
  }

  validation {
    condition     = var.console.access == null || can(jsondecode(var.console.access))
    error_message = "console: access must be a JSON document: write it with jsonencode(...) or file(...), or leave it out to refuse every call."
  }

  validation {
    condition     = var.console.iap == null || can(regex("^([a-z0-9]([a-z0-9-]*[a-z0-9])?\\.)+[a-z]{2,}$", var.console.iap.domain))
    error_message = "console: iap.domain must be a domain of yours such as \"scheduler.example.com\", for which a certificate can be issued: leave out https:// and slashes."
  }

  validation {
    condition     = alltrue([for client in var.console.oauth_clients : can(regex("^([A-Za-z0-9._-]+[.]apps[.]googleusercontent[.]com|[0-9]+|service-accounts)$", client))])
    error_message = "console: oauth_clients must be IDs of OAuth clients such as \"123-abc.apps.googleusercontent.com\", numbers of service accounts, or \"service-accounts\" for all of them: leave out clients you do not trust."
  }
}

variable "functions" {
  type = object({
    on_gitiles_commit = optional(object({
      cpu           = optional(string, "0.3333")
      memory        = optional(string, "512Mi")
      concurrency   = optional(number, 1)
      max_instances = optional(number, 20)
    }), {})
    on_build_completion = optional(object({
      cpu           = optional(string, "0.3333")
      memory        = optional(string, "512Mi")
      concurrency   = optional(number, 1)
      max_instances = optional(number, 50)
    }), {})
    on_task = optional(object({
      cpu           = optional(string, "0.3333")
      memory        = optional(string, "512Mi")
      concurrency   = optional(number, 1)
      max_instances = optional(number, 100)
    }), {})
    console = optional(object({
      cpu           = optional(string, "1")
      memory        = optional(string, "512Mi")
      concurrency   = optional(number, 40)
      max_instances = optional(number, 3)
    }), {})
  })
  default     = {}
  description = "Sizes of the functions. A third of a CPU suits up to a few thousand builds a day. Beyond that, 1 CPU and a concurrency of 16 cost less."

  validation {
    condition     = alltrue([for size in values(var.functions) : can(tonumber(size.cpu)) && try(tonumber(size.cpu) > 0 && tonumber(size.cpu) <= 8, false)])
    error_message = "functions: cpu must be a number of CPUs above 0 and up to 8, e.g. \"0.3333\" or \"1\": write no unit."
  }

  validation {
    condition     = alltrue([for size in values(var.functions) : can(regex("^[0-9]+(Mi|Gi)$", size.memory))])
    error_message = "functions: memory must be like \"512Mi\" or \"1Gi\"."
  }

  validation {
    condition     = alltrue([for size in values(var.functions) : size.concurrency == 1 || (size.concurrency > 1 && size.concurrency <= 1000 && try(tonumber(size.cpu) >= 1, false))])
    error_message = "functions: concurrency must be at most 1000, and 1 if cpu is below 1 (a rule of Cloud Run): raise cpu to \"1\" or leave concurrency out."
  }

  validation {
    condition     = alltrue([for size in values(var.functions) : size.max_instances >= 1 && size.max_instances <= 1000])
    error_message = "functions: max_instances must be between 1 and 1000. It bounds the bill."
  }
}

variable "queue" {
  type = object({
    dispatches_per_second = optional(number, 500)
    name                  = optional(string, "luci-scheduler")
  })
  default     = {}
  description = "Rate of task dispatches, and the queue's name without the prefix. Cloud Tasks reserves the name of a deleted queue for seven days: choose another name then."

  validation {
    condition     = var.queue.dispatches_per_second > 0 && var.queue.dispatches_per_second <= 500
    error_message = "queue: dispatches_per_second must be above 0 and at most 500, the limit of Cloud Tasks for a queue."
  }

  validation {
    condition     = can(regex("^[A-Za-z0-9-]{1,89}$", var.queue.name))
    error_message = "queue: name must be 1 to 89 letters, digits and dashes; the prefix precedes it."
  }
}

variable "database" {
  type = object({
    name                   = optional(string, "luci-scheduler")
    location               = optional(string)
    delete_protection      = optional(bool, true)
    point_in_time_recovery = optional(bool, false)
    daily_backup_days      = optional(number, 7)
    weekly_backup_weeks    = optional(number, 0)
  })
  default     = {}
  description = "The Firestore database. Its default location is `region`. Before a destroy, turn delete_protection off and apply."

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{2,50}[a-z0-9]$", var.database.name))
    error_message = "database: name must be 4 to 52 lower-case letters, digits and dashes, begin with a letter and end without a dash; the prefix precedes it."
  }

  validation {
    condition     = var.database.location == null || can(regex("^([a-z]+-[a-z]+[0-9]+|nam5|nam7|eur3)$", var.database.location))
    error_message = "database: location must be a region such as \"us-central1\" or one of nam5, nam7, eur3: see `gcloud firestore locations list`."
  }

  validation {
    condition     = var.database.daily_backup_days >= 0 && var.database.daily_backup_days <= 98 && floor(var.database.daily_backup_days) == var.database.daily_backup_days
    error_message = "database: daily_backup_days must be a whole number from 0 (no daily backups) to 98, the maximum of Firestore."
  }

  validation {
    condition     = var.database.weekly_backup_weeks >= 0 && var.database.weekly_backup_weeks <= 14 && floor(var.database.weekly_backup_weeks) == var.database.weekly_backup_weeks
    error_message = "database: weekly_backup_weeks must be a whole number from 0 (no weekly backups) to 14, the maximum of Firestore."
  }
}

variable "schedules" {
  type = object({
    sync  = optional(string, "* * * * *")
    sweep = optional(string, "* * * * *")
  })
  default     = {}
  description = "Schedules of the config sync and of the sweep: five cron fields, UTC."

  validation {
    condition     = alltrue([for cron in values(var.schedules) : can(regex("^[0-9*/,-]+( [0-9A-Za-z*/,-]+){4}$", cron))])
    error_message = "schedules: sync and sweep must be five cron fields such as \"*/10 * * * *\"."
  }
}

variable "signing_key_generation" {
  type        = number
  default     = 1
  description = "Raise it by one to rotate the signing keys. The keys of the previous generation still verify."

  validation {
    condition     = var.signing_key_generation >= 1 && floor(var.signing_key_generation) == var.signing_key_generation
    error_message = "signing_key_generation must be a whole number of at least 1: raise it by one to rotate."
  }
}

variable "signing_key_rotation_days" {
  type        = number
  default     = 90
  description = "Days until an alert reports that the signing keys are due for rotation."

  validation {
    condition     = var.signing_key_rotation_days >= 3 && var.signing_key_rotation_days <= 3650
    error_message = "signing_key_rotation_days must be between 3 and 3650, because a token is valid for two days."
  }
}

variable "tuning" {
  type = object({
    check_interval_seconds     = optional(number)
    request_deadline_seconds   = optional(number)
    claim_lease_seconds        = optional(number)
    sweep_grace_seconds        = optional(number)
    concurrency                = optional(number)
    retention_days             = optional(number)
    keep_unchanged_polls       = optional(bool)
    gitiles_era                = optional(string)
    gitiles_commits_per_ref    = optional(number)
    gitiles_commits_per_poll   = optional(number)
    gitiles_backfill           = optional(bool)
    commit_wait_seconds        = optional(number)
    trust_commit_publishers    = optional(bool)
    lenient_triggers           = optional(bool)
    project_active_invocations = optional(number)
    project_pending_triggers   = optional(number)
  })
  default     = {}
  description = "Settings of the functions, see docs/reference/settings.md. An omitted member has the default of that page."

  validation {
    condition = alltrue([for value in [
      var.tuning.check_interval_seconds, var.tuning.request_deadline_seconds, var.tuning.claim_lease_seconds, var.tuning.sweep_grace_seconds,
      var.tuning.concurrency, var.tuning.gitiles_commits_per_ref, var.tuning.gitiles_commits_per_poll,
      var.tuning.project_active_invocations, var.tuning.project_pending_triggers,
    ] : value == null || try(value > 0 && floor(value) == value, false)])
    error_message = "tuning: seconds, concurrency, limits of projects and numbers of commits must be whole numbers above 0: omit a member to use its default."
  }

  validation {
    condition     = try(coalesce(var.tuning.commit_wait_seconds, 0) >= 0 && floor(coalesce(var.tuning.commit_wait_seconds, 0)) == coalesce(var.tuning.commit_wait_seconds, 0), false)
    error_message = "tuning: commit_wait_seconds must be a whole number of seconds; 0 trusts a commit without a check with its host."
  }

  validation {
    condition     = coalesce(var.tuning.retention_days, 90) >= 8 && floor(coalesce(var.tuning.retention_days, 90)) == coalesce(var.tuning.retention_days, 90)
    error_message = "tuning: retention_days must be a whole number of at least 8: messages are redelivered for a week, and their effects must be remembered longer."
  }

  validation {
    condition     = contains(["v1", "v2"], coalesce(var.tuning.gitiles_era, "v2"))
    error_message = "tuning: gitiles_era must be \"v2\" for today's rules or \"v1\" for those of 2021."
  }

  validation {
    condition     = coalesce(var.tuning.claim_lease_seconds, 75) > coalesce(var.tuning.request_deadline_seconds, 60)
    error_message = "tuning: claim_lease_seconds (75 if left out) must be above request_deadline_seconds (60 if left out), or two launches could request the same build at once: raise the lease."
  }

  validation {
    condition     = coalesce(var.tuning.request_deadline_seconds, 60) < 120
    error_message = "tuning: request_deadline_seconds must be below 120, on_build_completion's time limit: lower it."
  }
}

variable "fetch_allowed_hosts" {
  type        = set(string)
  default     = []
  description = "Hosts that url_fetch jobs may call although their addresses are private. Reaching them requires a VPC connector."

  validation {
    condition     = alltrue([for host in var.fetch_allowed_hosts : can(regex("^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$", host))])
    error_message = "fetch_allowed_hosts must be bare host names such as \"status.internal\": leave out https://, ports and slashes."
  }
}

variable "monitoring" {
  type = object({
    enabled  = optional(bool, true)
    alerts   = optional(bool, true)
    emails   = optional(set(string), [])
    channels = optional(set(string), [])
    runbooks = optional(string)
    latency = optional(object({
      seconds = optional(number, 120)
      goal    = optional(number, 0.95)
    }), {})
    silence_hours = optional(number, 6)
  })
  default     = {}
  description = "Metrics, dashboard, objective and alerts. alerts: false leaves out the alerts, which Google bills by condition. emails, channels: recipients, and existing notification channels. runbooks: https address of a copy of docs/operations. latency: the objective, a share of builds within so many seconds of their commit. silence_hours: hours with triggers and without builds until an alert."

  validation {
    condition     = alltrue([for email in var.monitoring.emails : can(regex("^[^@\\s:]+@[^@\\s]+\\.[^@\\s]+$", email))])
    error_message = "monitoring: emails must be plain addresses such as \"oncall@example.com\"."
  }

  validation {
    condition     = alltrue([for channel in var.monitoring.channels : can(regex("^projects/[^/]+/notificationChannels/[0-9]+$", channel))])
    error_message = "monitoring: channels must be full names such as \"projects/my-project/notificationChannels/123\": see `gcloud beta monitoring channels list`."
  }

  validation {
    condition     = var.monitoring.runbooks == null || can(regex("^https://[^\\s()]+[^\\s()/]$", var.monitoring.runbooks))
    error_message = "monitoring: runbooks must be an https address without a slash at its end, such as \"https://example.com/docs/operations\": leave it out if there is none."
  }

  validation {
    condition     = var.monitoring.latency.seconds > 0 && floor(var.monitoring.latency.seconds) == var.monitoring.latency.seconds && var.monitoring.latency.goal >= 0.5 && var.monitoring.latency.goal <= 0.999
    error_message = "monitoring: latency.seconds must be a whole number above 0, and latency.goal a share from 0.5 to 0.999, such as 0.95."
  }

  validation {
    condition     = var.monitoring.silence_hours >= 1 && var.monitoring.silence_hours <= 24 && floor(var.monitoring.silence_hours) == var.monitoring.silence_hours
    error_message = "monitoring: silence_hours must be a whole number from 1 to 24, because Google reads 25 hours of a log-based metric: choose more than the longest build takes."
  }
}

variable "budget" {
  type = object({
    billing_account = string
    monthly_amount  = number
    currency        = optional(string, "USD")
  })
  default     = null
  description = "Optional budget alert for the project. currency is that of the billing account."

  validation {
    condition     = var.budget == null || can(regex("^[0-9A-F]{6}-[0-9A-F]{6}-[0-9A-F]{6}$", var.budget.billing_account))
    error_message = "budget: billing_account must be like \"012345-6789AB-CDEF01\": see `gcloud billing accounts list`."
  }

  validation {
    condition     = var.budget == null || try(var.budget.monthly_amount >= 1 && floor(var.budget.monthly_amount) == var.budget.monthly_amount, false)
    error_message = "budget: monthly_amount must be a whole number of currency units, at least 1."
  }

  validation {
    condition     = var.budget == null || can(regex("^[A-Z]{3}$", var.budget.currency))
    error_message = "budget: currency must be three capital letters such as \"USD\", those of the billing account."
  }
}

variable "kms_key" {
  type        = string
  default     = null
  description = "Optional customer-managed key, in `region`, that encrypts database, topics, secrets, source and images. Set it at the first apply only."

  validation {
    condition     = var.kms_key == null || can(regex("^projects/[^/]+/locations/[^/]+/keyRings/[^/]+/cryptoKeys/[^/]+$", var.kms_key))
    error_message = "kms_key must be the full name of a key, projects/P/locations/L/keyRings/R/cryptoKeys/K: see `gcloud kms keys list`."
  }

  validation {
    condition     = var.kms_key == null || try(split("/", var.kms_key)[3], var.region) == var.region
    error_message = "kms_key must be in the region of the functions: make a key there, or change region."
  }
}

variable "vpc_connector" {
  type = object({
    network       = string
    ip_cidr_range = string
  })
  default     = null
  description = "Optional VPC connector through which functions reach private addresses. The range must be a free /28."

  validation {
    condition     = var.vpc_connector == null || can(regex("^[a-z]([a-z0-9-]{0,61}[a-z0-9])?$", var.vpc_connector.network))
    error_message = "vpc_connector: network must be the short name of a network in the project such as \"default\": see `gcloud compute networks list`."
  }

  validation {
    condition     = var.vpc_connector == null || try(cidrhost(var.vpc_connector.ip_cidr_range, 0) != "" && endswith(var.vpc_connector.ip_cidr_range, "/28"), false)
    error_message = "vpc_connector: ip_cidr_range must be a free range of 16 addresses such as \"10.8.0.0/28\"."
  }
}

variable "labels" {
  type        = map(string)
  default     = {}
  description = "Labels of all resources that have labels."

  validation {
    condition     = alltrue([for key, value in var.labels : can(regex("^[a-z][a-z0-9_-]{0,62}$", key)) && can(regex("^[a-z0-9_-]{0,63}$", value))])
    error_message = "labels must have keys and values of lower-case letters, digits, dashes and underscores, at most 63 characters, keys beginning with a letter: rename the others."
  }
}
