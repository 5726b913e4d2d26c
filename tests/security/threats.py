"""The threat table: each threat with its controls, the code of each control, and a test that fails without it.

A control is an entry of the catalog ``tests/planted/catalog/security.toml``, which removes it. The first word of the
entry's name is the threat. ``python -m tests.security.threats`` writes the tables of `PAGE`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache

from tests.planted.catalog import ROOT, Bug, read_catalog

__all__ = ["PAGE", "THREATS", "Threat", "controls", "written"]

PAGE = ROOT / "docs/explanation/threats.md"
_MARK = "<!-- `python -m tests.security.threats` writes the rest of this page. -->"
_PACKAGE = "functions/luci_scheduler/"


@dataclass(frozen=True, slots=True)
class Threat:
    """A row of the table."""

    word: str
    """The first word of its controls' names."""
    title: str
    text: str
    also: tuple[str, ...] = ()
    """Tests of the whole row, beside those of single controls."""


THREATS = (
    Threat(
        "spoofed",
        "Spoofed messages",
        "A stranger, or a build service that was taken over, sends a commit or the end of a build. "
        "A message only causes a question to Buildbucket, whose answer has the status.",
        ("tests/security/test_token_matrix.py", "tests/fuzz/test_entry_points.py"),
    ),
    Threat(
        "token",
        "Forged tasks and tokens",
        "A stranger calls a function that only Google's services may call, or uses another person's identity.",
        ("tests/security/test_token_matrix.py", "tests/unit/adapters/test_token_claims.py"),
    ),
    Threat(
        "replay",
        "Replay",
        "A recorded delivery is sent again, at once or after days.",
        ("tests/security/test_replay.py", "tests/e2e/test_repeated_deliveries.py"),
    ),
    Threat(
        "landed",
        "Unreviewed commits",
        "An event or a caller names a commit that is in review only, and its build would run with the rights of CI.",
        ("tests/unit/api/test_doors.py",),
    ),
    Threat(
        "fetch",
        "Requests to private servers (SSRF)",
        "The author of a config lets the functions call the metadata server, private hosts, or a thief of tokens.",
        (
            "tests/unit/adapters/test_fetch.py",
            "tests/security/test_outside_requests.py",
            "tests/integration/test_nothing_leaves.py",
        ),
    ),
    Threat(
        "page",
        "Active content on pages (XSS)",
        "A commit, a build, a log or a config has text that a browser would run.",
        ("tests/unit/web/test_hostile.py", "tests/unit/web/test_response_headers.py"),
    ),
    Threat(
        "text",
        "Control of terminals and logs",
        "Foreign text forges a line of a log, or moves the cursor of a terminal.",
        ("tests/unit/core/test_foreign_text.py", "tests/unit/test_canaries.py"),
    ),
    Threat(
        "secret",
        "Secrets in outputs",
        "A key or a token reaches a log, a page, an export, a document or an error.",
        ("tests/security/test_secrets.py", "tests/unit/test_canaries.py"),
    ),
    Threat(
        "iam",
        "Rights that are too wide",
        "An account may do more than its work needs, or a stranger may call a function.",
        ("tests/terraform/test_rights.py",),
    ),
    Threat(
        "size",
        "Large and compressed bodies",
        "A small request becomes a large amount of memory or work.",
        ("tests/security/test_bombs.py", "tests/unit/test_body_sizes.py", "tests/unit/api/test_strangers.py"),
    ),
    Threat(
        "pattern",
        "Hostile patterns",
        "A pattern of one project's config takes minutes, and delays all projects of the repository.",
        ("tests/unit/core/test_commit_filters.py", "tests/unit/engine/test_tenants.py"),
    ),
    Threat(
        "config",
        "Injection through configs",
        "A name in a config or an event leaves its place in an address or in the path of a document.",
        ("tests/security/test_config_injection.py", "tests/unit/config/test_broken_configs.py"),
    ),
    Threat(
        "cost",
        "Denial by cost",
        "A stranger or one project causes work that the installation pays for, or takes the room of others.",
        ("tests/unit/api/test_strangers.py", "tests/unit/engine/test_tenants.py"),
    ),
    Threat(
        "webhook",
        "The public webhook",
        "Anyone can call the function for GitHub's webhooks: with forged, repeated, large or countless deliveries.",
        (
            "tests/unit/test_webhook.py",
            "tests/unit/core/test_github_push.py",
            "tests/integration/test_github_webhook.py",
        ),
    ),
    Threat(
        "supply",
        "Supply chain",
        "A downloaded package or archive is not the file that was reviewed.",
        ("tests/security/test_supply_chain.py",),
    ),
    Threat(
        "console",
        "Access to the console",
        "A person sees or changes more than the policy grants, or another site's page acts in a person's name.",
        ("tests/security/test_access_matrix.py", "tests/unit/web/test_actions.py"),
    ),
    Threat(
        "local",
        "The local cloud",
        "A web page that a developer visits, or a repository that is served, reaches the developer's machine.",
        ("tests/security/test_local_cloud.py", "tests/unit/emulator/gitiles/test_git_clients.py"),
    ),
)
"""The rows, in the order of the page."""


def controls(threat: Threat) -> Sequence[Bug]:
    """Return the controls against a threat."""
    return [bug for bug in _bugs() if bug.name.partition("-")[0] == threat.word]


@cache
def _bugs() -> Sequence[Bug]:
    return read_catalog("security")


def written(page: str) -> str:
    """Return the page with new tables after the mark.

    Raises:
        ValueError: the page has no mark.
    """
    head, mark, _ = page.partition(_MARK)
    if not mark:
        raise ValueError(f"{PAGE.name} has no line {_MARK}")
    return f"{head}{_MARK}\n" + "".join(f"\n{line}" if line.startswith("##") else line for line in _lines())


def _lines() -> Iterator[str]:
    for threat in THREATS:
        tests = ", ".join(f"`{path}`" for path in threat.also)
        yield f"## {threat.title}\n\n"
        yield "".join(f"{sentence}\n" for sentence in _sentences(threat.text))
        yield f"Tests of all controls: {tests}.\n\n"
        yield "| control | code | a test that fails without it |\n|---|---|---|\n"
        for bug in controls(threat):
            yield f"| {bug.breaks} | `{bug.file.removeprefix(_PACKAGE)}` | `{bug.tests[0].partition('::')[0]}` |\n"


def _sentences(text: str) -> list[str]:
    return text.replace(". ", ".\n").splitlines()


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
