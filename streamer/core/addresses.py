"""Where addresses are: on this machine, at home, on the internet."""

from __future__ import annotations

import ipaddress
import socket
from urllib.parse import urlsplit


def is_loopback(host: str) -> bool:
    """Whether what goes to this name or address never leaves the machine."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def may_lead(address: str, other: str) -> bool:
    """Whether what an address gives may send us to another: to the internet, or within its own network.

    What answers on the internet must not make this machine ask itself or its home. Looks both names up.
    """
    return _networks(other) <= {"internet"} | _networks(address)


def _networks(address: str) -> set[str]:
    """Where the host of an address is; a name may be in several places, one that is not known is nowhere."""
    try:
        found = socket.getaddrinfo(urlsplit(address).hostname, None, type=socket.SOCK_STREAM)
    except (OSError, ValueError):
        return {"nowhere"}
    return {_network(ipaddress.ip_address(str(where[0]).partition("%")[0])) for *_, where in found}


def _network(ip: ipaddress.IPv4Address | ipaddress.IPv6Address) -> str:
    ip = getattr(ip, "ipv4_mapped", None) or ip
    if ip.is_loopback or ip.is_unspecified:
        return "machine"
    if ip.is_link_local:
        return "link"
    return "internet" if ip.is_global else "home"
