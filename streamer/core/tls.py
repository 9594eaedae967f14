"""Whom the other end of a connection is believed to be."""

from __future__ import annotations

import ssl
from pathlib import Path


def trusting(ca_file: Path | str | None) -> ssl.SSLContext:
    """A client's context, which checks certificate and host name by `ca_file`, or the system's authorities.

    Raises OSError (ssl.SSLError among them) where the file cannot be used.
    """
    context = ssl.create_default_context(cafile=ca_file)
    if ca_file is not None:
        # Python 3.13 asks of an authority what one made by hand, as for most home brokers, does not have:
        # a key usage. Which certificates count must not change with the Python.
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return context
