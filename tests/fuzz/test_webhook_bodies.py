"""Generated deliveries to the webhook: no body causes a defect, and every published message is a commit event.

FUZZ_SEED sets the seed, as in `test_entry_points`.
"""

from __future__ import annotations

import os
from collections import Counter

from luci_scheduler.core.commit_event import parse_commit_events
from tests.fuzz.hostile import Hostile
from tests.pushes import delivery, hooked, payload

BODIES = 1000
SEED = int(os.environ.get("FUZZ_SEED", "1"))
_HEADERS = ("Content-Type", "X-GitHub-Event", "X-GitHub-Delivery", "X-Hub-Signature-256", "Content-Length")


def _changed(hostile: Hostile) -> bytes:
    """Return a damaged push. It has only the members that are read, so that some of the bodies stay sound."""
    document = payload()
    short = {name: document[name] for name in ("ref", "after", "created", "deleted", "forced")}
    repository = {name: document["repository"][name] for name in ("html_url", "pushed_at")}
    return hostile.body({**short, "commits": [], "head_commit": {"id": document["after"]}, "repository": repository})


def test_signed_bodies() -> None:
    """The answer is 200 or 400. A message is published for a sound push only."""
    hostile, codes = Hostile(SEED), Counter[int]()
    with hooked() as served:
        for _ in range(BODIES):
            body = _changed(hostile)
            before = len(served.topic.published)
            answer = served.send(body, delivery(body))
            codes[answer.code] += 1
            assert answer.code in (200, 400), (body, answer)
            for _, data in served.topic.published[before:]:
                assert answer.text == "OK\n"
                (event,) = parse_commit_events(data)
                assert event.repo.startswith("https://github.com/")
        assert "unexpected_error" not in served.events
        assert served.published
    assert set(codes) == {200, 400}


def test_hostile_headers() -> None:
    """Any header may be wrong or absent: nothing is published without the right signature."""
    hostile, codes = Hostile(SEED), Counter[int]()
    with hooked() as served:
        for _ in range(BODIES):
            body = _changed(hostile)
            headers = delivery(body, secret="not the secret")
            for name in _HEADERS:
                if hostile.entropy() < 0.3:
                    headers[name] = hostile.text().encode("utf-8", "replace").decode("latin-1")
            answer = served.send(body, headers, hostile.pick(("POST", "POST", "POST", "GET", "PATCH")))
            codes[answer.code] += 1
            assert answer.code in (400, 401, 405, 413, 415), answer
        assert served.published == []
        assert "unexpected_error" not in served.events
    assert {401, 405, 415} <= set(codes)
