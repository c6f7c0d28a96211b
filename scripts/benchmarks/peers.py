"""The packages of other programs, in a virtual environment of their own."""

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

HOME = Path(__file__).resolve().parents[2] / ".bench"
PACKAGES = ("hookspool", "redis[hiredis]", "asyncpg", "py-spy")
OURS = ("starlette", "uvicorn", "uvloop", "httptools")
"""In the versions that we run ourselves, for what is compared is not the server."""


def install() -> None:
    """Makes the environment, unless it is as it should be; says so where that cannot be done."""
    if python() is not None:
        return
    pip = [str(HOME / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *_wanted()]
    for command in ([sys.executable, "-m", "venv", "--clear", str(HOME)], pip):
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            print(f"the packages of other programs cannot be installed: {done.stderr.strip().splitlines()[-1]}")
            return
    _installed().write_text("\n".join(_wanted()))


def python() -> Path | None:
    """The interpreter that has them, if they are installed."""
    return program("python")


def program(name: str) -> Path | None:
    """A command of one of them."""
    there = _installed().exists() and _installed().read_text().split() == _wanted()
    return HOME / "bin" / name if there else None


def _wanted() -> list[str]:
    return [*PACKAGES, *(f"{name}=={version(name)}" for name in OURS)]


def _installed() -> Path:
    return HOME / "installed"
