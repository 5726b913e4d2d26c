"""Calls every method with the client that openapi-python-client generated into ``scheduler_client``.

``calls.py URL BODIES``: BODIES is a JSON list of path, operation and body. It prints a JSON list of path, HTTP status
and reply, as the client has parsed and written it again.
"""

import datetime as dt
import importlib
import inspect
import json
import pkgutil
import sys

import scheduler_client.api
from scheduler_client import Client
from scheduler_client.api.scheduler import scheduler_get_invocations, scheduler_get_jobs
from scheduler_client.models import Error, InvocationsRequest, InvocationStatus, JobRef, JobsRequest


def modules():
    """Return the modules of all methods, by the name of the operation without underscores."""
    found = {}
    for package in pkgutil.iter_modules(scheduler_client.api.__path__, "scheduler_client.api."):
        for module in pkgutil.iter_modules(importlib.import_module(package.name).__path__, f"{package.name}."):
            found[module.name.rpartition(".")[2].replace("_", "")] = importlib.import_module(module.name)
    return found


def body_class(module):
    """Return the class of a method's request."""
    annotation = inspect.signature(module.sync_detailed).parameters["body"].annotation
    return getattr(module, str(getattr(annotation, "__name__", annotation)).partition(" |")[0])


def durations(client):
    """Return how long the invocations of a job took, in seconds, as a program of a user would."""
    request = InvocationsRequest(job_ref=JobRef(project="demo", job="linux"), page_size=10)
    reply = scheduler_get_invocations.sync(client=client, body=request)
    if isinstance(reply, Error):
        raise SystemExit(f"{reply.code}: {reply.message}")
    ended = [item for item in reply.invocations if item.final]
    assert all(isinstance(item.started, dt.datetime) for item in ended)
    assert all(isinstance(item.status, InvocationStatus) for item in ended)
    return [(item.finished - item.started).total_seconds() for item in ended]


def main(url, bodies):
    """Call all methods."""
    known, answers = modules(), []
    with Client(base_url=url) as client:
        for path, operation, body in json.loads(bodies):
            module = known[operation.lower()]
            answer = module.sync_detailed(client=client, body=body_class(module).from_dict(body))
            answers.append([path, answer.status_code.value, answer.parsed.to_dict()])
        refused = scheduler_get_jobs.sync(client=client, body=JobsRequest(project=1))
        json.dump({"answers": answers, "durations": durations(client), "refused": refused.to_dict()}, sys.stdout)


main(*sys.argv[1:])
