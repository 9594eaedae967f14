"""Fixtures that several parts share, each in a file of its own."""

pytest_plugins = ["tests.mosquitto", "tests.pulse"]
