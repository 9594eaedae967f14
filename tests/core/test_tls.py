"""Whom the other end of a connection is believed to be."""

from __future__ import annotations

import ssl
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest

from streamer.core.tls import trusting


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An authority as one makes it by hand, without a key usage, and a certificate for localhost by it."""
    folder = tmp_path_factory.mktemp("tls")
    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    (folder / "names").write_text("subjectAltName=DNS:localhost\n")
    signed = ("-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-extfile", "names")
    for command in (
        ("req", "-x509", *key, "-keyout", "ca.key", "-out", "ca.pem", "-days", "2", "-subj", "/CN=home"),
        ("req", *key, "-keyout", "key.pem", "-out", "request.pem", "-subj", "/CN=localhost"),
        ("x509", "-req", "-in", "request.pem", *signed, "-out", "certificate.pem"),
    ):
        subprocess.run(["openssl", *command], cwd=folder, check=True, capture_output=True)
    return folder


def _shake_hands(folder: Path, client_context: ssl.SSLContext, name: str) -> None:
    server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_context.load_cert_chain(folder / "certificate.pem", folder / "key.pem")
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = client_context.wrap_bio(to_client, to_server, server_hostname=name)
    server = server_context.wrap_bio(to_server, to_client, server_side=True)
    for end in (client, server):
        with suppress(ssl.SSLWantReadError):
            end.do_handshake()
    client.do_handshake()


def test_an_authority_made_by_hand(folder: Path) -> None:
    """It is trusted on every Python, once it is named; 3.13 would refuse it by default."""
    _shake_hands(folder, trusting(folder / "ca.pem"), "localhost")


def test_who_is_not_believed(folder: Path) -> None:
    """Another host name, and an authority that nobody named."""
    with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
        _shake_hands(folder, trusting(folder / "ca.pem"), "other.example")
    with pytest.raises(ssl.SSLCertVerificationError, match=r"unable to get local issuer|self-signed"):
        _shake_hands(folder, trusting(None), "localhost")
