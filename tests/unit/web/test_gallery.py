"""The gallery of the README shows every picture once, each with a description."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[3]


def test_every_picture_is_in_the_gallery_once() -> None:
    """A page with pictures has one row of them: light, dark, phone."""
    _, _, gallery = (ROOT / "README.md").read_text(encoding="utf-8").partition("<details>")
    shown = re.findall(r"!\[([^\]]+)\]\(docs/images/([^)]+)\)", gallery.partition("</details>")[0])
    assert sorted(name for _, name in shown) == sorted(path.name for path in (ROOT / "docs" / "images").glob("*.png"))
    assert len({words for words, _ in shown}) == len(shown)
    rows = [re.findall(r"-(light|dark|phone)\.png", line) for line in gallery.splitlines() if ".png" in line]
    assert rows
    assert all(row == ["light", "dark", "phone"] for row in rows)
