"""A camera that only hears: RTSP, with RTP in the same TCP connection (RFC 2326, section 10.12)."""

from __future__ import annotations

import socket
import socketserver
import struct
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Packet:
    """One RTP packet."""

    timestamp: int
    """in samples"""
    payload: bytes
    """16 bit, big-endian"""


@contextmanager
def serve_rtsp(
    packets: Sequence[Packet], rate: int, *, hang: bool = False, udp: bool = False
) -> Iterator[str]:
    """Serve these packets to whoever plays, as fast as they are taken, then hang up. Gives the address.

    With `hang`, the connection stays and nothing more comes, until the context ends. With `udp`, RTP goes by
    UDP alone, at real time.
    """
    over = threading.Event()
    datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)

    class Camera(socketserver.StreamRequestHandler):
        client_port = 0

        def handle(self) -> None:
            while request := self._request():
                method, number, transport = request
                match method:
                    case "OPTIONS":
                        self._answer(number, "Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN")
                    case "DESCRIBE":
                        self._answer(number, "Content-Type: application/sdp", body=_sdp(rate))
                    case "SETUP" if udp and "TCP" in transport:
                        self._answer(number, status="461 Unsupported Transport")
                    case "SETUP" if udp:
                        self.client_port = int(transport.split("client_port=")[1].split("-")[0])
                        ports = f"client_port={self.client_port}-{self.client_port + 1};server_port=6970-6971"
                        self._answer(number, f"Transport: RTP/AVP;unicast;{ports}", "Session: 1")
                    case "SETUP":
                        self._answer(number, "Transport: RTP/AVP/TCP;unicast;interleaved=0-1", "Session: 1")
                    case "PLAY":
                        self._answer(number, "Session: 1", "RTP-Info: url=track;seq=0;rtptime=0")
                        self._play()
                        return
                    case _:
                        self._answer(number)

        def _request(self) -> tuple[str, str, str] | None:
            """Method, sequence number, and the transport that is asked for."""
            head = []
            while line := self.rfile.readline().decode().strip():
                head.append(line)
            if not head:
                return None
            number = next(line.split(":")[1].strip() for line in head if line.lower().startswith("cseq"))
            transport = next((line for line in head if line.lower().startswith("transport")), "")
            return head[0].split()[0], number, transport

        def _answer(self, number: str, *headers: str, body: str = "", status: str = "200 OK") -> None:
            lines = [
                f"RTSP/1.0 {status}",
                f"CSeq: {number}",
                *headers,
                f"Content-Length: {len(body)}",
                "",
                body,
            ]
            self.wfile.write("\r\n".join(lines).encode())

        def _play(self) -> None:
            for number, packet in enumerate(packets):
                # RFC 3550, section 5.1: version 2, payload type 97, sequence number, time stamp, source.
                rtp = struct.pack(">BBHII", 0x80, 97, number & 0xFFFF, packet.timestamp, 1) + packet.payload
                if udp:
                    datagrams.sendto(rtp, ("127.0.0.1", self.client_port))
                    time.sleep(len(packet.payload) / 2 / rate)
                else:
                    self.wfile.write(struct.pack(">cBH", b"$", 0, len(rtp)) + rtp)
            if hang:
                over.wait()

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Camera) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield f"rtsp://127.0.0.1:{server.server_address[1]}/camera"
        finally:
            over.set()
            datagrams.close()
            server.shutdown()
            thread.join()


def _sdp(rate: int) -> str:
    lines = [
        "v=0",
        "o=- 0 0 IN IP4 127.0.0.1",
        "s=camera",
        "t=0 0",
        "m=audio 0 RTP/AVP 97",
        "c=IN IP4 0.0.0.0",
        f"a=rtpmap:97 L16/{rate}/1",
        "a=control:track",
    ]
    return "\r\n".join([*lines, ""])
