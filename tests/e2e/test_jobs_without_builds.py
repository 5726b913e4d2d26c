"""url_fetch and noop jobs in the local cloud, in memory: a commit makes them run to their end."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from emulator.local_cloud import LocalCloud
from emulator.options import Options
from emulator.start import start_local_cloud
from tests.waiting import until

pytestmark = pytest.mark.timeout(120)

REPO = "https://r.googlesource.com/repo"
MAIN = "refs/heads/main"


class _Hook(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Answer with the path, or with the error that the path names."""
        body = f"asked for {self.path} 100%\n".encode()
        self.send_response(500 if self.path == "/bad" else 200)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture
def hook() -> Iterator[str]:
    """The address of a server on loopback that jobs call."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Hook)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://localhost:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join(10)


def _ended(cloud: LocalCloud, job: str) -> Any:
    page = cloud.page(f"jobs/{job}")
    items = page["invocations"] if page else []
    found = [cloud.page(f"jobs/{job}/{item['invocation_id']}") for item in items]
    return found if found and all(item["final"] for item in found) else None


def test_fetches_and_sleeps_run_to_their_end(tmp_path: Path, hook: str) -> None:
    """Jobs may call loopback, but not the metadata server. Answers decide the status, and are logged."""
    tasks = {
        "good": f'url_fetch {{ url: "{hook}/good" }}',
        "bad": f'url_fetch {{ url: "{hook}/bad" }}',
        "metadata": 'url_fetch { url: "http://169.254.169.254/computeMetadata/v1/" }',
        "nap": "noop { sleep_ms: 10 triggers_count: 1 }",
    }
    triggers = " ".join(f'triggers: "{name}"' for name in tasks)
    jobs = "\n".join(f'job {{ id: "{name}" {task} }}' for name, task in tasks.items())
    poller = f'trigger {{ id: "poller" schedule: "triggered" gitiles {{ repo: "{REPO}" refs: "{MAIN}" }} {triggers} }}'
    (tmp_path / "proj").mkdir()
    (tmp_path / "proj" / "luci-scheduler.cfg").write_text(f"{poller}\n{jobs}", encoding="utf-8")
    settings = {"SCHEDULER_COMMIT_WAIT_SECONDS": "0"}  # the commit is made up
    with start_local_cloud(Options(tmp_path, store="memory", settings=settings)) as cloud:
        until(lambda: all(cloud.page(f"jobs/proj/{name}") for name in tasks))
        cloud.publish_commit(REPO, MAIN, "a" * 40)
        ended = {name: until(lambda name=name: _ended(cloud, f"proj/{name}")) for name in tasks}
    assert {name: [item["status"] for item in items] for name, items in ended.items()} == {
        "good": ["SUCCEEDED"],
        "bad": ["FAILED"],
        "metadata": ["FAILED"],
        "nap": ["SUCCEEDED"],
    }
    logs = {name: items[0]["debug_log"] for name, items in ended.items()}
    assert "asked for /good 100%\n\n" in logs["good"]
    assert "500 Internal Server Error\n" in logs["bad"]
    assert "URL fetch error: 169.254.169.254 is refused" in logs["metadata"]
    assert "Emitting a trigger noop:" in logs["nap"]
