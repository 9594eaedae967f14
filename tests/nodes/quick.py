"""`streamer` with pings of $STREAMER_TEST_PING seconds at a node, so that a dead link is noticed sooner."""

from __future__ import annotations

import os

import streamer.nodes.link
from streamer.cli import main

streamer.nodes.link.PING_S = float(os.environ["STREAMER_TEST_PING"])

main()
