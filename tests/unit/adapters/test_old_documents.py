"""Documents of earlier versions are read as they are, with defaults for missing members."""

from __future__ import annotations

import json

from luci_scheduler.adapters.documents import decode_project, encode_project
from luci_scheduler.core.identifiers import JobId
from luci_scheduler.core.project_record import ProjectRecord


def test_a_project_stored_before_warnings_existed() -> None:
    """It has none until its config changes. All else is kept, and a field of a later version is ignored."""
    record = ProjectRecord("p", "rev", "url", (JobId("p/a"),), ("r",), ("bad",), ("old",), 1, commits=3)
    document = encode_project(record)
    assert decode_project("p", document) == record
    values = json.loads(document["record"])
    del values["warnings"], values["warning_count"]
    before = decode_project("p", {**document, "record": json.dumps({**values, "later": 1})})
    assert before == ProjectRecord("p", "rev", "url", (JobId("p/a"),), ("r",), ("bad",), commits=3)
