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
from google.cloud.firestore_v1.types import StructuredQuery

from luci_scheduler.adapters import firestore as adapter
from luci_scheduler.adapters.firestore_wire import Wire
from luci_scheduler.core.job import JobState, Status
from luci_scheduler.ports import JobList
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
    "Status": Status.FAILED,
    "JobList": JobList("project"),
}
"""Type of a parameter → the argument for the store's methods."""
LISTS = [
    JobList("project", realms, state, failing)
    for realms in (None, ("a", "b"))
    for state in (None, JobState.PAUSED)
    for failing in (False, True)
]
"""Every combination of the conditions of a list."""

Index = tuple[str, str, tuple[str, ...]]
"""Collection, scope and fields; an array's field has an asterisk."""


_SENDERS = ("stream", "count", "sum")
_Operator = StructuredQuery.FieldFilter.Operator
_EQUALITIES = (_Operator.EQUAL, _Operator.IN)


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


class _Zero:
    """The answer to every aggregation."""

    value = 0


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> _Recorder:
    """Return a recorder with all queries that the store can send."""
    recorder = _Recorder()
    for kind in (Query, AggregationQuery):
        monkeypatch.setattr(kind, "stream", lambda query, *_, **__: recorder.stream(query))
        monkeypatch.setattr(kind, "get", lambda query, *_, **__: [*recorder.stream(query), [_Zero]])
    missing = type("Missing", (), {"exists": False})
    monkeypatch.setattr(DocumentReference, "get", lambda *_, **__: missing)
    monkeypatch.setattr(Wire, "get", lambda *_, **__: None)
    for name in ("read", "range"):  # by document IDs, which need no index
        monkeypatch.setattr(Wire, name, lambda *_, **__: [])
    client = firestore.Client(project="p", credentials=AnonymousCredentials())
    monkeypatch.setattr(client, "get_all", lambda *_, **__: iter(()), raising=False)
    store = adapter.FirestoreStore(client)
    for name, method in inspect.getmembers(store, inspect.ismethod):
        if not name.startswith("_") and name != "commit":
            _call(name, method)
    for wanted in LISTS:
        store.listed_jobs(wanted, 10, "1job")
        store.count_jobs(wanted, 10)
        store.count_job_commits(wanted, "1job", "1other")
    return recorder


def _call(name: str, method: Any) -> None:
    """Call a method with an argument for each parameter, and again without the optional ones."""
    _call_with(name, method, with_optional=True)
    _call_with(name, method, with_optional=False)


def _call_with(name: str, method: Any, *, with_optional: bool) -> None:
    hints = typing.get_type_hints(inspect.unwrap(method))
    arguments = []
    for parameter in list(inspect.signature(inspect.unwrap(method)).parameters.values()):
        if parameter.name == "self" or (parameter.default is not inspect.Parameter.empty and not with_optional):
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
    # An equality comes before a range or an order.
    conditions.sort(key=lambda condition: condition.op not in _EQUALITIES)
    used = [_field(condition) for condition in conditions if condition.field.field_path]
    used += [order.field.field_path for order in message.order_by]
    scope = "COLLECTION_GROUP" if source.all_descendants else "COLLECTION"
    names = list(dict.fromkeys(name for name in used if name != "__name__"))
    # Fields with an equality may be in any order.
    equal = sum(condition.op in _EQUALITIES for condition in conditions if condition.field.field_path)
    return source.collection_id, scope, (*sorted(names[:equal]), *names[equal:])


def _field(condition: Any) -> str:
    name: str = condition.field.field_path
    return f"{name}*" if condition.op == _Operator.ARRAY_CONTAINS else name


def _indexes(life: Life) -> tuple[set[Index], set[str]]:
    """Return Terraform's indexes, and the collections without any other index."""
    made: set[Index] = set()
    exempt = set()
    for index in life.all("google_firestore_index"):
        names = tuple(field["field_path"] for field in index["fields"])
        assert {field["order"] for field in index["fields"]} == {"ASCENDING"}
        made.add((index["collection"], index["query_scope"], (*sorted(names[:-2]), *names[-2:])))
    for field in life.all("google_firestore_field"):
        for index in field["index_config"][0]["indexes"]:
            name = f"{field['field']}*" if index.get("array_config") else field["field"]
            made.add((field["collection"], index["query_scope"], (name,)))
        if field["field"] == "*":
            exempt.add(field["collection"])
    return made, exempt


def test_every_query_was_recorded(recorder: _Recorder) -> None:
    """The recorder saw each line of the adapter that sends a query, so it will see new queries."""
    tree = ast.parse(SOURCE.read_text(encoding="utf-8"))
    sends = {
        call.lineno
        for call in ast.walk(tree)
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr in _SENDERS
    }
    assert sends
    assert len(sends - recorder.lines) == 0, (
        f"lines {sorted(sends - recorder.lines)} of {SOURCE.name} send queries unseen"
    )


def test_every_query_has_its_index_and_every_index_its_query(recorder: _Recorder, minimal: Life) -> None:
    """The indexes are exactly those of the queries. A sum counts as a last sort key of its query."""
    made, exempt = _indexes(minimal)
    needed = {_needed(query) for query in recorder.queries}
    assert {collection for collection, _, _ in needed} <= exempt
    assert {index for index in needed if index[2]} == made


def test_every_collection_is_known(minimal: Life) -> None:
    """Terraform lists every collection. An unlisted collection would have an index on every field."""
    pattern = r"(?:collection|collection_group|_path)\(\"(\w+)\"|\}/(\w+)[\"/]|_REPOSITORIES = \"(\w+)\""
    named = re.findall(pattern, SOURCE.read_text(encoding="utf-8"))
    names = {name for places in named for name in places if name}
    _, exempt = _indexes(minimal)
    assert names == exempt


def test_expired_documents_are_deleted(minimal: Life) -> None:
    """Invocations, markers and probes have a time to live, in a field that is not indexed."""
    expiring = {
        (field["collection"], field["field"]) for field in minimal.all("google_firestore_field") if field["ttl_config"]
    }
    assert expiring == {(name, "expire_at") for name in ("invocations", "probes", "triggers")}
    made, _ = _indexes(minimal)
    assert not expiring & {(collection, name) for collection, _, names in made for name in names}


def test_functions_wait_for_their_indexes() -> None:
    """The functions are deployed after the indexes, because an upgrade may add a query and its index."""
    module = (REPOSITORY / ROOT / "modules/database/outputs.tf").read_text(encoding="utf-8")
    assert "depends_on = [google_firestore_field.indexed, google_firestore_index.job_lists]" in module
    functions = (REPOSITORY / ROOT / "functions.tf").read_text(encoding="utf-8")
    assert re.search(r"SCHEDULER_DATABASE += module\.database\.name", functions)
