"""The state of a local cloud is kept between its runs, as a whole or not at all."""

import fcntl
import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from emulator.errors import LocalCloudError
from emulator.kept_state import KeptState, kept_state, read_documents, write_documents
from emulator.memory.store import MemoryStore
from emulator.stores import choose_store

ROWS: list[tuple[tuple[str, ...], dict[str, Any], tuple[str, ...]]] = [
    (("projects", "p"), {"text": "ä", "bytes": b"\x00\xff", "none": None, "yes": True}, ()),
    (
        ("jobs", "p/j", "invocations", "1"),
        {"at": datetime(2026, 3, 1, tzinfo=UTC), "n": [1, {"bytes": "x"}]},
        ("a", "b"),
    ),
]


def _store(rows: Any = tuple(ROWS)) -> MemoryStore:
    store = MemoryStore()
    store.keep(rows)
    return store


def _save(state: KeptState, store: MemoryStore, builds: Callable[[], Mapping[str, Any]] = dict, now: int = 7) -> None:
    state.save("memory", "local-1", now, documents=lambda folder: write_documents(folder, store), builds=builds)


def test_the_next_run_continues(tmp_path: Path) -> None:
    """Documents of every kind of value, builds, the project and the time are the same."""
    with kept_state(tmp_path) as state:
        assert state.header is None
        assert state.builds is None
        _save(state, _store(), lambda: {"builds": [1]})
    with kept_state(tmp_path) as state:
        assert state.header is not None
        assert (state.header.store, state.header.project, state.header.now) == ("memory", "local-1", 7)
        assert state.builds == {"builds": [1]}
        store = MemoryStore()
        state.load_documents(store)
        assert store.kept() == ROWS


def test_a_second_save_replaces_the_first(tmp_path: Path) -> None:
    """Nothing of the first stays on the disk."""
    for now in (1, 2):
        with kept_state(tmp_path) as state:
            _save(state, _store(), now=now)
    with kept_state(tmp_path) as state:
        assert state.header is not None
        assert state.header.now == 2
    assert len(list((tmp_path / "state").glob("run-*"))) == 1


@pytest.mark.parametrize("step", ["documents", "builds"])
def test_a_crash_while_saving_leaves_the_state_before(tmp_path: Path, step: str) -> None:
    """The half-written folder is deleted by the next run."""

    def crash(*_: object) -> Any:
        raise KeyboardInterrupt

    with kept_state(tmp_path) as state:
        _save(state, _store())
    documents, builds = (crash, dict) if step == "documents" else (lambda _: None, crash)
    with pytest.raises(KeyboardInterrupt), kept_state(tmp_path) as state:
        state.save("memory", "local-1", 9, documents=documents, builds=builds)
    assert len(list((tmp_path / "state").glob("run-*"))) == 2
    with kept_state(tmp_path) as state:
        assert state.header is not None
        assert state.header.now == 7
        state.load_documents(MemoryStore())
    assert len(list((tmp_path / "state").glob("run-*"))) == 1


def test_fresh_forgets_it(tmp_path: Path) -> None:
    """The files of the run before are deleted."""
    with kept_state(tmp_path) as state:
        _save(state, _store())
    with kept_state(tmp_path, fresh=True) as state:
        assert state.header is None
    assert sorted(path.name for path in (tmp_path / "state").iterdir()) == ["lock"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "is damaged; --fresh"),
        ("[]", "another version"),
        ('{"version": 2}', "another version"),
        ('{"version": 1, "run": "x"}', "is damaged"),
    ],
)
def test_a_state_that_cannot_be_read_is_an_error(tmp_path: Path, text: str, says: str) -> None:
    """The remedy is in the text, and nothing is deleted without it."""
    (tmp_path / "state" / "run-1").mkdir(parents=True)
    (tmp_path / "state" / "current").write_text(text)
    with pytest.raises(LocalCloudError, match=says), kept_state(tmp_path):
        pass
    assert (tmp_path / "state" / "run-1").exists()


@pytest.mark.parametrize("file", ["documents.json", "builds.json"])
def test_damaged_files_are_an_error(tmp_path: Path, file: str) -> None:
    """A file that was edited, cut or deleted, also if it can still be read."""
    with kept_state(tmp_path) as state:
        _save(state, _store(), lambda: {"builds": []})
    place = next((tmp_path / "state").glob(f"run-*/{file}"))
    whole = place.read_bytes()
    for damage in (b"[]", b"{", b"[" * 100_000, whole[:-1], whole + b" "):
        place.write_bytes(damage)
        with pytest.raises(LocalCloudError, match="damaged; --fresh"), kept_state(tmp_path):
            pass
    place.unlink()
    with pytest.raises(LocalCloudError, match="damaged; --fresh"), kept_state(tmp_path):
        pass
    place.write_bytes(whole)
    with kept_state(tmp_path) as state:
        assert state.builds == {"builds": []}


@pytest.mark.parametrize(
    "change",
    [{"run": "../.."}, {"run": 5}, {"run": "run-000000000000"}, {"store": "emulators"}, {"project": 5}, {"now": "x"},
     {"now": 10**40}, {"digest": ""}, {"other": 1}],
)  # fmt: skip
def test_a_changed_header_is_an_error(tmp_path: Path, change: dict[str, object]) -> None:
    """It leads to no other folder, and no other value is believed."""
    with kept_state(tmp_path) as state:
        _save(state, _store())
    current = tmp_path / "state" / "current"
    current.write_text(json.dumps(json.loads(current.read_text()) | change))
    with pytest.raises(LocalCloudError, match="damaged; --fresh"), kept_state(tmp_path):
        pass
    assert list((tmp_path / "state").glob("run-*/documents.json"))


@pytest.mark.parametrize("text", ["[[1]]", "{", '[[["a"], 1, 2]]', "[" * 100_000])
def test_documents_of_another_form_are_an_error(tmp_path: Path, text: str) -> None:
    (tmp_path / "documents.json").write_text(text)
    with pytest.raises(LocalCloudError, match="damaged"):
        read_documents(tmp_path / "documents.json", MemoryStore())


def test_a_folder_has_one_local_cloud_at_a_time(tmp_path: Path) -> None:
    """The second one names the first one's process."""
    second = kept_state(tmp_path)
    with kept_state(tmp_path), pytest.raises(LocalCloudError, match=r"another local cloud \(process \d+\) uses"):
        second.__enter__()
    with (tmp_path / "state" / "lock").open() as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # released


def test_a_full_disk_is_one_line(tmp_path: Path) -> None:
    """The state before stays."""

    def fail(_: Path) -> None:
        raise OSError(28, "No space left on device")

    with kept_state(tmp_path) as state, pytest.raises(LocalCloudError, match="No space left"):
        state.save("memory", "local-1", 1, documents=fail, builds=dict)
    assert sorted(path.name for path in (tmp_path / "state").iterdir()) == ["lock"]


def test_the_error_of_a_run_is_not_mistaken_for_one_of_the_state(tmp_path: Path) -> None:
    """Errors inside ``with`` pass unchanged."""
    with pytest.raises(FileNotFoundError, match="mine"), kept_state(tmp_path):
        raise FileNotFoundError("mine")


def test_the_export_of_firestore_is_found(tmp_path: Path) -> None:
    """The emulator's start needs the file, not the folder."""

    def export(folder: Path) -> None:
        (folder / "firestore" / "documents").mkdir(parents=True)
        (folder / "firestore" / "documents" / "documents.overall_export_metadata").write_text("x")

    with kept_state(tmp_path) as state:
        assert state.firestore is None
        state.save("emulators", "local-1", 1, documents=export, builds=dict)
    with kept_state(tmp_path) as state:
        assert state.firestore is not None
        assert state.firestore.read_text() == "x"
        state.load_documents(store := MemoryStore())
        assert store.kept() == []


def test_the_store_of_the_run_before_is_the_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another store is refused, because its documents would be missing."""
    monkeypatch.setattr("emulator.stores.why_not_at_hand", lambda: "")
    with kept_state(tmp_path) as state:
        assert choose_store(None, state) == ("emulators", "")
        _save(state, _store())
    with kept_state(tmp_path) as state:
        assert choose_store(None, state) == ("memory", "")
        assert choose_store("memory", state) == ("memory", "")
        with pytest.raises(LocalCloudError, match=r"of --store memory: .*--fresh"):
            choose_store("emulators", state)


def test_without_emulators_at_hand_memory_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """The caller learns why. Who names a download or a store gets the emulators."""
    monkeypatch.setattr("emulator.stores.why_not_at_hand", lambda: "no Java was found")
    assert choose_store(None) == ("memory", "no Java was found")
    assert choose_store(None, download_url="https://x") == ("emulators", "")
    assert choose_store("emulators") == ("emulators", "")


def test_the_header_is_readable(tmp_path: Path) -> None:
    """The version is part of the file, for later releases."""
    with kept_state(tmp_path) as state:
        _save(state, _store())
    assert json.loads((tmp_path / "state" / "current").read_text())["version"] == 1
