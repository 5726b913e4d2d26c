"""The vectors of requests to Cloud Build, from ``tests/vectors`` or from the folder ``LUCI_VECTORS``."""

from __future__ import annotations

from typing import Any

import pytest

from luci_scheduler.core.errors import PermanentError
from luci_scheduler.core.identifiers import InvocationId, JobId
from luci_scheduler.managers.cloud_build.lookup import look_up_query
from luci_scheduler.managers.cloud_build.request import BuildRequest, make_request, place_of
from luci_scheduler.managers.environment import CloudBuildDefaults
from tests.vectors.support import Case, cases


def _given(case: Case) -> BuildRequest:
    defaults = case["defaults"]
    return BuildRequest(
        task=case["task"],
        job_id=JobId(case["job_id"]),
        invocation_id=InvocationId(int(case["invocation_id"])),
        app_id=case["app_id"],
        properties=case["request"].get("properties") or {},
        defaults=CloudBuildDefaults(
            project=defaults.get("project", ""),
            location=defaults.get("location", "global"),
            account=defaults.get("service_account", ""),
        ),
    )


def _ordered(value: Any) -> Any:
    """Return a JSON value in a form whose comparison counts the order of members."""
    if isinstance(value, dict):
        return [(name, _ordered(item)) for name, item in value.items()]
    return [_ordered(item) for item in value] if isinstance(value, list) else value


@pytest.mark.parametrize("case", cases("cloud_build_requests"))
def test_vector_cloud_build_requests(case: Case) -> None:
    """A request has the path and the body, with its members in order, and the look-up finds its build."""
    lines: list[str] = []
    given, expected = _given(case), case["expected"]
    if "error" in expected:
        with pytest.raises(PermanentError) as raised:
            make_request(given, lines.append)
        assert (str(raised.value), lines) == (expected["error"], expected["log"])
        return
    path, body = make_request(given, lines.append)
    assert expected["method"] == "POST"
    assert path == expected["path"]
    assert _ordered(body) == _ordered(expected["body"])
    assert lines == expected["log"]
    look_up = {"path": place_of(given.task, given.defaults).builds, "query": dict(look_up_query(given))}
    assert look_up == expected["lookup"]
