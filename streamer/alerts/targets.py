"""Where alerts go: addresses as Apprise takes them, which are secrets and never appear in the log.

https://github.com/caronc/apprise/wiki
"""

from __future__ import annotations

import logging
import os
import re
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from streamer.config.yaml import NAME
from streamer.core.files import read_small
from streamer.errors import ConfigError

CREDENTIAL = "alert-urls"
VARIABLE = "STREAMER_ALERT_URLS"


@dataclass(frozen=True, slots=True)
class Attachment:
    """A file that goes with an alert."""

    name: str
    media_type: str
    content: bytes


@dataclass(frozen=True, slots=True)
class Alert:
    """What people read on their phone."""

    title: str
    body: str
    is_critical: bool = False
    attachment: Attachment | None = None


_STATUSES: ContextVar[list[str] | None] = ContextVar("statuses", default=None)
"""of the answers to what is being sent"""


class FailedError(Exception):
    """The target did not take an alert; the text says why, without its address."""


class Target:
    """One place that alerts go to. Blocks."""

    def __init__(self, name: str, url: str) -> None:
        """Raises ConfigError, which does not repeat the address."""
        apprise = _library()
        self.name = name
        asset = apprise.AppriseAsset(
            app_id="streamer", app_desc="streamer", app_url="", image_url_mask="", image_url_logo=""
        )
        self._apprise = apprise.Apprise(asset=asset)
        if not self._apprise.add(url):
            raise ConfigError(f"alerts: the address of {name} is none that Apprise knows")

    def send(self, alert: Alert) -> None:
        """Raises FailedError."""
        apprise = _library()
        attached = apprise.AppriseAttachment()
        if (file := alert.attachment) is not None:
            memory = apprise.attachment.memory.AttachMemory
            attached.add(memory(content=file.content, name=file.name, mimetype=file.media_type))
        statuses: list[str] = []
        token = _STATUSES.set(statuses)
        try:
            is_sent = self._apprise.notify(
                title=alert.title,
                body=alert.body,
                notify_type=apprise.NotifyType.FAILURE if alert.is_critical else apprise.NotifyType.WARNING,
                attach=attached if alert.attachment is not None else None,
            )
        finally:
            _STATUSES.reset(token)
        if not is_sent:
            raise FailedError(
                f"it answers with HTTP status {statuses[-1]}" if statuses else "it cannot be reached"
            )


def read_targets(urls_file: Path | None) -> list[Target]:
    """The targets by the lines of the configured file, or of what takes its place. Raises ConfigError.

    A line has a name and an address; empty ones, and those that begin with #, say nothing.
    """
    where, text = _read(urls_file)
    targets: dict[str, Target] = {}
    for number, line in enumerate(text.splitlines(), 1):
        name, _, url = line.strip().partition(" ")
        if not name or name.startswith("#"):
            continue
        if not re.fullmatch(NAME, name) or not url.strip():
            raise ConfigError(
                f"{where}, line {number}: should be a name of a-z, 0-9, _ and -, a space, and an address"
            )
        if name in targets:
            raise ConfigError(f"{where}, line {number}: there is a target {name} already")
        targets[name] = Target(name, url.strip())
    if not targets:
        raise ConfigError(
            f"{where}: names no target; write a name and an address there, as in docs/alerts.md"
        )
    return list(targets.values())


def _read(urls_file: Path | None) -> tuple[str, str]:
    """From systemd's credentials, a file or the environment; the configuration may be for all to see."""
    where, file = "alerts.urls_file", urls_file
    if credentials := os.environ.get("CREDENTIALS_DIRECTORY"):
        credential = Path(credentials) / CREDENTIAL
        if credential.exists():
            where, file = f"the credential {CREDENTIAL}", credential
    if file is None:
        if VARIABLE not in os.environ:
            raise ConfigError(f"alerts: where they go is not said: set urls_file, or ${VARIABLE}")
        return f"${VARIABLE}", os.environ[VARIABLE]
    try:
        return f"{where} ({file})", read_small(file)
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not text in UTF-8"
        raise ConfigError(f"{where}: {file} cannot be read: {reason}") from None


def _library() -> Any:
    """Raises ConfigError where it is not installed."""
    try:
        import apprise  # noqa: PLC0415  # an extra
        import apprise.attachment.memory  # noqa: PLC0415
    except ImportError:
        raise ConfigError("alerts: need Apprise: pip install 'streamer[notify]'") from None
    logging.getLogger("apprise").addFilter(_take_status)
    logging.getLogger("urllib3").setLevel(logging.CRITICAL)  # it logs addresses, too
    return apprise


def _take_status(record: logging.LogRecord) -> bool:
    """Take the status of an answer from what Apprise logs; nothing passes, as an address may be in it."""
    statuses = _STATUSES.get()
    if statuses is not None:
        statuses += re.findall(r"\berror=(\d{3})\b", record.getMessage())
    return False
