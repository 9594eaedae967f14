"""`make quality`: events found in soundscapes whose events are known, beside a peer's rule.

The soundscapes, the peer (YAMNet by Frigate's rule) and the figures come from a folder of tools that is no
part of it: make_soundscape.py, yamnet_fixed_windows.py, score.py, groups.yaml, requirements.txt. They
run in an environment of their own, which is made once; so does sed_scores_eval, for PSDS1 and PSDS2.

There is a table for dense recordings, seven sounds a minute; with `--bed` one more for the same with faint
music and speech beneath, and one for an hour with a sound every ten minutes, music, speech and ambience.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import venv
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from streamer.capture.stream import read_file
from streamer.config.schema import load_config
from streamer.data.synthesis import write_wav
from streamer.errors import StreamerError, UsageError
from streamer.evaluation import bed
from streamer.evaluation.frames import write_scores
from streamer.evaluation.thresholds import open_scorer
from streamer.mqtt.messages import event_message
from streamer.run.offline import detect
from tools.spans import SpanScorer

_PARTS = ("make_soundscape.py", "yamnet_fixed_windows.py", "score.py", "groups.yaml", "requirements.txt")
_BEST_CASE = ("--threshold", "0.3", "--max-not-heard", "2", "--offset-at", "last-heard", "--min-rms", "0")
"""Frigate itself refuses thresholds below 0.5."""
_DENSE = ("--events-per-minute", "6", "--distractors-per-minute", "1")
_SPARSE = ("--events-per-minute", "0.1", "--distractors-per-minute", "0.0166667")
_FAINT_DBFS = (-52.0, -42.0)
"""of music and speech beneath: about as loud as the background of the soundscapes"""
_HOME_DBFS = (-45.0, -25.0)
COLUMNS = {
    "hits": "hits",
    "FA/h": "false_alarms_per_hour",
    "on background": "during_background",
    "event F1": "micro.event.f1",
    "onset F1": "micro.onset.f1",
    "intersection F1": "micro.intersection.f1",
    "segment F1": "micro.segment.f1",
    "PSDS1": "psds1",
    "PSDS2": "psds2",
    "onset error": "onset_error.median",
    "offset error": "offset_error.median",
    "delay": "delay.median",
}


@dataclass(frozen=True)
class Tools:
    """The folder of tools, the environment that they run in, and where their files go."""

    folder: Path
    python: Path
    out: Path

    def run(self, script: str, *arguments: str | Path) -> str:
        """What a tool of the folder prints. Raises UsageError with its last line."""
        return self._python(str(self.folder / script), *arguments)

    def run_own(self, module: str, *arguments: str | Path) -> str:
        """What a module of this folder prints, run in the environment of the tools. Raises UsageError."""
        return self._python("-m", f"tools.{module}", *arguments)

    def _python(self, *arguments: str | Path) -> str:
        environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent.parent)}
        done = subprocess.run(
            [str(self.python), *map(str, arguments)],
            capture_output=True,
            text=True,
            check=False,
            env=environment,
        )
        if done.returncode:
            said = (done.stderr or done.stdout).strip().splitlines()
            what = " ".join(map(str, arguments[:2])) if arguments[0] == "-m" else Path(arguments[0]).name
            raise UsageError(f"{what}: {said[-1] if said else f'exit code {done.returncode}'}")
        return done.stdout

    def score(self, name: str, kind: str, recordings: Sequence[Path]) -> dict[str, Any]:
        """The figures of the events `NAME-RECORDING.tsv` and its scores, and all of them in NAME-KIND.txt."""
        figures = self.out / f"{name}-{kind}.json"
        text = self.run(
            "score.py",
            "--reference",
            *(recording.with_suffix(".tsv") for recording in recordings),
            "--estimate",
            *(self.events(name, recording) for recording in recordings),
            "--json",
            figures,
        )
        figures.with_suffix(".txt").write_text(text, encoding="utf-8")
        found: dict[str, Any] = json.loads(figures.read_text(encoding="utf-8"))
        found |= {"psds1": None, "psds2": None}
        scores = [self.scores(name, recording) for recording in recordings]
        if all(path.exists() for path in scores):
            truths = [recording.with_suffix(".tsv") for recording in recordings]
            found |= json.loads(self.run_own("psds", "--truth", *truths, "--scores", *scores))
        return found

    def events(self, name: str, recording: Path) -> Path:
        return self.out / f"{name}-{recording.stem}.tsv"

    def scores(self, name: str, recording: Path) -> Path:
        """Where scores over time lie; the rules of a peer have the scores of its model."""
        folder = self.out / ("scores-yamnet" if name in {"frigate", "yamnet"} else f"scores-{name}")
        return folder / f"{recording.stem}-scores.tsv"


def find_tools(folder: Path, out: Path) -> Tools:
    """Check the folder; make the environment unless it is there. Raises UsageError."""
    missing = [name for name in _PARTS if not (folder / name).is_file()]
    if missing:
        raise UsageError(f"{folder} is not the folder of soundscape tools: it has no {', '.join(missing)}")
    home = out / "tools"
    python = home / "bin" / "python"
    installed = home / "installed"
    if not installed.exists():
        print("installing what the tools need …", file=sys.stderr)
        venv.create(home, with_pip=True)
        install = [str(python), "-m", "pip", "install", "-q", "-r", str(folder / "requirements.txt")]
        install += ["sed_scores_eval", "pandas<3"]  # it writes into arrays that pandas 3 protects
        if subprocess.run(install, check=False).returncode:
            raise UsageError(f"{folder / 'requirements.txt'} cannot be installed into {home}")
        installed.touch()
    return Tools(folder, python, out)


def known_sounds(folder: Path) -> set[str]:
    """The sounds that the tools judge."""
    return set(yaml.safe_load((folder / "groups.yaml").read_text(encoding="utf-8"))["groups"])


@dataclass(frozen=True)
class Clips:
    """What soundscapes are made of."""

    folder: Path
    folds: Sequence[int]
    bed: Mapping[str, Sequence[Path]]
    """files of music, speech and ambience; none where there is no bed"""


def soundscape(tools: Tools, clips: Clips, seed: int, duration_s: int, density: Sequence[str]) -> Path:
    """A recording with its truth, made unless it is there."""
    kind = "" if density == _DENSE else "sparse-"
    name = f"{kind}folds{''.join(map(str, clips.folds))}-{duration_s}s-seed{seed}"
    recording = tools.out / f"{name}.wav"
    if not recording.exists():
        print(f"making {recording} …", file=sys.stderr)
        tools.run(
            "make_soundscape.py",
            *("--labels", clips.folder / "labels.csv", "--audio-dir", clips.folder / "audio"),
            *("--folds", *map(str, clips.folds), "--seed", str(seed), "--duration", str(duration_s)),
            *density,
            "--output",
            recording.with_suffix(""),
        )
    return recording


def with_bed(
    recording: Path, clips: Mapping[str, Sequence[Path]], level_dbfs: tuple[float, float], seed: int
) -> Path:
    """The recording with a bed beneath, and its truth beside it: the bed has no sound that is judged."""
    path = recording.with_name(f"bed-{recording.name}")
    if not path.exists():
        print(f"making {path} …", file=sys.stderr)
        samples, rate = read_file(recording)
        laid, _ = bed.lay(np.random.default_rng((30_000, seed)), samples, rate, clips, level_dbfs)
        for suffix in (".tsv", ".json"):
            path.with_suffix(suffix).write_bytes(recording.with_suffix(suffix).read_bytes())
        write_wav(path, laid, rate)
    return path


def make_recordings(tools: Tools, clips: Clips, options: argparse.Namespace) -> dict[str, list[Path]]:
    """By kind; the kind is the heading of its table."""
    dense = [soundscape(tools, clips, seed, options.duration, _DENSE) for seed in options.seeds]
    found = {"seven sounds a minute": dense}
    if clips.bed:
        beneath = {kind: files for kind, files in clips.bed.items() if kind != "ambience"}
        found["the same, faint music and speech beneath"] = [
            with_bed(recording, beneath, _FAINT_DBFS, seed)
            for recording, seed in zip(dense, options.seeds, strict=True)
        ]
        seed = options.seeds[0]
        sparse = soundscape(tools, clips, seed, 6 * options.duration, _SPARSE)
        found["a sound in ten minutes, music, speech and ambience"] = [
            with_bed(sparse, clips.bed, _HOME_DBFS, seed)
        ]
    return found


def write_events(path: Path, messages: Iterable[Mapping[str, Any]], known: set[str]) -> None:
    """A table of events, as their ends say them, with when each was told first. Other sounds are left out."""
    told: dict[str, float] = {}
    lines = ["onset\toffset\tevent_label\treported_at"]
    for message in messages:
        told.setdefault(message["id"], message["emitted_at"])
        if message["phase"] == "end" and message["sound"] in known:
            times = f"{max(0.0, message['onset']):.3f}\t{message['offset']:.3f}"
            lines.append(f"{times}\t{message['sound']}\t{told[message['id']]:.3f}")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def ours(recording: Path, config: Path, model: str | None) -> Iterator[Mapping[str, Any]]:
    """The messages of `streamer detect`."""
    command = [sys.executable, "-m", "streamer", "detect", str(recording), "--config", str(config)]
    command += ["--format", "jsonl", "--relative", *(["--model", model] if model else [])]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise UsageError(f"streamer detect ended with exit code {done.returncode}")
    return (json.loads(line) for line in done.stdout.splitlines())


def _cell(figures: Mapping[str, Any], keys: str) -> str:
    value: Any = figures
    for key in keys.split("."):
        value = value[key]
    return "-" if value is None else str(value) if isinstance(value, int) else f"{value:.2f}"


def table(rows: Mapping[str, Mapping[str, Any]], columns: Mapping[str, str] = COLUMNS) -> str:
    """Markdown."""
    cells = [
        ["", *columns],
        *([name, *(_cell(row, keys) for keys in columns.values())] for name, row in rows.items()),
    ]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = [
        "| " + " | ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)) + " |"
        for row in cells
    ]
    return "\n".join([lines[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *lines[1:]])


def add_recordings(parser: argparse.ArgumentParser) -> None:
    """The options that say which recordings are judged, and by whose scores."""
    add = parser.add_argument
    add("--soundscapes", type=Path, required=True, help="the folder of tools")
    add("--data", type=Path, required=True, help="with esc50-free/, yamnet/ and, for --teacher, teacher/")
    add("--config", type=Path, default=Path("configs/home.yaml"))
    add("--model", help="another than the configuration's")
    add("--seeds", type=int, nargs="+", default=[1, 2, 3])
    add("--folds", type=int, nargs="+", default=[1, 2, 3, 4])
    add("--duration", type=int, default=600, help="seconds of a dense recording (%(default)s)")
    add("--bed", type=Path, nargs="+", default=[], help="tables of clips of music, speech and ambience")
    add("--out", type=Path, default=Path("out/quality"))


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="make quality", description=(__doc__ or "").splitlines()[0])
    add = parser.add_argument
    add_recordings(parser)
    add("--teacher", action="store_true", help="judge the detection with the scores of the teacher, too")
    add("--teacher-config", type=Path, help="thresholds for that; else those of --config")
    return run_tool(parser, _measure, arguments)


def run_tool(
    parser: argparse.ArgumentParser,
    measure: Callable[[argparse.Namespace], str],
    arguments: Sequence[str] | None,
) -> int:
    """Print what is measured with the options, or the error in a line; its exit code."""
    options = parser.parse_args(arguments)
    try:
        print(measure(options))
    except StreamerError as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def _measure(options: argparse.Namespace) -> str:
    out, data = options.out, options.data
    out.mkdir(parents=True, exist_ok=True)
    tools = find_tools(options.soundscapes, out)
    config = load_config(options.config)
    files = bed.choose_clips(options.bed, config) if options.bed else {}
    recordings = make_recordings(tools, Clips(data / "esc50-free", options.folds, files), options)
    groups = options.soundscapes / "groups.yaml"
    known = known_sounds(options.soundscapes)
    scorer, _ = open_scorer(config, options.model)
    yamnet = ("--model", data / "yamnet/yamnet.tflite", "--class-map", data / "yamnet/yamnet_class_map.csv")
    for recording in [recording for kind in recordings.values() for recording in kind]:
        print(f"scoring {recording} …", file=sys.stderr)
        events = ours(recording, options.config, options.model)
        write_events(tools.events("streamer", recording), events, known)
        write_scores(tools.scores("streamer", recording).parent, [recording], config, scorer)
        for name, settings in (("frigate", ()), ("yamnet", _BEST_CASE)):
            if not tools.events(name, recording).exists():
                tools.run(
                    "yamnet_fixed_windows.py", recording, tools.events(name, recording), *yamnet, *settings
                )
        if not (scores := tools.scores("yamnet", recording)).exists():
            scores.parent.mkdir(exist_ok=True)
            tools.run_own("yamnet", recording, scores, "--folder", data / "yamnet", "--groups", groups)
        if options.teacher:
            rules = load_config(options.teacher_config or options.config)
            teacher = SpanScorer(data / "teacher/mn04_as.onnx")
            detected = detect(recording, rules, teacher, source_id=recording.stem)
            messages = (event_message(event, rules.node, origin=0.0) for event in detected)
            write_events(tools.events("teacher", recording), messages, known)
    rows = {
        "streamer": "streamer",
        "Frigate's defaults, YAMNet": "frigate",
        "YAMNet's best setting": "yamnet",
    }
    if options.teacher:
        rows["streamer's detection, teacher's scores"] = "teacher"
    parts = []
    for i, (kind, made) in enumerate(recordings.items()):
        minutes = sum(read_length(recording) for recording in made) / 60
        found = {title: tools.score(name, str(i), made) for title, name in rows.items()}
        parts.append(f"{minutes:.0f} minutes, {kind}\n\n{table(found)}")
    return "\n\n".join(parts)


def read_length(recording: Path) -> float:
    """Seconds, as the facts beside a recording have it."""
    facts = json.loads(recording.with_suffix(".json").read_text(encoding="utf-8"))
    return float(facts["duration"])


if __name__ == "__main__":
    sys.exit(main())
