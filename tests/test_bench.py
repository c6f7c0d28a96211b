"""scripts/bench at its smallest sizes: it must run when somebody wants to measure. Its figures are not looked at."""

import json
import subprocess
from pathlib import Path

import pytest

BENCH = Path(__file__).resolve().parent.parent / "scripts" / "bench"

pytestmark = [pytest.mark.slow, pytest.mark.timeout(320)]


def benched(directory: Path, *argv: str) -> dict[str, dict[str, object]]:
    report = directory / "report.json"
    done = subprocess.run([BENCH, *argv, "--least", "--json", report], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    figures: dict[str, dict[str, object]] = json.loads(report.read_text())
    return figures


def test_without_a_name_it_measures_what_matters_most_and_says_on_what(tmp_path: Path) -> None:
    report = benched(tmp_path, "--rows", "300")
    assert list(report) == [
        "machine",
        "scale",
        "receiving",
        "overload",
        "pipeline",
        "sweep",
        "lists",
        "starting",
        "idle",
    ]
    assert report["receiving"]["rows"] == 300
    assert set(report["machine"]) == {"machine", "busy with", "versions", "program"}
    assert {"noop", "receiver", "believing", "filled", "naive"} <= report["receiving"].keys()


@pytest.mark.parametrize(
    ("name", "option"), [("actions", "count"), ("prune", "rows"), ("replays", "rows"), ("stream", "seconds")]
)
def test_each_other_measurement_has_a_name(name: str, option: str, tmp_path: Path) -> None:
    report = benched(tmp_path, name)
    assert list(report) == ["machine", "scale", name]
    assert option in report[name]


def test_without_wrk_it_sends_the_callbacks_itself(tmp_path: Path) -> None:
    done = subprocess.run(
        [BENCH, "receiving", "--least", "--json", tmp_path / "report.json"],
        env={"PATH": _path_without_wrk(tmp_path)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    runs = json.loads((tmp_path / "report.json").read_text())["receiving"]["runs"]
    assert all(run["requests"] > 0 and run["broken"] == 0 for each in runs["receiver"].values() for run in each)


def _path_without_wrk(directory: Path) -> str:
    """The few programs that the script itself needs, and nothing to compare with."""
    programs = directory / "programs"
    programs.mkdir()
    for name in ("sh", "dirname", "env"):
        found = next(path for path in (Path("/bin") / name, Path("/usr/bin") / name) if path.exists())
        (programs / name).symlink_to(found)
    return str(programs)
