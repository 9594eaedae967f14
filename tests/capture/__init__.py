"""Tests of streamer.capture."""
