"""What people type: guessed commands are answered with the right ones, and nothing typed ends in a traceback."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from test_cli import Operator, run
from test_client import MODEL

from receiver.cli import main
from receiver.cli.guesses import COMMANDS, OPTIONS
from receiver.simulator.workflows import PICTURE_APP

RECEIVER = (sys.executable, "-m", "receiver")


@pytest.mark.parametrize("typed", COMMANDS)
def test_a_guessed_command_is_answered_with_the_right_one(typed: str) -> None:
    refused = run(*typed.split(), "x")
    assert refused.exit_code == 2
    assert f"Use {COMMANDS[typed]}" in refused.stderr
    words = COMMANDS[typed].split()
    assert words[0] == "receiver"
    assert words[1].rstrip(",;") in main.commands or words[1].startswith("--")


@pytest.mark.parametrize("typed", OPTIONS)
def test_a_guessed_option_is_answered_with_the_right_one(typed: str) -> None:
    refused = run(*typed.split(), "x")
    assert refused.exit_code == 2
    assert OPTIONS[typed][1:] in refused.stderr


@pytest.mark.parametrize(
    ("words", "meant"), [("taks", "tasks"), ("alerts akc", "ack"), ("actions lst", "list"), ("repaly", "replay")]
)
def test_a_slip_of_the_finger_is_answered_with_what_was_meant(words: str, meant: str) -> None:
    refused = run(*words.split())
    assert refused.exit_code == 2
    assert meant in refused.stderr.partition("id you mean")[2]


@pytest.mark.parametrize("words", [("klingg",), ("nanobanana",), ("veo4",)])
def test_a_model_that_does_not_exist_is_answered_with_those_that_are_near(words: tuple[str, ...]) -> None:
    refused = run("models", *words)
    assert refused.exit_code == 3
    assert words[0][:4].rstrip("4") in refused.stderr.partition("the nearest are")[2]


def test_a_model_that_is_like_no_other_is_answered_with_how_to_find_one() -> None:
    assert "receiver models lists all of them" in run("models", "nonexistent").stderr


@pytest.mark.story
@pytest.mark.parametrize("name", ["actions", "deliveries", "alerts"])
def test_a_list_is_also_a_command_of_its_group(operator: Operator, name: str) -> None:
    operator.ended()
    assert operator(name, "list", "--limit", "2").stdout == operator(name, "--limit", "2").stdout
    assert "too early" in operator(name, "--limit", "2", "list", code=2).stderr


@pytest.mark.story
def test_what_is_done_to_a_task_is_told_in_a_few_lines(operator: Operator) -> None:
    task = operator.ended()
    for words in (["reconcile", task], ["resend", task]):
        lines = operator(*words).stdout.splitlines()
        assert len(lines) <= 6
        assert lines[0].split() == ["task", task]
        assert lines[1].split() == ["state", "succeeded"]
    assert "asked last" in lines[-1]
    assert "resend: " in lines[-1]


@pytest.mark.story
@pytest.mark.parametrize(("given", "sent"), [("1", "1"), ("002", "002"), ('"7"', "7"), ("true", "true")])
def test_a_code_may_look_like_a_number(operator: Operator, given: str, sent: str) -> None:
    words = ("submit", "--quick", PICTURE_APP.id, f"quickCreateCode={given}", "--node", "6.text=ink", "--json")
    assert json.loads(operator(*words).stdout)["input"]["quickCreateCode"] == sent


@pytest.mark.story
def test_a_target_with_wildcards_and_the_name_of_a_label_find_tasks(operator: Operator) -> None:
    task = operator("submit", MODEL, "prompt=ink", "--label", "customer=ann").stdout.strip()
    for words in (["--target", f"{MODEL[:8]}*"], ["--q", "custom"]):
        found = json.loads(operator("tasks", *words, "--json").stdout)["items"]
        assert task in [each["id"] for each in found]


@pytest.mark.story
def test_a_replay_without_a_choice_is_a_wrong_use_and_names_that_are_not_there_are_refused(operator: Operator) -> None:
    operator.ended()
    assert "--all" in operator("replay", code=2).stderr
    assert "--all goes without" in operator("replay", "--all", "--name", "breaks", code=2).stderr
    told = operator("replay", "--name", "braeks", code=2).stderr
    assert "there is no action of this name; there are breaks, works" in told
    assert "running" in operator("replay", "--all", "--rate", "1").stdout


@pytest.mark.slow
@pytest.mark.parametrize("words", ["--help", "models", "models --json", "config example", "docs api"])
def test_output_that_cannot_be_written_ends_with_1_and_a_sentence(words: str, tmp_path: Path) -> None:
    with Path("/dev/full").open("w") as full:
        ended = subprocess.run(
            [*RECEIVER, *words.split()], stdout=full, stderr=subprocess.PIPE, text=True, cwd=tmp_path
        )
        assert (ended.returncode, ended.stderr) == (
            1,
            "Error: the output cannot be written: No space left on device\n",
        )
        silent = subprocess.run([*RECEIVER, *words.split()], stdout=full, stderr=full, cwd=tmp_path)
        assert silent.returncode == 1


@pytest.mark.slow
@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_shell_is_told_how_to_complete(shell: str) -> None:
    environment = {**os.environ, "_RECEIVER_COMPLETE": f"{shell}_source"}
    receiver = str(Path(sys.executable).with_name("receiver"))
    told = subprocess.run([receiver], env=environment, capture_output=True, text=True, check=False)
    if shell == "bash" and "not supported" in told.stderr:
        pytest.skip("this bash is older than 4.4")
    assert told.returncode == 0, told.stderr
    assert "_RECEIVER_COMPLETE" in told.stdout
    asked = {
        **environment,
        "_RECEIVER_COMPLETE": f"{shell}_complete",
        "COMP_WORDS": "receiver sta",
        "COMP_CWORD": "sta" if shell == "fish" else "1",
    }
    completed = subprocess.run([receiver], env=asked, capture_output=True, text=True, check=False)
    assert "status" in completed.stdout
