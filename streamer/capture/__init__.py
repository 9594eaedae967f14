"""Sources fill a ring, windows are read from it."""
