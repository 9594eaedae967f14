"""Where models lie, what a name means, and how one is fetched or added."""

from __future__ import annotations

import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from streamer.config.schema import TAUGHT
from streamer.core.files import put_directory
from streamer.core.home import in_home
from streamer.errors import ModelError
from streamer.model import manifest, support, weights
from streamer.model.support import Heard

if TYPE_CHECKING:
    from huggingface_hub.hf_api import ModelInfo

SHIPPED = "ast-tiny"
ASSETS = Path(__file__).parent / "assets"
PATTERNS = (
    "config.json",
    "preprocessor_config.json",
    "*.safetensors",
    "model.safetensors.index.json",
    support.FILE,
)


_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class Known:
    """A published model."""

    about: str
    revision: str = "main"
    """the commit that is fetched unless another is asked for"""


KNOWN = {
    "MIT/ast-finetuned-audioset-10-10-0.4593": Known(
        "AudioSet, 527 labels, mAP 0.459: the best", "f826b80d28226b62986cc218e5cec390b1096902"
    ),
    "MIT/ast-finetuned-audioset-10-10-0.450": Known("AudioSet, 527 labels, mAP 0.450"),
    "MIT/ast-finetuned-audioset-10-10-0.448": Known("AudioSet, 527 labels, mAP 0.448"),
    "MIT/ast-finetuned-audioset-10-10-0.448-v2": Known("AudioSet, 527 labels, mAP 0.448"),
    "MIT/ast-finetuned-audioset-12-12-0.447": Known("AudioSet, 527 labels, mAP 0.447, wider strides: faster"),
    "MIT/ast-finetuned-audioset-14-14-0.443": Known("AudioSet, 527 labels, mAP 0.443, wider strides: faster"),
    "MIT/ast-finetuned-audioset-16-16-0.442": Known("AudioSet, 527 labels, mAP 0.442, no overlap: fastest"),
    "MIT/ast-finetuned-speech-commands-v2": Known("Speech Commands, 35 words, windows of 1 s"),
}


def models_directory() -> Path:
    """Where pulled and added models lie: $STREAMER_MODELS, or in the user's data directory."""
    chosen = os.environ.get("STREAMER_MODELS")
    if chosen:
        return Path(chosen)
    data = os.environ.get("XDG_DATA_HOME") or in_home("~/.local/share")
    return Path(data) / "streamer" / "models"


def resolve(name_or_path: str) -> Path:
    """The directory of a model: `ast-tiny`, one that was pulled or added, or a path. Raises ModelError."""
    if name_or_path == SHIPPED:
        return ASSETS / SHIPPED
    path = in_home(name_or_path)
    kept = models_directory() / _folder(name_or_path)
    if not name_or_path.startswith((".", "/", "~")) and kept.is_dir():
        return kept
    if path.is_dir():
        return path
    if path.exists():
        raise ModelError(f"{name_or_path}: is a file; name the model directory")
    if name_or_path in KNOWN:
        raise ModelError(f"{name_or_path}: is not here yet; fetch it: streamer models pull {name_or_path}")
    raise ModelError(f"{name_or_path}: no such model or directory; see: streamer models list")


def installed() -> list[str]:
    """Names of the models that are here."""
    folders = models_directory()
    kept = sorted(path.name for path in folders.iterdir() if path.is_dir()) if folders.is_dir() else []
    shipped = [SHIPPED] if (ASSETS / SHIPPED).is_dir() else []
    return [*shipped, *(name.replace("--", "/", 1) for name in kept if not name.startswith("."))]


def add(directory: Path, name: str) -> Path:
    """Check a model directory and copy what belongs to it to the others. Raises ModelError."""
    weights.load(directory)
    target = _target(name)
    partial = Path(tempfile.mkdtemp(prefix=".adding-", dir=target.parent))
    try:
        partial.chmod(0o755)
        for pattern in PATTERNS:
            for path in directory.glob(pattern):
                _copy(path, directory, partial / path.name)
        manifest.write(partial, str(directory.resolve()))
        put_directory(partial, target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return target


def _copy(path: Path, directory: Path, target: Path) -> None:
    """Copy a file of a model. A link that leads out of the model's directory is refused. Raises ModelError.

    Whoever made the directory may not read another file through us, least of all where we are root.
    """
    if not path.resolve().is_relative_to(directory.resolve()):
        raise ModelError(f"{path}: is a link to a file outside of the model: copy the file itself there")
    try:
        descriptor = os.open(path.resolve(), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {error.strerror}") from None
    with os.fdopen(descriptor, "rb") as file, target.open("wb") as copy:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ModelError(f"{path}: is no file")
        shutil.copyfileobj(file, copy)


def pull(name: str, revision: str | None = None, *, endpoint: str | None = None) -> Path:
    """Fetch a model from the Hub; what was fetched of it before is not fetched again. Raises ModelError.

    `endpoint` is another Hub's address; $HF_ENDPOINT or the public one where not set.
    """
    # It loads slowly, and only this needs it.
    from huggingface_hub import HfApi, snapshot_download  # noqa: PLC0415

    wanted = revision or (KNOWN[name].revision if name in KNOWN else "main")
    target = _target(name)
    partial = target.with_name(f".pulling-{target.name}")
    with _hub_errors(name):
        published = HfApi(endpoint=endpoint).model_info(name, revision=wanted, files_metadata=True)
    if _COMMIT.fullmatch(wanted) and published.sha != wanted:
        raise ModelError(f"{name}: asked for the commit {wanted}, the Hub answered with {published.sha}")
    if not any(file.rfilename.endswith(".safetensors") for file in published.siblings or []):
        raise ModelError(
            f"{name}: has no safetensors; fetch its checkpoint by other means and make a directory of it:"
            " streamer models convert"
        )
    with _hub_errors(name):
        snapshot_download(
            name,
            revision=published.sha,
            local_dir=partial,
            allow_patterns=list(PATTERNS),
            endpoint=endpoint,
        )
    shutil.rmtree(partial / ".cache", ignore_errors=True)
    try:
        record = manifest.write(partial, name, published.sha or wanted)
        _compare(record, published, name)
        weights.load(partial)
    except ModelError:
        shutil.rmtree(partial)  # what is wrong must not be taken for what was fetched already
        raise
    put_directory(partial, target)
    return target


def info(directory: Path) -> dict[str, object]:
    """What a model is, in plain values. Raises ModelError."""
    model = weights.load(directory)
    config, record = model.config, manifest.read(directory)
    measured = support.read(directory)
    return {
        "directory": str(directory),
        "source": record.source if record else "",
        "revision": record.revision if record else "",
        "parameters": sum(array.size for array in model.weights.values()),
        "layers": config.num_hidden_layers,
        "heads": config.num_attention_heads,
        "hidden": config.hidden_size,
        "patch": config.patch_size,
        "strides": f"{config.frequency_stride} mel bins, {config.time_stride} frames",
        "frame_head": config.frame_head,
        "sample_rate": model.fbank.sampling_rate,
        "mel_bins": config.num_mel_bins,
        "max_length": config.max_length,
        "window_s": model.fbank.window_s,
        "n_labels": len(model.labels),
        "labels": list(model.labels),
        **_verdicts(measured),
    }


def _verdicts(measured: support.Support | None) -> dict[str, object]:
    """The labels by what may be said of them; those that were not measured are counted."""
    if measured is None:
        return {"not_measured": "all labels"}
    by_verdict = measured.by_verdict({label: (label,) for label in sorted(measured.labels)})
    few = by_verdict.pop(Heard.UNKNOWN, [])
    return {
        **{verdict.replace(" ", "_"): names for verdict, names in by_verdict.items()},
        "not_measured": [*few, "and all other labels"],
        "measured_on": measured.measured_on,
    }


def unsure_of(model: str, sounds: Mapping[str, Sequence[str]]) -> str:
    """A line about the sounds (name and labels) that a model is not known to hear well; or nothing."""
    measured = support.read(resolve(model))
    if measured is None:
        return ""
    # What was taught was measured then.
    own = {name: labels for name, labels in sounds.items() if not labels or not labels[0].startswith(TAUGHT)}
    by_verdict = measured.by_verdict(own)
    by_verdict.pop(Heard.WELL, None)
    if not by_verdict:
        return ""
    found = "; ".join(f"{verdict}: {', '.join(names)}" for verdict, names in by_verdict.items())
    return f"{model}: {found} (expect misses and false alarms; streamer models info {model})"


def verdict(model: str, labels: Sequence[str]) -> str:
    """How well a model is known to hear a sound of these labels, for people; empty where it has none."""
    measured = support.read(resolve(model)) if labels else None
    if measured is None:
        return str(Heard.UNKNOWN) if labels else ""
    return str(next(iter(measured.by_verdict({"": labels}))))


@contextmanager
def _hub_errors(name: str) -> Iterator[None]:
    """Errors of the Hub's client, whose libraries change from version to version, as ModelError."""
    try:
        yield
    except Exception as error:
        raise ModelError(f"{name}: cannot be fetched: {str(error).strip().splitlines()[0]}") from error


def _folder(name: str) -> str:
    """The folder of a model: the Hub's names have a slash, which folders cannot have."""
    return name.replace("/", "--")


def _target(name: str) -> Path:
    """Where a new model goes. Raises ModelError for a name that cannot be one, or is taken."""
    target = models_directory() / _folder(name)
    if name == SHIPPED or not name or name.startswith((".", "-")) or not name.isprintable():
        raise ModelError(f"{name!r}: cannot be the name of a model; choose another")
    if target.exists():
        raise ModelError(f"{name}: is here already; remove {target} to have it anew")
    target.parent.mkdir(parents=True, exist_ok=True)
    return target


def _compare(record: manifest.Manifest, published: ModelInfo, name: str) -> None:
    """The Hub says the SHA-256 of large files."""
    for file in published.siblings or []:
        ours = record.sha256.get(file.rfilename)
        if file.lfs is not None and ours is not None and ours != file.lfs.sha256:
            raise ModelError(f"{name}: {file.rfilename} did not arrive as it was published; pull it again")
