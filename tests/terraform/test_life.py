"""From nothing to an installation, to no change, to an upgrade, to nothing."""

import re
from subprocess import CompletedProcess

import pytest

from tests.terraform.configurations import EVERYTHING, MINIMAL, PROJECT
from tests.terraform.life import Life
from tests.terraform.tool import REPOSITORY, ROOT

pytestmark = pytest.mark.timeout(1800)


def test_terraform_tests_pass(tested: CompletedProcess[str]) -> None:
    """What anybody runs with ``terraform test``."""
    assert tested.returncode == 0, tested.stdout + tested.stderr
    assert re.search(r"Success! \d+ passed, 0 failed", tested.stdout)


def test_minimal_is_minimal() -> None:
    """Fifteen lines, one variable."""
    text = (REPOSITORY / ROOT / "examples/minimal/main.tf").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 15
    assert re.findall(r'^variable "(\w+)"', text, re.MULTILINE) == list(MINIMAL)


def test_second_plan_shows_no_change(life: Life) -> None:
    """What was applied is what is configured."""
    assert life.planned_again.returncode == 0, life.planned_again.stdout[-3000:]
    assert "No changes" in life.planned_again.stdout


def test_nothing_is_left_after_destroy(life: Life) -> None:
    """A destroy takes everything."""
    assert life.destroyed.returncode == 0, life.destroyed.stderr
    assert life.left == []
    assert len(life.resources) > 90


def test_nothing_resists_a_destroy(everything: Life) -> None:
    """What a provider would refuse to destroy, or leave behind, is set not to; the database is protected by its own setting alone."""
    for found in everything.resources:
        assert found.values.get("deletion_protection") in (None, False), found.address
    (bucket,) = everything.all("google_storage_bucket")
    (database,) = everything.all("google_firestore_database")
    assert bucket["force_destroy"] is True
    assert database["deletion_policy"] == "DELETE"


def test_new_source_changes_only_the_functions(everything: Life) -> None:
    """The archive is a new object, the four functions are built from it, and nothing else moves."""
    expected = {
        "module.source.google_storage_bucket_object.functions": ["delete", "create"],
        **{
            f'module.function["{name}"].google_cloudfunctions2_function.this': ["update"]
            for name in ("on_gitiles_commit", "on_build_completion", "on_task", "console")
        },
    }
    assert everything.upgrades["source"] == expected


def test_new_rate_changes_only_the_queue(everything: Life) -> None:
    """A queue's rate is the queue's affair."""
    assert everything.upgrades["rate"] == {"module.queue.google_cloud_tasks_queue.this": ["update"]}


def test_a_new_name_of_the_queue_makes_a_new_queue(everything: Life) -> None:
    """The name of a deleted queue rests for days. The functions learn the new name, and nothing else changes."""
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


def test_a_reminder_that_is_past_is_not_asked_for_again(everything: Life) -> None:
    """Secret Manager moves the time of the next reminder on by itself, and refuses one in the past."""
    secrets = {
        f'module.signing_secret["{name}"].google_secret_manager_secret.this' for name in ("functions", "console")
    }
    assert everything.upgrades["a year later"].keys().isdisjoint(secrets)
    assert {everything.upgrades["more reminders"].get(secret, [""])[0] for secret in secrets} == {"update"}
    assert everything.reminders.keys() == secrets


def test_grants_are_used_after_a_while(life: Life) -> None:
    """IAM takes a minute or two to spread a grant; until then a first apply would be refused."""
    waits = [found for found in life.resources if found.type == "time_sleep"]
    durations = {found.address.rpartition("time_sleep.")[2]: found.values["create_duration"] for found in waits}
    optional = {"kms_key_known[0]"} if life.all("google_kms_crypto_key_iam_member") else set()
    grants = {"publisher_known", "build_account_known", "reader_known", *optional}
    assert {name: durations.get(name) for name in grants} == dict.fromkeys(grants, "120s")


def test_outputs_tell_what_to_do_next(minimal: Life, everything: Life) -> None:
    """Where the console is, where commits go, and whom to grant the right in LUCI."""
    told = minimal.outputs["next"]
    assert told["commit_topic"] == f"projects/{PROJECT}/topics/gitiles-commit"
    assert told["grant_in_luci"] == f"sched-functions@{PROJECT}.iam.gserviceaccount.com"
    assert told["console_url"].startswith("https://luci-scheduler-console-")
    assert told["publish_first_commit"].startswith(f"gcloud pubsub topics publish gitiles-commit --project={PROJECT}")
    assert everything.outputs["console_url"] == "https://scheduler.example.com"
    assert everything.outputs["console_ip_address"]


def test_a_new_generation_has_two_keys(minimal: Life, everything: Life) -> None:
    """The first signs, both verify."""
    assert EVERYTHING["signing_key_generation"] == 3
    for lived, keys in ((minimal, 1), (everything, 2)):
        for version in lived.all("google_secret_manager_secret_version"):
            lines = version["secret_data"].split("\n")
            assert len(set(lines)) == keys
            assert all(len(line) >= 32 for line in lines)


def test_topics_of_alerts_have_runbooks(everything: Life) -> None:
    """Every alert has a page of the same name, which says what to do."""
    alerts = {policy["display_name"].rpartition(": ")[2] for policy in everything.all("google_monitoring_alert_policy")}
    assert len(alerts) == 8
    for alert in alerts:
        assert (REPOSITORY / f"docs/operations/{alert}.md").exists(), alert
