"""Where an address on the web leads is followed where it may lead there, and nowhere else."""

from __future__ import annotations

import base64
import http.server
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from streamer.capture.stream import Stream
from streamer.errors import SourceError
from tests.capture.test_stream import played, tone, write_audio

HOME = "http://10.255.255.9:81"
"""not this machine, and so nothing that loopback may lead to"""
SEGMENT_S = 2.0


class Site:
    """A server on loopback: what it has, where it redirects, and what it was asked for."""

    def __init__(self, pages: dict[str, bytes]) -> None:
        self.pages = pages
        self.redirects: dict[str, str] = {}
        self.asked: list[str] = []
        self.authorization: str | None = None
        self.address = ""


@contextmanager
def serving(site: Site) -> Iterator[Site]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            site.asked.append(self.path)
            if self.path in site.redirects:
                self.answer(302, b"", ("Location", site.redirects[self.path]))
            elif site.authorization not in (None, self.headers.get("Authorization")):
                self.answer(401, b"", ("WWW-Authenticate", 'Basic realm="camera"'))
            elif (page := site.pages.get(self.path)) is None:
                self.answer(404, b"")
            elif (span := self.headers.get("Range", "bytes=0-")) != "bytes=0-":
                first, _, last = span.removeprefix("bytes=").partition("-")
                self.answer(206, page[int(first) : int(last) + 1 if last else None])
            else:
                self.answer(200, page)

        def answer(self, code: int, content: bytes, *headers: tuple[str, str]) -> None:
            self.send_response(code)
            for name, text in (("Content-Length", str(len(content))), *headers):
                self.send_header(name, text)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        site.address = f"http://127.0.0.1:{server.server_address[1]}"
        try:
            yield site
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """It has a recording, and two segments of HLS."""
    samples = tone(48000, 2 * SEGMENT_S)[None]
    half = samples.shape[1] // 2
    pages = {"/a.wav": write_audio(tmp_path / "a.wav", "pcm_s16le", 48000, samples, "mono").read_bytes()}
    for number, part in enumerate((samples[:, :half], samples[:, half:])):
        path = write_audio(tmp_path / f"{number}.ts", "aac", 48000, part, "mono")
        pages[f"/{number}.ts"] = path.read_bytes()
    with serving(Site(pages)) as running:
        yield running


def hls(*segments: str, more: str = "") -> bytes:
    lines = "".join(f"#EXTINF:{SEGMENT_S},\n{segment}\n" for segment in segments)
    return (
        f"#EXTM3U\n#EXT-X-VERSION:4\n#EXT-X-TARGETDURATION:2\n#EXT-X-MEDIA-SEQUENCE:0\n"
        f"{more}{lines}#EXT-X-ENDLIST\n"
    ).encode()


async def seconds(address: str) -> float:
    blocks = await played(Stream(address, pace="fast"))
    return sum(len(block.samples) for block in blocks) / 48000


async def test_redirects_within_a_network_are_followed(site: Site) -> None:
    """Also several in a row, also relative ones, also to a list of HLS."""
    site.pages["/list.m3u8"] = hls("0.ts", "1.ts")
    site.redirects = {
        "/radio": "/further",
        "/further": f"{site.address}/a.wav",
        "/live": f"{site.address}/list.m3u8",
    }
    assert await seconds(f"{site.address}/radio") == pytest.approx(2 * SEGMENT_S)
    assert await seconds(f"{site.address}/live") == pytest.approx(2 * SEGMENT_S, abs=0.1)


@pytest.mark.parametrize(
    ("location", "words"),
    [
        (f"{HOME}/admin?reboot=1", r"it leads to http://10\.255\.255\.9:81; which is in the home"),
        ("http://169.254.169.254/latest", r"it leads to http://169\.254\.169\.254; which is in the home"),
        ("file:///etc/passwd", "only http and https are followed"),
        ("rtsp://10.255.255.9/cam", "only http and https are followed"),
        ("/radio", r"it leads to http://127\.0\.0\.1"),
    ],
)
async def test_a_redirect_that_is_not_followed(site: Site, location: str, words: str) -> None:
    """To another network, to another protocol, or in a circle: one line says where it leads."""
    site.redirects["/radio"] = location
    with pytest.raises(SourceError, match=words) as told:
        await Stream(f"{site.address}/radio").open()
    assert "reboot" not in str(told.value)
    assert len(site.asked) < 15


async def test_hls_is_heard(site: Site) -> None:
    """A list of lists, a segment that is redirected, one that is missing, and pieces of one file."""
    site.pages["/best.m3u8"] = hls("0.ts", "gone.ts", "moved.ts")
    site.pages["/list.m3u8"] = b"#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=64000\nbest.m3u8\n"
    site.redirects["/moved.ts"] = "/1.ts"
    assert await seconds(f"{site.address}/list.m3u8") == pytest.approx(2 * SEGMENT_S, abs=0.1)

    first, second = site.pages["/0.ts"], site.pages["/1.ts"]
    site.pages["/all.ts"] = first + second
    site.pages["/pieces.m3u8"] = hls(
        f"#EXT-X-BYTERANGE:{len(second)}@{len(first)}\nall.ts", f"#EXT-X-BYTERANGE:{len(first)}@0\nall.ts"
    )
    assert await seconds(f"{site.address}/pieces.m3u8") == pytest.approx(2 * SEGMENT_S, abs=0.1)


@pytest.mark.parametrize("piece", [f"{HOME}/0.ts", "moved.ts"])
@pytest.mark.parametrize("at", [0, 1])
async def test_hls_leads_nowhere_else(site: Site, piece: str, at: int) -> None:
    """A list, or a segment's redirect, that leads out of its network is an error; nothing is asked there."""
    site.redirects["/moved.ts"] = f"{HOME}/0.ts"
    segments = ["0.ts", "1.ts"]
    segments[at] = piece
    site.pages["/list.m3u8"] = hls(*segments)
    with pytest.raises(SourceError, match=r"it leads to http://10\.255\.255\.9:81; which is in the home"):
        await seconds(f"{site.address}/list.m3u8")


async def test_hls_that_is_encrypted(site: Site) -> None:
    """It cannot be heard, and one line says so."""
    site.pages["/key"] = bytes(16)
    site.pages["/list.m3u8"] = hls("0.ts", more='#EXT-X-KEY:METHOD=AES-128,URI="key"\n')
    with pytest.raises(SourceError, match="its HLS is encrypted"):
        await Stream(f"{site.address}/list.m3u8").open()


async def test_a_name_and_password_for_hls(site: Site) -> None:
    """They are used for the list, and for the segments that it names beside itself."""
    site.pages["/list.m3u8"] = hls("0.ts")
    site.authorization = "Basic " + base64.b64encode(b"admin:Hu sh").decode()
    address = site.address.replace("//", "//admin:Hu%20sh@")
    assert await seconds(f"{address}/list.m3u8") == pytest.approx(SEGMENT_S, abs=0.1)


async def test_a_list_at_a_file_address_is_not_followed(site: Site, tmp_path: Path) -> None:
    """`file://` opens a recording as a name does, and no list of others."""
    (tmp_path / "list.m3u8").write_bytes(hls("0.ts", "1.ts"))
    with pytest.raises(SourceError):
        await Stream(f"file://{tmp_path}/list.m3u8").open()
    source = Stream(f"file://{tmp_path}/a.wav")
    await source.open()
    await source.close()
    assert source.sample_rate == 48000
    assert not site.asked
