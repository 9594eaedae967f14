"""How many files and connections this process may have open at once."""

from __future__ import annotations

import resource

from streamer.errors import ResourceError

PROGRAM = 64
"""descriptors that a command needs: its files, the engine, the broker, a few readers of the page"""
SOURCE = 8
"""descriptors that each source may need"""


def allow_open_files(n_sources: int = 0) -> None:
    """See that the program may open what it needs; raises the soft limit where the hard one lets it.

    Raises ResourceError where the hard limit is too low: without room, any part might fail in its own way.
    """
    wanted = PROGRAM + SOURCE * n_sources
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return
    if hard != resource.RLIM_INFINITY and hard < wanted:
        raise ResourceError(
            f"only {hard} files may be open at once, {wanted} are needed: "
            f"`ulimit -n {wanted}`, or LimitNOFILE={wanted} in the unit"
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
