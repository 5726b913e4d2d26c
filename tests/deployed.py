"""A folder like the image of a deployment: the files of ``functions/`` and their locked requirements, nothing else.

The environment of the tests has more: for example, ``structlog`` loads ``rich`` wherever it is installed.
"""

from __future__ import annotations

import re
import shutil
from importlib.metadata import distribution
from pathlib import Path

__all__ = ["FUNCTIONS", "link_deployment"]

_FUNCTIONS = Path(__file__).parents[1] / "functions"
FUNCTIONS = ("on_gitiles_commit", "on_build_completion", "on_task", "console")


def link_deployment(folder: Path) -> None:
    """Fill a folder with copies of ``functions/`` and links to the files of the requirements.

    ``python -S`` with the folder as ``PYTHONPATH`` finds nothing else but the standard library.
    """
    shutil.copytree(_FUNCTIONS, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    for name in re.findall(r"^([a-z0-9][a-z0-9._-]*)==", (_FUNCTIONS / "requirements.txt").read_text(), re.MULTILINE):
        installed = distribution(name)
        root = Path(str(installed.locate_file("")))
        for file in installed.files or ():
            if not file.is_absolute() and ".." not in file.parts and (root / file).exists():
                link = folder / file
                link.parent.mkdir(parents=True, exist_ok=True)
                link.symlink_to(root / file)
