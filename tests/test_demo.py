"""The demo: it exits 0, and tells the story that the manual shows."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from documents import TOPICS


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
