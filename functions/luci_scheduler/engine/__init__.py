"""The steps of the engine: load, decide, enqueue, commit, go on."""
