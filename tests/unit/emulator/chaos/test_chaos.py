"""The report of a run of chaos, its relays and its repeatable randomness."""

import json
import random
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
import pytest
import requests
from google.api_core import exceptions
from google.cloud import tasks_v2

from emulator.chaos.cli import main
from emulator.chaos.faults import Chaos
from emulator.chaos.network import Network, Tripwire, thrice
from emulator.chaos.relays import Call, CutError, HttpResponse
from emulator.chaos.report import take_stock
from emulator.clock import RealClock
from emulator.cloud_tasks.server import CloudTasksServer
from emulator.errors import LocalCloudError
from emulator.serving.local_server import LocalServer
from emulator.tcp_ports import HOST
from luci_scheduler.adapters.cloud_tasks import make_client

JOB = "p/j"


def _page(number: int, *triggers: str, status: str = "SUCCEEDED", ends: int = 1) -> dict[str, Any]:
    return {
        "invocation_id": str(number),
        "status": status,
        "final": status != "RUNNING",
        "incoming_triggers": [{"id": trigger} for trigger in triggers],
        "debug_log": "Invocation finished\n" * ends,
    }


def _cloud(pages: list[dict[str, Any]], builds: list[int]) -> Any:
    """Return a cloud with pages, and with builds by the number of their invocation."""
    by_path = {f"jobs/{JOB}/{page['invocation_id']}": page for page in pages}
    by_path[f"jobs/{JOB}"] = {"invocations": pages, "active_invocations": []}
    tags = [{"scheduler_job_id": JOB, "scheduler_invocation_id": str(number)} for number in builds]
    found = [SimpleNamespace(spec=SimpleNamespace(tags=list(item.items()))) for item in tags]
    return SimpleNamespace(
        page=by_path.get, buildbucket=SimpleNamespace(builds=SimpleNamespace(newest_first=lambda: found))
    )


def test_a_report_without_losses() -> None:
    """Each commit is in one invocation with one build and one end."""
    report = take_stock(_cloud([_page(1, "a", "b"), _page(2, "c")], [1, 2]), {JOB: {"a", "b", "c"}})
    assert report.holds
    assert (report.invocations, report.builds) == (2, 2)


@pytest.mark.parametrize(
    ("pages", "builds", "expected"),
    [
        ([_page(1, "a")], [1], {"lost": 1}),
        ([_page(1, "a"), _page(2, "a", "b")], [1, 2], {"duplicated": 1}),
        ([_page(1, "a", "b")], [1, 1], {"duplicated": 1}),
        ([_page(1, "a", "b", ends=2)], [1], {"duplicated": 1}),
        ([_page(1, "a", "b")], [], {"lost": 1}),
        ([_page(1, "a", "b", status="RUNNING", ends=0)], [1], {"unfinished": 1}),
        ([_page(1, "a", "b", status="FAILED")], [1], {"unsuccessful": 1}),
    ],
    ids=["commit lost", "commit twice", "built twice", "ended twice", "build lost", "runs", "failed"],
)
def test_a_report_with_a_loss(pages: Any, builds: list[int], expected: dict[str, int]) -> None:
    """The report shows the fault and no other."""
    report = take_stock(_cloud(pages, builds), {JOB: {"a", "b"}})
    counts = {
        "lost": len(report.lost),
        "duplicated": len(report.duplicated),
        "unfinished": report.unfinished,
        "unsuccessful": report.unsuccessful,
    }
    assert {name: count for name, count in counts.items() if count} == expected
    assert not report.holds


def _task(name: str) -> Call:
    return Call("on_task", "timer", b"", {"x-cloudtasks-taskname": name})


def test_the_same_seed_gives_the_same_chaos() -> None:
    """A different seed gives a different one."""

    def sends(seed: int) -> list[int]:
        chaos, drawn = Chaos(random.Random(seed)), []  # noqa: S311 - a seed is the point
        for number in range(200):
            sent = []

            def send(sent: list[int] = sent) -> HttpResponse:
                sent.append(1)
                return HttpResponse(200, (), b"")

            try:
                chaos(_task(str(number)), send)
                drawn.append(len(sent))
            except CutError:
                drawn.append(-len(sent))
        return drawn

    assert sends(1) == sends(1) != sends(2)
    assert {-3, -1, 0, 1, 3} == set(sends(1))


def test_a_threefold_delivery_returns_the_worst_response() -> None:
    """If one of three deliveries fails, the sender repeats the delivery."""
    statuses = iter([200, 409, 200])
    assert thrice(_task("t"), lambda: HttpResponse(next(statuses), (), b"")).status == 409
    with pytest.raises(CutError):
        thrice(_task("t"), lambda: (_ for _ in ()).throw(CutError()))


def test_http_passes_through_the_network() -> None:
    """Body, headers and status arrive; deliveries are counted; a tripwire acts once, at the given call."""
    seen: list[Any] = []

    def serve(environ: Any, start: Any) -> Any:
        body = environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))
        seen.append((environ["PATH_INFO"], body, environ.get("HTTP_AUTHORIZATION")))
        start("409 Conflict", [("Content-Type", "text/plain"), ("X-Said", "no")])
        return [b"later"]

    server = LocalServer(serve, HOST, 0)
    server.start()
    tripped: list[str] = []
    with Network() as network, requests.Session() as session:
        session.trust_env = False
        url = network.http("on_task", server.url)

        def post() -> requests.Response:
            return session.post(f"{url}/timer", b"{}", headers={"Authorization": "x", "X-CloudTasks-TaskName": "t"})

        response = post()
        assert (response.status_code, response.text, response.headers["X-Said"]) == (409, "later", "no")
        assert seen == [("/timer", b"{}", "x")]
        network.interfere = Tripwire("on_task", "timer", "before", lambda: tripped.append("before"), 2)
        assert post().status_code == 409
        with pytest.raises(requests.ConnectionError):
            post()
        assert (tripped, len(seen)) == (["before"], 2)
        network.interfere = Tripwire("on_task", "timer", "after", lambda: tripped.append("after"))
        with pytest.raises(requests.ConnectionError):
            post()
        assert (tripped, len(seen)) == (["before", "after"], 3)
        server.stop()
        with pytest.raises(requests.ConnectionError):
            post()
        assert network.calls == Counter({("on_task", "timer"): 5})
        assert network.deliveries == Counter({"t": 4})
        assert not network.taken("on_task")


def test_grpc_passes_through_the_network() -> None:
    """Responses and errors of the server arrive unchanged; a broken connection is an error."""
    queue = "projects/p/locations/l/queues/queue"
    with CloudTasksServer(clock=RealClock(), dispatch="manual") as server, Network() as network:
        server.create_queue(queue)
        client = make_client(network.grpc("cloud_tasks", server.grpc_address))
        task = tasks_v2.Task(http_request=tasks_v2.HttpRequest(url="http://127.0.0.1:1/"))
        assert client.create_task(parent=queue, task=task).name.startswith(queue)
        with pytest.raises(exceptions.NotFound):
            client.get_task(name=f"{queue}/tasks/none")
        network.interfere = Tripwire("cloud_tasks", "CreateTask", "after", lambda: None)
        with pytest.raises(exceptions.ServiceUnavailable):
            client.create_task(parent=queue, task=task, retry=None)
        assert server.stats().created == 2
        assert network.calls["cloud_tasks", "CreateTask"] == 2
        client.transport.close()


def test_a_run_in_memory(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """The command succeeds and prints the report. Each commit is a build of each job, although a server dies."""
    file = tmp_path / "chaos.json"
    assert main(["--store", "memory", "--builds", "23", "--jobs", "2", "--outages", "1", "--json", str(file)]) == 0
    shown = {cells[0]: cells[1] for cells in _rows(capsys.readouterr().out)}
    assert (shown["commits"], shown["lost"], shown["duplicated"], shown["unfinished"]) == ("12", "0", "0", "0")
    assert (shown["builds"], shown["invocations"]) == ("24", "24")
    assert [count for name, count in shown.items() if name.startswith("deaths of Firestore")] == ["1"]
    document = json.loads(file.read_text())
    assert (document["builds"], document["lost"], document["in_time"]) == (24, 0, True)
    assert [name for name, count in document["disturbances"].items() if count] == [
        "deaths of Firestore, Cloud Tasks or Buildbucket, which keep their data"
    ]


def test_a_missing_folder_is_named_before_anything_starts(tmp_path: Path) -> None:
    """A run of minutes does not end without its result."""
    with pytest.raises(LocalCloudError, match="the folder of --json does not exist"):
        main(["--store", "memory", "--json", str(tmp_path / "missing" / "chaos.json")])


def _rows(table: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.strip("│").split("│")] for line in table.splitlines() if "│" in line]


def test_kills_are_refused_with_the_memory_store() -> None:
    """The command fails before anything starts."""
    for option in ("--kills", "--terminations", "--freezes"):
        with pytest.raises(LocalCloudError, match="no processes"):
            main(["--store", "memory", option, "1"])


def test_a_dead_server_is_unavailable() -> None:
    """Its caller sees the same error as for a broken connection."""
    with Network() as network:
        channel = grpc.insecure_channel(network.grpc("firestore", f"{HOST}:1"))
        with pytest.raises(grpc.RpcError) as caught:
            channel.unary_unary("/a.B/C", None, None)(b"", timeout=20)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        channel.close()
