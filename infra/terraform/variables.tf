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
    host          = string
    publisher     = string
    protocol      = optional(string, "v2")
    notifications = optional(bool, true)
  }))
  default     = []
  description = "Buildbucket servers that jobs may name: the host as in configs, the account that publishes notifications, and the protocol. notifications: false where an organization's policy iam.allowedPolicyMemberDomains refuses that account; status checks alone find the ends of builds then."

  validation {
    condition     = length(var.buildbucket_servers) > 0 || var.cloud_build != null
    error_message = "buildbucket_servers is empty, so no job could start a build: name at least one, e.g. { host = \"cr-buildbucket.appspot.com\", publisher = \"cr-buildbucket@appspot.gserviceaccount.com\" }, or set cloud_build = {} for jobs of Cloud Build."
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
  description = "Sources of configs: the luci-scheduler.cfg of each LUCI project, in a repository of Gitiles or GitHub (repo, ref, path) or in a bucket (bucket, object). A repository of GitHub needs the credentials of the variable github."

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
    condition     = alltrue([for source in var.configs : source.repo == null || can(regex(local.gitiles_repo, source.repo)) || can(regex(local.github_repo, source.repo))])
    error_message = "configs: repo must be like \"https://HOST.googlesource.com/REPO\" or \"https://github.com/OWNER/NAME\"; a host of GitHub Enterprise must be in github.hosts, and a config from elsewhere can be put into a bucket."
  }

  validation {
    condition     = alltrue([for source in var.configs : !can(regex(local.github_repo, source.repo)) || length(local.github_credentials) > 0])
    error_message = "configs: a repository of GitHub is read every minute, and GitHub permits 60 calls an hour without credentials: set github.token or github.app, also for a public repository."
  }

  validation {
    condition     = alltrue([for source in var.configs : !can(regex("^https://(HOST\\.|[a-z.]+/OWNER/)", source.repo))])
    error_message = "configs: repo contains the placeholders of the documentation: replace HOST and REPO, or OWNER and NAME, with the parts of your repository's address."
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
    front_end            = optional(string, "iap")
    members              = optional(set(string), [])
    admins               = optional(set(string), [])
    access               = optional(string)
    domain               = optional(string)
    oauth_clients        = optional(set(string), [])
    programmatic_clients = optional(set(string), [])
  })
  default     = {}
  description = <<-EOT
    Access to the console.
    front_end: "iap" is Identity-Aware Proxy on Cloud Run. "proxy" is Cloud Run's own check of callers, for `gcloud run services proxy` and gcloud's identity tokens; it needs no organization. "load_balancer" is Identity-Aware Proxy on a load balancer with a `domain`; it alone fits an organization that limits `run.allowedIngress`. "public" checks no caller on the way, so the console's own check alone remains.
    members: callers who reach the console, as IAM members.
    admins: callers who also may do everything; without `access` they make the access policy.
    access: the access policy, a JSON document.
    oauth_clients: OAuth clients whose access tokens are accepted; "service-accounts" accepts all service accounts.
    programmatic_clients: OAuth clients whose ID tokens Identity-Aware Proxy accepts.
  EOT

  validation {
    condition     = contains(["iap", "proxy", "load_balancer", "public"], var.console.front_end)
    error_message = "console: front_end must be \"iap\", \"proxy\", \"load_balancer\" or \"public\": choose \"iap\", or \"proxy\" in a project without an organization."
  }

  validation {
    condition     = alltrue([for member in var.console.members : can(regex("^(user|group|serviceAccount|domain|principal|principalSet):.+$", member))])
    error_message = "console: members must be IAM members such as \"group:builders@example.com\"; allUsers is not accepted: use a group of people."
  }

  validation {
    condition     = alltrue([for member in var.console.admins : can(regex("^(user|serviceAccount):[^@]+@.+$|^domain:[^@]+$", member))])
    error_message = "console: admins must be like \"user:me@example.com\", \"serviceAccount:...\" or \"domain:example.com\", because the console does not read the members of Google groups: name the people."
  }

  validation {
    condition     = var.console.access == null || can(jsondecode(var.console.access))
    error_message = "console: access must be a JSON document: write it with jsonencode(...) or file(...), or leave it out to admit only `admins`."
  }

  validation {
    condition     = var.console.domain == null || can(regex("^([a-z0-9]([a-z0-9-]*[a-z0-9])?\\.)+[a-z]{2,}$", var.console.domain))
    error_message = "console: domain must be a domain of yours such as \"scheduler.example.com\", for which a certificate can be issued: leave out https:// and slashes."
  }

  validation {
    condition     = (var.console.domain != null) == (var.console.front_end == "load_balancer")
    error_message = "console: the front_end \"load_balancer\" needs a domain, and the others have none: set or leave out both."
  }

  validation {
    condition     = alltrue([for client in var.console.oauth_clients : can(regex("^([A-Za-z0-9._-]+[.]apps[.]googleusercontent[.]com|[0-9]+|service-accounts)$", client))])
    error_message = "console: oauth_clients must be IDs of OAuth clients such as \"123-abc.apps.googleusercontent.com\", numbers of service accounts, or \"service-accounts\" for all of them: leave out clients you do not trust."
  }

  validation {
    condition     = alltrue([for client in var.console.programmatic_clients : can(regex("^[A-Za-z0-9._-]+[.]apps[.]googleusercontent[.]com$", client))])
    error_message = "console: programmatic_clients must be IDs of OAuth clients such as \"123-abc.apps.googleusercontent.com\": see https://console.cloud.google.com/auth/clients."
  }

  validation {
    condition     = length(var.console.programmatic_clients) == 0 || contains(["iap", "load_balancer"], var.console.front_end)
    error_message = "console: programmatic_clients sign in through Identity-Aware Proxy: leave them out with the front_end \"${var.console.front_end}\"."
  }
}

variable "image" {
  type = object({
    build       = optional(bool, true)
    reference   = optional(string)
    runtime     = optional(string, "python312")
    worker_pool = optional(string)
  })
  default     = {}
  description = "The image of the functions. build: whether this apply builds it out of functions/. reference: an image to run instead, by digest, for a rollback or a promotion. runtime: the Python runtime of the build. worker_pool: the private pool of the build, for an organization that limits `cloudbuild.allowedWorkerPools`."

  validation {
    condition     = var.image.reference == null || can(regex("^[a-z0-9.-]+(/[A-Za-z0-9._-]+)+@sha256:[0-9a-f]{64}$", var.image.reference))
    error_message = "image: reference must name an image by digest, REGION-docker.pkg.dev/PROJECT/REPOSITORY/NAME@sha256:...: copy it from `terraform output image`."
  }

  validation {
    condition     = var.image.build || var.image.reference != null
    error_message = "image: with build = false there is no image to run: set reference to the image of another installation."
  }

  validation {
    condition     = can(regex("^python3(1[1-9]|[2-9][0-9])$", var.image.runtime))
    error_message = "image: runtime must be a Python runtime of Cloud Run functions from python311 on: see `gcloud functions runtimes list`."
  }

  validation {
    condition     = var.image.worker_pool == null || can(regex("^projects/[^/]+/locations/[^/]+/workerPools/[^/]+$", var.image.worker_pool))
    error_message = "image: worker_pool must be the full name of a pool, projects/P/locations/L/workerPools/W: see `gcloud builds worker-pools list`."
  }
}

variable "canary" {
  type = object({
    percent = number
    stable  = map(string)
  })
  default     = null
  description = "Traffic split during an upgrade. percent: share of the latest revision. stable: function → revision with the remaining traffic, e.g. the output `revisions` from before the upgrade. Null gives the latest revisions all traffic."

  validation {
    condition     = var.canary == null || try(var.canary.percent >= 0 && var.canary.percent <= 100 && floor(var.canary.percent) == var.canary.percent, false)
    error_message = "canary: percent must be a whole number from 0 (all traffic to the stable revisions) to 100."
  }

  validation {
    condition     = var.canary == null || try(length(var.canary.stable) > 0 && alltrue([for name, revision in var.canary.stable : startswith(revision, "${local.names[name]}-") && can(regex("^[a-z0-9-]+$", revision))]), false)
    error_message = "canary: stable must name a revision of at least one function, such as on_task = \"${local.names.on_task}-00001-abc\": copy them from `terraform output revisions`."
  }
}

variable "functions" {
  type = object({
    on_gitiles_commit = optional(object({
      cpu           = optional(string, "0.1666")
      memory        = optional(string, "256Mi")
      concurrency   = optional(number, 1)
      max_instances = optional(number, 20)
    }), {})
    on_build_completion = optional(object({
      cpu           = optional(string, "0.1666")
      memory        = optional(string, "256Mi")
      concurrency   = optional(number, 1)
      max_instances = optional(number, 50)
    }), {})
    on_cloud_build = optional(object({
      cpu           = optional(string, "0.1666")
      memory        = optional(string, "256Mi")
      concurrency   = optional(number, 1)
      max_instances = optional(number, 20)
    }), {})
    on_task = optional(object({
      cpu           = optional(string, "0.1666")
      memory        = optional(string, "256Mi")
      concurrency   = optional(number, 1)
      max_instances = optional(number, 50)
    }), {})
    console = optional(object({
      cpu           = optional(string, "1")
      memory        = optional(string, "512Mi")
      concurrency   = optional(number, 40)
      max_instances = optional(number, 3)
    }), {})
  })
  default     = {}
  description = "Sizes of the functions. A sixth of a CPU suits up to a few thousand builds a day. Beyond that, 1 CPU and a concurrency of 16 cost less."

  validation {
    condition     = alltrue([for size in values(var.functions) : try(contains([1, 2, 4, 6, 8], tonumber(size.cpu)) || (tonumber(size.cpu) >= 0.08 && tonumber(size.cpu) < 1), false)])
    error_message = "functions: cpu must be 1, 2, 4, 6, 8, or from 0.08 to below 1, the sizes of Cloud Run: choose one, e.g. \"0.1666\", and write no unit."
  }

  validation {
    condition     = alltrue([for size in values(var.functions) : can(regex("^[0-9]+(Mi|Gi)$", size.memory))])
    error_message = "functions: memory must be like \"512Mi\" or \"1Gi\"."
  }

  validation {
    # In MiB. A cpu or a memory that is no number has its own message above.
    condition = alltrue([for size in values(var.functions) : try(
      tonumber(replace(size.memory, "/[MG]i$/", "")) * (endswith(size.memory, "Gi") ? 1024 : 1) >= lookup({ "4" = 2048, "6" = 4096, "8" = 4096 }, size.cpu, 128) &&
      tonumber(replace(size.memory, "/[MG]i$/", "")) * (endswith(size.memory, "Gi") ? 1024 : 1) <= (tonumber(size.cpu) < 0.5 ? 512 : tonumber(size.cpu) < 1 ? 1024 : tonumber(size.cpu) * 4096),
      true,
    )])
    error_message = "functions: memory must fit cpu, a rule of Cloud Run: at most 512Mi below 0.5 CPUs, 1Gi below 1 CPU, otherwise 4Gi for each CPU; at least 128Mi, 2Gi with 4 CPUs, 4Gi with 6 or 8: change one of them."
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

variable "quota" {
  type = object({
    cpu        = optional(number, 20)
    memory_gib = optional(number, 40)
  })
  default     = {}
  description = "Quotas of Cloud Run in the region, per service: total CPUs (CpuAllocPerProjectRegion) and total memory (MemAllocPerProjectRegion) of all instances. The default is that of a new project. Set what https://console.cloud.google.com/iam-admin/quotas shows."

  validation {
    condition     = try(var.quota.cpu > 0 && var.quota.memory_gib > 0, false)
    error_message = "quota: cpu and memory_gib must be above 0: copy them from https://console.cloud.google.com/iam-admin/quotas."
  }

  # Cloud Run compares the largest number of instances of each service with the quota when the service is deployed.
  validation {
    condition = alltrue([for size in local.sizes : size.cpu * size.instances <= var.quota.cpu || var.quota.cpu <= 0])
    error_message = join(" ", concat(
      ["The variable quota refuses these sizes of functions, as Cloud Run would (CpuAllocPerProjectRegion)."],
      [for name, size in local.sizes : format("%s needs up to %.1f CPUs of %g, so at most %d instances fit.", name, size.cpu * size.instances, var.quota.cpu, floor(var.quota.cpu / size.cpu)) if size.cpu * size.instances > var.quota.cpu],
      ["Lower max_instances, or raise the quota at https://console.cloud.google.com/iam-admin/quotas and set quota.cpu to it."],
    ))
  }

  validation {
    condition = alltrue([for size in local.sizes : size.gib * size.instances <= var.quota.memory_gib || var.quota.memory_gib <= 0])
    error_message = join(" ", concat(
      ["The variable quota refuses these sizes of functions, as Cloud Run would (MemAllocPerProjectRegion)."],
      [for name, size in local.sizes : format("%s needs up to %.1f GiB of %g, so at most %d instances fit.", name, size.gib * size.instances, var.quota.memory_gib, floor(var.quota.memory_gib / size.gib)) if size.gib * size.instances > var.quota.memory_gib],
      ["Lower max_instances, or raise the quota at https://console.cloud.google.com/iam-admin/quotas and set quota.memory_gib to it."],
    ))
  }
}

variable "queue" {
  type = object({
    dispatches_per_second = optional(number, 500)
    name                  = optional(string, "luci-scheduler")
  })
  default     = {}
  description = "Rate of task dispatches, and the queue's name without the prefix. Cloud Tasks may refuse the name of a deleted queue for three days: choose another name then."

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
    kms_key                = optional(string)
    delete_protection      = optional(bool, true)
    point_in_time_recovery = optional(bool, false)
    daily_backup_days      = optional(number, 7)
    weekly_backup_weeks    = optional(number, 0)
  })
  default     = {}
  description = "The Firestore database. Its default location is `region`. kms_key: the key of a database that is not in `region`; the default is the variable kms_key. Before a destroy, turn delete_protection off and apply: otherwise the destroy stops before it deletes anything."

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
  description = "Raise it by one to rotate the signing keys. The next key is known to every function before it signs, and the previous key still verifies. If the current key leaked, raise it by two; if all keys leaked, by three: tokens of the leaked keys are refused then, and status checks find the ends of those builds."

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

variable "cloud_build" {
  type = object({
    project      = optional(string)
    location     = optional(string, "global")
    account      = optional(string)
    create_topic = optional(bool, true)
    role         = optional(string)
    projects = optional(map(object({
      accounts     = set(string)
      create_topic = optional(bool, true)
    })), {})
    private_pools          = optional(set(string), [])
    check_interval_seconds = optional(number)
    run_seconds            = optional(number)
  })
  default     = null
  description = <<-EOT
    Jobs of the kind `cloud_build`. Null: there are none. `{}` suits one project.
    project, location, account: where builds run and under which account, unless a job names others. Without project, builds run in this project. Without account, the module makes one, which may write logs.
    create_topic: whether to make the topic `cloud-builds`. False where it exists.
    role: an existing role of the scheduler in the builds' projects. Without it, the module makes one with four permissions.
    projects: further projects and accounts that jobs may name. The accounts must exist.
    private_pools: the private pools that jobs name.
    check_interval_seconds: seconds between status checks; 0 is a random time of one to ten minutes. run_seconds: limit for the start of a trigger.
  EOT

  validation {
    condition     = alltrue([for project in compact(concat([try(var.cloud_build.project, null)], keys(try(var.cloud_build.projects, {})))) : can(regex("^[a-z][a-z0-9-]{4,28}[a-z0-9]$", project))])
    error_message = "cloud_build: project, and each key of projects, must be the ID of a project, not its name or number: look it up with `gcloud projects list`."
  }

  validation {
    condition     = var.cloud_build == null || can(regex("^(global|[a-z]+-[a-z]+[0-9]+)$", var.cloud_build.location))
    error_message = "cloud_build: location must be \"global\" or a region such as \"us-central1\": choose the region of your private pool or of your connected repository."
  }

  validation {
    condition     = alltrue([for account in compact(concat([try(var.cloud_build.account, null)], flatten([for more in values(try(var.cloud_build.projects, {})) : tolist(more.accounts)]))) : can(regex("^[a-z][a-z0-9-]{4,28}[a-z0-9]@[a-z][a-z0-9-]{4,28}[a-z0-9]\\.iam\\.gserviceaccount\\.com$", account))])
    error_message = "cloud_build: account and accounts must be the e-mails of accounts that you made, such as \"builds@my-project.iam.gserviceaccount.com\", without \"serviceAccount:\". Google's default accounts have too many rights for builds: see `gcloud iam service-accounts list`."
  }

  validation {
    condition     = alltrue([for account in compact(concat([try(var.cloud_build.account, null)], flatten([for more in values(try(var.cloud_build.projects, {})) : tolist(more.accounts)]))) : !can(regex("^([a-z0-9-]+-)?sched-(functions|console|push|tasks|cron|build|webhook)@", account))])
    error_message = "cloud_build: a build runs foreign code, so it must not run as an account of the installation: leave account out, or name an account for builds alone."
  }

  validation {
    condition     = try(var.cloud_build.role, null) == null || can(regex("^(roles/cloudbuild[.]builds[.]editor|(projects|organizations)/[^/]+/roles/[A-Za-z0-9_.]+)$", var.cloud_build.role))
    error_message = "cloud_build: role must be \"roles/cloudbuild.builds.editor\" or the full name of a custom role with cloudbuild.builds.create, get, list and update: leave it out, and the module makes that role."
  }

  validation {
    condition     = alltrue([for pool in try(var.cloud_build.private_pools, []) : can(regex("^projects/[a-z][a-z0-9-]+/locations/[a-z0-9-]+/workerPools/[A-Za-z0-9-]+$", pool))])
    error_message = "cloud_build: private_pools must be full names of pools, projects/P/locations/L/workerPools/W: see `gcloud builds worker-pools list`."
  }

  validation {
    condition     = try(coalesce(var.cloud_build.check_interval_seconds, 0), 0) >= 0 && floor(try(coalesce(var.cloud_build.check_interval_seconds, 0), 0)) == try(coalesce(var.cloud_build.check_interval_seconds, 0), 0)
    error_message = "cloud_build: check_interval_seconds must be a whole number of seconds: leave it out, or 0, for a random time of one to ten minutes."
  }

  validation {
    condition     = contains(range(1, 181), try(coalesce(var.cloud_build.run_seconds, 120), 120))
    error_message = "cloud_build: run_seconds must be a whole number from 1 to 180, the limit of Google for the start of a trigger: leave it out for 120."
  }
}

variable "github" {
  type = object({
    token = optional(object({ secret = string, version = optional(string, "latest") }))
    app = optional(object({
      id              = string
      installation_id = string
      private_key     = object({ secret = string, version = optional(string, "latest") })
    }))
    statuses         = optional(bool, false)
    hosts            = optional(map(string), {})
    credentials_host = optional(string, "github.com")
    webhook = optional(object({
      secret               = string
      version              = optional(string, "latest")
      invoker_iam_disabled = optional(bool, false)
    }))
    actions = optional(object({
      owner_id       = string
      repository_ids = set(string)
      ref            = optional(string)
      pool           = optional(string, "luci-scheduler-github")
    }))
  })
  default     = null
  description = <<-EOT
    GitHub as a host of commits and configs. Every secret exists in Secret Manager of this project, with a version: Terraform reads no value.
    token: a fine-grained token. app: a GitHub App, with its ID or client ID, the ID of its installation and its private key. Choose one of them.
    statuses: whether the ends of invocations become commit statuses.
    hosts: hosts of GitHub Enterprise → address of their API. credentials_host: the only host that gets the credentials.
    webhook: a public function that publishes pushes. secret: the secret that GitHub signs with; during a rotation its value is `NEW,OLD`. invoker_iam_disabled: true where an organization's policy iam.allowedPolicyMemberDomains refuses allUsers; Cloud Run then checks no caller of the webhook.
    actions: workflows of GitHub Actions that publish pushes, without a public function. owner_id, repository_ids: numeric IDs, see docs/how-to/deploy-github.md. ref: the only ref whose workflows may publish. pool: name of the workload identity pool, which Google keeps for thirty days after a destroy.
  EOT

  validation {
    condition     = try(var.github.token, null) == null || try(var.github.app, null) == null
    error_message = "github: token and app are two ways to authenticate the same calls: leave out one of them."
  }

  validation {
    condition     = alltrue([for given in [try(var.github.token, null), try(var.github.app.private_key, null), try(var.github.webhook, null)] : given == null || (can(regex("^[A-Za-z0-9_-]{1,255}$", given.secret)) && can(regex("^(latest|[1-9][0-9]*)$", given.version)))])
    error_message = "github: secret must be the short name of a secret in this project, never its value, and version \"latest\" or a number: make one with `gcloud secrets create github-token --data-file=FILE`."
  }

  validation {
    condition     = try(var.github.webhook.secret, null) == null || !contains([for given in [try(var.github.token, null), try(var.github.app.private_key, null)] : try(given.secret, "")], try(var.github.webhook.secret, ""))
    error_message = "github: the public function reads webhook.secret, so that secret must not hold the token or the key of an app: make another one with `openssl rand -hex 32`."
  }

  validation {
    condition     = try(var.github.app, null) == null || (can(regex("^[A-Za-z0-9._-]{1,64}$", var.github.app.id)) && can(regex("^[1-9][0-9]*$", var.github.app.installation_id)))
    error_message = "github: app.id must be the ID or client ID of the app, and app.installation_id the number at the end of the installation's address, https://github.com/settings/installations/NUMBER."
  }

  validation {
    condition     = !try(var.github.statuses, false) || try(var.github.token, null) != null || try(var.github.app, null) != null
    error_message = "github: statuses are written with credentials that may write commit statuses: set token or app, or leave statuses out."
  }

  validation {
    condition     = alltrue([for host, api in try(var.github.hosts, {}) : can(regex("^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$", host)) && !can(regex("(^|[.])(github|googlesource)[.]com$", host)) && can(regex("^https://[^\\s/]+(/[^\\s/]+)*$", api))])
    error_message = "github: hosts must be like { \"git.example.com\" = \"https://git.example.com/api/v3\" }, without a slash at the end. github.com needs no entry."
  }

  validation {
    condition     = contains(concat(["github.com"], keys(try(var.github.hosts, {}))), try(var.github.credentials_host, "github.com"))
    error_message = "github: credentials_host must be github.com or a host in hosts: correct its name, or leave it out."
  }

  validation {
    condition     = try(var.github.actions, null) == null || (can(regex("^[1-9][0-9]*$", var.github.actions.owner_id)) && length(try(var.github.actions.repository_ids, [])) > 0 && alltrue([for id in try(var.github.actions.repository_ids, []) : can(regex("^[1-9][0-9]*$", id))]))
    error_message = "github: actions.owner_id and actions.repository_ids must be numbers, because names can change hands: copy `id` and `owner.id` from https://api.github.com/repos/OWNER/NAME, for at least one repository."
  }

  validation {
    condition     = try(var.github.actions.ref, null) == null || can(regex("^refs/(heads|tags)/[A-Za-z0-9._/-]+$", var.github.actions.ref))
    error_message = "github: actions.ref must be one full ref such as \"refs/heads/main\": leave it out to accept workflows of every branch."
  }

  validation {
    condition     = try(var.github.actions, null) == null || can(regex("^[a-z][a-z0-9-]{2,19}[a-z0-9]$", try(var.github.actions.pool, "")))
    error_message = "github: actions.pool must be 4 to 21 lower-case letters, digits and dashes, begin with a letter and end without a dash; the prefix precedes it. Leave it out, or choose e.g. \"github-2\"."
  }
}

variable "invocation_events" {
  type = object({
    enabled     = optional(bool, false)
    subscribers = optional(set(string), [])
  })
  default     = {}
  description = "The topic invocation-events, which announces starts and ends of invocations. enabled: whether there is one. subscribers: IAM members who may attach subscriptions to it, besides those with rights in the project."

  validation {
    condition     = alltrue([for member in var.invocation_events.subscribers : can(regex("^(user|group|serviceAccount|domain|principal|principalSet):.+$", member))])
    error_message = "invocation_events: subscribers must be IAM members such as \"serviceAccount:...\"; allUsers is not accepted, because messages name people and commits: list the readers."
  }

  validation {
    condition     = var.invocation_events.enabled || length(var.invocation_events.subscribers) == 0
    error_message = "invocation_events: there is no topic to subscribe to: set enabled = true, or leave out subscribers."
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
  description = "Optional customer-managed key, in `region`, that encrypts database, topics, secrets, source and images. Set it at the first apply only. Google allows no Firestore database with such a key until the project is on its allowlist: request that before the first apply."

  validation {
    condition     = var.kms_key == null || can(regex("^projects/[^/]+/locations/[^/]+/keyRings/[^/]+/cryptoKeys/[^/]+$", var.kms_key))
    error_message = "kms_key must be the full name of a key, projects/P/locations/L/keyRings/R/cryptoKeys/K: see `gcloud kms keys list`."
  }

  validation {
    condition     = var.kms_key == null || try(split("/", var.kms_key)[3], var.region) == var.region
    error_message = "kms_key must be in the region of the functions: make a key there, or change region."
  }

  validation {
    condition = var.kms_key == null ? var.database.kms_key == null : (
      var.database.kms_key == null ? var.region : try(regex("^projects/[^/]+/locations/([^/]+)/keyRings/[^/]+/cryptoKeys/[^/]+$", var.database.kms_key)[0], "no key")
    ) == lookup({ nam5 = "us", eur3 = "europe" }, coalesce(var.database.location, var.region), coalesce(var.database.location, var.region))
    error_message = "kms_key: the database's key must be where the database is: in \"us\" for nam5, in \"europe\" for eur3, otherwise in the same region. Beside kms_key, set database.kms_key to the full name of such a key, or change database.location."
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
