"""What is installed by its hash is what the project asks for, in the versions that were tested."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
LOCKED = (ROOT / "requirements.txt").read_text(encoding="utf-8")
ENTRY = re.compile(
    r"^([a-z0-9-]+)==(\S+?)(?: ; [^\\]+)?((?: \\\n    --hash=sha256:[0-9a-f]{64})+)$", re.MULTILINE
)


def test_each_line_is_a_version_with_hashes() -> None:
    """Nothing but names, versions and SHA-256: no address of an index, no package without its hash."""
    rest = ENTRY.sub("", "\n".join(line for line in LOCKED.splitlines() if not line.startswith("#")))
    assert not rest.strip()
    assert "://" not in LOCKED


def test_it_holds_what_the_project_needs() -> None:
    """Each dependency of the light installation and of its build is there; `make lock` after a change."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    versions = {name: version for name, version, _ in ENTRY.findall(LOCKED)}
    for text in [*project["project"]["dependencies"], *project["build-system"]["requires"]]:
        needed = Requirement(text)
        assert needed.specifier.contains(versions[canonicalize_name(needed.name)]), text


def test_versions_are_those_that_were_tested() -> None:
    """Where constraints.txt names a package, it is the same version."""
    constraints = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    tested = dict(re.findall(r"^([A-Za-z0-9._-]+)==(\S+)$", constraints, re.MULTILINE))
    tested = {canonicalize_name(name): version for name, version in tested.items()}
    locked = {name: version for name, version, _ in ENTRY.findall(LOCKED)}
    assert {name: version for name, version in locked.items() if tested.get(name, version) != version} == {}
    assert len(tested.keys() & locked.keys()) > 40
