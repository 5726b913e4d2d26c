"""The functions as Terraform deploys them: Cloud Run services."""

from dataclasses import dataclass
from typing import Any

from emulator.supervisor import FUNCTIONS
from tests.terraform.tool import Resource

EVENTS = {"on_gitiles_commit", "on_build_completion", "on_cloud_build"}
"""The functions that Pub/Sub calls."""
ADDRESSES = {f'module.function["{function}"].google_cloud_run_v2_service.this' for function in FUNCTIONS}
"""The addresses of the services in the root module."""
ALL_ADDRESSES = {
    *ADDRESSES,
    'module.function["on_cloud_build"].google_cloud_run_v2_service.this',
    "module.github_webhook[0].google_cloud_run_v2_service.this",
}
"""The same with the optional functions."""


@dataclass(frozen=True)
class Service:
    """One function's service, with the values that tests compare."""

    name: str
    account: str
    """E-mail of the account that it runs as."""
    ingress: str
    iap: bool
    open: bool
    """Whether Cloud Run lets every caller pass."""
    timeout_seconds: int
    concurrency: int
    max_instances: int
    image: str
    environment: dict[str, str]
    """Variables without secrets."""
    secrets: dict[str, str]
    """Variable → secret."""
    traffic: list[tuple[str | None, int]]
    """Revision (None: the latest) and its percentage."""


def services(resources: list[Resource]) -> dict[str, Service]:
    """Return entry point → its service."""
    found = [_service(item.values) for item in resources if item.type == "google_cloud_run_v2_service"]
    return {service.environment["FUNCTION_TARGET"]: service for service in found}


def _service(values: dict[str, Any]) -> Service:
    (template,) = values["template"]
    (container,) = template["containers"]
    variables = {variable["name"]: variable for variable in container["env"]}
    return Service(
        name=values["name"],
        account=template["service_account"],
        ingress=values["ingress"],
        iap=bool(values["iap_enabled"]),
        open=bool(values["invoker_iam_disabled"]),
        timeout_seconds=int(template["timeout"].removesuffix("s")),
        concurrency=template["max_instance_request_concurrency"],
        max_instances=template["scaling"][0]["max_instance_count"],
        image=container["image"],
        environment={name: item["value"] for name, item in variables.items() if not item["value_source"]},
        secrets={
            name: item["value_source"][0]["secret_key_ref"][0]["secret"]
            for name, item in variables.items()
            if item["value_source"]
        },
        traffic=[(share["revision"], share["percent"]) for share in values["traffic"]],
    )
