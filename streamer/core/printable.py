"""Text from outside, made safe to print: names, labels and addresses in logs, messages and terminals."""

from __future__ import annotations

import re


def printable(text: str) -> str:
    """`text` with line ends, terminal commands, and bytes that are no text shown as escapes."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


def address_for_people(address: str) -> str:
    """Scheme, host and port of an address; nothing else of it, since any other part may hold a secret.

    Not by a parser: passwords contain `#`, `/`, `?`, `[` and `@` as they are. The host follows the last `@`,
    or, where that one belongs to a path or query, the last before them. Where both could be hosts, neither
    is shown.
    """
    match = re.match(r"([A-Za-z][A-Za-z0-9+.-]{0,30})://(.*)", address, re.DOTALL)
    if match is None:
        return "an address without a scheme"
    scheme, rest = match.groups()
    hosts = {_host(rest.rpartition("@")[2]), _host(re.split(r"[/?#]", rest)[0].rpartition("@")[2])} - {""}
    return printable(f"{scheme}://{hosts.pop()}") if len(hosts) == 1 else f"{scheme}://…"


def without_secrets(text: str) -> str:
    """Text of others, such as a program's error, with each address in it as `address_for_people` shows it."""
    return re.sub(r"[A-Za-z][A-Za-z0-9+.-]{0,30}://\S+", lambda found: _shown(found.group()), text)


def _shown(address: str) -> str:
    """An address and the punctuation that follows it."""
    bare = address.rstrip(".,:;!?\"')>]}")
    return address_for_people(bare) + address[len(bare) :]


def _host(text: str) -> str:
    """The host and port with which `text` begins; nothing where it begins with something else."""
    found = re.match(r"(\[[0-9A-Fa-f:.%]{1,60}\]|[\w.-]{1,253})(:\d{1,5})?(?=\Z|[/?#])", text, re.DOTALL)
    return "" if found is None else found.group()
