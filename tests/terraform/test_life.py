"""An installation is applied, stays unchanged, is upgraded, and is destroyed."""

import json
import re
from datetime import UTC, datetime, timedelta
from subprocess import CompletedProcess

import pytest

from tests.terraform.configurations import EVERYTHING, GITHUB, MINIMAL, PROJECT
from tests.terraform.life import Life
from tests.terraform.services import ALL_ADDRESSES
from tests.terraform.tool import REPOSITORY, ROOT

pytestmark = pytest.mark.timeout(1800)

UUID = r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"


def test_terraform_tests_pass(tested: CompletedProcess[str]) -> None:
    """``terraform test`` passes."""
    assert tested.returncode == 0, tested.stdout + tested.stderr
    assert re.search(r"Success! \d+ passed, 0 failed", tested.stdout)


def test_the_minimal_example_is_short() -> None:
    """The example has at most fifteen lines, and the variables of the test."""
    text = (REPOSITORY / ROOT / "examples/minimal/main.tf").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 15
    assert re.findall(r'^variable "(\w+)"', text, re.MULTILINE) == list(MINIMAL)


def test_the_github_example_is_short() -> None:
    """The example has at most twenty lines, and the variables of the test."""
    text = (REPOSITORY / ROOT / "examples/github/main.tf").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 20
    assert re.findall(r'^variable "(\w+)"', text, re.MULTILINE) == list(GITHUB)


def test_nothing_is_left_after_destroy(everything: Life) -> None:
    """A destroy deletes everything that the state has. It forgot the database, as a restore does."""
    assert everything.destroyed is not None
    assert everything.destroyed.returncode == 0, everything.destroyed.stderr
    assert everything.left == []
    assert len(everything.resources) > 90


def test_nothing_resists_a_destroy(everything: Life) -> None:
    """No provider protection remains, except the database's, which has a variable."""
    for found in everything.resources:
        assert found.values.get("deletion_protection") in (None, False), found.address
    (bucket,) = everything.all("google_storage_bucket")
    (database,) = everything.all("google_firestore_database")
    assert bucket["force_destroy"] is True
    assert database["deletion_policy"] == "DELETE"


def test_new_source_changes_only_the_functions(everything: Life) -> None:
    """The archive is a new object, one image is built, all functions run it, and the image's rest stays."""
    changed = {
        address: action
        for address, action in everything.upgrades["source, queue name"].items()
        if not address.startswith(("module.queue.", "module.monitoring"))
    }
    assert changed == {
        "module.image.google_storage_bucket_object.functions[0]": "replace",
        "module.image.google_cloudfunctions2_function.builder[0]": "update",
        **dict.fromkeys(ALL_ADDRESSES, "update"),
    }


def test_a_new_name_of_the_queue_makes_a_new_queue(everything: Life) -> None:
    """Only the queue and its grants are replaced, and nothing is deleted."""
    upgrade = everything.upgrades["source, queue name"]
    assert upgrade["module.queue.google_cloud_tasks_queue.this"] == "replace"
    assert all(action == "update" for address, action in upgrade.items() if address.startswith("module.monitoring"))


def test_a_rollback_builds_nothing(everything: Life) -> None:
    """With the image of an earlier version, only the functions change. A new rate changes only the queue."""
    rate = {"module.queue.google_cloud_tasks_queue.this": "update"}
    assert everything.upgrades["rollback, rate"] == {**dict.fromkeys(ALL_ADDRESSES, "update"), **rate}


def test_time_in_service_changes_no_plan(minimal: Life, github: Life, everything: Life) -> None:
    """Google's services change some values by themselves. Terraform leaves them alone, also with an older provider."""
    assert {**minimal.aged, **everything.aged}.keys() == {91, 400}
    for done in (minimal.aged[91], github.aged[91], everything.aged[400]):
        assert done.returncode == 0, done.stdout[-3000:]
        assert "No changes" in done.stdout


def test_a_newer_provider_changes_only_what_it_is_told(minimal: Life) -> None:
    """An apply with it after a quarter only turns the protection off: the database's and that of the destroy.

    The apply also adds a budget with its API, and waits for that API. The image and the functions stay.
    """
    assert _planned(minimal.unprotected) == {
        'google_project_service.this["billingbudgets.googleapis.com"]': "will be created",
        "time_sleep.apis_known": "must be replaced",
        "google_billing_budget.this[0]": "will be created",
        "module.database.google_firestore_database.this": "will be updated",
        "terraform_data.protection": "will be updated",
    }
    assert "3 added, 2 changed, 1 destroyed" in minimal.unprotected


def _planned(applied: str) -> dict[str, str]:
    """Return address in the root module → the words for its change, out of the plan in an apply of an example."""
    return dict(re.findall(r"^  # module\.scheduler\.(\S+) (\w+ be (?!read)\w+)", applied, re.MULTILINE))


def test_a_past_reminder_is_not_requested_again(everything: Life) -> None:
    """Secret Manager advances the time of the next reminder, and refuses a time in the past."""
    secrets = {
        f'module.signing_secret["{name}"].google_secret_manager_secret.this' for name in ("functions", "console")
    }
    assert {everything.upgrades["restore, more reminders"].get(secret) for secret in secrets} == {"update"}
    assert everything.reminders.keys() == secrets
    # Five periods of 90 days after the first apply, so some 50 days after this plan.
    now = datetime.now(UTC) + timedelta(days=400)
    assert all(datetime.fromisoformat(due) > now for due in everything.reminders.values())


def test_a_protected_installation_stays_whole(minimal: Life) -> None:
    """A destroy begins with the check of the protection, so it deletes nothing."""
    assert minimal.protected is not None
    assert minimal.protected.returncode == 1
    assert "database.delete_protection" in minimal.protected.stdout
    assert {found.address for found in minimal.left} == {found.address for found in minimal.resources}


def test_grants_have_time_to_spread(life: Life) -> None:
    """IAM takes a minute or two to spread a grant, and a first apply would fail until then."""
    waits = [found for found in life.resources if found.type == "time_sleep"]
    names = {found.address.rpartition("time_sleep.")[2].partition("[")[0]: found for found in waits}
    durations = {name: found.values["create_duration"] for name, found in names.items()}
    optional = {"kms_key_known"} if life.all("google_kms_crypto_key_iam_member") else set()
    optional |= {"github_readers_known", "build_grants_known"} if "cloud-builds" in life.state else set()
    grants = {"publisher_known", "build_account_known", "reader_known", *optional}
    assert {name: durations.get(name) for name in grants} == dict.fromkeys(grants, "120s")
    assert durations["apis_known"] == "60s"


def test_functions_change_between_new_and_old_grants(github: Life, everything: Life) -> None:
    """A function waits for the grants of its new settings. Terraform removes the old grants after the function."""
    for life in (github, everything):
        found = [item for item in json.loads(life.state)["resources"] if item["mode"] == "managed"]
        services = [item for item in found if item["type"] == "google_cloud_run_v2_service"]
        functions = [item for item in services if "module.function[" in item["module"]]
        for wait in ("time_sleep.build_grants_known", "time_sleep.github_readers_known"):
            waiting = [
                instance
                for item in functions
                for instance in item["instances"]
                if any(dependency.endswith(wait) for dependency in instance["dependencies"])
            ]
            assert len(waiting) == 5, wait
        grants = [
            instance
            for item in found
            if re.fullmatch("google_(project|service_account|secret_manager_secret)_iam_member", item["type"])
            and item["name"] in ("github", "scheduler", "scheduler_acts_as", "scheduler_acts_as_steps", "private_pools")
            for instance in item["instances"]
        ]
        assert len(grants) >= 4
        assert all(instance.get("create_before_destroy") for instance in grants)


def test_outputs_show_the_next_steps(minimal: Life, everything: Life) -> None:
    """They contain the console's address, the commit topic, and the account to grant roles in LUCI."""
    shown = minimal.outputs["next"]
    assert shown["commit_topic"] == f"projects/{PROJECT}/topics/gitiles-commit"
    assert shown["grant_in_luci"] == f"sched-functions@{PROJECT}.iam.gserviceaccount.com"
    assert shown["console_url"].startswith("https://luci-scheduler-console-")
    assert shown["publish_first_commit"].startswith(f"gcloud pubsub topics publish gitiles-commit --project={PROJECT}")
    assert everything.outputs["console_url"] == "https://scheduler.example.com"
    assert everything.outputs["console_ip_address"]


def _keys(life: Life, secret: str) -> list[int]:
    return sorted(
        version["secret_data_wo_version"]
        for version in life.all("google_secret_manager_secret_version")
        if version["secret"].endswith(secret)
    )


def test_each_generation_has_its_key(minimal: Life, everything: Life) -> None:
    """A key verifies a generation before it signs, and stays a generation longer than any function reads it."""
    assert EVERYTHING["signing_key_generation"] == 3
    assert (_keys(minimal, "-functions"), _keys(minimal, "-console")) == ([1, 2], [1])
    assert (_keys(everything, "-functions"), _keys(everything, "-console")) == ([1, 2, 3, 4], [1, 2, 3])


def test_no_key_is_in_the_state(life: Life) -> None:
    """Keys are write-only. A drawn key would look like a UUID, and only identifiers of resources may."""
    assert "random_password" not in life.state
    versions = [
        instance["attributes"]
        for resource in json.loads(life.state)["resources"]
        if resource["type"] == "google_secret_manager_secret_version"
        for instance in resource["instances"]
    ]
    assert len(versions) == len(life.all("google_secret_manager_secret_version"))
    for attributes in versions:
        assert attributes["secret_data"] is attributes["secret_data_wo"] is None
        assert not re.search(UUID, json.dumps(attributes))


def test_a_rotation_destroys_keys_after_the_functions_left_them(everything: Life) -> None:
    """A rotation after a quarter succeeds. It destroys the keys before the previous one, at its end."""
    steps = everything.rotated.splitlines()
    done = re.findall(
        r'^module\.signing_secret\["(\w+)"\]\..*_version\.key\["(\d)"\]: (Creation|Destruction) complete',
        everything.rotated,
        re.MULTILINE,
    )
    assert set(done) == {
        ("console", "1", "Destruction"),
        ("console", "4", "Creation"),
        ("functions", "1", "Destruction"),
        ("functions", "5", "Creation"),
    }
    first_destroyed = min(n for n, step in enumerate(steps) if "secret_version" in step and "Destroying..." in step)
    changed = [n for n, step in enumerate(steps) if "module.function" in step and "Modifications complete" in step]
    assert len(changed) == 5, "the webhook has no signing key"
    assert max(changed) < first_destroyed


def test_a_restore_leaves_the_old_database_as_it_is(everything: Life) -> None:
    """The runbook's command forgets the old database with its fields, backups and grants. Terraform deletes nothing."""
    page = (REPOSITORY / "docs/operations/restore-a-backup.md").read_text(encoding="utf-8")
    assert "\nterraform state rm module.database\n" in page.replace("   terraform", "terraform")
    addresses = [found.address for found in everything.resources if found.address.startswith("module.database.")]
    changed = {
        address: action
        for address, action in everything.upgrades["restore, more reminders"].items()
        if address.startswith("module.database.")
    }
    assert changed == dict.fromkeys(addresses, "create")
