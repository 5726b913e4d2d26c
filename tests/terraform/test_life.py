"""An installation is applied, stays unchanged, is upgraded, and is destroyed."""

import re
from subprocess import CompletedProcess

import pytest

from tests.terraform.configurations import EVERYTHING, MINIMAL, PROJECT
from tests.terraform.life import Life
from tests.terraform.tool import REPOSITORY, ROOT

pytestmark = pytest.mark.timeout(1800)


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
    """The archive is a new object, the four functions are rebuilt, and nothing else changes."""
    expected = {
        "module.source.google_storage_bucket_object.functions": ["delete", "create"],
        **{
            f'module.function["{name}"].google_cloudfunctions2_function.this': ["update"]
            for name in ("on_gitiles_commit", "on_build_completion", "on_task", "console")
        },
    }
    assert everything.upgrades["source"] == expected


def test_new_rate_changes_only_the_queue(everything: Life) -> None:
    """A change of the rate updates only the queue."""
    assert everything.upgrades["rate"] == {"module.queue.google_cloud_tasks_queue.this": ["update"]}


def test_a_new_name_of_the_queue_makes_a_new_queue(everything: Life) -> None:
    """The functions get the new name, and nothing else changes."""
    functions = {
        f'module.function["{name}"].google_cloudfunctions2_function.this': ["update"]
        for name in ("on_gitiles_commit", "on_build_completion", "on_task", "console")
    }
    changed = {
        address: actions
        for address, actions in everything.upgrades["queue name"].items()
        if "monitoring" not in address and address not in functions
    }
    assert everything.upgrades["queue name"].items() >= functions.items()
    assert changed["module.queue.google_cloud_tasks_queue.this"] == ["delete", "create"]
    assert all(address.startswith("module.queue.") for address in changed)


def test_a_past_reminder_is_not_requested_again(everything: Life) -> None:
    """Secret Manager advances the time of the next reminder, and refuses a time in the past."""
    secrets = {
        f'module.signing_secret["{name}"].google_secret_manager_secret.this' for name in ("functions", "console")
    }
    assert everything.upgrades["a year later"].keys().isdisjoint(secrets)
    assert {everything.upgrades["more reminders"].get(secret, [""])[0] for secret in secrets} == {"update"}
    assert everything.reminders.keys() == secrets


def test_grants_have_time_to_spread(life: Life) -> None:
    """IAM takes a minute or two to spread a grant, and a first apply would fail until then."""
    waits = [found for found in life.resources if found.type == "time_sleep"]
    durations = {found.address.rpartition("time_sleep.")[2]: found.values["create_duration"] for found in waits}
    optional = {"kms_key_known[0]"} if life.all("google_kms_crypto_key_iam_member") else set()
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


def test_a_new_generation_has_two_keys(minimal: Life, everything: Life) -> None:
    """The first key signs, and both verify."""
    assert EVERYTHING["signing_key_generation"] == 3
    for lived, keys in ((minimal, 1), (everything, 2)):
        for version in lived.all("google_secret_manager_secret_version"):
            lines = version["secret_data"].split("\n")
            assert len(set(lines)) == keys
            assert all(len(line) >= 32 for line in lines)
