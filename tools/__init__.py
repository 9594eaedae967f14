"""Research: measurements that need folders outside of the repository. Not installed."""
