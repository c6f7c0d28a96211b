"""What Python actions are given and may raise, as their authors meet it."""

import copy
import json
import pickle
import subprocess
import sys
import zipfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from receiver.events import LONGEST_WAIT, Event, Result, Retry, Stop, TaskError
from receiver.model import rules
from receiver.testing import make_event

ROOT = Path(__file__).parent.parent
HEAVY = ("starlette", "httpx", "sqlite3", "sqlite_utils", "click", "rich", "uvicorn", "structlog", "pytest")

DOCUMENT: dict[str, Any] = {
    "type": "task.failed",
    "id": "019a0000-0000-7000-8000-00000000000e",
    "time": "2026-11-22T08:00:00.250Z",
    "source": "callback",
    "confirmed": True,
    "task": {
        "id": "019a0000-0000-7000-8000-000000000001",
        "kind": "model",
        "target": "google/veo3.1-pro",
        "labels": {"project": "shop"},
        "provider_task_id": "2124653831103918080",
        "state": "failed",
        "submitted_at": "2026-11-22T07:59:00.000Z",
        "ended_at": None,
    },
    "results": [{"url": "https://h/x.png", "type": "png", "text": None, "node_id": "9", "file": "results/x.png"}],
    "error": {"code": "1501", "name": "CONTENT_REFUSED", "message": "no"},
    "usage": {"taskCostTime": "12"},
    "action": {"id": 7, "name": "index", "generation": 2, "attempt": 3},
    "idempotency_key": "019a0000-0000-7000-8000-000000000001:index:2",
}


def without(*path: str) -> dict[str, Any]:
    document = copy.deepcopy(DOCUMENT)
    *tables, last = path
    place = document
    for name in tables:
        place = place[name]
    del place[last]
    return document


def replaced(value: object, *path: str) -> dict[str, Any]:
    document = without(*path)
    *tables, last = path
    place = document
    for name in tables:
        place = place[name]
    place[last] = value
    return document


# ---- Event


def test_an_event_is_the_document() -> None:
    event = Event(DOCUMENT)
    assert isinstance(event, dict)
    assert event == DOCUMENT
    assert event["task"]["id"] == DOCUMENT["task"]["id"]
    assert json.loads(json.dumps(event)) == DOCUMENT
    assert msgspec.json.decode(msgspec.json.encode(event)) == DOCUMENT


def test_an_event_has_typed_attributes() -> None:
    event = Event(DOCUMENT)
    assert (event.type, event.id, event.source, event.confirmed) == (
        "task.failed",
        "019a0000-0000-7000-8000-00000000000e",
        "callback",
        True,
    )
    assert event.time == datetime(2026, 11, 22, 8, 0, 0, 250_000, UTC)
    assert event.time.utcoffset() == timedelta(0)
    assert event.task.labels == {"project": "shop"}
    assert (event.task.kind, event.task.target, event.task.state) == ("model", "google/veo3.1-pro", "failed")
    assert event.task.provider_task_id == "2124653831103918080"
    assert (event.task.submitted_at, event.task.ended_at) == (datetime(2026, 11, 22, 7, 59, tzinfo=UTC), None)
    assert event.results == [Result(url="https://h/x.png", type="png", node_id="9", file="results/x.png")]
    assert event.error == TaskError(code="1501", name="CONTENT_REFUSED", message="no")
    assert event.usage == {"taskCostTime": "12"}
    assert (event.action.id, event.action.name, event.action.generation, event.action.attempt) == (7, "index", 2, 3)
    assert event.idempotency_key == DOCUMENT["idempotency_key"]


def test_an_event_has_an_attribute_for_every_field_that_an_action_receives() -> None:
    event = make_event("failed", results=[{"text": "a poem"}])
    assert [name for name in event if not hasattr(event, name)] == []
    assert set(event["task"]) == set(event.task.__struct_fields__)
    assert set(event["action"]) == set(event.action.__struct_fields__)
    assert set(event["results"][0]) == set(Result.__struct_fields__)
    assert set(event["error"]) == set(TaskError.__struct_fields__)


def test_fields_and_words_of_a_later_version_are_kept_and_do_no_harm() -> None:
    later = replaced("archived", "task", "kind")
    later |= {"type": "task.expired", "source": "stars", "weather": {"rain": True}}
    later["task"]["mood"] = "good"
    later["results"][0]["width"] = 640
    event = Event(later)
    assert event == later
    assert event["weather"]["rain"]
    assert (event.type, event.source, event.task.kind) == ("task.expired", "stars", "archived")
    assert event.results[0].file == "results/x.png"


@pytest.mark.parametrize(
    ("document", "problem"),
    [
        ({}, "object missing required field type"),
        (without("task", "id"), "task: object missing required field id"),
        (replaced(7, "task", "id"), "task.id: expected str, got int"),
        (replaced(None, "task", "labels"), "task.labels: expected object, got null"),
        (replaced("yesterday", "time"), "time: invalid RFC3339 encoded datetime"),
        (replaced("2026-11-22T08:00:00", "time"), "time: expected datetime with a timezone component"),
        (replaced([1], "results"), "results[0]: expected object, got int"),
    ],
)
def test_what_is_no_event_is_refused_with_the_field(document: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError, match=r"^not an event document: ") as caught:
        Event(document)
    assert str(caught.value) == f"not an event document: {problem}"


def test_attributes_are_fixed_and_a_changed_document_does_not_change_them() -> None:
    event = Event(DOCUMENT)
    with pytest.raises(AttributeError):
        event.task.state = "succeeded"  # type: ignore[misc]
    with pytest.raises(AttributeError):
        event.type = "task.succeeded"  # type: ignore[misc]
    event["type"] = "task.succeeded"
    assert event.type == "task.failed"


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda event: pickle.loads(pickle.dumps(event))])
def test_a_copy_of_an_event_is_an_event(copied: Any) -> None:
    event = Event(DOCUMENT)
    again = copied(event)
    assert again == event
    assert type(again) is Event
    assert again.task == event.task
    assert again is not event


# ---- Retry and Stop


@pytest.mark.parametrize(
    ("after", "seconds"), [(None, None), (0, 0.0), (1.5, 1.5), (86400, 86400.0), (timedelta(minutes=1), 60.0)]
)
def test_a_wait_is_seconds_or_a_timedelta(after: float | timedelta | None, seconds: float | None) -> None:
    assert Retry(after=after).wait(1000.0) == seconds


def test_a_wait_until_a_moment_is_measured_when_it_is_asked() -> None:
    retry = Retry("later", after=datetime.fromtimestamp(1060, UTC))
    assert (retry.wait(1000.0), retry.wait(1090.0)) == (60.0, 0.0)
    with pytest.raises(ValueError, match="from 0 to 86400 seconds, got 86401"):
        Retry(after=datetime.fromtimestamp(87401, UTC)).wait(1000.0)


@pytest.mark.parametrize(
    ("after", "problem"),
    [
        (-1, "`after` must be from 0 to 86400 seconds, got -1"),
        (86401, "`after` must be from 0 to 86400 seconds, got 86401"),
        (float("nan"), "`after` must be from 0 to 86400 seconds, got nan"),
        (10**400, "`after` must be from 0 to 86400 seconds, got inf"),
        (timedelta(days=2), "`after` must be from 0 to 86400 seconds, got 172800"),
        (True, "`after` must be seconds, a timedelta or a datetime, got bool"),
        ("30", "`after` must be seconds, a timedelta or a datetime, got str"),
        (datetime(2026, 11, 22), "`after` is a datetime without a time zone"),
    ],
)
def test_a_wait_that_is_none_is_refused_where_it_is_written(after: Any, problem: str) -> None:
    with pytest.raises(ValueError, match=r"^Retry: ") as caught:
        Retry("later", after=after)
    assert problem in str(caught.value)


class Busy(Retry):
    """A kind of Retry that says its wait by itself."""

    def __init__(self, after: float) -> None:
        self.after = after


@pytest.mark.parametrize("after", [-1.0, float("nan"), float("inf"), 1e9])
def test_a_wait_that_was_not_seen_where_it_was_written_is_refused_when_it_is_asked(after: float) -> None:
    assert Busy(30).wait(1000.0) == 30
    with pytest.raises(ValueError, match=r"^Retry: `after` must be from 0 to 86400 seconds"):
        Busy(after).wait(1000.0)


def test_a_wait_in_the_place_of_the_reason_is_refused_with_the_remedy() -> None:
    with pytest.raises(ValueError, match="the reason must be a text, got int; a wait is `after=`"):
        Retry(30)  # type: ignore[arg-type]


def test_the_longest_wait_is_what_the_dispatcher_allows() -> None:
    assert LONGEST_WAIT == rules.LINKS_LIVE


def test_the_reasons_are_what_the_exceptions_say() -> None:
    assert (str(Retry("busy", after=1)), str(Stop("gone"))) == ("busy", "gone")


# ---- as a package


def test_importing_the_events_loads_nothing_heavy() -> None:
    script = f"import sys, receiver.events; sys.exit(' '.join(name for name in {HEAVY} if name in sys.modules))"
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (ended.stderr, ended.returncode) == ("\n", 1)


@pytest.mark.slow
def test_the_wheel_carries_the_types_and_all_that_is_not_python(tmp_path: Path) -> None:
    built = subprocess.run(
        [sys.executable, "-c", f"from hatchling.build import build_wheel; print(build_wheel({str(tmp_path)!r}))"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    carried = set(zipfile.ZipFile(tmp_path / built.stdout.split()[-1]).namelist())
    assert "receiver/py.typed" in carried
    files = [path for path in (ROOT / "receiver").rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    assert {path.relative_to(ROOT).as_posix() for path in files} - carried == set()


USERS = """
from receiver.events import Event, Retry, Stop
from receiver.testing import ActionRunner, Outcome, make_event

def index(event: Event) -> None:
    reveal_type(event.time)
    reveal_type(event.task.labels)
    reveal_type([result.file for result in event.results])
    reveal_type(event.error)
    event["task"]["id"].upper()
    if event.task.ended_at is None:
        raise Retry(after=30)
    raise Stop("no")

def test_it(run_action: ActionRunner) -> None:
    outcome: Outcome = run_action("index", make_event("failed", labels={"a": "b"}), timeout=3)
    reveal_type(outcome.retry_after)
    outcome.detail["returned"]["n"]
"""


@pytest.mark.slow
def test_strict_types_are_seen_by_those_who_import_it(tmp_path: Path) -> None:
    (tmp_path / "hooks.py").write_text(USERS)
    checked = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(ROOT / ".mypy_cache"), "hooks.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    revealed = [line.partition("Revealed type is ")[2].strip('"') for line in checked.stdout.splitlines()[:-1]]
    assert checked.returncode == 0, checked.stdout
    assert revealed == [
        "datetime.datetime",
        "dict[str, str]",
        "list[str | None]",
        "receiver.model.records.TaskError | None",
        "float | None",
    ]
