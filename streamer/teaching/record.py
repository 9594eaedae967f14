"""What was taught, in the state directory: a file a sound, written whole."""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from pydantic import TypeAdapter, ValidationError

from streamer.config.schema import ModelSettings
from streamer.config.yaml import NAME
from streamer.core.files import writing
from streamer.errors import InputError, ModelError, StreamerError, UsageError
from streamer.inference.heads import Head
from streamer.model import hub, manifest
from streamer.types import Samples

FOLDER = "taught"
COMMANDS = ("list", "show", "remove", "test", "sound", "veto")
"""names that the command has for itself"""


@dataclass(frozen=True)
class About:
    """What is known of a taught sound beside its numbers."""

    name: str
    model: str
    """as `model.path` named it"""
    fingerprint: str
    """of that model"""
    taught_at: float
    clips: list[str]
    """file names"""
    not_clips: list[str]
    heard: int
    """of the clips, those that were heard by heads fitted without them"""
    n_others: int
    false: int
    """of so many windows of other sounds, those that were taken for it"""
    is_contradicted: bool = False
    """what it is not sounds the same"""


@dataclass(frozen=True, eq=False)
class Taught:
    about: About
    head: Head
    embeddings: Samples
    """(n, size) of when it sounds"""
    clip: npt.NDArray[np.int64]
    """(n,) the clip of each"""


def path_of(state: Path, name: str) -> Path:
    """Raises UsageError for what cannot be a name."""
    if not re.fullmatch(NAME, name):
        raise UsageError(f"{name!r}: cannot be the name of a sound: lower case, digits, _ and -")
    if name in COMMANDS:
        raise UsageError(f"{name!r}: is a command of `streamer teach`: choose another name")
    return state / FOLDER / f"{name}.npz"


def names(state: Path) -> list[str]:
    """Of all that was taught."""
    folder = state / FOLDER
    return sorted(path.stem for path in folder.glob("*.npz")) if folder.is_dir() else []


def write(state: Path, taught: Taught) -> Path:
    """Raises StreamerError where the disk refuses; what was there before then stays."""
    path = path_of(state, taught.about.name)
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with writing(path, mode=0o600) as file:
            np.savez(
                file,
                about=np.array(json.dumps(asdict(taught.about))),
                centre=np.array(taught.head.centre, np.float32),
                weights=np.array(taught.head.weights, np.float32),
                bias=np.array(taught.head.bias, np.float32),
                embeddings=taught.embeddings.astype(np.float16),
                clip=taught.clip,
            )
    except OSError as error:
        raise StreamerError(
            f"{path}: {error.strerror}: nothing was kept; make room and teach again"
        ) from None
    return path


def read(state: Path, name: str) -> Taught:
    """Raises InputError where there is no such sound, ModelError where its file is damaged."""
    path = path_of(state, name)
    try:
        with np.load(path, allow_pickle=False) as file:
            about = TypeAdapter(About).validate_json(str(file["about"]))
            head = Head(name, file["centre"].tolist(), file["weights"].tolist(), float(file["bias"]))
            return Taught(about, head, file["embeddings"].astype(np.float32), file["clip"])
    except FileNotFoundError:
        known = ", ".join(names(state)) or "nothing yet"
        raise InputError(f"{name}: was not taught; taught: {known}") from None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, ValidationError):
        raise ModelError(
            f"{path}: is damaged: remove it (streamer teach remove {name}) and teach {name} again"
        ) from None


def remove(state: Path, name: str) -> None:
    """Raises InputError where there is no such sound."""
    path = path_of(state, name)
    try:
        path.unlink()
    except FileNotFoundError:
        known = ", ".join(names(state)) or "nothing yet"
        raise InputError(f"{name}: was not taught; taught: {known}") from None
    except OSError as error:
        raise StreamerError(f"{path}: {error.strerror}") from None


def read_heads(state: Path, wanted: Sequence[str], model: ModelSettings) -> list[Head]:
    """The heads of taught sounds, for the model that they were taught with.

    Raises InputError where one was not taught, ModelError where it was taught with another model.
    """
    heads = []
    fingerprint = manifest.fingerprint(hub.resolve(model.path)) if wanted else ""
    for name in dict.fromkeys(wanted):
        taught = read(state, name)
        if taught.about.fingerprint != fingerprint:
            raise ModelError(
                f"{name}: was taught with another model ({taught.about.model}) than {model.path}:"
                f" teach it again: streamer teach {name} CLIP… --replace; or set model.path as it was"
            )
        heads.append(taught.head)
    return heads
