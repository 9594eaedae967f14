"""Text from outside, made safe to print: names, labels and addresses in logs, messages and terminals."""

from __future__ import annotations

import re


def printable(text: str) -> str:
    """`text` with line ends, terminal commands, and bytes that are no text shown as escapes."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


def address_for_people(address: str) -> str:
    """Scheme, host and port of an address; nothing else of it, since any other part may hold a secret.

    Not by a parser: passwords contain `#`, `/`, `?`, `[` and `@` as they are, and the last `@` ends the
    user's part however the rest is written.
    """
    match = re.match(r"([A-Za-z][A-Za-z0-9+.-]{0,30})://(.*)", address, re.DOTALL)
    if match is None:
        return "an address without a scheme"
    scheme, rest = match.groups()
    host = re.match(
        r"\[[0-9A-Fa-f:.%]{1,60}\](?::\d{1,5})?|[\w.-]{1,253}(?::\d{1,5})?", rest.rpartition("@")[2]
    )
    if host is None or not _is_whole(rest, host.group(), "@" in rest):
        return f"{scheme}://…"
    return printable(f"{scheme}://{host.group()}")


def _is_whole(rest: str, host: str, has_user: bool) -> bool:
    """The host ends where a host may end; else it is a part of something else."""
    after = rest.rpartition("@")[2][len(host) :] if has_user else rest[len(host) :]
    return not after or after[0] in "/?#"
