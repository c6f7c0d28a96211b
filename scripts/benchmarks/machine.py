"""What this machine is, and what a process on it uses."""

import os
import platform
import shutil
import socket
import sqlite3
import subprocess
from importlib.metadata import version
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")


def machine() -> dict[str, str]:
    """What to name beside every figure."""
    return {
        "machine": f"{os.cpu_count()} cores, {_model()}, {_memory()}, {platform.system()} {platform.release()}",
        "busy with": f"load {os.getloadavg()[0]:.2f} before the first measurement",
        "versions": ", ".join(
            [
                f"Python {platform.python_version()}",
                f"SQLite {sqlite3.sqlite_version}",
                *(f"{name} {version(name)}" for name in ("starlette", "uvicorn", "uvloop", "httptools", "httpx")),
            ]
        ),
        "program": _commit(),
    }


def _model() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")


def _memory() -> str:
    total = next(line for line in Path("/proc/meminfo").read_text().splitlines() if line.startswith("MemTotal"))
    return f"{int(total.split()[1]) / 2**20:.0f} GiB"


def _commit() -> str:
    said = [version("receiver")]
    if shutil.which("git"):
        git = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
        said.append(subprocess.run(git, capture_output=True, text=True).stdout.strip())
    return " ".join(said).strip()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def family(pid: int) -> list[int]:
    """A process and all that it started, down to the last."""
    parents: dict[int, list[int]] = {}
    for each in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = each.read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it ended meanwhile
        parents.setdefault(int(fields[1]), []).append(int(each.parent.name))
    found = [pid]
    for known in found:
        found += parents.get(known, [])
    return found


def used(pid: int) -> float:
    """Processor seconds of a process and all that it started, ended ones included, so far."""
    seconds = 0
    for each in family(pid):
        try:
            fields = Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        seconds += sum(map(int, fields[11:15]))
    return seconds / TICKS


def used_by_loop(pid: int) -> float:
    """Processor seconds of a process's first thread so far."""
    fields = Path(f"/proc/{pid}/task/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def resident(pid: int, what: str = "VmRSS") -> float:
    """VmRSS (now) or VmHWM (the most ever) of a process, in MiB."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(what))
