"""A year of each configuration under both provider majors, in a new project whose services refuse as in the cloud.

``make terraform-year`` runs this. Each commit runs a part of it: the lives in ``conftest.py``.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest

from tests.terraform.configurations import BUILDS, EVERYTHING, GITHUB, MINIMAL, PRODUCTION, PROJECT
from tests.terraform.life import NEWER, OLDER
from tests.terraform.organization import POLICIES, SWITCHED, SWITCHES, plan_under_policies, refusing, setting
from tests.terraform.rotation import keys, read, rotate
from tests.terraform.services import ADDRESSES
from tests.terraform.tool import REPOSITORY, ROOT, Terraform, copy_checkout, find_terraform, succeeded

pytestmark = [pytest.mark.year, pytest.mark.timeout(7200)]

CONFIGURATIONS: dict[str, tuple[Path, dict[str, Any]]] = {
    "minimal": (ROOT / "examples/minimal", MINIMAL),
    "production": (ROOT / "examples/production", PRODUCTION),
    "github": (ROOT / "examples/github", GITHUB),
    "everything": (ROOT, EVERYTHING),
}
CHANGED = {"functions": "{ console = { max_instances = 2 } }", "signing_key_generation": "4"}
"""A size and keys that change after a year, as Terraform expressions."""


@dataclass(frozen=True)
class Installation:
    """A configuration with its variables under one provider."""

    terraform: Terraform
    folder: Path
    given: str
    provider: str

    def run(self, *arguments: str, provider: str = "") -> CompletedProcess[str]:
        """Run a command, which must succeed."""
        done = self.terraform.run(self.folder, *arguments, GOOGLE=provider or self.provider)
        succeeded(done)
        return done

    def apply(self, *more: str) -> None:
        """Apply the configuration."""
        self.run("apply", "-auto-approve", self.given, *more)

    def expect_no_changes(self, *more: str, provider: str = "") -> None:
        """Plan, and expect that nothing would change."""
        planned = self.run("plan", self.given, *more, provider=provider)
        assert "No changes" in planned.stdout, planned.stdout[-5000:]

    def change(self) -> list[str]:
        """Change a size and the keys, and turn the protection off. Return the options that do it."""
        if self.folder == ROOT:
            return [f"-var={name}={value}" for name, value in CHANGED.items()]
        values = {**CHANGED, "database": "{ delete_protection = false }"}
        body = "\n".join(f"  {name} = {value}" for name, value in values.items())
        override = self.terraform.checkout / self.folder / "changed_override.tf"
        override.write_text(f'module "scheduler" {{\n{body}\n}}\n', encoding="utf-8")
        return []


@pytest.fixture
def terraform(tmp_path: Path) -> Iterator[Terraform]:
    """Return Terraform with stand-ins on a copy of the checkout."""
    found = find_terraform(copy_checkout(tmp_path / "checkout"))
    if isinstance(found, str):
        pytest.skip(f"not run: {found}")
    if not found.stand_in:
        pytest.skip("not run: apply needs the stand-in providers of TERRAFORM_OFFLINE, or an account")
    yield found
    for folder, _ in CONFIGURATIONS.values():
        found.run(folder, "clean")


def _installed(terraform: Terraform, name: str, provider: str) -> Installation:
    folder, variables = CONFIGURATIONS[name]
    installation = Installation(terraform, folder, terraform.given(variables), provider)
    installation.apply()
    return installation


@pytest.mark.parametrize("provider", [OLDER, NEWER])
@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_a_year_changes_nothing(terraform: Terraform, name: str, provider: str) -> None:
    """Plans are empty on day 0, 91 and 400. A size and keys can change then, and everything can be destroyed."""
    installation = _installed(terraform, name, provider)
    installation.expect_no_changes()
    for days in (91, 309):
        installation.run("drift", "--days", str(days))
        installation.expect_no_changes()
    changed = installation.change()
    installation.apply(*changed)
    installation.expect_no_changes(*changed)
    installation.run("destroy", "-auto-approve", installation.given, *changed)
    assert installation.run("state", "list").stdout.strip() == ""


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_a_newer_provider_changes_nothing(terraform: Terraform, name: str) -> None:
    """The newer provider reads the older one's state, also after a quarter."""
    installation = _installed(terraform, name, OLDER)
    installation.expect_no_changes(provider=NEWER)
    installation.run("drift", "--days", "91")
    installation.expect_no_changes(provider=NEWER)


def test_services_of_an_earlier_version_are_adopted(terraform: Terraform) -> None:
    """The import block of the page about upgrades adopts the four services, and creates none."""
    given = terraform.given({name: SWITCHED[name] for name in ("project_id", "configs", "buildbucket_servers")})
    installation = Installation(terraform, ROOT, given, NEWER)
    installation.apply()
    installation.run("state", "rm", *sorted(ADDRESSES))
    page = (REPOSITORY / "docs/how-to/upgrade.md").read_text(encoding="utf-8")
    block = page.partition("```hcl\n   import {")[2].partition("```")[0]
    text = f"import {{{block}".replace("PROJECT", PROJECT).replace("REGION", "us-central1")
    (terraform.checkout / ROOT / "imports.tf").write_text(text, encoding="utf-8")
    planned = installation.run("plan", given)
    assert re.search(r"Plan: 4 to import, 0 to add, \d to change, 0 to destroy", planned.stdout), planned.stdout[-3000:]


def test_another_prefix_after_a_year(terraform: Terraform) -> None:
    """All resources get new names. The new secrets get new times for their reminders, because the first are past."""
    installation = _installed(terraform, "everything", NEWER)
    installation.run("drift", "--days", "400")
    renamed = ["-var=prefix=other", "-var=canary=null"]  # the canary names revisions of the old services
    installation.apply(*renamed)
    installation.expect_no_changes(*renamed)


_OBJECTS = ("cloud_build", "github")
_TOKEN = {**EVERYTHING["github"], "app": None, "token": {"secret": "github-token"}, "webhook": {"secret": "other"}}
_ACCOUNT = {**EVERYTHING["cloud_build"], "account": f"strangers@{BUILDS}.iam.gserviceaccount.com"}


def _order(applied: str, first: str, then: str) -> bool:
    """Whether every line of an apply that matches ``first`` comes before each line that matches ``then``."""
    lines = applied.splitlines()
    done = [n for n, line in enumerate(lines) if re.search(first, line)]
    following = [n for n, line in enumerate(lines) if re.search(then, line)]
    assert done, first
    assert following, then
    return max(done) < min(following)


def test_the_optional_objects_come_and_go(terraform: Terraform) -> None:
    """An installation gets both objects, changes their secrets and accounts, and gives them up without a trace.

    Functions change after their new grants and before the removal of the old ones, so running builds keep theirs.
    """
    plain = {name: SWITCHED[name] for name in ("project_id", "configs", "buildbucket_servers", "database")}
    objects = {**plain, **{name: EVERYTHING[name] for name in _OBJECTS}}
    without = Installation(terraform, ROOT, terraform.given(plain), NEWER)
    with_objects = replace(without, given=terraform.given(objects))
    changed = replace(without, given=terraform.given({**objects, "cloud_build": _ACCOUNT, "github": _TOKEN}))
    without.apply()
    before = without.run("state", "list").stdout
    with_objects.apply()
    with_objects.expect_no_changes()
    function, webhook = r"module\.function\[\S+service.this: Mod", r"module\.github_webhook\S+service.this: Mod"
    grant = r"iam_member\.(github|scheduler_acts_as|scheduler_acts_as_steps)\b[^:]*: Destroying"
    for installation in (changed, without):
        applied = installation.run("apply", "-auto-approve", installation.given).stdout
        assert _order(applied, rf"{function}\w+ complete", grant)
        if installation is changed:
            assert _order(applied, "time_sleep.(build_grants|github_readers)_known.*: Creation complete", function)
            assert _order(applied, rf"{webhook}\w+ complete", r"iam_member\.reader[^:]*: Destroying")
        installation.expect_no_changes()
    assert without.run("state", "list").stdout == before


def test_each_policy_refuses_only_what_its_switch_leaves_out(terraform: Terraform) -> None:
    """A plan names the policy, or nothing is refused."""
    planned = plan_under_policies(terraform, *SWITCHES)
    assert {policy: refusing(done) for policy, done in planned.items()} == {
        "": set(),
        **{policy: {policy} for policy in SWITCHES},
    }
    refused = planned["iam.allowedPolicyMemberDomains"]
    assert "cr-buildbucket@appspot.gserviceaccount.com" in refused.stdout + refused.stderr
    switched = planned[""].stdout
    assert 'module.topic["commits"]' in switched
    assert 'module.topic["cr-buildbucket' not in switched
    assert "google_pubsub_topic_iam_member.publisher" not in switched


def test_a_rotation_keeps_what_earlier_revisions_read(terraform: Terraform) -> None:
    """Each key has one version. It stays until no revision of the previous generation reads it."""
    existing: set[int] = set()
    applied = rotate(terraform)
    for generation, done in applied.items():
        assert done.returncode == 0, done.stdout + done.stderr
        created, destroyed = keys(done, "Creation complete"), keys(done, "Destruction complete")
        assert created.isdisjoint(existing), "a key changed"
        existing = (existing | created) - destroyed
        assert existing >= read(generation) | read(generation - 1) - {0}
        assert len(existing) <= 4
        assert created == ({1, 2} if generation == 1 else {generation + 1})
        assert destroyed == ({generation - 3} if generation > 3 else set())


def test_switches_let_an_apply_succeed(terraform: Terraform) -> None:
    """The apply obeys all policies at once."""
    given = terraform.given(SWITCHED)
    done = terraform.run(ROOT, "apply", "-auto-approve", given, ORG_POLICIES=setting(*POLICIES))
    succeeded(done)


def test_accounts_are_needed(terraform: Terraform) -> None:
    """No switch helps if the organization forbids service accounts, and the refusal says so."""
    given = terraform.given(SWITCHED)
    done = terraform.run(ROOT, "plan", given, PLAN="refuse", ORG_POLICIES="iam.disableServiceAccountCreation")
    assert done.returncode == 1
    assert "constraints/iam.disableServiceAccountCreation" in done.stdout + done.stderr
