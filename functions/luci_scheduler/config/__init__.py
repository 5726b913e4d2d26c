"""The configs that define jobs: `luci-scheduler.cfg`, from its text to stored jobs."""
