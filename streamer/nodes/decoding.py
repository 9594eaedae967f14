"""Decodes the compressed hops of nodes in a process of its own: a decoder is where hostile bytes do harm.

Started by `decoder.py` as `python -m streamer.nodes.decoding`. On the standard input: number of samples,
number of bytes, FLAC. On the standard output: number of samples, int16; or, less than 0, of bytes, a reason.
"""

from __future__ import annotations

import resource
import struct
import sys
from typing import BinaryIO

from streamer.nodes import flac
from streamer.nodes.wire import LinkError

REQUEST = struct.Struct("!II")
ANSWER = struct.Struct("!i")
MEMORY_MAX = 1 << 30
"""bytes of address space"""


def main(requests: BinaryIO, answers: BinaryIO) -> None:
    """Serve until the input ends."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_MAX, MEMORY_MAX))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    while len(header := requests.read(REQUEST.size)) == REQUEST.size:
        n_samples, n_bytes = REQUEST.unpack(header)
        try:
            samples = flac.decode(requests.read(n_bytes), n_samples)
            answers.write(ANSWER.pack(len(samples)) + samples.astype("<i2").tobytes())
        except LinkError as error:
            reason = str(error).encode()
            answers.write(ANSWER.pack(-len(reason)) + reason)
        answers.flush()


if __name__ == "__main__":
    main(sys.stdin.buffer, sys.stdout.buffer)
