"""Finding the emulators of an installed Google Cloud SDK."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

__all__ = ["find_firestore_jar", "find_pubsub_jar"]

_USUAL_ROOTS = (
    "/usr/lib/google-cloud-sdk",
    "/usr/share/google-cloud-sdk",
    "/usr/lib64/google-cloud-sdk",
    "/usr/local/google-cloud-sdk",
    "/usr/local/share/google-cloud-sdk",
    "/opt/google-cloud-sdk",
    "/opt/homebrew/share/google-cloud-sdk",
    "/snap/google-cloud-cli/current",
    "/snap/google-cloud-sdk/current",
    "~/google-cloud-sdk",
)


def find_firestore_jar() -> Path | None:
    """Return the Firestore emulator's jar, or None if no SDK has the component ``cloud-firestore-emulator``."""
    return _find("platform/cloud-firestore-emulator/cloud-firestore-emulator.jar")


def find_pubsub_jar() -> Path | None:
    """Return the Pub/Sub emulator's jar, or None if no SDK has the component ``pubsub-emulator``."""
    return _find("platform/pubsub-emulator/lib/cloud-pubsub-emulator-*-all.jar")


def _find(pattern: str) -> Path | None:
    return next((jar for root in _roots() for jar in sorted(root.glob(pattern), reverse=True)), None)


def _roots() -> Iterator[Path]:
    """Yield the possible folders of an SDK: from the environment, that of gcloud, the usual ones."""
    if root := os.environ.get("CLOUDSDK_ROOT_DIR"):
        yield Path(root)
    if gcloud := shutil.which("gcloud"):
        yield Path(gcloud).resolve().parent.parent
    yield from (Path(root).expanduser() for root in _USUAL_ROOTS)
