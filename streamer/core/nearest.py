"""Did you mean …? The nearest of the known names."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that is most like `name`, whatever the case of its letters; None where none is near."""
    by_lower = {one.lower(): one for one in known}
    found = get_close_matches(name.lower(), by_lower, n=1)
    return by_lower[found[0]] if found else None


def suggestion(name: str, known: Iterable[str], *, quote: bool = False) -> str:
    """`did you mean …?`, or nothing; `quote` for names with spaces in them."""
    found = nearest(name, known)
    if found is None:
        return ""
    return f"did you mean {found!r}?" if quote else f"did you mean {found}?"
