"""Least privilege: the complete list of grants, for review line by line."""

import re

import pytest

from tests.terraform.configurations import BUILDS, LONG_PUBLISHER, PROJECT
from tests.terraform.life import Life

pytestmark = pytest.mark.timeout(1800)

BUILDBUCKET = "serviceAccount:cr-buildbucket@appspot.gserviceaccount.com"
OLD = f"serviceAccount:{LONG_PUBLISHER}"
BUILD_TOPIC = "scheduler.buildbucket.cr-buildbucket~appspot.gserviceaccount.com"
OLD_BUILDS = f"scheduler.buildbucket.{LONG_PUBLISHER.replace('@', '~')}"

GRANTS = """
functions  datastore.user                     project, only the database {p}luci-scheduler
functions  cloudtasks.enqueuer                queue {p}luci-scheduler
functions  iam.serviceAccountUser             account {p}sched-tasks
functions  secretmanager.secretAccessor       secret {p}luci-scheduler-functions
console    datastore.user                     project, only the database {p}luci-scheduler
console    cloudtasks.enqueuer                queue {p}luci-scheduler
console    iam.serviceAccountUser             account {p}sched-tasks
console    secretmanager.secretAccessor       secret {p}luci-scheduler-console
functions  run.viewer                         service {p}luci-scheduler-on-gitiles-commit
functions  run.viewer                         service {p}luci-scheduler-on-build-completion
functions  run.viewer                         service {p}luci-scheduler-on-task
console    run.viewer                         service {p}luci-scheduler-console
iap        run.invoker                        service {p}luci-scheduler-console
push       run.invoker                        service {p}luci-scheduler-on-gitiles-commit
push       run.invoker                        service {p}luci-scheduler-on-build-completion
tasks      run.invoker                        service {p}luci-scheduler-on-task
cron       run.invoker                        service {p}luci-scheduler-on-task
build      logging.logWriter                  project
build      storage.objectViewer               project, only the bucket gcf-v2-sources-NUMBER-us-central1
build      storage.objectViewer               bucket {project}-{p}luci-scheduler-source
build      artifactregistry.writer            repository {p}luci-scheduler
pubsub     iam.serviceAccountOpenIdTokenCreator  account {p}sched-push
pubsub     pubsub.publisher                   topic {p}gitiles-commit-dead-letter
pubsub     pubsub.subscriber                  subscription {p}gitiles-commit
pubsub     pubsub.publisher                   topic {p}{builds}-dead-letter
pubsub     pubsub.subscriber                  subscription {p}{builds}
secretmanager  pubsub.publisher               topic {p}luci-scheduler-key-rotation
{buildbucket}  pubsub.publisher               topic {p}{builds}
{buildbucket}  pubsub.viewer                  topic {p}{builds}
"""
NATIVE_GRANTS = """
user:me@example.com  iap.httpsResourceAccessor  console {p}luci-scheduler-console
"""
"""Account, role, resource of the minimal installation. A role is project-wide only if no resource has a policy:
logs, databases, and buckets of the functions service. A condition narrows the last two."""

MORE_GRANTS = """
functions  storage.objectViewer               bucket the-configs
user:committer@example.com  pubsub.publisher  topic {p}gitiles-commit
user:committer@example.com  pubsub.viewer     topic {p}gitiles-commit
functions  pubsub.publisher                   topic {p}invocation-events
group:readers@example.com  pubsub.subscriber  topic {p}invocation-events
{old}      pubsub.publisher                   topic {p}{old_builds}
{old}      pubsub.viewer                      topic {p}{old_builds}
pubsub     pubsub.publisher                   topic {p}{old_builds}-dead-letter
pubsub     pubsub.subscriber                  subscription {p}{old_builds}
group:builders@example.com  iap.httpsResourceAccessor  backend {p}luci-scheduler-console
user:me@example.com  iap.httpsResourceAccessor  backend {p}luci-scheduler-console
artifactregistry  cloudkms.cryptoKeyEncrypterDecrypter  key key
cloudfunctions    cloudkms.cryptoKeyEncrypterDecrypter  key key
firestore         cloudkms.cryptoKeyEncrypterDecrypter  key database
pubsub            cloudkms.cryptoKeyEncrypterDecrypter  key key
run               cloudkms.cryptoKeyEncrypterDecrypter  key key
secretmanager     cloudkms.cryptoKeyEncrypterDecrypter  key key
storage           cloudkms.cryptoKeyEncrypterDecrypter  key key
"""
"""Grants for the optional features and a second Buildbucket server."""

CLOUD_BUILD_GRANTS = """
functions  custom/{r}luci_scheduler_builds    project
functions  iam.serviceAccountUser             account {p}sched-steps
steps      logging.logWriter                  project
functions  run.viewer                         service {p}luci-scheduler-on-cloud-build
push       run.invoker                        service {p}luci-scheduler-on-cloud-build
cloudbuild  pubsub.publisher                  topic cloud-builds
pubsub     pubsub.publisher                   topic {p}cloud-builds-dead-letter
pubsub     pubsub.subscriber                  subscription {p}cloud-builds
"""
"""Grants for builds in the project of the installation."""

MORE_CLOUD_BUILD_GRANTS = """
functions  custom/{r}luci_scheduler_builds    project {others}
functions  custom/{r}luci_scheduler_builds    project
functions  cloudbuild.workerPoolUser          project {others}
functions  iam.serviceAccountUser             account {p}sched-steps
functions  iam.serviceAccountUser             account documents
functions  iam.serviceAccountUser             account release
steps      logging.logWriter                  project {others}
functions  run.viewer                         service {p}luci-scheduler-on-cloud-build
push       run.invoker                        service {p}luci-scheduler-on-cloud-build
cloudbuild  pubsub.publisher                  topic cloud-builds
pubsub     pubsub.publisher                   topic {p}cloud-builds-dead-letter
pubsub     pubsub.subscriber                  subscription {p}cloud-builds
pubsub     pubsub.publisher                   topic {p}cloud-builds-{project}-dead-letter
pubsub     pubsub.subscriber                  subscription {p}cloud-builds-{project}
"""
"""Grants for builds in a second project, which is the default, and in the installation's project."""

TOKEN_GRANTS = """
functions  secretmanager.secretAccessor       secret github-token
console    secretmanager.secretAccessor       secret github-token
"""
GITHUB_GRANTS = """
functions  secretmanager.secretAccessor       secret github-key
console    secretmanager.secretAccessor       secret github-key
webhook    secretmanager.secretAccessor       secret github-webhook
webhook    pubsub.publisher                   topic {p}gitiles-commit
allUsers   run.invoker                        service {p}luci-scheduler-on-github-push
{workflows}/1296269  pubsub.publisher         topic {p}gitiles-commit
{workflows}/1296270  pubsub.publisher         topic {p}gitiles-commit
"""
"""Grants for commits of GitHub: an app, the webhook, and the workflows of two repositories."""

PROXY_GRANTS = """
user:me@example.com  run.invoker              service {p}luci-scheduler-console
"""
SCHEDULER_PERMISSIONS = {f"cloudbuild.builds.{verb}" for verb in ("create", "get", "list", "update")}

RESOURCES = {
    "google_cloud_run_v2_service_iam_member": ("service", "name"),
    "google_cloud_run_v2_service_iam_binding": ("service", "name"),
    "google_iap_web_cloud_run_service_iam_binding": ("console", "cloud_run_service_name"),
    "google_cloud_tasks_queue_iam_member": ("queue", "name"),
    "google_service_account_iam_member": ("account", "service_account_id"),
    "google_secret_manager_secret_iam_member": ("secret", "secret_id"),
    "google_storage_bucket_iam_member": ("bucket", "bucket"),
    "google_artifact_registry_repository_iam_member": ("repository", "repository"),
    "google_pubsub_topic_iam_member": ("topic", "topic"),
    "google_pubsub_subscription_iam_member": ("subscription", "subscription"),
    "google_iap_web_backend_service_iam_member": ("backend", "web_backend_service"),
    "google_kms_crypto_key_iam_member": ("key", "crypto_key_id"),
}
"""Type of a grant → the resource that it applies to."""

Grant = tuple[str, str, str]


def _reviewed(text: str, prefix: str) -> set[Grant]:
    filled = text.format(
        p=prefix,
        r=prefix.replace("-", "_"),
        project=PROJECT,
        others=BUILDS,
        builds=BUILD_TOPIC,
        buildbucket=BUILDBUCKET,
        old=OLD,
        old_builds=OLD_BUILDS,
        workflows=f"workflows of {prefix}luci-scheduler-github".replace(" ", "-"),
    )
    grants = [line.split(maxsplit=2) for line in filled.splitlines() if line]
    return {(account, role, resource) for account, role, resource in grants}


def granted(life: Life) -> list[Grant]:
    """Return all grants of an applied configuration: account, role, resource."""
    accounts = {
        account["member"]: account["account_id"].rpartition("-")[2] for account in life.all("google_service_account")
    }
    agents = {
        agent["member"]: agent["service"].partition(".")[0] for agent in life.all("google_project_service_identity")
    }
    known = {**accounts, **agents}
    grants = []
    for found in life.resources:
        if not re.search("_iam_(member|binding)$", found.type):
            continue
        values = found.values
        for member in values.get("members", [values.get("member")]):
            account = "storage" if "gs-project-accounts" in member else known.get(member, _workflows(member))
            role = re.sub(r"^projects/[^/]+/roles/", "custom/", values["role"]).removeprefix("roles/")
            grants.append((account, role, _resource(found.type, values)))
    return grants


def _workflows(member: str) -> str:
    """Shorten a member that stands for the workflows of one GitHub repository, and return any other as it is."""
    found = re.fullmatch(
        r"principalSet://iam\.googleapis\.com/projects/[0-9]+/locations/global/workloadIdentityPools/"
        r"([a-z0-9-]+)/attribute\.repository_id/([0-9]+)",
        member,
    )
    return f"workflows-of-{found[1]}/{found[2]}" if found else member


def _resource(type_: str, values: dict[str, object]) -> str:
    if type_ != "google_project_iam_member":
        word, attribute = RESOURCES[type_]
        return f"{word} {str(values[attribute]).rpartition('/')[2].partition('@')[0]}"
    conditions = values["condition"]
    assert isinstance(conditions, list)
    for condition in conditions:
        if found := re.fullmatch(rf'resource\.name == "projects/{PROJECT}/databases/(.+)"', condition["expression"]):
            return f"project, only the database {found[1]}"
        if found := re.fullmatch(r'resource\.name\.startsWith\("projects/_/buckets/(.+)"\)', condition["expression"]):
            return f"project, only the bucket {re.sub('[0-9]{12}', 'NUMBER', found[1])}"
        pytest.fail(f"an unreviewed condition: {condition['expression']}")
    return "project" if values["project"] == PROJECT else f"project {values['project']}"


def test_the_minimal_grants_match_the_reviewed_list(minimal: Life) -> None:
    """The grants equal the list, without duplicates."""
    assert sorted(granted(minimal)) == sorted(_reviewed(GRANTS + NATIVE_GRANTS, ""))


def test_the_grants_match_the_reviewed_list(everything: Life) -> None:
    """With every optional feature, the grants equal all lists."""
    lists = GRANTS + MORE_GRANTS + MORE_CLOUD_BUILD_GRANTS + GITHUB_GRANTS
    assert sorted(granted(everything)) == sorted(_reviewed(lists, "staging-eu-"))


def test_the_grants_of_the_github_example_match_the_reviewed_list(github: Life) -> None:
    """Builds and a token add their lists, and there is no Buildbucket server."""
    lists = GRANTS + CLOUD_BUILD_GRANTS + TOKEN_GRANTS + PROXY_GRANTS
    without = {grant for grant in _reviewed(lists, "") if BUILD_TOPIC not in grant[2] and grant[0] != "iap"}
    assert sorted(granted(github)) == sorted(without)


def test_the_scheduler_has_four_permissions_on_builds(life: Life) -> None:
    """It creates, gets, lists and cancels builds. It changes no trigger's approval, no pool and no connection."""
    roles = {role["name"]: set(role["permissions"]) for role in life.all("google_project_iam_custom_role")}
    # The reviewed lists have the grants of the roles, in each project with builds.
    granted_roles = {item["role"] for item in life.all("google_project_iam_member")}
    assert roles == {role: SCHEDULER_PERMISSIONS for role in granted_roles if not role.startswith("roles/")}


def test_builds_run_as_an_account_without_the_scheduler_s_rights(github: Life, everything: Life) -> None:
    """The account of the builds writes logs. Only the functions' account acts as it."""
    for life in (github, everything):
        grants = granted(life)
        assert {role for account, role, _ in grants if account == "steps"} == {"logging.logWriter"}
        assert {account for account, _, resource in grants if resource.endswith("sched-steps")} == {"functions"}
        for service in life.services.values():
            assert "sched-steps" not in service.account


def test_nothing_is_open_and_nothing_is_broad(life: Life) -> None:
    """No basic role, no key, and no public member but the webhook's. Only lists of callers remove other grants."""
    for found in life.resources:
        assert not re.search(r"_iam_policy$|_account_key$|_hmac_key$", found.type), found.address
        if found.type.endswith("_iam_binding"):
            assert found.values["role"] in ("roles/run.invoker", "roles/iap.httpsResourceAccessor"), found.address
    for member, role, resource in granted(life):
        webhook = (member, role) == ("allUsers", "run.invoker") and resource.endswith("-on-github-push")
        assert webhook or member not in ("allUsers", "allAuthenticatedUsers")
        assert not re.fullmatch(r"owner|editor|viewer|.*[aA]dmin", role), role


def test_an_apply_removes_strange_callers(life: Life) -> None:
    """Each service has the complete list of its invokers. That of the builder is empty."""
    (builder,) = [function["name"] for function in life.all("google_cloudfunctions2_function")]
    lists = {item["name"]: item["members"] for item in life.all("google_cloud_run_v2_service_iam_binding")}
    assert lists.pop(builder) == []
    assert set(lists) == {service.name for service in life.services.values()}
    assert all(lists.values())


def test_each_function_runs_as_its_account(life: Life) -> None:
    """Functions that may launch share one account. The console and the webhook have others. None is the default one."""
    accounts = {function: service.account.partition("@")[0] for function, service in life.services.items()}
    assert accounts.pop("on_github_push", "sched-webhook").endswith("sched-webhook")
    launching = {account for function, account in accounts.items() if function != "console"}
    assert len(launching) == 1
    assert launching.pop().endswith("sched-functions")
    assert accounts["console"].endswith("sched-console")


def test_functions_are_not_triggered_by_the_platform(life: Life) -> None:
    """Pub/Sub uses separate push subscriptions, and other networks reach only the console and the webhook."""
    (builder,) = life.all("google_cloudfunctions2_function")
    assert builder["event_trigger"] == []
    assert builder["service_config"][0]["ingress_settings"] == "ALLOW_INTERNAL_ONLY"
    behind_load_balancer = bool(life.all("google_compute_backend_service"))
    for function, service in life.services.items():
        public = {"console": "INTERNAL_LOAD_BALANCER" if behind_load_balancer else "ALL", "on_github_push": "ALL"}
        assert service.ingress == f"INGRESS_TRAFFIC_{public.get(function, 'INTERNAL_ONLY')}"
