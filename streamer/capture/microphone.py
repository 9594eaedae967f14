"""A microphone, through PortAudio. The only importer of sounddevice."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import logging
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING

from streamer.capture.channels import Channel, Mixer
from streamer.capture.hotplug import Devices
from streamer.core.clock import Clock
from streamer.core.threads import in_thread
from streamer.errors import SourceError, StuckError
from streamer.types import AudioBlock, Samples

if TYPE_CHECKING:
    import sounddevice

log = logging.getLogger(__name__)

BLOCK_S = 0.1
POLL_S = 0.25
STALL_S = 3.0
"""seconds without a block after which a device hangs: PortAudio does not report it, not even in `active`.
It is no shorter, since a server that comes back earlier hands over all that was captured meanwhile."""
DEADLINE_S = 5.0
"""how long a driver may take to open, start or close a device; some never return"""
HUNG_DEADLINE_S = 1.5
"""how long it may take to close one that hangs: a process that must end is to end within six seconds"""
MAX_REAL_CHANNELS = 16
"""sound servers claim 32 channels and more, whatever is behind them"""

_portaudio = threading.Lock()
_open_streams: set[int] = set()
"""PortAudio's state is that of the process: its list of devices can be read anew only with no stream open"""
_list = Devices()


@dataclass(frozen=True, slots=True)
class Device:
    """An input of this machine."""

    index: int
    """PortAudio's; it changes when devices come and go"""
    name: str
    channels: int
    sample_rate: int
    """Hertz, the device's own"""
    is_default: bool


def list_devices() -> list[Device]:
    """The inputs there are now. Blocks for some ten milliseconds. Raises SourceError without PortAudio."""
    with _exclusive():
        return _devices(_sounddevice())


class Microphone:
    """A source that listens to an input of this machine.

    `device` is a part of its name, or `default`. PortAudio's callback copies a block and returns. A device is
    gone or hangs when PortAudio reports it, when no block comes, or when a call does not return.
    """

    def __init__(self, device: str, *, channel: Channel = "mix") -> None:
        self._wanted = device
        self._channel = channel
        self._mixer = Mixer(f"microphone {device}", channel)
        self._device: Device | None = None
        self._stream: sounddevice.InputStream | None = None
        self._clock = Clock()
        self._gone = asyncio.Event()
        self._write: Callable[[AudioBlock], None] = _nowhere
        self._blocks = 0
        self._errors = 0
        self._last_error = ""
        self._lost = True
        self._hangs = False

    @property
    def sample_rate(self) -> int:
        return self._device.sample_rate if self._device is not None else 0

    async def open(self) -> None:
        loop = asyncio.get_running_loop()
        self._gone = asyncio.Event()

        def on_finished() -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(self._gone.set)

        self._clock = Clock()
        self._blocks, self._errors, self._hangs = 0, 0, False
        await self._beside(lambda: self._open(on_finished), "open", DEADLINE_S)

    async def run(self, write: Callable[[AudioBlock], None]) -> None:
        if self._stream is None:
            raise RuntimeError("open comes before run")
        self._write = write
        self._lost = True  # whatever came before the first block
        try:
            await self._watch()
        finally:
            self._write = _nowhere

    async def close(self) -> None:
        stream, self._stream = self._stream, None
        if stream is None:
            return

        def give_back() -> None:
            with _exclusive():
                stream.abort(ignore_errors=True)
                stream.close(ignore_errors=True)
                _open_streams.discard(id(stream))

        await self._beside(give_back, "close", HUNG_DEADLINE_S if self._hangs else DEADLINE_S)

    async def _watch(self) -> None:
        """Return never; raise SourceError when the device is gone or hangs."""
        seen, seen_errors, quiet_s = 0, 0, 0.0
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._gone.wait(), POLL_S)
                raise SourceError(f"{self._name}: the device is gone")
            # Counted in polls, not read off a clock: it must not run on while this process itself is frozen.
            quiet_s = quiet_s + POLL_S if self._blocks == seen else 0.0
            if quiet_s >= (STALL_S if self._blocks else DEADLINE_S):
                self._hangs = True
                raise SourceError(f"{self._name}: no block for {quiet_s:g} s; the device or its server hangs")
            if self._errors > seen_errors:
                log.warning(
                    "%s: %d blocks lost: %s", self._name, self._errors - seen_errors, self._last_error
                )
            seen, seen_errors = self._blocks, self._errors

    def _open(self, on_finished: Callable[[], None]) -> None:
        with _exclusive():
            sd = _sounddevice()
            self._device = device = _find(_devices(sd), self._wanted)
            try:
                stream = sd.InputStream(
                    device=device.index,
                    samplerate=device.sample_rate,
                    blocksize=round(BLOCK_S * device.sample_rate),
                    channels=self._n_channels(device),
                    dtype="float32",
                    callback=self._on_block,
                    finished_callback=on_finished,
                )
                stream.start()
            except sd.PortAudioError as error:
                raise SourceError(f"microphone {device.name}: it cannot be opened: {error}") from error
            _open_streams.add(id(stream))
            self._stream = stream

    def _n_channels(self, device: Device) -> int:
        """All channels of a real device. A sound server has as many as one asks for, and mixes by itself."""
        is_real = device.channels <= MAX_REAL_CHANNELS
        if self._channel == "mix":
            return device.channels if is_real else 1
        if self._channel > device.channels:
            raise SourceError(
                f"microphone {device.name}: no channel {self._channel}: it has {device.channels}"
            )
        return device.channels if is_real else max(2, self._channel)

    def _on_block(
        self, samples: Samples, n_frames: int, _time: object, status: sounddevice.CallbackFlags
    ) -> None:
        """PortAudio's thread: copy (n_frames, channels), return. An exception here would end the stream."""
        try:
            self._blocks += 1
            lost, self._lost = self._lost or status.input_overflow, False
            captured_at = self._clock.now() - n_frames / self.sample_rate
            self._write(AudioBlock(self._mixer.mono(samples.T), captured_at, lost))
        except Exception as error:
            self._errors += 1
            self._last_error = repr(error)
            self._lost = True

    @property
    def _name(self) -> str:
        return f"microphone {self._device.name if self._device is not None else self._wanted}"

    async def _beside(self, call: Callable[[], None], what: str, deadline_s: float) -> None:
        """Run a call into the driver in a thread. Raises StuckError where it does not return."""
        try:
            await in_thread(call, f"{what} {self._name}", deadline_s)
        except TimeoutError as error:
            # sounddevice's farewell to PortAudio would hang as well, and the end of the process with it.
            if "sounddevice" in sys.modules:
                atexit.unregister(sys.modules["sounddevice"]._exit_handler)
            raise StuckError(
                f"{self._name}: the driver did not {what} it within {deadline_s:g} s; restart the program"
            ) from error


def _nowhere(_block: AudioBlock) -> None:
    """Takes the blocks while the source is not run."""


def _sounddevice() -> ModuleType:
    """PortAudio, with the list of devices read anew where that is possible and of use."""
    try:
        import sounddevice  # noqa: PLC0415 - PortAudio may be missing, and files are played all the same

        if not _open_streams and _list.may_differ():
            sounddevice._terminate()
            sounddevice._initialize()
    except OSError as error:
        raise SourceError(
            "no microphone can be used: PortAudio is missing: apt install libportaudio2"
        ) from error
    except Exception as error:  # PortAudioError, whose name is not known where the import failed
        raise SourceError(f"no microphone can be used: {error}") from error
    module: ModuleType = sounddevice
    return module


def _devices(sd: ModuleType) -> list[Device]:
    try:
        default = sd.query_devices(kind="input")["index"]
    except sd.PortAudioError:
        default = None
    return [
        Device(
            index=device["index"],
            name=device["name"],
            channels=device["max_input_channels"],
            sample_rate=round(device["default_samplerate"]),
            is_default=device["index"] == default,
        )
        for device in sd.query_devices()
        if device["max_input_channels"] > 0
    ]


def _find(devices: list[Device], wanted: str) -> Device:
    """The device whose name contains `wanted`. A full name wins over parts of others. Raises SourceError."""
    if not devices:
        raise SourceError(f"microphone {wanted}: this machine has no microphone; plug one in")
    names = ", ".join(device.name for device in devices)
    if wanted == "default":
        found = [device for device in devices if device.is_default]
    else:
        found = [device for device in devices if wanted.casefold() == device.name.casefold()]
        found = found or [device for device in devices if wanted.casefold() in device.name.casefold()]
    match found:
        case [device]:
            return device
        case []:
            raise SourceError(f"microphone {wanted}: no such device; there are: {names}")
        case _:
            matches = ", ".join(device.name for device in found)
            raise SourceError(
                f"microphone {wanted}: the name fits {len(found)} devices, give more of it: {matches}"
            )


@contextlib.contextmanager
def _exclusive() -> Iterator[None]:
    """PortAudio is not made for two threads. Raises SourceError where another call never came back."""
    if not _portaudio.acquire(timeout=DEADLINE_S):
        raise StuckError("the audio driver hangs in another call; restart the program")
    try:
        yield
    finally:
        _portaudio.release()
