"""What a daemon writes and whom it calls, as the kernel sees it.

`make faults` runs it, the suite does not: strace is not allowed everywhere.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.daemon import DEADLINE_S
from tests.faults.program import write
from tests.faults.test_history import BEEPS

CALLS = "open,openat,openat2,creat,rename,renameat,renameat2,connect,sendto"
OPENED = re.compile(r'"([^"]+)"[^"]*(?:O_WRONLY|O_RDWR)')
CALLED = re.compile(r'AF_INET6?, .*inet_(?:addr|pton)\((?:AF_INET6, )?"([^"]+)"')
RENAMED = re.compile(r'rename.*"([^"]+)"')
ALLOWED = (
    re.compile(r"/dev/(null|shm/\w+)|/proc/self/oom_score_adj"),
    re.compile(r".*/(\.?announced\.json(\.part)?|cursors|lock|events\.sqlite3(-wal|-shm|-journal)?)"),
    re.compile(r".*/scores/room/\w+\.scores"),
    re.compile(r".*/__pycache__/[\w.-]+"),
)


def test_no_audio_is_written_and_nobody_is_called(tmp_path: Path) -> None:
    """With clips and MQTT off, the daemon, the model and all they start write the two logs and locks."""
    seconds = float(os.environ.get("TRACED_S", "600"))
    config = write(tmp_path, {"room": {"command": [sys.executable, "-c", BEEPS]}})
    trace, state, temporary = tmp_path / "trace", tmp_path / "state", tmp_path / "tmp"
    temporary.mkdir()
    process = subprocess.Popen(
        [
            *("strace", "-f", "-qq", "-e", f"trace={CALLS}", "-o", str(trace)),
            *(sys.executable, "-m", "streamer", "run", "--config", str(config)),
        ],
        env={**os.environ, "STATE_DIRECTORY": str(state), "TMPDIR": str(temporary)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        time.sleep(seconds)
        assert process.poll() is None
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(DEADLINE_S)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    calls = trace.read_text(errors="replace").splitlines()
    written = {found[1] for call in calls for found in [OPENED.search(call) or RENAMED.search(call)] if found}
    assert any(path.endswith(".scores") for path in written)
    # Python's `tempfile` tries its folder with a file of four bytes, which it deletes at once.
    others = {path for path in written if not any(one.fullmatch(path) for one in ALLOWED)}
    assert {path for path in others if Path(path).parent != temporary} == set()
    assert list(temporary.iterdir()) == []
    assert {found[1] for call in calls if (found := CALLED.search(call))} <= {"127.0.0.1", "::1"}
    magic = (b"fLaC", b"RIFF", b"OggS")
    files = [path for path in state.rglob("*") if path.is_file()]
    assert files
    assert not [path for path in files if any(one in path.read_bytes() for one in magic)]
