"""The cache of document IDs: it keeps recurring names, and no text that a sender invents."""

from luci_scheduler.adapters.documents import document_id, ids


def test_long_identifiers_are_not_kept() -> None:
    """A commit event may name a repository of sixty kilobytes. A few thousand of them would fill the memory."""
    ids._cached.cache_clear()
    name = "https://r.googlesource.com/" + "x" * 60_000
    assert document_id(name) == document_id(name)
    assert document_id(name).startswith("sha256-")
    assert ids._cached.cache_info().currsize == 0
    assert document_id("proj/job") == document_id("proj/job") == "proj%2Fjob"
    assert ids._cached.cache_info().hits == 1
