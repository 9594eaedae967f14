"""What an event loop says when it runs out of descriptors: one line once in a while.

asyncio reports each connection that it cannot accept with a stack, a hundred at a time and again each second,
which costs more than all else that the program does.
"""

from __future__ import annotations

import asyncio
import errno
import logging
from typing import Any

from streamer.core.rate_limit import RateLimit

log = logging.getLogger(__name__)

_SHORT = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


def say_shortage_once(loop: asyncio.AbstractEventLoop) -> None:
    """From now on; all else that the loop reports stays as it is."""
    limit = RateLimit()

    def report(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if not (isinstance(error, OSError) and error.errno in _SHORT and "socket" in context):
            loop.default_exception_handler(context)
        elif limit.due():
            log.error(
                "no connection can be accepted: %s: allow more: LimitNOFILE= in the unit", error.strerror
            )

    loop.set_exception_handler(report)
