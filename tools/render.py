"""Music and speech that programs make, with labels that are certain: a folder like `more-free-2`.

    python -m tools.render data/rendered --soundfont /usr/share/sounds/sf2/FluidR3_GM.sf2

Music: pieces of a few bars for every instrument of General MIDI, alone and together, played by fluidsynth
with a free sound font. Speech: sentences in many languages and voices, by espeak-ng and flite.
"""

from __future__ import annotations

import argparse
import csv
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from streamer.errors import InputError, StreamerError

RATE = 32000
SECONDS = 12
"""of music at most; the sound dies away after it"""
_TICKS = 480
_DRUMS = 9
"""General MIDI's channel for them"""
_INDEX = ("file", "seconds", "source_repo", "source_path", "licence", "author", "link", "labels")
_TIMEOUT_S = 120

INSTRUMENTS: tuple[tuple[range, tuple[str, ...]], ...] = (
    (range(4), ("Piano", "Keyboard (musical)")),
    (range(4, 6), ("Electric piano", "Keyboard (musical)")),
    (range(6, 7), ("Harpsichord", "Keyboard (musical)")),
    (range(9, 10), ("Glockenspiel", "Mallet percussion")),
    (range(11, 12), ("Vibraphone", "Mallet percussion")),
    (range(12, 14), ("Marimba, xylophone", "Mallet percussion")),
    (range(14, 15), ("Tubular bells",)),
    (range(16, 19), ("Organ", "Electronic organ", "Keyboard (musical)")),
    (range(19, 21), ("Organ", "Keyboard (musical)")),
    (range(21, 22), ("Accordion",)),
    (range(22, 23), ("Harmonica",)),
    (range(23, 24), ("Accordion",)),
    (range(24, 26), ("Acoustic guitar", "Guitar", "Plucked string instrument")),
    (range(26, 31), ("Electric guitar", "Guitar", "Plucked string instrument")),
    (range(32, 33), ("Double bass",)),
    (range(33, 38), ("Bass guitar", "Guitar")),
    (range(40, 41), ("Violin, fiddle", "Bowed string instrument")),
    (range(42, 43), ("Cello", "Bowed string instrument")),
    (range(43, 44), ("Double bass", "Bowed string instrument")),
    (range(44, 46), ("String section",)),
    (range(46, 47), ("Harp",)),
    (range(48, 50), ("String section", "Bowed string instrument")),
    (range(52, 54), ("Choir",)),
    (range(56, 57), ("Trumpet", "Brass instrument")),
    (range(57, 58), ("Trombone", "Brass instrument")),
    (range(58, 60), ("Brass instrument",)),
    (range(60, 61), ("French horn", "Brass instrument")),
    (range(61, 63), ("Brass instrument",)),
    (range(64, 68), ("Saxophone", "Wind instrument, woodwind instrument")),
    (range(68, 71), ("Wind instrument, woodwind instrument",)),
    (range(71, 72), ("Clarinet", "Wind instrument, woodwind instrument")),
    (range(72, 76), ("Flute", "Wind instrument, woodwind instrument")),
    (range(80, 96), ("Synthesizer",)),
    (range(104, 105), ("Sitar", "Plucked string instrument")),
    (range(105, 106), ("Banjo", "Plucked string instrument")),
    (range(106, 108), ("Plucked string instrument",)),
    (range(109, 110), ("Bagpipes",)),
    (range(110, 111), ("Violin, fiddle", "Bowed string instrument")),
)
"""programs of General MIDI, from 0, and the AudioSet labels that are true of them"""

_SCALES = ((0, 2, 4, 5, 7, 9, 11), (0, 2, 3, 5, 7, 8, 10), (0, 2, 4, 7, 9))
_PROGRESSIONS = ((0, 4, 5, 3), (0, 3, 4, 0), (0, 5, 3, 4), (5, 3, 0, 4), (0, 0, 3, 4), (1, 4, 0, 0))
_LOWEST = {32: 28, 33: 28, 34: 28, 35: 28, 36: 28, 37: 28, 42: 36, 43: 28, 57: 40, 58: 28, 70: 36}
"""keys of low instruments; 48 of the others"""

SENTENCES = {
    "en": (
        "Good morning, did you sleep well?",
        "The train to the city leaves at a quarter past nine.",
        "Could you please put the milk back into the fridge?",
        "I do not know where I have left my keys.",
        "Tomorrow it will rain in the north, and the wind will be strong.",
        "Come here, dinner is ready, and wash your hands first.",
    ),
    "de": (
        "Guten Morgen, hast du gut geschlafen?",
        "Der Zug in die Stadt fährt um Viertel nach neun.",
        "Morgen regnet es im Norden, und der Wind wird stark.",
        "Kommt bitte zu Tisch, das Essen ist fertig.",
    ),
    "fr": (
        "Bonjour, est-ce que tu as bien dormi?",
        "Le train pour la ville part à neuf heures et quart.",
        "Demain il va pleuvoir dans le nord du pays.",
    ),
    "es": (
        "Buenos días, ¿has dormido bien?",
        "El tren a la ciudad sale a las nueve y cuarto.",
        "Mañana va a llover en el norte del país.",
    ),
    "it": ("Buongiorno, hai dormito bene?", "Domani pioverà al nord, e ci sarà molto vento."),
    "pt": ("Bom dia, dormiste bem?", "Amanhã vai chover no norte do país."),
    "nl": ("Goedemorgen, heb je goed geslapen?", "Morgen gaat het regenen in het noorden."),
    "pl": ("Dzień dobry, czy dobrze spałeś?", "Jutro na północy będzie padał deszcz."),
    "sv": ("God morgon, har du sovit gott?", "I morgon kommer det att regna i norr."),
    "tr": ("Günaydın, iyi uyudun mu?", "Yarın kuzeyde yağmur yağacak."),  # noqa: RUF001  # Turkish
    "ru": ("Доброе утро, ты хорошо спал?", "Завтра на севере будет дождь."),
    "fi": ("Hyvää huomenta, nukuitko hyvin?", "Huomenna sataa pohjoisessa."),
    "el": ("Καλημέρα, κοιμήθηκες καλά;", "Αύριο θα βρέξει στον βορρά."),
    "hu": ("Jó reggelt, jól aludtál?", "Holnap északon esni fog az eső."),
}
_VARIANTS = ("", "+m1", "+m3", "+m5", "+m7", "+f1", "+f2", "+f3", "+f4", "+f5", "+croak", "+whisper")
_FLITE = ("awb", "kal", "kal16", "rms", "slt")


@dataclass(frozen=True, slots=True)
class Note:
    at: float
    """beats"""
    beats: float
    channel: int
    key: int
    velocity: int


def compose(rng: np.random.Generator) -> tuple[list[Note], dict[int, int], tuple[str, ...], float]:
    """Notes, the program of each channel, the labels that are true, and beats a minute."""
    tempo = float(rng.uniform(60, 150))
    beats = SECONDS * tempo / 60
    scale = _SCALES[int(rng.integers(len(_SCALES)))]
    root = int(rng.integers(12))
    chords = _PROGRESSIONS[int(rng.integers(len(_PROGRESSIONS)))]
    kind = rng.choice(["solo", "accompanied", "band", "drums"], p=[0.45, 0.2, 0.27, 0.08])
    notes: list[Note] = []
    programs: dict[int, int] = {}
    labels: list[str] = ["Music", "Musical instrument"]

    def part(channel: int, style: str) -> None:
        programs_of, own = INSTRUMENTS[int(rng.integers(len(INSTRUMENTS)))]
        programs[channel] = int(rng.choice(programs_of))
        labels.extend(own if kind == "solo" else own[:1])
        low = _LOWEST.get(programs[channel], 48 + 12 * int(rng.integers(3) if style == "melody" else 0))
        notes.extend(_part(rng, style, channel, low + root, scale, chords, beats))

    if kind == "solo":
        part(0, str(rng.choice(["melody", "chords", "arpeggio", "both"])))
    elif kind in {"accompanied", "band"}:
        part(0, "melody")
        part(1, str(rng.choice(["chords", "arpeggio"])))
    if kind in {"band", "drums"}:
        notes.extend(_drums(rng, beats))
        labels += ["Drum kit", "Drum"] if kind == "drums" else ["Drum kit"]
    return notes, programs, tuple(dict.fromkeys(labels)), tempo


def _part(
    rng: np.random.Generator,
    style: str,
    channel: int,
    low: int,
    scale: Sequence[int],
    chords: Sequence[int],
    beats: float,
) -> Iterator[Note]:
    def key(degree: int) -> int:
        return min(108, low + 12 * (degree // len(scale)) + scale[degree % len(scale)])

    loud = int(rng.integers(50, 110))
    if style in {"chords", "both"}:
        each = float(rng.choice([1, 2, 4]))
        for bar in np.arange(0, beats, each):
            chord = chords[int(bar // 4) % len(chords)]
            for degree in (0, 2, 4):
                yield Note(float(bar), 0.9 * each, channel, key(chord + degree), loud - 10)
    if style == "arpeggio":
        each = float(rng.choice([0.25, 0.5]))
        for i, at in enumerate(np.arange(0, beats, each)):
            chord = chords[int(at // 4) % len(chords)]
            yield Note(float(at), each, channel, key(chord + (0, 2, 4, 7)[i % 4]), loud)
    if style in {"melody", "both"}:
        at, degree = 0.0, int(rng.integers(7))
        while at < beats:
            length = float(rng.choice([0.25, 0.5, 0.5, 1, 1, 2]))
            degree = int(np.clip(degree + rng.integers(-3, 4), 0, 13))
            if rng.random() < 0.88:
                yield Note(at, 0.95 * length, channel, key(degree), int(loud + rng.integers(-12, 13)))
            at += length


def _drums(rng: np.random.Generator, beats: float) -> Iterator[Note]:
    swing, busy = rng.uniform(0, 0.1), rng.random() < 0.5
    for i, at in enumerate(np.arange(0, beats, 0.5)):
        loud = int(rng.integers(70, 115))
        yield Note(float(at) + swing * (i % 2), 0.2, _DRUMS, 42 if rng.random() < 0.9 else 46, loud - 20)
        if i % 4 == 0 or (busy and rng.random() < 0.2):
            yield Note(float(at), 0.2, _DRUMS, 36, loud)
        if i % 4 == 2:
            yield Note(float(at), 0.2, _DRUMS, 38, loud)
        if rng.random() < 0.05:
            yield Note(float(at), 0.2, _DRUMS, int(rng.choice([49, 45, 47, 50])), loud)


def midi(notes: Sequence[Note], programs: dict[int, int], tempo: float) -> bytes:
    """A standard MIDI file of one track."""
    events: list[tuple[int, bytes]] = [(0, b"\xff\x51\x03" + int(60e6 / tempo).to_bytes(3, "big"))]
    events += [(0, bytes((0xC0 | channel, program))) for channel, program in programs.items()]
    for note in notes:
        begin, end = int(note.at * _TICKS), int((note.at + note.beats) * _TICKS)
        velocity = int(np.clip(note.velocity, 1, 127))
        events.append((begin, bytes((0x90 | note.channel, note.key, velocity))))
        events.append((end, bytes((0x80 | note.channel, note.key, 0))))
    track, before = b"", 0
    for at, event in sorted(events, key=lambda event: event[0]):
        track += _variable(at - before) + event
        before = at
    track += b"\x00\xff\x2f\x00"
    return b"MThd" + struct.pack(">IHHH", 6, 0, 1, _TICKS) + b"MTrk" + struct.pack(">I", len(track)) + track


def _variable(value: int) -> bytes:
    """A number in groups of seven bits, the last one's top bit clear."""
    out = [value & 0x7F]
    while value := value >> 7:
        out.append(0x80 | value & 0x7F)
    return bytes(reversed(out))


def _run(command: Sequence[str | Path]) -> None:
    try:
        subprocess.run(command, check=True, capture_output=True, timeout=_TIMEOUT_S)
    except FileNotFoundError as error:
        raise InputError(f"{command[0]}: not installed; it makes the recordings") from error
    except subprocess.CalledProcessError as error:
        raise InputError(f"{command[0]}: {error.stderr.decode(errors='replace').strip()}") from error


def music(out: Path, n: int, soundfont: Path, seed: int) -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """(file, source, labels) of each piece that is written."""
    with tempfile.TemporaryDirectory() as folder:
        score = Path(folder) / "score.mid"
        for i in range(n):
            notes, programs, labels, tempo = compose(np.random.default_rng((seed, i)))
            score.write_bytes(midi(notes, programs, tempo))
            file = out / f"music-{i:04d}.wav"
            options = ["-ni", "-q", "-g", "0.6", "-r", str(RATE), "-F", str(file)]
            _run(["fluidsynth", *options, str(soundfont), str(score)])
            yield file.name, f"own render with {soundfont.stem}", labels


def speech(out: Path, n: int, seed: int) -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """(file, source, labels) of each sentence that is spoken."""
    rng = np.random.default_rng((seed, 1))
    labels = ("Speech", "Speech synthesizer")
    for i in range(n):
        language = "en" if i % 4 == 0 else str(rng.choice(list(SENTENCES)))
        text = " ".join(rng.permutation(SENTENCES[language])[:2])
        file = out / f"speech-{i:04d}.wav"
        if i % 4 == 0:
            _run(["flite", "-voice", str(rng.choice(_FLITE)), "-t", text, "-o", str(file)])
            yield file.name, "own render with flite", labels
            continue
        voice = language + str(rng.choice(_VARIANTS))
        pitch, speed = str(int(rng.integers(20, 80))), str(int(rng.integers(120, 210)))
        _run(["espeak-ng", "-v", voice, "-p", pitch, "-s", speed, "-w", str(file), text])
        yield file.name, "own render with espeak-ng", labels


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Render music and speech to train on.")
    parser.add_argument("out", type=Path, help="a folder to write index.csv and audio/ into")
    parser.add_argument("--soundfont", type=Path, required=True, help="a free General MIDI sound font (.sf2)")
    parser.add_argument("--licence", default="MIT", help="of the sound font (%(default)s)")
    parser.add_argument("--author", default="Frank Wen", help="of the sound font (%(default)s)")
    parser.add_argument("--music", type=int, default=400, help="pieces (%(default)s)")
    parser.add_argument("--speech", type=int, default=200, help="sentences (%(default)s)")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(arguments)
    audio = options.out / "audio"
    audio.mkdir(parents=True, exist_ok=True)
    try:
        rows = [
            *music(audio, options.music, options.soundfont, options.seed),
            *speech(audio, options.speech, options.seed),
        ]
    except StreamerError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    with (options.out / "index.csv").open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(_INDEX)
        for name, source, labels in rows:
            licence, author = (options.licence, options.author) if "Music" in labels else ("own", "streamer")
            table.writerow((f"audio/{name}", "", source, "", licence, author, source, "|".join(labels)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
