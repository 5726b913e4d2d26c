"""One cold start, in a process that imports nothing else: ``cold_process.py ROLE FUNCTION SOURCE < REQUEST``.

It prints milliseconds since its first statement, of the clock and of the processor, and the number of modules.
``ours`` starts the function and sends it the request. ``libraries`` starts a function without work, loads the libraries
that this function needs, and makes their clients.
"""

from __future__ import annotations

import time

_BEGUN, _BEGUN_CPU = time.perf_counter(), time.process_time()

import json  # noqa: E402 - the time begins before all imports
import os  # noqa: E402
import sys  # noqa: E402

__all__: list[str] = []

_SIGNATURES = {"on_gitiles_commit": "cloudevent", "on_build_completion": "cloudevent"}


def _times(step: str) -> dict[str, float]:
    return {step: (time.perf_counter() - _BEGUN) * 1e3, f"{step}, CPU": (time.process_time() - _BEGUN_CPU) * 1e3}


def _ours(function: str, source: str, request: dict[str, str]) -> dict[str, float]:
    import functions_framework

    server = functions_framework.create_app(function, source, _SIGNATURES.get(function, "http"))
    from luci_scheduler import process

    app = process.app()
    if function in ("on_gitiles_commit", "on_task"):
        app.runtime.queue.enqueue  # noqa: B018 - the first task would make the client
    found = {**_times("clients"), "modules": len(sys.modules)}
    client = server.test_client()
    if request["method"] == "GET":
        answer = client.get(request["path"], headers=request["headers"])
    else:
        answer = client.post(request["path"], data=request["body"], headers=request["headers"])
    found |= _times("answer")
    assert answer.status_code == 200, (answer.status_code, answer.get_data(as_text=True)[:500])
    return found


def _libraries(function: str, source: str) -> dict[str, float]:
    import functions_framework

    functions_framework.create_app(function, source, _SIGNATURES.get(function, "http"))
    import requests
    import structlog  # noqa: F401
    from google.cloud import firestore

    project, database = os.environ["SCHEDULER_PROJECT"], os.environ.get("SCHEDULER_DATABASE", "(default)")
    kept = [firestore.Client(project=project, database=database), requests.Session()]
    if function in ("on_gitiles_commit", "on_task"):
        import grpc
        from google.cloud import tasks_v2
        from google.cloud.tasks_v2.services.cloud_tasks.transports import CloudTasksGrpcTransport

        channel = grpc.insecure_channel(os.environ["SCHEDULER_CLOUD_TASKS_ENDPOINT"])
        kept.append(tasks_v2.CloudTasksClient(transport=CloudTasksGrpcTransport(channel=channel)))
    if function == "console":
        import jinja2

        kept.append(jinja2.Environment(autoescape=True))
    return {**_times("clients"), "modules": len(sys.modules), "kept": len(kept)}


if __name__ == "__main__":
    role, function, source = sys.argv[1:4]
    found = _ours(function, source, json.load(sys.stdin)) if role == "ours" else _libraries(function, source)
    print(json.dumps(found))
