"""`receiver actions test`: one action of the settings, once and now."""

import json
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result
from msgspec.structs import replace

from receiver.actions.settings import PythonDefinition
from receiver.cli import main
from receiver.events import Event, Retry, Stop
from receiver.model.definitions import ActionKind
from receiver.rehearse import fitting_event
from receiver.testing import make_event

SECRET = "whsec_c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0"
API_KEY = "0123456789abcdef0123456789abcdef"


def index(event: Event) -> dict[str, object]:
    if event.error is not None:
        raise Stop(f"{event.error.message}, {API_KEY}")
    if "later" in event.task.labels:
        raise Retry("not yet", after=30)
    urls = [result.url for result in event.results]
    return {"target": event.task.target, "labels": event.task.labels, "urls": urls, "secret": SECRET}


class Shell:
    """Somebody at a shell beside a receiver.toml, with no server anywhere."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        (directory / "receiver.toml").write_text(
            f"""
            database = "sqlite:///{directory}/receiver.db"
            [[actions]]
            name = "keep-files"
            kind = "download"
            directory = "{directory}/results"
            [[actions]]
            name = "index"
            kind = "python"
            function = "{__name__}:index"
            on = ["failed", "succeeded"]
            when = {{ labels = {{ project = "shop" }}, target = "google/*" }}
            [[actions]]
            name = "on-failure"
            kind = "command"
            command = ["cat"]
            on = ["failed", "rejected"]
            [[actions]]
            name = "tell"
            kind = "http"
            url = "https://10.0.0.1/hook"
            secret = "{SECRET}"
            """
        )

    def __call__(self, *words: str, code: int = 0, stdin: str | None = None, **env: str) -> Result:
        settings = {"RECEIVER_CONFIG": str(self.directory / "receiver.toml"), "RUNNINGHUB_API_KEY": API_KEY, **env}
        result = CliRunner().invoke(main, ("actions", "test", *words), env=settings, input=stdin)
        assert result.exit_code == code, result.output
        return result

    def json(self, *words: str, code: int = 0, stdin: str | None = None) -> dict[str, Any]:
        told: dict[str, Any] = json.loads(self(*words, "--json", code=code, stdin=stdin).stdout)
        return told


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path)


def test_what_happened_is_told(shell: Shell) -> None:
    result = shell("index")
    rows = dict(line.split(None, 1) for line in result.stdout.splitlines() if not line.startswith("idempotency"))
    assert rows["action"] == "index (python)"
    assert rows["event"] == "task.succeeded of google/test"
    assert rows["state"] == "done"
    assert float(rows["seconds"]) < 10
    assert "idempotency key  test:" in result.stdout
    assert '"labels":{"project":"shop"}' in rows["returned"]
    assert result.stderr == ""


@pytest.mark.parametrize(
    ("words", "state", "reason", "wait"),
    [
        (("--on", "failed"), "dead", "made up for a test, [secret]", None),
        (("--label", "later=1"), "retry", "not yet", 30.0),
    ],
)
def test_a_failure_ends_with_1_and_says_what_would_come_of_it(
    shell: Shell, words: tuple[str, ...], state: str, reason: str, wait: float | None
) -> None:
    told = shell.json("index", *words, code=1)
    assert (told["state"], told["reason"], told["retry_after"]) == (state, reason, wait)
    text = shell("index", *words, code=1).stdout
    assert reason in text
    assert ("next try         after 30 s, at the earliest" in text) == (wait is not None)


def test_secrets_are_masked_wherever_they_turn_up(shell: Shell) -> None:
    for words in (("index",), ("index", "--json"), ("index", "--label", f"x={SECRET}", "--json")):
        output = shell(*words).output
        assert "[secret]" in output
        assert SECRET not in output
    for more in ((), ("--json",)):
        assert SECRET not in shell("on-failure", "--on", "succeeded", "--label", f"x={SECRET}", *more).output
    assert API_KEY not in shell("index", "--on", "failed", code=1).output


def test_the_event_is_shaped_by_options(shell: Shell) -> None:
    words = ("--target", "google/x", "--label", "a=b", "--result", "https://h/1.png", "--result", "https://h/2")
    returned = shell.json("index", *words)["detail"]
    assert returned["returned"]["target"] == "google/x"
    assert returned["returned"]["labels"] == {"project": "shop", "a": "b"}
    assert returned["returned"]["urls"] == ["https://h/1.png", "https://h/2"]


def test_the_made_up_event_is_one_that_the_action_is_for(shell: Shell) -> None:
    told = shell.json("on-failure")
    event = told["event"]
    assert (event["type"], told["note"]) == ("task.failed", None)


@pytest.mark.parametrize(
    "words", [("--on", "rejected"), ("--target", "rhart/x"), ("--label", "project=other")], ids=" ".join
)
def test_an_event_that_the_action_is_not_for_is_noted(shell: Shell, words: tuple[str, ...]) -> None:
    code = 1 if "--on" in words else 0
    result = shell("index", *words, code=code)
    assert result.stderr.startswith("Note: a server would not run it for this event: it is for failed or succeeded of ")
    assert "Note" not in result.stdout
    assert "a server would not" in str(shell.json("index", *words, code=code)["note"])


def test_the_file_is_saved_where_it_always_is_and_nothing_is_written_to_the_database(shell: Shell) -> None:
    told = shell.json("keep-files")
    [file] = told["files"]
    assert Path(file["path"]).parent.parent == shell.directory / "results"
    assert Path(file["path"]).read_bytes().startswith(b"\x89PNG")
    assert sorted(path.name for path in shell.directory.iterdir()) == ["receiver.toml", "results"]


def test_an_address_that_may_not_be_reached_is_not(shell: Shell) -> None:
    told = shell.json("tell", code=1)
    assert told["state"] == "dead"
    assert "is not a public address" in str(told["reason"])


def test_an_event_comes_from_a_file_or_from_standard_input(shell: Shell, tmp_path: Path) -> None:
    event = make_event("rejected", labels={"from": "a file"})
    (tmp_path / "event.json").write_text(json.dumps(event))
    for given in (str(tmp_path / "event.json"), "-"):
        told = shell.json("on-failure", "--event", given, stdin=json.dumps(event))
        received = told["event"]
        assert {**received, "action": 0, "idempotency_key": 0} == {**event, "action": 0, "idempotency_key": 0}
        assert received["action"] == {"id": 0, "name": "on-failure", "generation": 1, "attempt": 1}
        assert received["idempotency_key"] != event.idempotency_key


def test_an_event_without_action_and_key_is_enough(shell: Shell) -> None:
    event = {name: value for name, value in make_event("failed").items() if name not in ("action", "idempotency_key")}
    told = shell.json("on-failure", "--event", "-", stdin=json.dumps(event))
    assert told["state"] == "done"


def test_each_try_has_a_key_of_its_own(shell: Shell) -> None:
    keys = {shell.json("index")["event"]["idempotency_key"] for _ in range(2)}
    assert len(keys) == 2
    assert all(key.startswith("test:") for key in keys)


@pytest.mark.parametrize(
    ("document", "problem"),
    [
        ("[]", "is no JSON object"),
        ("{", "is no JSON object"),
        ("\udcff", "is no JSON object"),
        ("{}", "not an event document: object missing required field type"),
        ('{"type": 1}', "not an event document: type: expected str, got int"),
        ("[" * 100_000, "is no JSON object"),
    ],
    ids=["list", "broken", "bytes", "empty", "type", "deep"],
)
def test_what_is_no_event_is_used_wrongly(shell: Shell, tmp_path: Path, document: str, problem: str) -> None:
    (tmp_path / "event.json").write_bytes(document.encode(errors="surrogateescape"))
    assert problem in shell("index", "--event", str(tmp_path / "event.json"), code=2).stderr


def test_an_event_that_is_nested_too_deeply_is_used_wrongly_and_has_no_effect(shell: Shell, tmp_path: Path) -> None:
    deep = json.dumps(make_event())[:-1] + ', "more": ' + "[" * 600 + "]" * 600 + "}"
    (tmp_path / "event.json").write_text(deep)
    told = shell("keep-files", "--event", str(tmp_path / "event.json"), code=2)
    assert "event.json: the event is nested too deeply" in told.stderr
    assert not (shell.directory / "results").exists()


def test_a_file_that_cannot_be_read_is_used_wrongly(shell: Shell) -> None:
    # The memory of a process begins with a page that nobody may read.
    assert "cannot be read: " in shell("index", "--event", "/proc/self/mem", code=2).stderr


def test_a_result_that_is_no_address_is_used_wrongly(shell: Shell) -> None:
    assert "Invalid IPv6 URL" in shell("index", "--result", "http://[", code=2).stderr


def test_what_is_no_text_is_told_as_an_escape(shell: Shell) -> None:
    words = ("on-failure", "--target", "x\udcff", "--on", "succeeded", "--json")
    assert "x\\udcff" in str(json.loads(shell(*words, code=1).stdout)["note"])


def test_a_file_that_is_not_there_is_used_wrongly(shell: Shell) -> None:
    assert "No such file" in shell("index", "--event", "nowhere.json", code=2).stderr


@pytest.mark.parametrize("words", [("--on", "failed"), ("--label", "a=b"), ("--target", "x"), ("--result", "x")])
def test_a_whole_event_is_not_shaped_any_further(shell: Shell, words: tuple[str, ...]) -> None:
    result = shell("index", "--event", "-", *words, code=2, stdin="{}")
    assert f"{words[0]} is for a made-up event" in click.unstyle(result.stderr)


def test_an_action_that_is_not_there_ends_with_3_and_the_nearest(shell: Shell) -> None:
    assert shell("indx", code=3).stderr == "Error: there is no action indx in the settings; did you mean index?\n"


def test_settings_that_are_wrong_end_with_2(shell: Shell) -> None:
    assert "RUNNINGHUB_MAX_IN_FLIGHT" in shell("index", code=2, RUNNINGHUB_MAX_IN_FLIGHT="none").stderr


def test_an_action_that_comes_after_others_finds_the_made_up_file_saved(tmp_path: Path) -> None:
    definition = PythonDefinition(name="index", kind=ActionKind.PYTHON, function="os:getpid", after=("keep-files",))
    (result,) = fitting_event(definition).results
    assert result.file is not None
    assert Path(result.file).read_bytes().startswith(b"\x89PNG")
    assert fitting_event(definition, results=["https://h/1.png"]).results[0].file is None
    assert fitting_event(replace(definition, after=())).results[0].file is None
