"""The command `up`: configs that need servers which the local cloud does not run."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from emulator.feed import Feed
from emulator.optional_servers import OptionalServers
from emulator.options import Options
from emulator.up import _sync

CONFIG = """
trigger { id: "main" gitiles { repo: "https://github.com/Ada/hello" refs: "refs/heads/main" } triggers: "test" }
job { id: "test" cloud_build { steps { name: "ubuntu" script: "true" } } }
"""


def _lines(configs: Path, optional: Any) -> list[str]:
    feed = Feed(lambda: 0)
    cloud: Any = SimpleNamespace(
        configs=configs, options=Options(), optional=optional, feed=feed, sync=lambda: feed.post("note", "read")
    )
    _sync(cloud)
    return [f"{entry.kind}: {entry.text}" for entry in feed.after(0)]


def test_a_config_that_needs_another_server_is_reported(tmp_path: Path) -> None:
    """It was saved after the start, so its jobs would fail without a reason that a newcomer understands."""
    file = tmp_path / "hello" / "luci-scheduler.cfg"
    file.parent.mkdir()
    file.write_text(CONFIG, encoding="utf-8")
    advice = "which this local cloud does not serve: stop it with Ctrl-C and start it again"
    both = ["note: read", *(f"problem: a config needs {name}, {advice}" for name in ("Cloud Build", "GitHub"))]
    assert _lines(tmp_path, OptionalServers()) == both
    running: Any = SimpleNamespace(url="http://127.0.0.1:9")
    assert _lines(tmp_path, OptionalServers(running, running)) == ["note: read"]
