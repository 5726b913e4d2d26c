"""A function in a fresh process reads one large input; prints the most memory that the process had, in MiB.

``peak_memory.py (event|answer|push) SOURCE FILE``. The module itself imports nothing: the process is that of a
deployment, of ``on_github_push`` for a push.
"""

import sys
from pathlib import Path
from types import SimpleNamespace

import functions_framework


def _load_engine():
    """Load all that ``on_task`` may load."""
    import luci_scheduler.adapters.cloud_tasks
    import luci_scheduler.adapters.firestore
    import luci_scheduler.cloud_ports
    import luci_scheduler.engine.tasks
    import luci_scheduler.managers.gitiles.manager  # noqa: F401


def _read_event(source, file):
    """Push an event through the framework, and read its commits."""
    _load_engine()
    from luci_scheduler import entry, process
    from luci_scheduler.core.commit_event import parse_commit_events
    from luci_scheduler.envelopes import open_message

    events = []

    def commit(_, event):
        events.extend(parse_commit_events(open_message(event).data))
        return "", 200

    entry.commit = commit
    process.use(SimpleNamespace(settings=SimpleNamespace(local=False)))
    client = functions_framework.create_app("on_gitiles_commit", source, "cloudevent").test_client()
    headers = {"Content-Type": "application/json", "Content-Length": str(file.stat().st_size)}
    with file.open("rb") as stream:
        answer = client.post("/", input_stream=stream, headers=headers)
    assert answer.status_code == 200, answer.get_data(as_text=True)
    assert events


def _read_answer(_, file):
    """Parse an answer of Gitiles, as the adapter does."""
    _load_engine()
    from luci_scheduler.core.foreign_json import read_answer
    from luci_scheduler.core.untrusted import check_values

    body = bytes(bytearray(file.read_bytes()))
    check_values(body)
    assert read_answer(body, needs_guard=True)


def _read_push(source, file):
    """Deliver a push of GitHub through the framework."""
    from luci_scheduler import webhook
    from luci_scheduler.adapters.system import SystemClock
    from luci_scheduler.core import github_push
    from luci_scheduler.core.commit_hosts import DEFAULT_HOSTS

    published = []
    topic = SimpleNamespace(publish=lambda *message: published.append(message))
    hook = webhook.Hook(("secret",), DEFAULT_HOSTS, topic, SystemClock())
    webhook.current_hook = lambda: hook
    webhook._settings = lambda: SimpleNamespace(local=False)
    github_push.hmac = SimpleNamespace(
        new=github_push.hmac.new, compare_digest=lambda made, _: made.startswith(b"sha256=")
    )
    client = functions_framework.create_app("on_github_push", source, "http").test_client()
    headers = {
        "Content-Type": "application/json",
        "Content-Length": str(file.stat().st_size),
        "X-GitHub-Event": "push",
        "X-Hub-Signature-256": f"sha256={'0' * 64}",
    }
    with file.open("rb") as stream:
        answer = client.post("/github", input_stream=stream, headers=headers)
    assert answer.status_code == 200, answer.get_data(as_text=True)
    assert published


def _main(kind, source, file):
    {"event": _read_event, "answer": _read_answer, "push": _read_push}[kind](source, Path(file))
    status = Path("/proc/self/status").read_text()
    sys.stdout.write(f"\n{int(status.partition('VmHWM:')[2].split()[0]) >> 10}\n")


_main(*sys.argv[1:4])
