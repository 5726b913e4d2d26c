"""One function from its start to its first answer; prints the names of the modules that it has loaded.

``first_answer.py FUNCTION SOURCE < REQUEST``. The store is empty and answers at once. Everything else is that of a
deployment. The module imports nothing of its own, so that the list is the function's.
"""

import dataclasses
import json
import sys

import functions_framework


class _EmptyStore:
    """A store without documents."""

    def __getattr__(self, name):
        missing = name in ("job", "invocation", "project", "deferred", "probe", "poller", "trigger")
        return lambda *_, **__: None if missing else []


def _with_empty_store():
    from luci_scheduler import process  # the webhook has no application

    app = process.app()
    process.use(dataclasses.replace(app, runtime=dataclasses.replace(app.runtime, store=_EmptyStore())))
    return app


def _main(function, source):
    signature = "http" if function in ("on_task", "on_github_push", "console") else "cloudevent"
    client = functions_framework.create_app(function, source, signature).test_client()
    app = None if function == "on_github_push" else _with_empty_store()
    request = json.load(sys.stdin)
    answer = client.open(request["path"], method=request["method"], json=request["json"], headers=request["headers"])
    assert answer.status_code == 200, (answer.status_code, answer.get_data(as_text=True))
    if app is not None and function not in ("console", "on_cloud_build"):
        assert app.runtime.managers["buildbucket"]  # the kind of the jobs of most installations
    sys.stdout.write("\n" + json.dumps(sorted(sys.modules)) + "\n")


_main(*sys.argv[1:3])
