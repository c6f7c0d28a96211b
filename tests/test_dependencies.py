"""What the program is built on: every dependency has bounds, and a locked version with hashes that is within them."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
NAMED = [
    Requirement(each)
    for each in (
        *PROJECT["project"]["dependencies"],
        *PROJECT["dependency-groups"]["dev"],
        *PROJECT["build-system"]["requires"],
    )
]
ENTRY = re.compile(r"^([a-z0-9-]+)==([^\s;]+)[^\n]*((?:\\\n +--hash=sha256:[0-9a-f]{64} ?)+)$", re.MULTILINE)
LOCKED = {name: version for name, version, _ in ENTRY.findall((ROOT / "scripts" / "requirements.lock").read_text())}


@pytest.mark.parametrize("named", NAMED, ids=str)
def test_a_dependency_has_both_bounds_and_its_locked_version_is_within_them(named: Requirement) -> None:
    assert {each.operator for each in named.specifier} == {">=", "<"}
    assert named.specifier.contains(LOCKED[canonicalize_name(named.name)])
    assert not named.extras


def test_whatever_is_locked_has_hashes_and_nothing_else_stands_in_the_file() -> None:
    rest = ENTRY.sub("", (ROOT / "scripts" / "requirements.lock").read_text())
    assert [line for line in rest.splitlines() if line and not line.startswith("#")] == []
    assert "scripts/lock" in rest
