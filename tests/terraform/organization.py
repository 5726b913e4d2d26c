"""An organization's policies, the switches of the configuration that answer them, and plans under both."""

import re
from subprocess import CompletedProcess
from typing import Any

from tests.terraform.configurations import PROJECT, SERVERS
from tests.terraform.tool import ROOT, Terraform

POOL = f"projects/{PROJECT}/locations/us-central1/workerPools/pool"
POLICIES = {
    "iam.allowedPolicyMemberDomains": "example.com",
    "run.allowedIngress": "internal|internal-and-cloud-load-balancing",
    "cloudbuild.allowedWorkerPools": POOL,
    "gcp.resourceLocations": "in:us-locations",
    "iam.disableServiceAccountKeyCreation": "",
    "storage.uniformBucketLevelAccess": "",
}
"""Policy → its permitted values."""
SWITCHED: dict[str, Any] = {
    "project_id": PROJECT,
    "configs": [{"project": "demo", "repo": "https://demo.googlesource.com/demo"}],
    "database": {"delete_protection": False},
    "buildbucket_servers": [{**server, "notifications": False} for server in SERVERS],
    "console": {"front_end": "load_balancer", "domain": "scheduler.example.com", "members": ["group:team@example.com"]},
    "image": {"worker_pool": POOL},
}
"""The configuration for an organization with all these policies."""
SWITCHES: dict[str, dict[str, Any]] = {
    "iam.allowedPolicyMemberDomains": {"buildbucket_servers": SERVERS},
    "run.allowedIngress": {"console": {"members": ["group:team@example.com"]}},
    "cloudbuild.allowedWorkerPools": {"image": {}},
}
"""Policy → the variables without the switch that answers it. The default configuration obeys the other policies."""


def setting(*names: str) -> str:
    """Return the stand-ins' setting for the named policies."""
    return ",".join(f"{name}={POLICIES[name]}".rstrip("=") for name in names)


def plan_under_policies(terraform: Terraform, *unswitched: str) -> dict[str, CompletedProcess[str]]:
    """Plan the configuration with all switches, and with all but that of each policy in ``unswitched``."""
    tried = {"": SWITCHED, **{policy: {**SWITCHED, **SWITCHES[policy]} for policy in unswitched}}
    return {
        policy: terraform.run(
            ROOT, "plan", terraform.given(variables), PLAN="refuse", ORG_POLICIES=setting(*POLICIES), SERVICES="on"
        )
        for policy, variables in tried.items()
    }


def refusing(done: CompletedProcess[str]) -> set[str]:
    """Return the policies that a refusal names."""
    said = re.sub(r"[\s│]+", " ", done.stdout + done.stderr)
    return {policy for policy in POLICIES if f"constraints/{policy}" in said}
