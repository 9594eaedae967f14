"""What could not be audited is never called safe."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools import audit

SAFE = {"name": "attrs", "version": "26.1.0", "vulns": []}
UNSAFE = {
    "name": "urllib3",
    "version": "1.25",
    "vulns": [{"id": "PYSEC-2021-108", "fix_versions": ["1.26.5"], "aliases": [], "description": "…"}],
}
UNKNOWN = {
    "name": "arrow",
    "skip_reason": "Dependency not found on PyPI and could not be audited: arrow (1.4.0)",
}
OURS = {"name": "streamer", "skip_reason": "distribution marked as editable"}


@pytest.mark.parametrize(
    ("packages", "code", "words"),
    [
        ([SAFE, OURS], 0, "1 packages audited: no vulnerability is known"),
        ([SAFE, UNSAFE], 1, "urllib3 1.25: PYSEC-2021-108, mended in 1.26.5"),
        ([SAFE, UNKNOWN], 0, "not audited, since the data does not have them: arrow"),
        ([UNKNOWN, OURS], 75, "nothing was audited"),
        ([], 75, "nothing was audited"),
    ],
)
def test_the_verdict(packages: list[dict[str, object]], code: int, words: str) -> None:
    """A package that the data does not have is named; where it has none, the audit has failed."""
    got, lines = audit.verdict(packages)
    assert got == code
    assert words in "\n".join(lines)


def test_data_that_cannot_be_reached(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A tool that ends without a report is one line with its reason, and a code of its own."""
    tool = tmp_path / "pip-audit"
    tool.write_text("#!/bin/sh\necho Traceback >&2\necho 'ConnectionError: no route to host' >&2\nexit 1\n")
    tool.chmod(0o755)
    assert audit.main(str(tool)) == 75
    said = capfd.readouterr()
    assert said.err == (
        "nothing was audited: the data cannot be reached: ConnectionError: no route to host\n"
    )
    assert said.out == ""
