"""Reads a Dockerfile into stages of instructions, and .dockerignore into a rule."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

KNOWN = frozenset(
    ["FROM", "RUN", "COPY", "ARG", "ENV", "WORKDIR", "USER", "ENTRYPOINT", "CMD", "HEALTHCHECK", "VOLUME"]
)
"""what can be carried out; anything else is an error, so that no step is passed over"""


class DockerfileError(Exception):
    """It says something that cannot be carried out."""


@dataclass(frozen=True, slots=True)
class Instruction:
    """One step."""

    line: int
    name: str
    text: str
    """what stands behind the name, on one line"""

    @property
    def command(self) -> tuple[str, ...]:
        """Of RUN, CMD, ENTRYPOINT and a health check: the list that is written, else a shell's."""
        text = (
            re.sub(r"^(--[a-z-]+=\S+\s+)*(CMD\s+)?", "", self.text)
            if self.name == "HEALTHCHECK"
            else self.text
        )
        if text.startswith("["):
            words: list[str] = json.loads(text)
            return tuple(words)
        return ("/bin/sh", "-c", text)

    def pairs(self) -> dict[str, str]:
        """Of ENV, ARG and LABEL: names and values."""
        found = (word.partition("=") for word in shlex.split(self.text))
        return {name: value for name, _, value in found}


@dataclass(frozen=True, slots=True)
class Stage:
    """From one FROM to the next."""

    name: str
    base: str
    """an image, or the name of an earlier stage"""
    steps: tuple[Instruction, ...]

    def packages(self) -> list[str]:
        """The Debian packages that its steps install."""
        found: list[str] = []
        for step in self.steps:
            for listed in re.findall(r"apt-get install ((?:[^&;|]|\n)*)", step.text):
                found += [word for word in listed.split() if not word.startswith("-")]
        return found


def read(path: Path) -> dict[str, Stage]:
    """The stages by name, in the file's order. Raises DockerfileError."""
    found: dict[str, Stage] = {}
    name, base, steps = "", "", []
    for step in _instructions(path.read_text(encoding="utf-8")):
        if step.name not in KNOWN:
            raise DockerfileError(f"{path}:{step.line}: {step.name} cannot be carried out")
        if step.name != "FROM":
            if not base:
                raise DockerfileError(f"{path}:{step.line}: {step.name} before the first FROM")
            steps.append(step)
            continue
        if base:
            found[name] = Stage(name, base, tuple(steps))
        words = step.text.split()
        base, name, steps = words[0], words[2] if len(words) == 3 else str(len(found)), []
    if base:
        found[name] = Stage(name, base, tuple(steps))
    return found


def _instructions(text: str) -> list[Instruction]:
    found: list[Instruction] = []
    start, parts = 0, list[str]()
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        start = start if parts else number
        goes_on = line.rstrip().endswith("\\")
        parts.append(line.rstrip().removesuffix("\\").strip())
        if not goes_on:
            name, _, rest = " ".join(parts).partition(" ")
            found.append(Instruction(start, name.upper(), rest.strip()))
            parts = []
    return found


class Ignored:
    """Which files of the context the builder does not see, by .dockerignore: the last line that fits wins."""

    def __init__(self, text: str) -> None:
        lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]
        self._rules = [(line.removeprefix("!").strip("/"), not line.startswith("!")) for line in lines]

    def __call__(self, path: PurePosixPath) -> bool:
        """Whether a path, relative to the context, is left out. A directory's rule holds for all in it."""
        ignored = False
        for pattern, is_out in self._rules:
            if any(_fits(way, pattern) for way in (path, *path.parents)):
                ignored = is_out
        return ignored


def _fits(path: PurePosixPath, pattern: str) -> bool:
    if pattern.startswith("**/"):
        return fnmatchcase(path.name, pattern.removeprefix("**/"))
    segments = PurePosixPath(pattern).parts
    return len(segments) == len(path.parts) and all(map(fnmatchcase, path.parts, segments))
