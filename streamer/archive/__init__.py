"""A folder of recordings, as one job that may be stopped, shared and taken up again."""
