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
        *(each for each in PROJECT["dependency-groups"]["dev"] if isinstance(each, str)),
        *PROJECT["dependency-groups"]["build"],
        *PROJECT["build-system"]["requires"],
    )
]
ENTRY = re.compile(r"^([a-z0-9-]+)==([^\s;]+)[^\n]*((?:\\\n +--hash=sha256:[0-9a-f]{64} ?)+)$", re.MULTILINE)
LOCKS = {name: (ROOT / "scripts" / name).read_text() for name in ("requirements.lock", "running.lock")}
LOCKED, RUNNING = ({name: version for name, version, _ in ENTRY.findall(text)} for text in LOCKS.values())


@pytest.mark.parametrize("named", NAMED, ids=str)
def test_a_dependency_has_both_bounds_and_its_locked_version_is_within_them(named: Requirement) -> None:
    assert {each.operator for each in named.specifier} == {">=", "<"}
    assert named.specifier.contains(LOCKED[canonicalize_name(named.name)])
    assert not named.extras


def test_what_an_extra_needs_is_bounded_and_the_tests_have_it() -> None:
    named = [Requirement(each) for extra in PROJECT["project"]["optional-dependencies"].values() for each in extra]
    assert named
    for each in named:
        assert {bound.operator for bound in each.specifier} == {">=", "<"}
        assert each.specifier.contains(LOCKED[canonicalize_name(each.name)])
        assert canonicalize_name(each.name) not in RUNNING


def test_what_running_needs_is_locked_in_the_same_versions() -> None:
    assert RUNNING.items() < LOCKED.items()
    assert {canonicalize_name(Requirement(each).name) for each in PROJECT["project"]["dependencies"]} < RUNNING.keys()
    assert "pytest" not in RUNNING


@pytest.mark.parametrize("text", LOCKS.values(), ids=LOCKS)
def test_whatever_is_locked_has_hashes_and_nothing_else_stands_in_the_file(text: str) -> None:
    rest = ENTRY.sub("", text)
    assert [line for line in rest.splitlines() if line and not line.startswith("#")] == []
    assert "scripts/lock" in rest
