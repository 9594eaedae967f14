"""`make quality`: events found in soundscapes whose events are known, beside a peer's rule.

The soundscapes, the peer (YAMNet by Frigate's rule) and the figures come from a folder of tools that is no
part of it: make_soundscape.py, yamnet_fixed_windows.py, score.py, groups.yaml, requirements.txt. They
run in an environment of their own, which is made once.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import venv
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from streamer.config.schema import load_config
from streamer.errors import StreamerError, UsageError
from streamer.mqtt.messages import event_message
from streamer.run.offline import detect
from tools.spans import SpanScorer

_PARTS = ("make_soundscape.py", "yamnet_fixed_windows.py", "score.py", "groups.yaml", "requirements.txt")
_BEST_CASE = ("--threshold", "0.3", "--max-not-heard", "2", "--offset-at", "last-heard", "--min-rms", "0")
"""Frigate itself refuses thresholds below 0.5."""
_COLUMNS = {
    "hits": "hits",
    "FA/h": "false_alarms_per_hour",
    "on background": "during_background",
    "event F1": "micro.event.f1",
    "onset F1": "micro.onset.f1",
    "intersection F1": "micro.intersection.f1",
    "segment F1": "micro.segment.f1",
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
        """What a tool prints. Raises UsageError with the last line that it said."""
        command = [str(self.python), str(self.folder / script), *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            said = (done.stderr or done.stdout).strip().splitlines()
            raise UsageError(f"{script}: {said[-1] if said else f'exit code {done.returncode}'}")
        return done.stdout

    def score(self, name: str, recordings: Sequence[Path]) -> dict[str, Any]:
        """The figures of the events `NAME-RECORDING.tsv`, and all of them in NAME.txt."""
        figures = self.out / f"{name}.json"
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
        return found

    def events(self, name: str, recording: Path) -> Path:
        return self.out / f"{name}-{recording.stem}.tsv"


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
        if subprocess.run(install, check=False).returncode:
            raise UsageError(f"{folder / 'requirements.txt'} cannot be installed into {home}")
        installed.touch()
    return Tools(folder, python, out)


def soundscapes(
    tools: Tools, clips: Path, seeds: Sequence[int], folds: Sequence[int], duration_s: int
) -> list[Path]:
    """Make the recordings that are not there yet."""
    recordings = []
    for seed in seeds:
        recording = tools.out / f"folds{''.join(map(str, folds))}-{duration_s}s-seed{seed}.wav"
        if not recording.exists():
            print(f"making {recording} …", file=sys.stderr)
            tools.run(
                "make_soundscape.py",
                *("--labels", clips / "labels.csv", "--audio-dir", clips / "audio"),
                *("--folds", *map(str, folds), "--seed", str(seed), "--duration", str(duration_s)),
                *("--output", recording.with_suffix("")),
            )
        recordings.append(recording)
    return recordings


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


def _table(rows: Mapping[str, Mapping[str, Any]]) -> str:
    """Markdown."""
    cells = [
        ["", *_COLUMNS],
        *([name, *(_cell(row, keys) for keys in _COLUMNS.values())] for name, row in rows.items()),
    ]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = [
        "| " + " | ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)) + " |"
        for row in cells
    ]
    return "\n".join([lines[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *lines[1:]])


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="make quality", description=(__doc__ or "").splitlines()[0])
    add = parser.add_argument
    add("--soundscapes", type=Path, required=True, help="the folder of tools")
    add("--data", type=Path, required=True, help="with esc50-free/, yamnet/ and, for --teacher, teacher/")
    add("--config", type=Path, default=Path("configs/home.yaml"))
    add("--model", help="another than the configuration's")
    add("--seeds", type=int, nargs="+", default=[1, 2, 3])
    add("--folds", type=int, nargs="+", default=[1, 2, 3, 4])
    add("--duration", type=int, default=600, help="seconds of each recording (%(default)s)")
    add("--teacher", action="store_true", help="judge the detection with the scores of the teacher, too")
    add("--teacher-config", type=Path, help="thresholds for that; else those of --config")
    add("--out", type=Path, default=Path("out/quality"))
    options = parser.parse_args(arguments)
    try:
        print(_measure(options))
    except StreamerError as error:
        print(f"make quality: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def _measure(options: argparse.Namespace) -> str:
    out, data = options.out, options.data
    out.mkdir(parents=True, exist_ok=True)
    tools = find_tools(options.soundscapes, out)
    recordings = soundscapes(tools, data / "esc50-free", options.seeds, options.folds, options.duration)
    groups = yaml.safe_load((options.soundscapes / "groups.yaml").read_text(encoding="utf-8"))["groups"]
    yamnet = ("--model", data / "yamnet/yamnet.tflite", "--class-map", data / "yamnet/yamnet_class_map.csv")
    for recording in recordings:
        print(f"listening to {recording} …", file=sys.stderr)
        write_events(
            tools.events("streamer", recording), ours(recording, options.config, options.model), set(groups)
        )
        for name, settings in (("frigate", ()), ("yamnet", _BEST_CASE)):
            if not tools.events(name, recording).exists():
                tools.run(
                    "yamnet_fixed_windows.py", recording, tools.events(name, recording), *yamnet, *settings
                )
        if options.teacher:
            config = load_config(options.teacher_config or options.config)
            scorer = SpanScorer(data / "teacher/mn04_as.onnx")
            events = detect(recording, config, scorer, source_id=recording.stem)
            messages = (event_message(event, config.node, origin=0.0) for event in events)
            write_events(tools.events("teacher", recording), messages, set(groups))
    rows = {
        "streamer": "streamer",
        "Frigate's defaults, YAMNet": "frigate",
        "YAMNet's best setting": "yamnet",
    }
    if options.teacher:
        rows["streamer's detection, teacher's scores"] = "teacher"
    return _table({title: tools.score(name, recordings) for title, name in rows.items()})


if __name__ == "__main__":
    sys.exit(main())
