"""Every Firestore query has an index, and every index a query.

The emulator needs no indexes, so no other test would notice a missing one.
"""

import ast
import inspect
import re
import sys
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from google.auth.credentials import AnonymousCredentials
from google.cloud import firestore
from google.cloud.firestore_v1.aggregation import AggregationQuery
from google.cloud.firestore_v1.base_aggregation import BaseAggregationQuery
from google.cloud.firestore_v1.base_query import BaseQuery
from google.cloud.firestore_v1.document import DocumentReference
from google.cloud.firestore_v1.query import Query

from luci_scheduler.adapters import firestore as adapter
from tests.terraform.life import Life
from tests.terraform.tool import REPOSITORY, ROOT

pytestmark = pytest.mark.timeout(1800)

SOURCE = Path(adapter.__file__)
VALUES: dict[str, Any] = {
    "str": "project/job",
    "JobId": "project/job",
    "int": 10,
    "InvocationId": 10,
    "Instant": 10,
    "bool": True,
    "Sequence": (),
}
"""Type of a parameter → the argument for the store's methods."""

Index = tuple[str, str, str]
"""Collection, scope and field."""


class _Recorder:
    """A client that records every query and its line, and sends nothing."""

    def __init__(self) -> None:
        self.queries: list[BaseQuery] = []
        self.lines: set[int] = set()

    def stream(self, query: Any, *_: Any, **__: Any) -> Iterator[Any]:
        self.queries.append(query._nested_query if isinstance(query, BaseAggregationQuery) else query)
        frame = sys._getframe()
        while frame is not None and frame.f_code.co_filename != str(SOURCE):
            frame = frame.f_back  # type: ignore[assignment]
        self.lines.add(frame.f_lineno)
        return iter(())


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> _Recorder:
    """Return a recorder with all queries that the store can send."""
    recorder = _Recorder()
    for kind in (Query, AggregationQuery):
        monkeypatch.setattr(kind, "stream", lambda query, *_, **__: recorder.stream(query))
        monkeypatch.setattr(kind, "get", lambda query, *_, **__: list(recorder.stream(query)))
    missing = type("Missing", (), {"exists": False})
    monkeypatch.setattr(DocumentReference, "get", lambda *_, **__: missing)
    client = firestore.Client(project="p", credentials=AnonymousCredentials())
    monkeypatch.setattr(client, "get_all", lambda *_, **__: iter(()), raising=False)
    store = adapter.FirestoreStore(client)
    for name, method in inspect.getmembers(store, inspect.ismethod):
        if not name.startswith("_") and name != "commit":
            _call(name, method)
    return recorder


def _call(name: str, method: Any) -> None:
    hints = typing.get_type_hints(inspect.unwrap(method))
    arguments = []
    for parameter in list(inspect.signature(inspect.unwrap(method)).parameters.values()):
        if parameter.name == "self":
            continue
        kind = re.split(r"\W", getattr(hints[parameter.name], "__name__", str(hints[parameter.name])))[0]
        value = VALUES.get(kind, "")
        if kind not in VALUES and parameter.default is inspect.Parameter.empty:
            pytest.fail(f"{name}: add a value for {kind} to VALUES")
        arguments.append(value if kind in VALUES else parameter.default)
    result = method(*arguments)
    if inspect.isgenerator(result):
        list(result)


def _needed(query: BaseQuery) -> tuple[str, str, tuple[str, ...]]:
    """Return collection, scope and fields of a query."""
    message = query._to_protobuf()
    (source,) = message.from_
    conditions = [message.where.field_filter, *(item.field_filter for item in message.where.composite_filter.filters)]
    used = [condition.field.field_path for condition in conditions if condition.field.field_path]
    used += [order.field.field_path for order in message.order_by]
    scope = "COLLECTION_GROUP" if source.all_descendants else "COLLECTION"
    return source.collection_id, scope, tuple(dict.fromkeys(name for name in used if name != "__name__"))


def _indexes(life: Life) -> tuple[set[Index], set[str]]:
    """Return Terraform's single-field indexes, and the collections without any other index."""
    made, exempt = set(), set()
    for field in life.all("google_firestore_field"):
        for index in field["index_config"][0]["indexes"]:
            made.add((field["collection"], index["query_scope"], field["field"]))
        if field["field"] == "*":
            exempt.add(field["collection"])
    return made, exempt


def test_every_query_was_recorded(recorder: _Recorder) -> None:
    """The recorder saw each line of the adapter that sends a query, so it will see new queries."""
    tree = ast.parse(SOURCE.read_text(encoding="utf-8"))
    sends = {
        call.lineno
        for call in ast.walk(tree)
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr in ("stream", "count")
    }
    assert sends
    assert len(sends - recorder.lines) == 0, (
        f"lines {sorted(sends - recorder.lines)} of {SOURCE.name} send queries unseen"
    )


def test_every_query_has_its_index_and_every_index_its_query(recorder: _Recorder, minimal: Life) -> None:
    """The indexed fields are exactly the queried fields."""
    made, exempt = _indexes(minimal)
    composite = minimal.all("google_firestore_index")
    needed: set[Index] = set()
    for query in recorder.queries:
        collection, scope, used = _needed(query)
        assert len(used) <= 1 or composite, f"{collection}: {used} needs a composite index"
        assert collection in exempt, f"{collection} is not in the module's list of collections"
        needed |= {(collection, scope, name) for name in used}
    assert needed == made


def test_every_collection_is_known(minimal: Life) -> None:
    """Terraform lists every collection. An unlisted collection would have an index on every field."""
    names = set(re.findall(r"\.collection(?:_group)?\(\"(\w+)\"\)", SOURCE.read_text(encoding="utf-8")))
    _, exempt = _indexes(minimal)
    assert names <= exempt


def test_expired_documents_are_deleted(minimal: Life) -> None:
    """Invocations, markers and probes have a time to live, in a field that is not indexed."""
    expiring = {
        (field["collection"], field["field"]) for field in minimal.all("google_firestore_field") if field["ttl_config"]
    }
    assert expiring == {(name, "expire_at") for name in ("invocations", "probes", "triggers")}
    made, _ = _indexes(minimal)
    assert not expiring & {(collection, name) for collection, _, name in made}


def test_functions_wait_for_their_indexes() -> None:
    """The functions are deployed after the indexes, because an upgrade may add a query and its index."""
    module = (REPOSITORY / ROOT / "modules/database/outputs.tf").read_text(encoding="utf-8")
    assert "depends_on = [google_firestore_field.indexed, google_firestore_index.job_lists]" in module
    functions = (REPOSITORY / ROOT / "functions.tf").read_text(encoding="utf-8")
    assert re.search(r"SCHEDULER_DATABASE += module\.database\.name", functions)
