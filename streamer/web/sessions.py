"""Who may do what on the page: passwords, sessions of browsers, tokens of scripts."""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

from streamer.core.json_file import JsonFile
from streamer.core.threads import in_thread
from streamer.errors import ConfigError

Scope: TypeAlias = Literal["look", "hear", "write", "owner"]
"""look: events, levels, spectrograms · hear: clips · write: reviews, settings · owner: tokens, sessions"""
OWNER: frozenset[Scope] = frozenset({"look", "hear", "write", "owner"})
GUEST: frozenset[Scope] = frozenset({"look"})
NOBODY: frozenset[Scope] = frozenset()

SHORTEST = 10
"""characters of a password"""
SESSION_S = 30 * 86400.0
"""a session that is not used for so long is over"""
RENEW_S = 86400.0
"""the time of its last use is written at most this often"""
SESSIONS_MAX = 200
"""more than this, and the one that was used the longest ago goes"""
A_MINUTE, AN_HOUR = 5, 30
"""failed sign-ins: of one address in a minute, of all addresses in an hour"""
SCRYPT = {"n": 1 << 15, "r": 8, "p": 1}
"""32 MiB a check, some 0.1 s (RFC 7914)"""


def hashed(password: str) -> str:
    """One line for a password file. Raises ConfigError for a short password."""
    if len(password) < SHORTEST:
        raise ConfigError(f"a password has at least {SHORTEST} characters; this one has {len(password)}")
    salt = secrets.token_bytes(16)
    return f"scrypt${salt.hex()}${_scrypt(password, salt).hex()}"


def _scrypt(password: str, salt: bytes) -> bytes:
    return hashlib.scrypt(password.encode(), salt=salt, maxmem=1 << 26, dklen=32, **SCRYPT)


class PasswordFile:
    """A password in the first line of a file: as text, or as `streamer web password` writes it.

    The file is read again when it changes, so that a new password holds at once.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._seen: tuple[int, int, int] | None = None
        self._line = ""

    def line(self) -> str:
        """The line; empty where there is no file or no password in it. Raises ConfigError."""
        if self._path is None:
            return ""
        try:
            status = self._path.stat()
            seen = (status.st_mtime_ns, status.st_size, status.st_ino)
            if seen != self._seen:
                with self._path.open(encoding="utf-8") as file:
                    self._line = file.readline(1024).strip()
                self._seen = seen
        except (FileNotFoundError, NotADirectoryError):
            self._seen, self._line = None, ""
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"{self._path}: the password cannot be read: {error}") from None
        return self._line

    def matches(self, password: str) -> bool:
        """Takes some 0.1 s where the file holds a hash: call it in a thread."""
        line = self.line()
        if not line:
            return False
        match line.split("$"):
            case ["scrypt", salt, digest]:
                return hmac.compare_digest(_scrypt(password, bytes.fromhex(salt)).hex(), digest)
            case _:
                return hmac.compare_digest(password.encode(), line.encode())


@dataclass(frozen=True, slots=True)
class Session:
    """A signed-in browser or a script's token."""

    id: str
    """sha256 of the secret, hexadecimal: the secret itself is not kept"""
    kind: Literal["session", "token"]
    name: str
    scopes: frozenset[Scope]
    created: float
    used: float
    password: str
    """fingerprint of the password by which it was made; with another password it is over"""


class TooManyAttemptsError(Exception):
    """Sign-ins from this address, or from all, have failed too often."""

    def __init__(self, retry_s: int) -> None:
        super().__init__(f"too many failed attempts; try again in {retry_s} s")
        self.retry_s = retry_s


class Sessions:
    """Sessions and tokens, kept over a restart as hashes."""

    def __init__(self, file: JsonFile, owner: PasswordFile, guest: PasswordFile) -> None:
        self._file = file
        self._owner = owner
        self._guest = guest
        self._sessions = {session.id: session for session in _load(file.load())}
        self._failures: deque[tuple[float, str]] = deque(maxlen=1000)
        self._checking = False

    @property
    def has_password(self) -> bool:
        """Without one, whoever reaches the page on loopback owns it. Raises ConfigError."""
        return bool(self._owner.line())

    async def sign_in(self, password: str, address: str) -> tuple[str, Session] | None:
        """A new session and its secret; None where the password is wrong. Raises TooManyAttemptsError."""
        self._limit(address)
        if self._checking:  # one at a time: each takes 32 MiB
            raise TooManyAttemptsError(1)
        self._checking = True
        try:
            for file, scopes in ((self._owner, OWNER), (self._guest, GUEST)):
                if await in_thread(lambda file=file: file.matches(password), "password"):  # type: ignore[misc]
                    return self._add("session", "owner" if scopes is OWNER else "guest", scopes)
        finally:
            self._checking = False
        self._failures.append((time.monotonic(), address))
        return None

    def add_token(self, name: str, scopes: Iterable[Scope]) -> tuple[str, Session]:
        """A token for scripts and its secret, which is shown once."""
        return self._add("token", name, frozenset(scopes))

    def find(self, secret: str) -> Session | None:
        """The session or token of a secret; None where it is none or over. Raises ConfigError."""
        session = self._sessions.get(hashlib.sha256(secret.encode()).hexdigest())
        now = time.time()
        if session is None:
            return None
        is_old = session.kind == "session" and now - session.used > SESSION_S
        if is_old or not hmac.compare_digest(session.password, self._fingerprint()):
            self.remove(session.id)
            return None
        if now - session.used > RENEW_S:
            self._keep(_used(session, now))
        return session

    def all(self) -> list[Session]:
        return sorted(self._sessions.values(), key=lambda session: -session.used)

    def remove(self, session_id: str) -> bool:
        """Whether there was one."""
        found = self._sessions.pop(session_id, None)
        if found is not None:
            self._save()
        return found is not None

    def _add(
        self, kind: Literal["session", "token"], name: str, scopes: frozenset[Scope]
    ) -> tuple[str, Session]:
        secret = secrets.token_urlsafe(32)
        now = time.time()
        session_id = hashlib.sha256(secret.encode()).hexdigest()
        session = Session(session_id, kind, name, scopes, now, now, self._fingerprint())
        while len(self._sessions) >= SESSIONS_MAX:
            del self._sessions[min(self._sessions.values(), key=lambda one: one.used).id]
        self._keep(session)
        return secret, session

    def _keep(self, session: Session) -> None:
        self._sessions[session.id] = session
        self._save()

    def _save(self) -> None:
        self._file.save(
            {
                one.id: [one.kind, one.name, sorted(one.scopes), one.created, one.used, one.password]
                for one in self._sessions.values()
            }
        )

    def _fingerprint(self) -> str:
        lines = f"{self._owner.line()}\n{self._guest.line()}"
        return hashlib.sha256(lines.encode()).hexdigest()[:16]

    def _limit(self, address: str) -> None:
        now = time.monotonic()
        recent = [(at, who) for at, who in self._failures if now - at < 3600]
        own = [at for at, who in recent if who == address and now - at < 60]
        if len(own) >= A_MINUTE:
            raise TooManyAttemptsError(round(60 - (now - own[0])) + 1)
        if len(recent) >= AN_HOUR:
            raise TooManyAttemptsError(round(3600 - (now - recent[0][0])) + 1)


def _used(session: Session, now: float) -> Session:
    return Session(
        session.id, session.kind, session.name, session.scopes, session.created, now, session.password
    )


def _load(saved: dict[str, Any]) -> list[Session]:
    """What was saved; what cannot have been is left out."""
    sessions = []
    for session_id, value in saved.items():
        match value:
            case [
                "session" | "token" as kind,
                str(name),
                list(scopes),
                float(created),
                float(used),
                str(password),
            ]:
                known: frozenset[Scope] = frozenset(scope for scope in OWNER if scope in scopes)
                sessions.append(Session(session_id, kind, name, known, created, used, password))
    return sessions


def password_path(configured: Path | None, credential: str, directory: Path) -> Path:
    """Where a password stands: systemd's credential, else the configured file, else the state directory."""
    given = os.environ.get("CREDENTIALS_DIRECTORY")
    if given and (Path(given) / credential).exists():
        return Path(given) / credential
    return directory / credential if configured is None else configured
