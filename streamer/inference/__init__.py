"""How fast: one engine scores the windows of all sources in batches."""
