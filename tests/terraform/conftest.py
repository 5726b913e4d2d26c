"""Long Terraform work starts at the end of the collection and runs in parallel with all other tests."""

import subprocess
import sys
import venv
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from subprocess import CompletedProcess
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from tests.terraform.configurations import EVERYTHING, GITHUB, MINIMAL, PRODUCTION
from tests.terraform.life import OLDER, Life, age, destroy_protected, live, upgrade
from tests.terraform.tool import REPOSITORY, ROOT, Terraform, copy_checkout, find_terraform
from tests.terraform.wrong_values import rounds

_CONFIGURATIONS = ("minimal", "production", "github", "everything")


def _everything(work: "Work") -> Life:
    changing = work.checkout("changing")  # the upgrade changes a source file, so it needs a separate checkout
    return live(changing, ROOT, EVERYTHING, partial(upgrade, changing))


def _minimal(work: "Work") -> Life:
    terraform, folder = work.checkout("minimal"), ROOT / "examples/minimal"

    def then(life: Life, given: str) -> None:
        age(terraform, folder, life, given, 91, provider=OLDER)
        destroy_protected(terraform, folder, life, given)

    return live(terraform, folder, MINIMAL, then, provider=OLDER)


def _production(work: "Work") -> Life:
    return live(work.checkout("production"), ROOT / "examples/production", PRODUCTION)


def _github(work: "Work") -> Life:
    terraform, folder = work.checkout("github"), ROOT / "examples/github"

    def then(life: Life, given: str) -> None:
        # A quarter later, also the newer provider finds the state as it is.
        age(terraform, folder, life, given, 91)

    return live(terraform, folder, GITHUB, then, provider=OLDER)


def _environment(folder: Path) -> Path:
    # Its own pip would have to be installed first. Functions use few of the modules, which Python compiles by itself.
    venv.create(folder, with_pip=False, symlinks=True)
    python = folder / "bin/python"
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "-q", "--disable-pip-version-check"]
    options = ["--no-compile", "--require-hashes", "-r", REPOSITORY / "functions/requirements.txt"]
    subprocess.run([*pip, *options], check=True, capture_output=True)
    return python


def _refused(work: "Work") -> list[CompletedProcess[str]]:
    terraform = work.checkout("refused")
    return [terraform.run(ROOT, "plan", terraform.given(values)) for values in rounds()]


_LONG: Mapping[str, Callable[["Work"], Any]] = {
    "everything": _everything,
    "minimal": _minimal,
    "production": _production,
    "github": _github,
    "tested": lambda work: work.checkout("tested").run(ROOT, "test"),
    "refused": _refused,
    "clean_python": lambda work: _environment(work.folder / "clean"),
}
"""Fixture → its long work."""

_UNCONDITIONAL = "clean_python"
_NEEDS_NO_ACCOUNT = "tested"


class Work:
    """The long Terraform work of a session. Tests that need it run last."""

    def __init__(self, wanted: AbstractSet[str], workers: int) -> None:
        self._temporary = TemporaryDirectory(prefix="terraform-")
        self.folder = Path(self._temporary.name)
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="terraform")
        self._found = self._pool.submit(lambda: find_terraform(self._copy("found")))
        # The first worker is busy with that. The others wait for its result, as the tests do.
        self._done = {name: self._pool.submit(self._do, name) for name in _LONG if name in wanted}

    def _copy(self, name: str) -> Path:
        return copy_checkout(self.folder / name)

    def _do(self, name: str) -> Any:
        return None if self.missing(name) else _LONG[name](self)

    def checkout(self, name: str) -> Terraform:
        """Return Terraform on a separate copy of the checkout."""
        found = self._found.result()
        assert isinstance(found, Terraform)
        return Terraform(self._copy(name), found.stand_in)

    def missing(self, name: str) -> str:
        """Return the reason why the work of a fixture cannot run here, or an empty string."""
        if name == _UNCONDITIONAL:
            return ""
        found = self._found.result()
        if isinstance(found, str):
            return found
        if not found.stand_in and name != _NEEDS_NO_ACCOUNT:
            return "apply needs the stand-in providers of TERRAFORM_OFFLINE, or an account"
        return ""

    def result(self, name: str) -> Any:
        """Return the result of a fixture's work, or skip the test if the work cannot run."""
        if why := self.missing(name):
            pytest.skip(f"not run: {why}")
        return self._done[name].result()

    def stop(self) -> None:
        """Cancel pending work, and delete the temporary folder."""
        self._pool.shutdown(cancel_futures=True)
        self._temporary.cleanup()


_WORK = pytest.StashKey[Work]()


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Move the tests that need Terraform to the end, in their order."""
    items.sort(key=lambda item: bool(_waits_for(item)))


def pytest_collection_finish(session: pytest.Session) -> None:
    """Start the work that the selected tests need."""
    wanted = {name for item in session.items for name in _waits_for(item)}
    if wanted and not session.config.option.collectonly:
        alone = all(_waits_for(item) for item in session.items)
        session.config.stash[_WORK] = Work(wanted, workers=2 if alone else 1)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Stop the work at the end of the session."""
    if (work := session.config.stash.get(_WORK, None)) is not None:
        work.stop()


def _waits_for(item: pytest.Item) -> set[str]:
    names = set(getattr(item, "fixturenames", ())) if Path(__file__).parent in item.path.parents else set()
    if isinstance(item, pytest.Function) and "life" in names:
        names.add(item.callspec.params["life"])
    return names & _LONG.keys()


@pytest.fixture(scope="session")
def work(request: pytest.FixtureRequest) -> Work:
    """Return the started work."""
    return request.config.stash[_WORK]


@pytest.fixture(scope="session")
def minimal(work: Work) -> Life:
    """Return the life of the example with at most fifteen lines."""
    found: Life = work.result("minimal")
    return found


@pytest.fixture(scope="session")
def production(work: Work) -> Life:
    """Return the life of the example for a permanent installation."""
    found: Life = work.result("production")
    return found


@pytest.fixture(scope="session")
def github(work: Work) -> Life:
    """Return the life of the example for GitHub and Cloud Build."""
    found: Life = work.result("github")
    return found


@pytest.fixture(scope="session")
def everything(work: Work) -> Life:
    """Return the life of the root module with every option and the longest names, and with planned upgrades."""
    found: Life = work.result("everything")
    return found


@pytest.fixture(scope="session")
def tested(work: Work) -> CompletedProcess[str]:
    """Return the output of ``terraform test``."""
    found: CompletedProcess[str] = work.result("tested")
    return found


@pytest.fixture(scope="session")
def refused(work: Work) -> Sequence[CompletedProcess[str]]:
    """Return the output of a plan for each of the `wrong_values`."""
    found: Sequence[CompletedProcess[str]] = work.result("refused")
    return found


@pytest.fixture(scope="session")
def clean_python(work: Work) -> Path:
    """Return the Python of a new environment with functions/requirements.txt."""
    found: Path = work.result("clean_python")
    return found


@pytest.fixture(scope="session", params=_CONFIGURATIONS)
def life(request: pytest.FixtureRequest) -> Life:
    """Return the life of each configuration in turn."""
    found: Life = request.getfixturevalue(request.param)
    return found
