"""Batches: the file as it is read, keys that send nothing twice, and whole batches against real servers."""

import json
import signal
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest
from servers import ADMIN_TOKEN, Server, environment, launched, rows, running, until
from test_cli import Operator, run
from test_client import MODEL, RunningServer

from receiver.cli.batch.lines import BadLine, BatchLine, filled, read_drafts, with_keys
from receiver.cli.batch.progress import line_now_and_then
from receiver.cli.batch.rows import Common, is_csv
from receiver.cli.batch.run import Batch
from receiver.cli.batch.tally import LineReport, Tally, Why, grouped, spent, summed
from receiver.client import ApiError, Client, Unreachable
from receiver.client.patience import Patience
from receiver.model.errors import Refused
from receiver.simulator import Fault
from receiver.simulator.workflows import TEXT_TO_IMAGE

pytestmark = pytest.mark.story

VIDEO = "rhart-video-v3.1-pro-official/reference-to-video"
WORKFLOW = "1904136902449209346"


def read(text: str | bytes, *, csv: bool = False, **common: object) -> tuple[list[BatchLine], list[BadLine]]:
    given = Common(batch="b", **common)  # type: ignore[arg-type]
    drafts, bad = read_drafts(text if isinstance(text, bytes) else text.encode(), given, csv=csv)
    lines, unread = with_keys(drafts, given, {})
    return lines, bad + unread


def good(text: str | bytes, *, csv: bool = False, **common: object) -> list[BatchLine]:
    lines, bad = read(text, csv=csv, **common)
    assert bad == []
    return lines


def problem(text: str | bytes, *, csv: bool = False, **common: object) -> tuple[int, str]:
    """The only bad line there is: its number, and what is said of it."""
    _, bad = read(text, csv=csv, **common)
    (line,) = bad
    return line.number, "; ".join(f"{path}: {message}" for path, message in line.problems)


def prompts(*texts: str) -> str:
    return "".join(json.dumps({"prompt": text}) + "\n" for text in texts)


def test_a_line_that_repeats_a_key_is_wrong() -> None:
    assert problem('{"prompt": "a"}\n{"prompt": "x", "prompt": "y"}', model=MODEL) == (
        2,
        "prompt: the key stands twice in one object: write it once",
    )


@pytest.mark.parametrize("words", [("--input", '{"a": 1, "a": 2}'), ("--body", "-")])
def test_an_order_at_the_shell_that_repeats_a_key_is_a_wrong_use(words: tuple[str, ...]) -> None:
    told = run("submit", MODEL, *words, env={"RECEIVER_URL": "http://127.0.0.1:9"}, stdin='{"a": {"b": 1, "b": 2}}')
    assert (told.exit_code, "the key stands twice in one object: write it once" in told.stderr) == (2, True)


# ---------------------------------------------------------------- templates


def test_places_are_filled_from_the_line_and_doubled_braces_are_braces() -> None:
    fields: dict[str, object] = {"a b": "x", "n": 7, "yes": True, "line": 3}
    assert filled("{a b}-{n}-{yes}-{line} {{n}} }}{{", fields) == "x-7-true-3 {n} }{"  # type: ignore[arg-type]


@pytest.mark.parametrize("template", ["{", "}", "{x", "x}", "{}", "{nope}", "{{}", "{object}", "{none}", "{a{n}}"])
def test_a_template_that_means_nothing_is_a_problem(template: str) -> None:
    with pytest.raises(Refused):
        filled(template, {"n": 1, "object": {}, "none": None})


def test_what_is_filled_in_is_no_template_itself() -> None:
    (line,) = good('{"prompt": "{_who}", "_who": "{line}"}', model=MODEL)
    assert line.order.input == {"prompt": "{line}"}


def test_common_values_and_labels_are_templates_and_win_over_the_file() -> None:
    text = '{"prompt": "a harbour", "_at": "dusk"}'
    (line,) = good(text, model=MODEL, pairs=("prompt={prompt} at {_at}",), labels={"n": "{line}", "at": "{_at}"})
    assert line.order.input == {"prompt": "a harbour at dusk"}
    assert line.order.labels == {"n": "1", "at": "dusk"}


def test_braces_in_the_file_may_be_left_alone_while_the_command_line_keeps_its_templates() -> None:
    (line,) = good('{"prompt": "{\\"a\\": {}}"}', model=MODEL, literal=True, labels={"n": "{line}"})
    assert (line.order.input, line.order.labels) == ({"prompt": '{"a": {}}'}, {"n": "1"})


# ---------------------------------------------------------------- JSONL


def test_a_line_is_a_whole_order_or_with_a_model_its_input() -> None:
    whole = {"target": MODEL, "input": {"prompt": "x"}, "labels": {"a": "b"}}
    workflow = {"kind": "workflow", "api": "v1", "target": WORKFLOW, "input": {"nodeInfoList": []}}
    first, second = good(f"{json.dumps(whole)}\n\n  \n{json.dumps(workflow)}\r\n")
    assert (first.order.target, first.order.labels, first.number) == (MODEL, {"a": "b"}, 1)
    assert (second.order.kind, second.order.api, second.order.target, second.number) == ("workflow", "v1", WORKFLOW, 4)
    (named,) = good('{"input": {"prompt": "x"}, "labels": {"a": "b"}}', model=MODEL)
    assert named.key == first.key


def test_a_model_is_one_model_whatever_it_is_called() -> None:
    (by_name,) = good(prompts("x"), model=MODEL.upper())
    (by_endpoint,) = good(prompts("x"), model=f"/openapi/v2/{MODEL}")
    assert by_name.key == by_endpoint.key


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (b"nonsense", "not JSON"),
        (b'{"prompt": "\xff"}', "not JSON"),
        (b'{"prompt": NaN}', "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"[]", "expected a JSON object"),
        (b"7", "expected a JSON object"),
        (b'{"prompt": "{x}"}', "prompt: there is no {x} in this line"),
        (b'{"prompt": "x", "resolutoin": "1k"}', "input.resolutoin"),
        (b'{"input": {"prompt": "x"}, "labels": []}', "labels: expected an object"),
        (b'{"input": {"prompt": "x"}, "labels": {"batch": "mine"}}', "labels.batch"),
        (b'{"input": {"prompt": "x"}, "labels": {"a": 1}}', "labels.a"),
        (b"{}", "input.prompt"),
    ],
)
def test_a_hostile_line_is_told_by_its_number_and_the_others_are_read(line: bytes, told: str) -> None:
    content = b'{"prompt": "x"}\n' + line + b'\n{"prompt": "y"}\n'
    lines, bad = read(content, model=MODEL)
    assert [each.number for each in lines] == [1, 3]
    assert [each.number for each in bad] == [2]
    assert told in "; ".join(f"{path}: {message}" for path, message in bad[0].problems)


def test_a_line_without_model_or_with_strange_fields_is_told() -> None:
    assert "target" in problem('{"input": {"prompt": "x"}}')[1]
    assert "no such field" in problem('{"prompt": "x"}')[1]
    assert "there is no model" in problem('{"input": {}}', model="no/such-model")[1]


@pytest.mark.parametrize("value", [b"1e400", b"9" * 400, b'"\\ud800"', b"[" * 3000 + b"]" * 3000])
def test_what_cannot_be_carried_as_it_is_breaks_nothing(value: bytes) -> None:
    lines, bad = read(b'{"x": ' + value + b"}", model="no/such-model", checked=False)
    assert len(lines) + len(bad) == 1


def test_half_characters_of_a_command_line_are_told_as_problems() -> None:
    assert "UTF-8" in problem(prompts("x"), model=MODEL, pairs=("prompt=\udcff",))[1]
    assert "cannot be sent" in problem(prompts("x"), model=MODEL, labels={"a": "\udcff"})[1]


def test_unchecked_inputs_pass_to_any_endpoint() -> None:
    (line,) = good('{"whatever": 1}', model="no/such-model", checked=False)
    assert line.order.target == "no/such-model"


# ---------------------------------------------------------------- CSV


def test_cells_have_the_types_of_the_model_and_empty_ones_are_left_out() -> None:
    text = (
        "\ufeffprompt,generateAudio,imageUrls,resolution,label.shot,target,_note\r\n"
        f'"two\nlines, {{_note}}",no,https://x.test/1.jpg,,{{line}},{VIDEO},here\r\n'
        f"b,true,https://x.test/1.jpg,1080p,,{VIDEO},\r\n"
    )
    first, second = good(text, csv=True, checked=False)
    assert first.order.input == {
        "prompt": "two\nlines, here",
        "generateAudio": False,
        "imageUrls": ["https://x.test/1.jpg"],
    }
    assert (first.order.labels, first.number) == ({"shot": "2"}, 2)
    assert (second.order.input["resolution"], second.order.labels, second.number) == ("1080p", {}, 4)


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_the_separator_is_what_the_header_uses(separator: str) -> None:
    (line,) = good(f"prompt{separator}_a\nx{separator}y\n", csv=True, model=MODEL)
    assert line.order.input == {"prompt": "x"}


def test_empty_columns_at_the_end_are_left_out() -> None:
    first, second = good("prompt,_a,,\nx,y,,\nz,,,,\n", csv=True, model=MODEL)
    assert (first.order.input, second.order.input) == ({"prompt": "x"}, {"prompt": "z"})


def test_the_first_line_may_tell_the_separator() -> None:
    (line,) = good("sep=|\r\nprompt|_a\r\nx, y|z\r\n", csv=True, model=MODEL)
    assert (line.order.input, line.number) == ({"prompt": "x, y"}, 3)


@pytest.mark.parametrize(
    ("text", "number", "told"),
    [
        ("sep=;\nprompt;_a\nx;y\nz\n", 4, "expected 2 cells"),
        ("prompt,,\nx,,\ny,,z\n", 1, "column 2 of the header has no name"),
        ("prompt,prompt\nx,y\n", 1, "two columns"),
        ("prompt,\nx,y\n", 1, "column 2 of the header has no name"),
        ("prompt,_a\nx,y\nz\n", 3, "expected 2 cells"),
        ('prompt\nx\n"open\n', 3, "not CSV"),
        ('prompt\n"x"y\n', 2, "not CSV"),
        (b"prompt\nx\n\xff\n", 3, "not UTF-8"),
        ("prompt,targt\nx,y\n", 2, "input.targt"),
    ],
)
def test_what_is_wrong_with_a_csv_is_told_by_its_line(text: str | bytes, number: int, told: str) -> None:
    found = problem(text, csv=True, model=MODEL)
    assert found[0] == number
    assert told in found[1]


def test_a_file_is_csv_by_its_name_or_else_by_how_it_begins() -> None:
    assert is_csv("a.CSV", b"{}")
    assert not is_csv("a.jsonl", b"prompt")
    assert not is_csv("-", b'\xef\xbb\xbf\n {"a": 1}')
    assert is_csv("-", b"prompt\nx\n")


# ---------------------------------------------------------------- keys


def test_equal_lines_are_numbered_and_other_lines_do_not_matter() -> None:
    one, two, three = (line.key for line in good(prompts("x", "x", "y"), model=MODEL))
    assert len({one, two, three}) == 3
    edited = good(prompts("new", "y", "x", "x", "x"), model=MODEL)
    assert {one, two, three} < {line.key for line in edited}
    assert [line.key for line in good('{"prompt" : "\\u0078"}', model=MODEL)] == [one]


def test_a_key_is_what_it_was_in_earlier_versions_so_that_a_batch_of_theirs_orders_nothing_twice() -> None:
    digest = "00d4918784598c23d4e30e16a24e1aff6ed8d704292615d9d1f84d55dc0282e3"
    assert [line.key for line in good(prompts("x", "x"), model=MODEL)] == [f"batch-{digest}-1", f"batch-{digest}-2"]
    assert good(prompts("x"), model=MODEL, anew="again")[0].key == f"batch-again-{digest}-1"


def test_labels_and_another_name_make_another_order() -> None:
    keys = {
        good(prompts("x"), model=MODEL, **more)[0].key
        for more in ({}, {"labels": {"a": "b"}}, {"anew": "again"}, {"anew": "more"})
    }
    assert len(keys) == 4


# ---------------------------------------------------------------- the report


def test_money_is_summed_to_the_last_digit_and_nonsense_is_left_out() -> None:
    usages: list[Mapping[str, object]] = [
        {"consumeMoney": "0.1", "consumeCoins": "3"},
        {"consumeMoney": "0.2", "consumeCoins": None, "thirdPartyConsumeMoney": "free"},
        {"consumeMoney": "NaN", "consumeCoins": "1e999999"},
        {},
    ]
    assert summed(usages) == {"consumeMoney": "0.3", "consumeCoins": "3"}
    assert spent({"consumeMoney": "0.3", "consumeCoins": "3", "thirdPartyConsumeMoney": "0.70"}) == {
        "money": "1",
        "coins": "3",
    }


def test_failures_are_grouped_by_their_reason() -> None:
    def line(number: int, state: str, *errors: Why) -> LineReport:
        return LineReport(line=number, key="k", task=None, state=state, errors=list(errors), files=[])

    content, path = Why(code="1501", message="refused"), Why(code="invalid", path="input.a", message="no")
    found = grouped(
        [line(1, "succeeded"), line(2, "failed", content), line(3, "refused", path), line(4, "failed", content)]
    )
    assert [(each.state, each.code, each.lines) for each in found] == [
        ("refused", "input.a", [3]),
        ("failed", "1501", [2, 4]),
    ]
    assert ["--retry-failed" in each.again for each in found] == [False, True]


def test_without_a_terminal_there_is_a_line_every_ten_seconds_and_when_the_server_goes_or_comes() -> None:
    said: list[str] = []
    times = iter([0.0, 1.0, 11.0, 12.0, 13.0, 14.0])
    tell = line_now_and_then(lambda: next(times), said.append)
    for away in (None, None, "gone", "gone", None):
        tell({"submitted": 2, "unsent": 1}, away, None)
    assert [line.partition("; ")[2] for line in said] == ["", "waiting for the server: gone", ""]
    assert said[0] == "submitted 2, running 2, done 0, failed 0, in doubt 0"


# ---------------------------------------------------------------- patience and refusals

Answer = Callable[[httpx.Request], httpx.Response]


class Moments(threading.Event):
    """A stop whose waits only move a clock."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.waits: list[float] = []

    def wait(self, timeout: float | None = None) -> bool:
        self.waits.append(timeout or 0.0)
        self.now += timeout or 0.0
        return self.is_set()


def patient(stop: Moments, bound: float = 60.0) -> Patience:
    return Patience(bound, stop, clock=lambda: stop.now)


def refusal(status: int, code: str = "x", details: object = None) -> httpx.Response:
    return httpx.Response(status, json={"error": {"code": code, "message": "m", "details": details}})


def ordered(answers: Sequence[Answer], *texts: str) -> Tally:
    """A batch without waiting, of one thread, against answers."""
    lines, left, stop = good(prompts(*texts), model=MODEL), list(answers), Moments()
    tally = Tally("b", lines)
    transport = httpx.MockTransport(lambda request: left.pop(0)(request))
    with Client("http://receiver.test", None, transport=transport) as client:
        Batch(client, tally, patient(stop)).run(lines, 1, lambda: None, doubt_patience=None)
    return tally


def test_a_server_that_is_away_is_asked_ever_more_slowly_until_it_was_away_too_long() -> None:
    stop = Moments()
    answers = iter([Unreachable("u", "r"), ApiError(503, "disk_low", "m"), ApiError(502, "http_error", "m"), None])

    def question() -> str:
        if error := next(answers):
            raise error
        return "here"

    assert patient(stop).ask(question) == "here"
    assert stop.waits == [0.5, 1.0, 2.0]

    def away() -> str:
        raise Unreachable("u", "r")

    with pytest.raises(Unreachable):
        patient(stop, 60).ask(away)
    assert 60 <= stop.now - 3.5 < 80


def test_a_line_that_the_server_refuses_is_that_lines_failure_with_path_and_message() -> None:
    problems = [{"path": "input.prompt", "message": "too long"}]
    tally = ordered([lambda _: refusal(422, "invalid", problems), lambda _: refusal(500)], "x", "y")
    report = tally.report()
    assert report.counts == {"refused": 2}
    assert report.tasks[0].errors == [Why(code="invalid", path="input.prompt", message="too long")]
    assert report.tasks[1].errors == [Why(code="x", message="m")]


@pytest.mark.parametrize(("status", "code"), [(401, "unauthorized"), (403, "x"), (409, "no_api_key"), (404, "x")])
def test_what_every_line_would_be_told_ends_the_batch_at_once(status: int, code: str) -> None:
    with pytest.raises(ApiError) as told:
        ordered([lambda _: refusal(status, code)], "x", "y", "z")
    assert told.value.status == status


# ---------------------------------------------------------------- against a running server


def written(path: Path, count: int) -> Path:
    path.write_text(prompts(*(f"a lighthouse, {number}" for number in range(count))))
    return path


def test_a_batch_of_thirty_is_ordered_awaited_and_reported_and_again_orders_nothing(
    operator: Operator, tmp_path: Path
) -> None:
    file, report = written(tmp_path / "orders.jsonl", 30), tmp_path / "report.json"
    operator.server.simulator.plan_next(Fault.FAILED)
    before = operator.server.simulator.count("submit")
    words = ("batch", str(file), "--model", MODEL, "--label", "n={line}", "--report", str(report))
    result = operator(*words, code=1)
    assert "1 failed 1501: CONTENT_REFUSED" in result.stdout
    assert "\ncost         money " in result.stdout
    found = json.loads(report.read_text())
    assert (found["lines"], found["counts"]) == (30, {"failed": 1, "succeeded": 29})
    assert [each["line"] for each in found["tasks"]] == list(range(1, 31))
    assert len({each["task"] for each in found["tasks"]}) == 30
    assert sum(map(float, found["cost"].values())) > 0
    again = json.loads(operator(*words, "--json", code=1).stdout)
    assert (again["new"], again["cost"], again["earlier_cost"]) == (0, {}, found["cost"]), "nothing is paid twice"
    assert [{**each, "new": True} for each in again["tasks"]] == found["tasks"]
    assert (again["counts"], again["files"]) == (found["counts"], found["files"])
    assert operator.server.simulator.count("submit") - before == 30


def test_lines_that_failed_are_ordered_again_when_that_is_asked_for_and_once_each_time(
    operator: Operator, tmp_path: Path
) -> None:
    file, simulator = written(tmp_path / "retried.jsonl", 3), operator.server.simulator

    def report(*words: str, code: int = 0) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(
            operator("batch", str(file), "--model", MODEL, "--name", "retried", "--json", *words, code=code).stdout
        )
        return found

    simulator.plan_next(Fault.FAILED)
    first, before = report(code=1), simulator.count("submit")
    (failed,) = (each for each in first["tasks"] if each["state"] == "failed")
    assert "--retry-failed" in first["reasons"][0]["again"]
    simulator.plan_next(Fault.FAILED)
    second = report("--retry-failed", code=1)
    assert (second["counts"], second["new"]) == ({"failed": 1, "succeeded": 2}, 1)
    assert second["earlier_cost"] == first["cost"]
    third = report("--retry-failed")
    assert (third["counts"], third["new"], third["earlier_cost"]) == ({"succeeded": 3}, 1, first["cost"])
    assert simulator.count("submit") - before == 2
    for words in ((), ("--retry-failed",)):
        later = report(*words)
        assert (later["counts"], later["new"], later["cost"]) == ({"succeeded": 3}, 0, {})
        assert [each["task"] for each in later["tasks"]] == [each["task"] for each in third["tasks"]]
    assert simulator.count("submit") - before == 2
    assert failed["task"] not in [each["task"] for each in later["tasks"]]
    shown = operator("batch", str(file), "--model", MODEL, "--name", "retried").stdout
    assert ("ordered now  0\nwere there   3\n" in shown, "\npaid before  money " in shown, "\ncost " in shown) == (
        *(True, True),
        False,
    )


def test_a_retry_that_was_interrupted_is_not_paid_for_twice(operator: Operator, tmp_path: Path) -> None:
    file, simulator = written(tmp_path / "interrupted.jsonl", 1), operator.server.simulator
    simulator.plan_next(Fault.FAILED)
    words = ("batch", str(file), "--model", MODEL, "--name", "interrupted", "--json")
    (line,) = json.loads(operator(*words, code=1).stdout)["tasks"]
    with operator.server.client() as client:
        ordered = client.submit_again(line["task"], idempotency_key=f"{line['key']}-again-{line['task']}")
    before = simulator.count("submit")
    assert json.loads(operator(*words, "--retry-failed").stdout)["tasks"][0]["task"] == ordered.id
    assert simulator.count("submit") - before <= 1, "the order that was sent before, perhaps, and no other"


def test_what_is_to_be_known_of_an_order_is_told_of_a_line(operator: Operator) -> None:
    line = json.dumps({"kind": "workflow", "target": TEXT_TO_IMAGE.id, "input": {"ofTomorrow": 1}})
    told = operator("batch", "-", "--no-wait", stdin=line).stderr
    assert "1 lines: sent as they are, for we do not know these fields: ofTomorrow" in told


def test_a_file_that_was_edited_orders_what_is_new_and_one_that_was_moved_nothing(
    operator: Operator, tmp_path: Path
) -> None:
    file = written(tmp_path / "a.jsonl", 3)
    first = json.loads(operator("batch", str(file), "--model", MODEL, "--set", "prompt={prompt}!", "--json").stdout)
    before = operator.server.simulator.count("submit")
    moved = file.rename(tmp_path / "b.jsonl")
    moved.write_text(prompts("new") + moved.read_text())
    second = json.loads(operator("batch", str(moved), "--model", MODEL, "--set", "prompt={prompt}!", "--json").stdout)
    assert second["batch"] != first["batch"]
    assert {each["task"] for each in first["tasks"]} < {each["task"] for each in second["tasks"]}
    assert (second["counts"], operator.server.simulator.count("submit") - before) == ({"succeeded": 4}, 1)
    third = json.loads(
        operator("batch", str(moved), "--model", MODEL, "--set", "prompt={prompt}!", "--name", "anew", "--json").stdout
    )
    assert (third["batch"], operator.server.simulator.count("submit") - before) == ("anew", 5)


def test_a_key_that_was_used_outside_of_batches_is_its_lines_failure(operator: Operator) -> None:
    words, stdin = ("batch", "-", "--model", MODEL, "--json"), prompts("outside of batches")
    key = json.loads(operator(*words, "--dry-run", stdin=stdin).stdout)["orders"][0]["key"]
    operator("submit", MODEL, "prompt=outside of batches", "--idempotency-key", key)
    report = json.loads(operator(*words, code=1, stdin=stdin).stdout)
    assert report["counts"] == {"refused": 1}
    assert report["tasks"][0]["errors"][0]["code"] == "idempotency_conflict"


def test_bad_lines_are_all_told_before_anything_is_ordered(operator: Operator) -> None:
    before = operator.server.simulator.count("submit")
    stdin = prompts("x") + "nonsense\n" + '{"promt": "y"}\n'
    told = operator("batch", "-", "--model", MODEL, code=2, stdin=stdin).stderr
    assert told.startswith("Error: nothing was ordered: 2 of 3 lines are wrong\n  line 2: not JSON")
    assert "\n  line 3: input.promt: there is no such parameter" in told
    assert operator.server.simulator.count("submit") == before
    assert "no lines" in operator("batch", "-", "--model", MODEL, code=2, stdin="\n").stderr


def test_a_dry_run_needs_no_server_and_shows_what_would_be_ordered() -> None:
    words = ("batch", "-", "--model", MODEL, "--set", "prompt={subject}", "--dry-run")
    stdin = "subject,label.n\na harbour,{line}\n"
    assert "there is no such parameter" in run(*words, stdin=stdin).stderr
    stdin = stdin.replace("subject", "_subject")
    shown = run(*words[:4], "--set", "prompt={_subject}", "--dry-run", "--json", stdin=stdin)
    (order,) = json.loads(shown.stdout)["orders"]
    assert (order["input"], order["labels"]) == ({"prompt": "a harbour"}, {"n": "2"})
    assert run("batch", "-", "--model", MODEL, "--dry-run", stdin=prompts("x")).stdout == f"1 of {MODEL}\n"


def test_without_waiting_the_server_is_left_with_the_rest(operator: Operator) -> None:
    words = ("batch", "-", "--model", MODEL, "--no-wait", "--name", "left", "--json")
    report = json.loads(operator(*words, stdin=prompts("x", "y")).stdout)
    assert len({each["task"] for each in report["tasks"]}) == 2
    assert len(json.loads(operator("tasks", "--label", "batch=left", "--json").stdout)["items"]) == 2


def test_a_wrong_token_ends_a_batch_with_2(server: RunningServer) -> None:
    env = {"RECEIVER_URL": server.url, "RECEIVER_ADMIN_TOKEN": "a-wrong-token-of-some-length"}
    result = run("batch", "-", "--model", MODEL, env=env, stdin=prompts(*"abcdefghij"))
    assert result.exit_code == 2
    assert "receiver token" in result.stderr


def test_a_server_that_stays_away_ends_a_batch_with_4_and_a_report_of_what_was_not_sent(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        env = {"RECEIVER_URL": f"http://127.0.0.1:{taken.getsockname()[1]}", "RECEIVER_ADMIN_TOKEN": "x" * 16}
    report = tmp_path / "report.json"
    words = ("batch", "-", "--model", MODEL, "--patience", "0", "--report", str(report))
    result = run(*words, env=env, stdin=prompts("x", "y"))
    assert result.exit_code == 4
    assert json.loads(report.read_text())["counts"] == {"unsent": 2}
    assert run(*words[:-1], str(tmp_path / "no" / "report.json"), env=env).exit_code == 2


# ---------------------------------------------------------------- processes

LINES = 500
BATCH = (sys.executable, "-m", "receiver", "batch")
OVERDUE = 2.0
"""Seconds after which a task of this proof is asked about by hand, where the server itself would wait for thirty."""


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
        return port


def tasks_in(database: Path, condition: str = "1") -> int:
    (count,) = rows(database, f"select count(*) from tasks where {condition}")[0]
    assert isinstance(count, int)
    return count


def overdue(database: Path) -> list[str]:
    found = rows(database, "select id from tasks where state = 'submitted' and submitted_at < ?", time.time() - OVERDUE)
    return [str(task) for (task,) in found]


async def asked_by_hand_until_it_ends(server: Server, client: Server, database: Path) -> None:
    while client.process.returncode is None:
        for task in overdue(database):
            head = f"POST /api/tasks/{task}/reconcile HTTP/1.1\r\nHost: receiver.test\r\nContent-Length: 0\r\n"
            answer = await server.ask(f"{head}Authorization: Bearer {ADMIN_TOKEN}\r\n\r\n".encode())
            assert answer.status in (200, 409, 502), answer
        await until(lambda: client.process.returncode is not None or overdue(database) != [])


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Processes heed SIGINT although this one may have been started in the background, without it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.slow
@pytest.mark.usefixtures("interruptible")
async def test_an_interrupted_batch_says_how_to_go_on_and_goes_on(server: RunningServer, tmp_path: Path) -> None:
    file, report = written(tmp_path / "orders.jsonl", 3), tmp_path / "report.json"
    given = environment(RECEIVER_URL=server.url, RECEIVER_ADMIN_TOKEN=server.token)
    words = (*BATCH, str(file), "--model", MODEL, "--report", str(report))
    before = server.simulator.count("submit")
    server.simulator.plan_next(Fault.LOST_CALLBACK)
    async with launched(tmp_path, argv=words, given=given) as client:
        await until(lambda: server.simulator.count("submit") - before == 3)
        client.signal(signal.SIGINT)
        assert await client.ended() == 1
    assert "the same command again goes on from here" in client.err
    assert json.loads(report.read_text())["lines"] == 3
    with server.client() as asked:
        for task in asked.tasks(state="submitted").items:
            asked.wait(task.id, until=lambda each: asked.reconcile(each.id).state != "submitted", timeout=10)
    async with launched(tmp_path, argv=words, given=given) as client:
        await until(lambda: client.process.returncode is not None)
        assert await client.ended() == 0, client.err
    assert json.loads(report.read_text())["counts"] == {"succeeded": 3}
    assert server.simulator.count("submit") - before == 3


# ---------------------------------------------------------------- the long proof


@pytest.mark.slow
async def test_every_line_is_accounted_for_exactly_once_whatever_is_killed(tmp_path: Path) -> None:
    file, report, database = (
        written(tmp_path / "orders.jsonl", LINES),
        tmp_path / "report.json",
        tmp_path / "receiver.db",
    )
    (tmp_path / "receiver.toml").write_text("keep_files = false\n[callbacks]\ndisk_floor = 0\n")
    provider, port = free_port(), free_port()
    faults = (
        "--drop",
        "0.05",
        "--fail",
        "0.05",
        "--answer-lost",
        "0.02",
        "--task-seconds",
        "0.2",
        "--retry-seconds",
        "1,1,1",
        "--seed",
        "7",
    )
    simulate = (sys.executable, "-m", "receiver", "simulate", "--port", str(provider), *faults)
    given = environment(
        PORT=str(port),
        RECEIVER_PUBLIC_URL=f"http://127.0.0.1:{port}",
        RECEIVER_URL=f"http://127.0.0.1:{port}",
        RUNNINGHUB_BASE_URL=f"http://127.0.0.1:{provider}",
        RUNNINGHUB_MAX_IN_FLIGHT="20",
    )
    words = (*BATCH, str(file), "--model", MODEL, "--doubt-patience", "4", "--report", str(report))
    async with running(tmp_path, argv=simulate, given=given) as simulator:
        async with running(tmp_path, given=given) as server:
            async with launched(tmp_path, argv=words, given=given) as client:
                await until(lambda: tasks_in(database) >= LINES // 5)
                await client.kill()
            assert tasks_in(database) < LINES, "the client was killed too late to prove anything"
            async with launched(tmp_path, argv=words, given=given) as client:
                await until(lambda: tasks_in(database) >= LINES // 2)
                await server.kill()
                async with running(tmp_path, given=given) as server:
                    await until(lambda: tasks_in(database, "ended_at is not null") >= LINES // 2, 60)
                    await server.kill()
                async with running(tmp_path, given=given) as server:
                    await asked_by_hand_until_it_ends(server, client, database)
                    await client.ended()
                    await server.stop()
        state = json.loads((await simulator.get("/simulator/state")).body)
    compare(json.loads(report.read_text()), state, database)


def compare(report: dict[str, Any], state: dict[str, Any], database: Path) -> None:
    """Holds the report, the ledger and the provider against one another."""
    made = {task["taskId"]: task["status"] for task in state["tasks"]}
    ledger = {
        str(task): (state, provider)
        for task, state, provider in rows(database, "select id, state, provider_task_id from tasks")
    }
    said = {each["task"]: each["state"] for each in report["tasks"]}
    known = {str(provider) for _, provider in ledger.values() if provider is not None}
    doubtful = [task for task, (state, _) in ledger.items() if state == "in_doubt"]
    faults = Counter(fault for task in state["tasks"] for fault in task["faults"])
    (doubted,) = rows(database, "select count(*) from alerts where kind = 'task_in_doubt'")[0]
    print(report["counts"], f"{len(made)} made, {len(known)} known, {doubted} were and {len(doubtful)} are in doubt")
    assert faults["lost_callback"] > 0
    assert doubted not in (0, None)
    assert [each["line"] for each in report["tasks"]] == list(range(1, LINES + 1))
    assert said == {task: state for task, (state, _) in ledger.items()}
    assert (len(said), Counter(said.values())) == (LINES, Counter(report["counts"]))
    assert known <= made.keys()
    assert len(known) + len(doubtful) == LINES, "every line is one task there, or in doubt"
    assert len(made) - len(known) <= len(doubtful), "what was made and is not known is what is in doubt"
    ends = {"SUCCESS": "succeeded", "FAILED": "failed"}
    assert all(ends[made[str(provider)]] == state for state, provider in ledger.values() if provider is not None)
    assert report["counts"]["failed"] > 0
    assert len(doubtful) <= LINES // 10
