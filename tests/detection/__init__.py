"""Tests of streamer.detection."""
