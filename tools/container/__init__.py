"""Carries out the Dockerfile without a container engine, and runs what comes of it."""
