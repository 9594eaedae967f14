"""The units are clean, protect what can be protected, and land in their places."""

from __future__ import annotations

import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.command import Outcome, outcome
from tests.mosquitto import HOST, Mosquitto

pytestmark = pytest.mark.slow

PROJECT = Path(__file__).parents[2]
UNITS = PROJECT / "systemd"


def systemd_analyze(*command: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["systemd-analyze", *command], capture_output=True, text=True, check=False, timeout=60
    )


@pytest.fixture(params=["cpu", "cuda"])
def unit(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, int]:
    """The unit, with its drop-ins, and how exposed it may be at most; its program is one that exists here."""
    path = tmp_path / "streamer.service"
    text = (UNITS / path.name).read_text()
    path.write_text(text.replace("/opt/streamer/bin/streamer", "/usr/bin/env streamer"))
    drop_ins = tmp_path / "streamer.service.d"
    drop_ins.mkdir()
    for name in ("password", "web-password", "alerts"):
        shutil.copy(UNITS / f"{name}.conf", drop_ins)
    if request.param == "cuda":
        shutil.copy(UNITS / "cuda.conf", drop_ins)
    return path, 16 if request.param == "cuda" else 15


def test_the_unit_is_clean(unit: tuple[Path, int]) -> None:
    """Every line of it is known to systemd."""
    done = systemd_analyze("verify", unit[0])
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_the_unit_of_a_capture_node_is_clean(tmp_path: Path) -> None:
    """So is the one for a machine that only captures, and it is as little exposed."""
    path = tmp_path / "streamer-capture.service"
    text = (UNITS / path.name).read_text()
    path.write_text(text.replace("/opt/streamer/bin/streamer", "/usr/bin/env streamer"))
    done = systemd_analyze("verify", path)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
    done = systemd_analyze("security", "--offline=true", "--threshold=25", path)
    assert done.returncode == 0, done.stdout


def test_the_unit_is_not_exposed(unit: tuple[Path, int]) -> None:
    """What a hole in the program would let others reach stays below the limit."""
    path, limit = unit
    done = systemd_analyze("security", "--offline=true", f"--threshold={limit}", path)
    assert done.returncode == 0, done.stdout


def test_every_line_is_explained() -> None:
    """The README says of each directive that protects what it protects."""
    said = (UNITS / "README.md").read_text()
    text = "".join(path.read_text() for path in [UNITS / "streamer.service", *UNITS.glob("*.conf")])
    names = {line.split("=")[0] for line in text.splitlines() if "=" in line and not line.startswith("#")}
    assert {name for name in names if f"`{name}" not in said} == set()


def service(*command: str, given: str = "") -> Outcome:
    """`given` comes from a pipe."""
    return outcome("service", *command, given=given)


@pytest.fixture
def debian(tmp_path: Path) -> Path:
    """A file system that looks like Debian."""
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/debian_version").write_text("12.5\n")
    return tmp_path


def test_install_and_uninstall(debian: Path) -> None:
    """Unit, drop-ins and configuration land in their places, are enabled, and go again; the settings stay."""
    root = f"--root={debian}"
    done = service("install", root, "--cuda", "--config", "configs/home.yaml")
    assert done.code == 0, done.out + done.err
    etc = debian / "etc"
    unit = etc / "systemd/system/streamer.service"
    assert (etc / "systemd/system/multi-user.target.wants/streamer.service").is_symlink()
    assert (etc / "systemd/system/streamer.service.d/cuda.conf").exists()
    assert sys.prefix in (etc / "systemd/system/streamer.service.d/program.conf").read_text()
    assert (etc / "streamer/streamer.yaml").read_text() == (PROJECT / "configs/home.yaml").read_text()
    done = service("uninstall", root)
    assert done.code == 0
    assert "the broker still has its states and devices" in done.err  # there is none
    assert not unit.exists()
    assert (etc / "streamer/streamer.yaml").exists()
    assert not (etc / "systemd/system/multi-user.target.wants/streamer.service").is_symlink()


def test_uninstalling_takes_the_devices_along(debian: Path, mosquitto: Mosquitto) -> None:
    """What the broker retains of it goes, of others it stays."""
    root, config = f"--root={debian}", debian / "mine.yaml"
    config.write_text(
        "node: pi\nsources: {yard: {command: [arecord]}}\nsounds: {dog: {labels: [Dog]}}\n"
        f"mqtt: {{host: {HOST}, port: {mosquitto.port}}}\n"
    )
    broker = ("-h", HOST, "-p", str(mosquitto.port))
    for topic in ("streamer/pi/status", "streamer/pi/yard/status", "streamer/loft/status"):
        subprocess.run(["mosquitto_pub", *broker, "-r", "-t", topic, "-m", "offline"], check=True)
    assert service("install", root, "--config", str(config)).code == 0
    done = service("uninstall", root)
    assert (done.code, done.err) == (0, "")
    assert "deleted 2 retained messages at the broker" in done.out
    command = ["mosquitto_sub", *broker, "-t", "streamer/#", "-F", "%t", "-W", "1"]
    left = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert left.stdout.split() == ["streamer/loft/status"]


def test_a_page_for_other_machines(debian: Path) -> None:
    """It needs a password, which root alone may read and the service gets; so are the addresses of alerts."""
    config, root = debian / "mine.yaml", f"--root={debian}"
    config.write_text(
        "sources: {yard: {command: [arecord]}}\nsounds: {dog: {labels: [Dog]}}\n"
        "web: {enabled: true, host: 0.0.0.0}\n"
    )
    done = service("install", root, f"--config={config}")
    assert done.code == 78
    assert done.err == (
        "streamer: web.host is 0.0.0.0, and there is no password: --page-password asks for one; "
        "nothing was done\n"
    )
    assert not (debian / "etc/systemd").exists()
    assert service("install", root, f"--config={config}", "--page-password", given="short").code == 78
    (debian / "etc/streamer").mkdir(exist_ok=True)
    (debian / "etc/streamer/alert-urls").write_text("phone ntfy://home/house\n")
    done = service("install", root, f"--config={config}", "--page-password", given="correct horse battery\n")
    assert done.code == 0, done.out + done.err
    assert "The page: http://0.0.0.0:8927/" in done.out
    password = debian / "etc/streamer/web-password"
    assert stat.S_IMODE(password.stat().st_mode) == 0o600
    assert password.read_text().startswith("scrypt$")
    drop_ins = debian / "etc/systemd/system/streamer.service.d"
    assert {"web-password.conf", "alerts.conf"} <= {path.name for path in drop_ins.iterdir()}


def test_files_that_the_service_does_not_find(debian: Path) -> None:
    """Relative ones and those in a home directory are refused, a line each, and nothing is written."""
    config = debian / "mine.yaml"
    config.write_text(
        "sources:\n"
        "  file: {stream: recordings/evening.flac}\n"
        "  home: {stream: /home/me/evening.flac}\n"
        "  fine: {stream: /srv/evening.flac}\n"
        "  camera: {stream: 'rtsp://camera/sound'}\n"
        "  program: {command: [bin/record, -v]}\n"
        "  known: {command: [arecord, -q]}\n"
        "sounds: {dog: {labels: [Dog]}}\n"
        "model: {path: ./mymodel}\n"
        "mqtt: {password_file: ~/secret, username: me, tls: {ca_file: ca.pem}}\n"
    )
    before = sorted(debian.rglob("*"))
    done = service("install", f"--root={debian}", f"--config={config}")
    assert done.code == 78
    lines = done.err.splitlines()
    keys = ["sources.file.stream", "sources.home.stream", "sources.program.command", "model.path"]
    keys += ["mqtt.password_file", "mqtt.tls.ca_file"]
    assert [line.removeprefix("streamer: ").split(": ")[1] for line in lines] == keys
    assert [line.endswith("which the service does not see") for line in lines] == [
        key in ("sources.home.stream", "mqtt.password_file") for key in keys
    ]
    assert sorted(debian.rglob("*")) == before


def test_it_refuses_politely(tmp_path: Path, debian: Path) -> None:
    """No Debian, no systemd, no configuration, a wrong one: one line, and nothing is written."""
    (debian / "wrong.yaml").write_text("node: 1\n")
    empty = tmp_path / "empty"
    empty.mkdir()
    before = sorted(debian.rglob("*"))
    for command, code, words in [
        (("install", f"--root={empty}"), 64, "no Debian machine"),
        (("install", f"--root={debian}"), 64, "--config"),
        (("install", f"--root={debian}", f"--config={debian}/wrong.yaml"), 78, "sources: missing"),
        (("uninstall", f"--root={debian}"), 64, "nothing is installed"),
    ]:
        done = service(*command)
        assert done.code == code, done.err
        assert words in done.err
    assert sorted(debian.rglob("*")) == before
