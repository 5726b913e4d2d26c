"""The sample project of a new local cloud."""

from __future__ import annotations

from pathlib import Path

from emulator.settings import BUILDBUCKET_HOST
from luci_scheduler.config.folder import FILE

__all__ = ["make_sample"]

_SAMPLE = f"""# A job that runs for each commit on the main branch.
# Change it: the change is in force within two seconds.
trigger {{
  id: "main-poller"
  schedule: "triggered"
  gitiles {{ repo: "https://sample.googlesource.com/engine" refs: "refs/heads/main" }}
  triggers: "linux-tests"
}}
job {{
  id: "linux-tests"
  buildbucket {{ server: "{BUILDBUCKET_HOST}" bucket: "ci" builder: "Linux Tests" }}
}}
"""


def make_sample(configs: Path) -> Path:
    """Add a sample project to a new folder of configs, and return its file.

    Raises:
        OSError: the folder has the project already, or cannot be written.
    """
    file = configs / "sample" / FILE
    file.parent.mkdir(parents=True)
    file.write_text(_SAMPLE, encoding="utf-8")
    return file
