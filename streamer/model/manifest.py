"""What a model directory held when it came: a SHA-256 for each file, and where it came from."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from streamer.errors import ModelError

FILE = "streamer.json"


@dataclass(frozen=True)
class Manifest:
    source: str
    """the Hub's name, a directory, or a checkpoint"""
    revision: str
    """the commit on the Hub; empty for anything else"""
    sha256: dict[str, str]
    """by file name"""


def write(directory: Path, source: str, revision: str = "") -> Manifest:
    """Record the files that are in the directory now."""
    files = sorted(path for path in directory.iterdir() if path.is_file() and path.name != FILE)
    manifest = Manifest(source, revision, {path.name: sha256(path) for path in files})
    (directory / FILE).write_text(json.dumps(asdict(manifest), indent=2) + "\n")
    return manifest


def read(directory: Path) -> Manifest | None:
    """None where nothing was recorded. Raises ModelError where the record itself is broken."""
    path = directory / FILE
    if not path.is_file():
        return None
    try:
        return TypeAdapter(Manifest).validate_json(path.read_bytes())
    except ValidationError as error:
        raise ModelError(f"{path}: is damaged; add or pull the model again") from error


def check(directory: Path) -> int:
    """How many files match the record; 0 without one. Raises ModelError for the first that does not."""
    manifest = read(directory)
    if manifest is None:
        return 0
    for name, expected in manifest.sha256.items():
        path = directory / name
        if not path.is_file():
            raise ModelError(f"{path}: is gone; add or pull the model again")
        if sha256(path) != expected:
            raise ModelError(
                f"{path}: is not the file that was recorded (SHA-256); add or pull the model again"
            )
    return len(manifest.sha256)


def fingerprint(directory: Path) -> str:
    """Tells one model from another: of its weights and of what they mean. Raises ModelError."""
    digest = hashlib.sha256()
    for path in sorted((*directory.glob("*.safetensors"), *directory.glob("*config.json"))):
        try:
            digest.update(f"{path.name} {sha256(path)}\n".encode())
        except OSError as error:
            raise ModelError(f"{path}: cannot be read: {error.strerror}") from None
    return digest.hexdigest()


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
