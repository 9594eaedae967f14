"""How much memory this process has: what it holds, and what malloc has given out."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

_FIELDS = ("arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks")


class _Mallinfo2(ctypes.Structure):
    """mallinfo(3) of glibc 2.33 and newer."""

    _fields_ = [(name, ctypes.c_size_t) for name in (*_FIELDS, "keepcost")]


def resident_bytes() -> int:
    """The resident set size; it also grows where the allocator touches other pages of what it has."""
    pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def malloc_bytes() -> int | None:
    """Bytes given out by malloc and not freed, mapped blocks included; None without glibc.

    What grows here is kept by the program; what grows in the resident set alone is not.
    """
    mallinfo2 = getattr(ctypes.CDLL(None), "mallinfo2", None)
    if mallinfo2 is None:
        return None
    mallinfo2.restype = _Mallinfo2
    found = mallinfo2()
    return int(found.uordblks + found.hblkhd)
