"""Known vulnerabilities of what is installed, by pip-audit; what it could not look up is not called safe.

    python -m tools.audit PIP_AUDIT

Exit codes: 0 none is known, 1 some are, 75 the data cannot be reached.
"""

from __future__ import annotations

import json
import subprocess
import sys
import sysconfig
from collections.abc import Mapping, Sequence
from typing import Any

FOUND = 1
NO_DATA = 75
OURS = "streamer"


def main(program: str) -> int:
    """Audit the environment of this interpreter by the pip-audit at `program`; returns the exit code."""
    command = [program, "--progress-spinner", "off", "--format", "json"]
    ended = subprocess.run(
        [*command, "--path", sysconfig.get_path("purelib")], capture_output=True, text=True, check=False
    )
    try:
        packages = json.loads(ended.stdout)["dependencies"]
    except ValueError:
        reason = (ended.stderr.strip().splitlines() or [f"exit code {ended.returncode}"])[-1]
        print(f"nothing was audited: the data cannot be reached: {reason[:200]}", file=sys.stderr)
        return NO_DATA
    code, lines = verdict(packages)
    print("\n".join(lines), file=sys.stderr if code == NO_DATA else sys.stdout)
    return code


def verdict(packages: Sequence[Mapping[str, Any]]) -> tuple[int, list[str]]:
    """Exit code and lines for pip-audit's list of packages, each with `vulns` or a `skip_reason`."""
    others = [package for package in packages if package["name"] != OURS]
    skipped = [package["name"] for package in others if "skip_reason" in package]
    if len(skipped) == len(others):
        return NO_DATA, [
            f"nothing was audited: the data has none of the {len(others)} packages; is it a mirror?"
        ]
    lines = [
        f"{package['name']} {package['version']}: {found['id']}, "
        f"mended in {', '.join(found['fix_versions']) or 'none'}"
        for package in others
        for found in package.get("vulns", [])
    ]
    code = FOUND if lines else 0
    if skipped:
        lines.append(f"not audited, since the data does not have them: {', '.join(skipped)}")
    n_audited = len(others) - len(skipped)
    lines.append(f"{n_audited} packages audited: {'see above' if code else 'no vulnerability is known'}")
    return code, lines


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
