"""Resource names: the forms that Cloud Tasks accepts, and the parts of a name."""

import pytest

from emulator.cloud_tasks.errors import InvalidArgumentError
from emulator.cloud_tasks.names import check_location, check_queue, check_task, queue_of, short

LOCATION = "projects/p/locations/l"
QUEUE = f"{LOCATION}/queues/q"


@pytest.mark.parametrize("name", [LOCATION, "projects/example.com:p-1/locations/us-central1"])
def test_a_location(name: str) -> None:
    assert check_location("parent", name) == name


@pytest.mark.parametrize(
    "name",
    [
        "",
        "projects/p",
        "projects//locations/l",
        f"{LOCATION}/",
        f"/{LOCATION}",
        "projects/p/locations/l_1",
        f"{LOCATION}\n",
    ],
)
def test_no_location(name: str) -> None:
    with pytest.raises(InvalidArgumentError, match=r"^parent: .*projects/PROJECT_ID/locations/LOCATION_ID$"):
        check_location("parent", name)


@pytest.mark.parametrize("queue_id", ["q", "Q-1", "a" * 100, "-"])
def test_a_queue(queue_id: str) -> None:
    name = f"{LOCATION}/queues/{queue_id}"
    assert check_queue("name", name) == name


@pytest.mark.parametrize("queue_id", ["", "a" * 101, "q_1", "q/tasks/t", "ü", "q\n"])
def test_no_queue(queue_id: str) -> None:
    with pytest.raises(InvalidArgumentError, match=r"^name: .*/queues/QUEUE_ID$"):
        check_queue("name", f"{LOCATION}/queues/{queue_id}")


@pytest.mark.parametrize("task_id", ["t", "T_1-2", "a" * 500])
def test_a_task(task_id: str) -> None:
    name = f"{QUEUE}/tasks/{task_id}"
    assert check_task("task.name", name) == name


@pytest.mark.parametrize("task_id", ["", "a" * 501, "t.1", "t/1", "t:1", "t 1", "t\n"])
def test_no_task(task_id: str) -> None:
    with pytest.raises(InvalidArgumentError, match=r"^task\.name: .*/tasks/TASK_ID$"):
        check_task("task.name", f"{QUEUE}/tasks/{task_id}")


def test_the_parts_of_a_name() -> None:
    name = f"{QUEUE}/tasks/t"
    assert (queue_of(name), short(name), short(queue_of(name))) == (QUEUE, "t", "q")
