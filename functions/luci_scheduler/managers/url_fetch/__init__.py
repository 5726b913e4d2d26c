"""The ``url_fetch`` task kind."""
