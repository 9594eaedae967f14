"""What is heard: sources fill a ring, windows are read from it."""
