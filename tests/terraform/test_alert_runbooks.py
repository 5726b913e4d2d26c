"""The runbooks are usable: each says what users see and when its alert closes, and its commands and names exist."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from emulator.supervisor import OPTIONAL_FUNCTIONS
from luci_scheduler.cli.main import make_parser
from luci_scheduler.cli.tree import leaves
from tests.terraform.tool import REPOSITORY, ROOT
from tests.unit.test_observability import _events

_PAGES = sorted((REPOSITORY / "docs/operations").glob("*.md"))
_RUNBOOKS = [page for page in _PAGES if page.read_text(encoding="utf-8").startswith("# Alert")]
_NO_EFFECT = {"key-due"}
"""A reminder: users see nothing, and a rotation closes it."""

_GCLOUD = {
    "firestore indexes fields list",
    "logging read",
    "pubsub subscriptions pull",
    "run services describe",
    "run services get-iam-policy",
    "scheduler jobs describe",
    "scheduler jobs pause",
    "scheduler jobs resume",
    "scheduler jobs run",
    "tasks queues describe",
    "tasks queues pause",
}
"""Commands of gcloud, from its reference. None of them changes a resource of Terraform's except by a pause."""

_GCLOUD_BEYOND_ALERTS = {
    "alpha resource-manager liens create",
    "firestore backups delete",
    "firestore export",
    "logging buckets create",
    "logging buckets update",
    "logging sinks create",
    "projects get-iam-policy",
    "projects set-iam-policy",
    "projects undelete",
    "run revisions delete",
    "secrets versions add",
    "storage buckets create",
    "storage buckets update",
    "storage ls",
}
"""Commands of the pages about audit, recovery, personal data and credentials. They concern what Terraform does not
manage."""


def _commands(text: str) -> Iterator[str]:
    """Yield the commands of a page, each on one line."""
    for block in re.findall(r"^ *```sh\n(.*?)^ *```", text, re.DOTALL | re.MULTILINE):
        yield from (line.strip() for line in re.sub(r"\s*\\\n\s*", " ", block.strip()).splitlines())
    plain = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    yield from re.findall(r"`((?:gcloud|luci-scheduler|terraform) [^`]+)`", plain)


def _words(command: str) -> str:
    """Return a command's leading words, without options and their values."""
    found = re.match(r"\w+((?: [a-z-]+)+?)(?= -| [A-Z'\"]| [a-z-]*\d| luci-| gitiles-| gs:| _|$)", command)
    assert found, command
    return found[1].strip()


@pytest.mark.parametrize("page", _RUNBOOKS, ids=lambda page: page.stem)
def test_a_runbook_says_what_users_see_and_when_it_ends(page: Path) -> None:
    """A person on call knows how bad it is, and whether the alert is to be closed by hand."""
    text = page.read_text(encoding="utf-8")
    assert page.stem in text.splitlines()[0]
    assert page.stem in _NO_EFFECT or ("Users see: " in text and re.search(r"\bcloses\b", text))


@pytest.mark.parametrize("page", _PAGES, ids=lambda page: page.stem)
def test_commands_exist(page: Path) -> None:
    """Commands of gcloud are known ones with a project and a place; the others exist in this repository."""
    text = page.read_text(encoding="utf-8")
    declared = (REPOSITORY / ROOT / "outputs.tf").read_text(encoding="utf-8")
    outputs = re.findall(r'^output "(\w+)"', declared, re.MULTILINE)
    verbs = [path for path, _ in leaves(make_parser())]
    for command in _commands(text):
        program, _, rest = command.partition(" ")
        if program == "terraform" and rest.startswith("output "):
            assert rest.split()[1] in outputs, command
        elif program == "luci-scheduler":
            assert any(tuple(rest.split()[: len(verb)]) == verb for verb in verbs), command
        elif program == "gcloud" and page.stem not in ("restore-a-backup", "key-due"):
            assert _words(command) in (_GCLOUD if page in _RUNBOOKS else _GCLOUD | _GCLOUD_BEYOND_ALERTS), command
            assert "--project=PROJECT" in command or "--project" not in text or page not in _RUNBOOKS, command


@pytest.fixture(name="events", scope="module")
def _all_events() -> set[str]:
    return set(_events())


@pytest.mark.parametrize("page", _RUNBOOKS, ids=lambda page: page.stem)
def test_names_exist(page: Path, events: set[str]) -> None:
    """Events are in the code, settings in Terraform's variables, and services and schedules in its resources."""
    text = page.read_text(encoding="utf-8")
    for names in re.findall(r"jsonPayload\.message=\(?((?:\"\w+\"(?: OR )?)+)", text):
        assert set(re.findall(r'"(\w+)"', names)) <= events
    variables = (REPOSITORY / ROOT / "variables.tf").read_text(encoding="utf-8")
    for variable, member in re.findall(r"`(monitoring|tuning|schedules|console)\.(\w+)", text):
        assert re.search(rf'variable "{variable}".*?\n    {member} +=', variables, re.DOTALL), member
    functions = (REPOSITORY / ROOT / "functions.tf").read_text(encoding="utf-8")
    known = {name.replace("_", "-") for name in re.findall(r"^    (\w+) = {$", functions, re.MULTILINE)}
    others = {"sweep", "sync", "key-rotation", *(name.replace("_", "-") for name in OPTIONAL_FUNCTIONS)}
    assert set(re.findall(r"\bluci-scheduler-([\w-]+)", text)) <= known | others
