"""The reference of configs matches the code."""

import json
import re
from pathlib import Path

import pytest

from luci_scheduler.config import config_rules, parsing, schema, task_rules, validator
from luci_scheduler.config.reader import read_config
from luci_scheduler.core import job, regexps, sizes
from luci_scheduler.managers.gitiles import check
from luci_scheduler.settings_reader import read_settings
from tests.unit.test_settings import GOOD

PAGE = Path("docs/reference/config.md").read_text(encoding="utf-8")


def test_the_example_is_a_config() -> None:
    """The reader accepts it without a warning."""
    (example,) = re.findall(r"```\n(trigger .*?)```", PAGE, re.DOTALL)
    config = read_config("tint", example)
    assert set(config.jobs) == {"tint/main-poller", "tint/mac-rel"}
    assert config.warnings == ()


def test_the_example_of_sources_is_a_setting() -> None:
    """The settings accept them unchanged."""
    (example,) = re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)
    sources = read_settings({**GOOD, "SCHEDULER_CONFIG_SOURCES": example}).config_sources
    assert [source.kind for source in sources] == [source["kind"] for source in json.loads(example)]


@pytest.mark.parametrize(
    "field", sorted({name for text in schema.messages().values() for name in re.findall(r"\d (\w+) ", text)})
)
def test_every_field_is_documented(field: str) -> None:
    """This covers the schema, except the fields inside access rules."""
    assert f"`{field}`" in PAGE or field in ("role", "granted_to", "name", "job", "trigger") or f"`{field} {{" in PAGE


@pytest.mark.parametrize(
    "limit",
    [
        parsing.MAX_BYTES,
        parsing.MAX_DEFINITIONS,
        parsing.MAX_MESSAGES,
        sizes.MAX_DOCUMENT_BYTES,
        job.MAX_PENDING,
        config_rules.ConfigRules().max_active_invocations,
        task_rules.MAX_INSTRUCTIONS,
        validator.MAX_TARGETS,
        validator.MAX_PATTERNS,
        task_rules.MAX_ENTRIES,
        check.MAX_ENTRY,
        sizes.MAX_TASK_BYTES,
        regexps.MAX_LENGTH,
    ],
)
def test_every_limit_is_documented(limit: int) -> None:
    """The page gives each number."""
    assert f"| {limit:,}" in PAGE
