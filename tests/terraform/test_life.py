"""An installation is applied, stays unchanged, is upgraded, and is destroyed."""

import json
import re
from datetime import UTC, datetime, timedelta
from subprocess import CompletedProcess

import pytest

from tests.terraform.configurations import EVERYTHING, MINIMAL, PROJECT
from tests.terraform.life import Life
from tests.terraform.services import ADDRESSES
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


def test_second_plan_shows_no_change(life: Life) -> None:
    """A plan right after the apply is empty."""
    assert life.planned_again.returncode == 0, life.planned_again.stdout[-3000:]
    assert "No changes" in life.planned_again.stdout


def test_nothing_is_left_after_destroy(life: Life) -> None:
    """A destroy deletes everything."""
    assert life.destroyed.returncode == 0, life.destroyed.stderr
    assert life.left == []
    assert len(life.resources) > 90


def test_nothing_resists_a_destroy(everything: Life) -> None:
    """No provider protection remains, except the database's, which has a variable."""
    for found in everything.resources:
        assert found.values.get("deletion_protection") in (None, False), found.address
    (bucket,) = everything.all("google_storage_bucket")
    (database,) = everything.all("google_firestore_database")
    assert bucket["force_destroy"] is True
    assert database["deletion_policy"] == "DELETE"


def test_new_source_changes_only_the_functions(everything: Life) -> None:
    """The archive is a new object, one image is built, the four functions run it, and nothing else changes."""
    expected = {
        "module.image.google_storage_bucket_object.functions[0]": ["delete", "create"],
        "module.image.google_cloudfunctions2_function.builder[0]": ["update"],
        **{address: ["update"] for address in ADDRESSES},
    }
    assert everything.upgrades["source"] == expected


def test_a_rollback_builds_nothing(everything: Life) -> None:
    """With the image of an earlier version, only the four functions change."""
    assert everything.upgrades["rollback"] == {address: ["update"] for address in ADDRESSES}


def test_new_rate_changes_only_the_queue(everything: Life) -> None:
    """A change of the rate updates only the queue."""
    assert everything.upgrades["rate"] == {"module.queue.google_cloud_tasks_queue.this": ["update"]}


def test_a_new_name_of_the_queue_makes_a_new_queue(everything: Life) -> None:
    """The functions get the new name, and nothing else changes."""
    functions = {address: ["update"] for address in ADDRESSES}
    changed = {
        address: actions
        for address, actions in everything.upgrades["queue name"].items()
        if "monitoring" not in address and address not in functions
    }
    assert everything.upgrades["queue name"].items() >= functions.items()
    assert changed["module.queue.google_cloud_tasks_queue.this"] == ["delete", "create"]
    assert all(address.startswith("module.queue.") for address in changed)


def test_time_in_service_changes_no_plan(life: Life) -> None:
    """Google's services change some values by themselves. Terraform leaves them alone, also with an older provider."""
    assert life.aged
    for days, done in life.aged.items():
        assert done.returncode == 0, (days, done.stdout[-3000:])
        assert "No changes" in done.stdout


def test_a_newer_provider_changes_only_what_it_is_told(minimal: Life) -> None:
    """An apply with it after a quarter only turns the protection off: the database's and that of the destroy."""
    assert minimal.unprotected is not None
    assert "0 added, 2 changed, 0 destroyed" in minimal.unprotected.stdout


def test_a_past_reminder_is_not_requested_again(everything: Life) -> None:
    """Secret Manager advances the time of the next reminder, and refuses a time in the past."""
    secrets = {
        f'module.signing_secret["{name}"].google_secret_manager_secret.this' for name in ("functions", "console")
    }
    assert {everything.upgrades["more reminders"].get(secret, [""])[0] for secret in secrets} == {"update"}
    assert everything.reminders.keys() == secrets
    # Five periods of 90 days after the first apply, so some 50 days after this plan.
    now = datetime.now(UTC) + timedelta(days=400)
    assert all(datetime.fromisoformat(due) > now for due in everything.reminders.values())


def test_a_protected_installation_stays_whole(minimal: Life) -> None:
    """A destroy begins with the check of the protection, so it deletes nothing."""
    assert minimal.protected is not None
    done, left = minimal.protected
    assert done.returncode == 1
    assert "database.delete_protection" in done.stdout
    assert {found.address for found in left} == {found.address for found in minimal.resources}


def test_grants_have_time_to_spread(life: Life) -> None:
    """IAM takes a minute or two to spread a grant, and a first apply would fail until then."""
    waits = [found for found in life.resources if found.type == "time_sleep"]
    names = {found.address.rpartition("time_sleep.")[2].partition("[")[0]: found for found in waits}
    durations = {name: found.values["create_duration"] for name, found in names.items()}
    optional = {"kms_key_known"} if life.all("google_kms_crypto_key_iam_member") else set()
    grants = {"publisher_known", "build_account_known", "reader_known", *optional}
    assert {name: durations.get(name) for name in grants} == dict.fromkeys(grants, "120s")


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
    assert len(changed) == 4
    assert max(changed) < first_destroyed


def test_every_alert_has_a_runbook(everything: Life) -> None:
    """Every alert has a runbook of the same name."""
    alerts = {policy["display_name"].rpartition(": ")[2] for policy in everything.all("google_monitoring_alert_policy")}
    assert len(alerts) == 8
    for alert in alerts:
        assert (REPOSITORY / f"docs/operations/{alert}.md").exists(), alert
