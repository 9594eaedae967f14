"""Notifications to systemd: https://www.freedesktop.org/software/systemd/man/sd_notify.html"""

from __future__ import annotations

import logging
import os
import socket

log = logging.getLogger(__name__)


class Notifier:
    """Sends notifications to the service manager that started this process, if one did."""

    def __init__(self) -> None:
        address = os.environ.get("NOTIFY_SOCKET", "")
        self._address = "\0" + address[1:] if address.startswith("@") else address
        ours = os.environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        given = os.environ.get("WATCHDOG_USEC", "") if ours else ""
        self.watchdog_s: float | None = int(given) / 1e6 if given.isdigit() and int(given) else None
        """seconds within which systemd expects a ping; None where it expects none"""
        self._failed = False

    def notify(self, **values: str | int) -> None:
        """Send values such as `READY=1`. Never raises: a service manager that is away stops nothing."""
        if not self._address:
            return
        message = "\n".join(f"{name}={str(value).replace(chr(10), ' ')}" for name, value in values.items())
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as connection:
                connection.sendto(message.encode(), self._address)
        except OSError as error:
            if not self._failed:
                log.warning("systemd cannot be notified: %s", error.strerror)
            self._failed = True
