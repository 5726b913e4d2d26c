"""``python -m emulator demo``: a commit in a real git repository becomes a build, is checked, and ends; shown live."""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from emulator.buildbucket.plans import Command
from emulator.errors import LocalCloudError
from emulator.gitiles.repository import Repository
from emulator.local_cloud import BUILDBUCKET_HOST, LocalCloud

__all__ = ["main"]

_REPO = "https://sample.googlesource.com/engine"
_JOB = "sample/linux-tests"
_CONFIG = f"""
trigger {{ id: "main-poller" gitiles {{ repo: "{_REPO}" refs: "refs/heads/main" }} triggers: "linux-tests" }}
job {{ id: "linux-tests" buildbucket {{ server: "{BUILDBUCKET_HOST}" bucket: "ci" builder: "Linux Tests" }} }}
"""
_BUILD = Command((sys.executable, "-c", "import time; time.sleep(6)"))
_SECONDS = 50.0


def main() -> int:
    """Run the demo; return 0 only if the build succeeded and the log says so."""
    with tempfile.TemporaryDirectory() as folder:
        configs = Path(folder) / "configs"
        (configs / "sample").mkdir(parents=True)
        (configs / "sample" / "luci-scheduler.cfg").write_text(_CONFIG, encoding="utf-8")
        try:
            with LocalCloud(configs, check_interval_seconds=2, plan=_BUILD, on_progress=_say) as cloud:
                return _show(cloud, Path(folder))
        except LocalCloudError as error:
            sys.stderr.write(f"demo: {error}\n")
            return 1


def _show(cloud: LocalCloud, folder: Path) -> int:
    deadline = time.monotonic() + _SECONDS
    while not cloud.page(f"jobs/{_JOB}") and time.monotonic() < deadline:
        time.sleep(0.1)
    repository = Repository.create(folder / "engine")
    revision = repository.commit("Make the engine faster", {"engine.txt": "fast\n"})
    _say(f"committed {revision[:12]} to refs/heads/main, and told the topic gitiles-commit")
    cloud.publish_commit(_REPO, "refs/heads/main", revision)
    shown, page = 0, None
    while time.monotonic() < deadline:
        page = _latest(cloud)
        if page is not None:
            lines = [line for line in page["debug_log"].splitlines() if line.startswith("[")]
            for line in lines[shown:]:
                _say(f"  {line}")
            shown = len(lines)
            if page["final"]:
                break
        time.sleep(0.2)
    if page is None or page["status"] != "SUCCEEDED" or "with status SUCCEEDED" not in page["debug_log"]:
        sys.stderr.write("demo: the invocation did not succeed in time\n")
        return 1
    builds = [build.status for build in cloud.buildbucket.builds.newest_first()]
    _say(f"the page was {cloud.console_url}/jobs/{_JOB}/{page['invocation_id']}; Buildbucket says {', '.join(builds)}")
    return 0 if builds == ["SUCCESS"] else 1


def _latest(cloud: LocalCloud) -> Any:
    job = cloud.page(f"jobs/{_JOB}")
    return cloud.page(f"jobs/{_JOB}/{job['invocations'][0]['invocation_id']}") if job and job["invocations"] else None


def _say(text: str) -> None:
    print(text, flush=True)
