"""Settings, and the configs that define jobs."""
