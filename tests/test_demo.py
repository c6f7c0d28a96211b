"""The demo: it exits 0, and tells the story that the manual shows."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from documents import ROOT, TOPICS

HOW: dict[str, Any] = {"capture_output": True, "text": True, "check": True}


def story(text: str) -> list[str]:
    """The lines of a telling without what differs from run to run: times, ids, ports, digests and folders."""
    text = text[: text.index("All of it happened.")]
    for pattern in (
        r"\d{4}-\d\d-\d\dT[\d:.]+Z",
        r"[0-9a-f]{8}-[0-9a-f-]{27}",
        r"[^\s']*receiver-demo-\w+",
        r"[0-9a-f]{16,}",
    ):
        text = re.sub(pattern, "*", text)
    text = re.sub(r"\d{16,}|127\.0\.0\.1:\d+", "*", text)
    return [re.sub(r"^ +\d+\.\d s", "", line).strip() for line in text.splitlines() if line.strip()]


@pytest.mark.slow
def test_the_demo_succeeds_and_tells_what_the_manual_shows(tmp_path: Path) -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "receiver", "demo"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    shown = re.search(r"`scripts/demo` prints:\n\n```\n(.*?)```", TOPICS["how-it-works"], re.DOTALL)
    assert shown is not None
    assert story(ran.stdout) == story(shown.group(1))


STUB = """#!/bin/sh
echo "$0 $*" >> {calls}
mkdir -p .venv/bin
[ -e .venv/bin/python ] || cp "$0" .venv/bin/python
case "$*" in *"pip install"*) cp "$0" .venv/bin/receiver;; esac
"""
"""A Python that notes what it is asked to do, and makes what installing would make."""


def test_the_script_says_that_it_installs_and_installs_only_what_running_needs(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "scripts", tmp_path / "scripts")
    calls, python = tmp_path / "calls", tmp_path / "python"
    python.write_text(STUB.format(calls=calls))
    python.chmod(0o700)
    ran = [
        subprocess.run([tmp_path / "scripts" / "demo"], env={"PATH": os.environ["PATH"], "PYTHON": str(python)}, **HOW)
        for _ in range(2)
    ]
    assert ran[0].stdout == "First receiver is installed into .venv, once: this may take a minute.\n"
    assert (ran[1].stdout, ran[1].stderr) == ("", "")
    installed = [line for line in calls.read_text().splitlines() if "pip install" in line]
    assert [line.partition("pip install")[2].split()[-1] for line in installed] == ["scripts/running.lock", "."]
    assert "--require-hashes" in installed[0]
    assert [line.partition("receiver ")[2] for line in calls.read_text().splitlines()].count("demo") == 2
