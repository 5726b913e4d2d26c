"""With the longest project name and prefix, every name fits its service's limits, and installations do not collide."""

import re

import pytest

from tests.terraform.configurations import EVERYTHING, PROJECT
from tests.terraform.life import Life

pytestmark = pytest.mark.timeout(1800)

_TOPIC = r"(?!goog)[A-Za-z][A-Za-z0-9._~+%-]{2,254}"
_COMPUTE = r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?"
LIMITS = {
    ("google_service_account", "account_id"): r"[a-z][a-z0-9-]{4,28}[a-z0-9]",
    ("google_storage_bucket", "name"): r"(?!goog)[a-z0-9][a-z0-9_-]{1,61}[a-z0-9]",
    ("google_cloud_run_v2_service", "name"): r"[a-z][a-z0-9-]{0,47}[a-z0-9]",
    # The builder is also a Cloud Run service, whose names are shorter than those of functions.
    ("google_cloudfunctions2_function", "name"): r"[a-z][a-z0-9-]{0,47}[a-z0-9]",
    ("google_pubsub_topic", "name"): _TOPIC,
    ("google_pubsub_subscription", "name"): _TOPIC,
    ("google_cloud_tasks_queue", "name"): r"[A-Za-z0-9-]{1,100}",
    ("google_cloud_scheduler_job", "name"): r"[A-Za-z0-9_-]{1,500}",
    ("google_secret_manager_secret", "secret_id"): r"[A-Za-z0-9_-]{1,255}",
    ("google_firestore_database", "name"): r"[a-z][a-z0-9-]{2,61}[a-z0-9]",
    ("google_artifact_registry_repository", "repository_id"): r"[a-z][a-z0-9-]{0,61}[a-z0-9]",
    ("google_project_iam_custom_role", "role_id"): r"[A-Za-z0-9_.]{3,64}",
    ("google_iam_workload_identity_pool", "workload_identity_pool_id"): r"(?!gcp-)[a-z0-9-]{4,32}",
    ("google_logging_project_exclusion", "name"): r"[A-Za-z0-9_.-]{1,100}",
    ("google_logging_metric", "name"): r"[A-Za-z0-9_./-]{1,100}",
    ("google_vpc_access_connector", "name"): r"[a-z][a-z0-9-]{0,23}[a-z0-9]",
    ("google_compute_global_address", "name"): _COMPUTE,
    ("google_compute_region_network_endpoint_group", "name"): _COMPUTE,
    ("google_compute_backend_service", "name"): _COMPUTE,
    ("google_compute_url_map", "name"): _COMPUTE,
    ("google_compute_managed_ssl_certificate", "name"): _COMPUTE,
    ("google_compute_ssl_policy", "name"): _COMPUTE,
    ("google_compute_target_https_proxy", "name"): _COMPUTE,
    ("google_compute_global_forwarding_rule", "name"): _COMPUTE,
    ("google_billing_budget", "display_name"): r".{1,60}",
    ("google_monitoring_alert_policy", "display_name"): r".{1,512}",
    ("google_monitoring_notification_channel", "display_name"): r".{1,512}",
    ("google_monitoring_custom_service", "service_id"): r"[a-z0-9-]{1,63}",
}
"""Type and attribute → the names that its service accepts."""

NAMELESS = re.compile(
    r"_iam_(member|binding)$|google_iam_workload_identity_pool_provider$|google_project_service(_identity)?$|google_firestore_(field|index|backup_schedule)$"
    r"|google_storage_bucket_object$|google_iap_settings$|google_monitoring_slo$"
    r"|google_secret_manager_secret_version$|google_monitoring_dashboard$|^(terraform|time)_"
)
"""Types whose resources have no separate name in the project."""


def _names(life: Life) -> set[tuple[str, str]]:
    return {(type_, values[attribute]) for type_, attribute in LIMITS for values in life.all(type_)}


def test_every_name_fits(everything: Life) -> None:
    """All types with names are in the table, and all names match it."""
    assert len(PROJECT) == 30
    assert len(EVERYTHING["prefix"]) == 10
    types = {found.type for found in everything.resources if not NAMELESS.search(found.type)}
    assert types == {type_ for type_, _ in LIMITS}
    for (type_, attribute), pattern in LIMITS.items():
        for values in everything.all(type_):
            assert re.fullmatch(pattern, values[attribute]), (type_, values[attribute])


def test_addresses_of_functions_are_labels(everything: Life) -> None:
    """Cloud Run's address needs a name and project number of at most 63 characters together."""
    for service in everything.services.values():
        assert len(f"{service.name}-123456789012") <= 63


def test_conditions_of_grants_fit(everything: Life) -> None:
    """A condition's title has at most 100 characters."""
    titles = [
        condition["title"] for grant in everything.all("google_project_iam_member") for condition in grant["condition"]
    ]
    assert titles
    assert all(len(title) <= 100 for title in titles)


def test_installations_live_side_by_side(minimal: Life, everything: Life) -> None:
    """An installation with a prefix and one without share no name in a project."""
    assert not _names(minimal) & _names(everything)
    # Cloud Build publishes to this name alone, so one configuration of a project owns the topic.
    shared = {("google_monitoring_notification_channel", ""), ("google_pubsub_topic", "cloud-builds")}
    for type_, name in _names(everything) - shared:
        assert EVERYTHING["prefix"].replace("-", "_") in name.replace("-", "_"), (type_, name)
