"""A web radio that plays a recording without an end, at real time."""

from __future__ import annotations

import http.server
import threading
import time
import wave
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

ENDLESS = b"\xff\xff\xff\xff"
"""a length in a WAV header that nobody knows yet"""
BLOCK_S = 0.1


def header(recording: wave.Wave_read) -> bytes:
    """The header of a WAV without an end."""
    n_bytes = recording.getnchannels() * recording.getsampwidth()
    return b"".join(
        [
            b"RIFF" + ENDLESS + b"WAVEfmt " + (16).to_bytes(4, "little") + (1).to_bytes(2, "little"),
            recording.getnchannels().to_bytes(2, "little"),
            recording.getframerate().to_bytes(4, "little"),
            (n_bytes * recording.getframerate()).to_bytes(4, "little"),
            n_bytes.to_bytes(2, "little") + (8 * recording.getsampwidth()).to_bytes(2, "little"),
            b"data" + ENDLESS,
        ]
    )


@contextmanager
def radio(path: Path) -> Iterator[str]:
    """Serve a WAV file so; gives the address."""
    with wave.open(str(path)) as recording:
        head = header(recording)
        pcm = recording.readframes(recording.getnframes())
        n_bytes = (
            round(BLOCK_S * recording.getframerate()) * recording.getnchannels() * recording.getsampwidth()
        )
    blocks = [pcm[at : at + n_bytes] for at in range(0, len(pcm) - n_bytes + 1, n_bytes)]
    closed = threading.Event()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "audio/wav")
            self.end_headers()
            began, n_sent = time.monotonic(), 0
            with suppress(OSError):  # the listener has gone
                self.wfile.write(head)
                while not closed.wait(max(0.0, began + n_sent * BLOCK_S - time.monotonic())):
                    self.wfile.write(blocks[n_sent % len(blocks)])
                    n_sent += 1

        def log_message(self, format: str, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        serving = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        serving.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/radio.wav"
        finally:
            closed.set()
            server.shutdown()
            serving.join()
