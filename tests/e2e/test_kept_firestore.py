"""The documents of the official Firestore emulator are exported, and another emulator continues with them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from emulator.errors import LocalCloudError
from emulator.kept_state import kept_state
from emulator.official import OfficialEmulator, export_documents, start_firestore

DOCUMENT = {"text": "ä", "bytes": b"\x00\xff", "number": 1, "list": [{"a": None}]}


@pytest.mark.emulators
def test_another_emulator_has_the_exported_documents(
    firestore_emulator: OfficialEmulator, firestore_client: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All kinds of values survive. An export that fails leaves the state before."""
    from google.cloud import firestore

    project = firestore_client.project
    firestore_client.document("jobs/a/invocations/1").set(DOCUMENT)

    def documents(folder: Path) -> None:
        export_documents(firestore_emulator.address, project, folder / "firestore")

    def fail(folder: Path) -> None:
        export_documents("127.0.0.1:9", project, folder / "firestore")

    with kept_state(tmp_path) as state:
        state.save("emulators", project, 1, documents=documents, builds=dict)
        with pytest.raises(LocalCloudError, match="refused POST"):
            state.save("emulators", project, 2, documents=fail, builds=dict)
    with kept_state(tmp_path) as state:
        assert state.header is not None
        assert state.header.now == 1
        with start_firestore(seed=state.firestore) as other:
            monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", other.address)
            client = firestore.Client(project=project)
            assert client.document("jobs/a/invocations/1").get().to_dict() == DOCUMENT
            client.close()
