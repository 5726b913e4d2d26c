"""The gallery in docs/gallery.md shows every picture once, and no picture that is missing."""

from __future__ import annotations

import re
from pathlib import Path

DOCS = Path(__file__).parents[3] / "docs"


def test_every_picture_is_in_the_gallery_once() -> None:
    """Each section of the gallery has three pictures of one page: light, dark, phone."""
    gallery = (DOCS / "gallery.md").read_text(encoding="utf-8")
    shown = re.findall(r"!\[([^\]]+)\]\(images/([^)]+)\)", gallery)
    assert sorted(name for _, name in shown) == sorted(path.name for path in (DOCS / "images").glob("*.png"))
    assert len({words for words, _ in shown}) == len(shown)
    sections = [re.findall(r"-(light|dark|phone)\.png", section) for section in gallery.split("\n## ")[1:]]
    assert sections
    assert all(variants == ["light", "dark", "phone"] for variants in sections)
