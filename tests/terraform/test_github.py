"""The public function, the workflows of GitHub and the secrets: their bounds, beside the list of grants."""

import json
import re
import textwrap
from pathlib import Path

import pytest

from luci_scheduler.budget import BUDGETS
from luci_scheduler.cli.main import main
from tests.terraform.configurations import EVERYTHING, PROJECT
from tests.terraform.life import Life
from tests.terraform.test_rights import granted
from tests.terraform.tool import REPOSITORY, ROOT

pytestmark = pytest.mark.timeout(1800)

_PAGE = (REPOSITORY / "docs/how-to/deploy-github.md").read_text(encoding="utf-8")


def test_the_webhook_is_bounded(everything: Life) -> None:
    """Strangers can busy two small instances, and GitHub waits ten seconds for an answer."""
    (service,) = [
        item for item in everything.all("google_cloud_run_v2_service") if item["name"].endswith("-on-github-push")
    ]
    (template,) = service["template"]
    (container,) = template["containers"]
    (resources,) = container["resources"]
    assert template["scaling"][0]["max_instance_count"] == 2
    assert template["max_instance_request_concurrency"] == 40
    assert resources["limits"] == {"cpu": "1", "memory": "256Mi"}
    assert resources["cpu_idle"], "an idle instance costs nothing"
    assert everything.services["on_github_push"].timeout_seconds == 10
    assert BUDGETS["on_github_push"] < 10


def test_entries_for_strangers_are_dropped(everything: Life) -> None:
    """Cloud Logging would bill an entry for each request of an attack. Accepted and failed deliveries keep theirs."""
    (exclusion,) = everything.all("google_logging_project_exclusion")
    assert exclusion["filter"].split(" AND ") == [
        'resource.type="cloud_run_revision"',
        f'resource.labels.service_name="{everything.services["on_github_push"].name}"',
        'log_id("run.googleapis.com/requests")',
        "httpRequest.status>=400",
        "httpRequest.status<500",
        "sample(insertId, 0.99)",
    ]
    assert not exclusion["disabled"]


def test_the_webhook_is_off_by_default(minimal: Life, production: Life, github: Life) -> None:
    """No account, no public function, and no alert about it."""
    for life in (minimal, production, github):
        assert "on_github_push" not in life.services
        assert "allUsers" not in life.state
        alerts = [policy["display_name"] for policy in life.all("google_monitoring_alert_policy")]
        assert [name for name in alerts if name.endswith("webhook")] == []
        assert life.outputs["next"]["github_webhook"] is None


def test_workflows_are_accepted_of_one_owner(everything: Life) -> None:
    """All of GitHub shares the issuer. The condition has the owner's number, because a name can change hands."""
    (provider,) = everything.all("google_iam_workload_identity_pool_provider")
    assert provider["attribute_condition"] == (
        'assertion.repository_owner_id == "9919" && assertion.ref == "refs/heads/main"'
    )
    assert provider["oidc"][0]["issuer_uri"] == "https://token.actions.githubusercontent.com"
    # Without a list, the provider's name is the only audience.
    assert not provider["oidc"][0]["allowed_audiences"]
    assert provider["attribute_mapping"]["attribute.repository_id"] == "assertion.repository_id"
    assert provider["attribute_mapping"]["google.subject"] == "assertion.sub"


def test_the_state_has_names_of_secrets_only(github: Life, everything: Life) -> None:
    """Terraform makes no secret for GitHub and no version of one, so it never has a value."""
    for life in (github, everything):
        for type_ in ("google_secret_manager_secret", "google_secret_manager_secret_version"):
            assert "github" not in json.dumps(life.all(type_))
        assert 'data.google_secret_manager_secret_version"' not in life.state
    assert everything.services["on_task"].secrets["SCHEDULER_GITHUB_PRIVATE_KEY"] == "github-key"
    assert everything.services["on_github_push"].secrets == {"SCHEDULER_GITHUB_WEBHOOK_SECRETS": "github-webhook"}


def test_outputs_show_the_next_steps(github: Life, everything: Life) -> None:
    """They contain the builds' account, and the values to copy to GitHub."""
    assert github.outputs["next"]["build_account"] == f"sched-steps@{PROJECT}.iam.gserviceaccount.com"
    name = everything.services["on_github_push"].name
    assert re.fullmatch(rf"https://{name}-\d+\.us-central1\.run\.app/github", everything.outputs["github_webhook"])
    pool = f"{EVERYTHING['prefix']}-luci-scheduler-github"
    assert re.fullmatch(
        rf"projects/\d+/locations/global/workloadIdentityPools/{pool}/providers/github",
        everything.outputs["github_actions_provider"],
    )


def test_the_page_lists_the_rights(everything: Life, minimal: Life) -> None:
    """Each account and role of the table is granted, and each grant that the objects add is in the table."""
    rows = re.findall(r"^\| (?:`(\w+)`|(workflows|everyone)).*? \| `([\w.]+/?\w+)`", _PAGE, re.MULTILINE)
    listed = {(account or {"everyone": "allUsers"}.get(who, who), role) for account, who, role in rows}
    prefix = EVERYTHING["prefix"].replace("-", "_")
    of_objects = re.compile(
        r"luci_scheduler_builds|sched-steps|account (documents|release)|github|cloud-build|workerPool"
    )
    added = {
        (re.sub("^workflows-of-.*", "workflows", account), role.replace(f"{prefix}_", ""))
        for account, role, resource in granted(everything)
        if of_objects.search(f"{role} {resource}") or re.match("(steps|webhook|workflows)", account)
    }
    # Every function reads its own invokers, and Pub/Sub's agent moves the dead letters of every topic.
    common = {("functions", "run.viewer"), ("pubsub", "pubsub.publisher"), ("pubsub", "pubsub.subscriber")}
    assert listed == added - common


def test_the_config_of_the_example_is_valid(tmp_path: Path) -> None:
    """The README shows a config with a poller and a build."""
    page = (REPOSITORY / ROOT / "examples/github/README.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"^   ```\n(   job \{\n.*?)^   ```$", page, re.DOTALL | re.MULTILINE)
    (tmp_path / "luci-scheduler.cfg").write_text(textwrap.dedent(block), encoding="utf-8")
    assert main(["config", "validate", str(tmp_path / "luci-scheduler.cfg")]) == 0


def test_the_addresses_of_resources_stay(minimal: Life) -> None:
    """A changed address needs a block `moved`, or an upgrade destroys the resource. Then change the list as well."""
    listed = (REPOSITORY / "tests/terraform/addresses.txt").read_text(encoding="utf-8").splitlines()
    found = {item.address.removeprefix("module.scheduler.") for item in minimal.resources}
    assert sorted(found) == sorted(listed)
