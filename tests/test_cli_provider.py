"""The provider from the command line, beside tasks and models: LoRAs, uploads for nodes, styles, and its own word."""

import hashlib
import json
import shlex
from pathlib import Path

import pytest
from offering import BEGINNINGS, beginning
from test_cli import Operator
from test_client import RunningServer

from receiver.cli.inputs import read_nodes
from receiver.client import ApiError, Client
from receiver.model.rules import LORA_LIMIT
from receiver.simulator import Fault
from receiver.simulator.workflows import PICTURE_APP, TEXT_TO_IMAGE, VIDEO_APP

pytestmark = pytest.mark.story

BYTES = bytes(range(256)) * 600
LORA, PICTURE = (BEGINNINGS[kind] + BYTES for kind in ("safetensors", "png"))


def file(folder: Path, name: str, content: bytes = BYTES) -> str:
    path = folder / name
    path.write_bytes(beginning(name) + content)
    return str(path)


# ---------------------------------------------------------------- uploads


def test_a_lora_is_uploaded_and_the_name_for_its_node_printed(operator: Operator, tmp_path: Path) -> None:
    path = file(tmp_path, "style.safetensors")
    md5 = hashlib.md5(LORA).hexdigest()
    result = operator("upload", "--as", "lora", path)
    assert result.stdout == f"api-lora-cn/{md5}.safetensors\n"
    assert "style.safetensors: a file name for a node's field" in result.stderr
    lora = operator.server.simulator.uploads.loras[md5]
    assert (lora.name, lora.size) == ("style.safetensors", len(LORA))
    puts = operator.server.simulator.count("lora_put")
    again = operator("upload", "--as", "lora", path, "--json")
    assert json.loads(again.stdout) == [{"file_name": f"api-lora-cn/{md5}.safetensors"}]
    assert operator.server.simulator.count("lora_put") == puts


def test_a_file_may_be_given_another_name(operator: Operator, tmp_path: Path) -> None:
    content = BYTES + b"another"
    operator("upload", "--as", "lora", file(tmp_path, "a.safetensors", content), "--name", "my style")
    assert operator.server.simulator.uploads.loras[hashlib.md5(LORA + b"another").hexdigest()].name == "my style"
    (made,) = json.loads(operator("upload", file(tmp_path, "a.png", content), "--name", "b.png", "--json").stdout)
    assert made["name"] == "b.png"
    told = operator("upload", file(tmp_path, "a.png"), file(tmp_path, "b.png"), "--name", "c.png", code=2).stderr
    assert "--name is for one file" in told
    assert (
        "name: expected the file's name" in operator("upload", str(tmp_path / "a.png"), "--name", "a/b", code=2).stderr
    )


def test_a_file_goes_the_older_way_and_the_name_for_a_node_is_printed(operator: Operator, tmp_path: Path) -> None:
    sent = operator.server.simulator.count("upload")
    result = operator("upload", "--as", "nodes", file(tmp_path, "one.png"))
    assert result.stdout == f"api/{hashlib.sha256(PICTURE).hexdigest()}.png\n"
    assert operator.server.simulator.count("upload") == sent


def test_what_was_uploaded_before_a_failure_is_told(operator: Operator, tmp_path: Path) -> None:
    good, bad = file(tmp_path, "good.png"), file(tmp_path, "bad.xyz", b"unknown")
    result = operator("upload", "--as", "nodes", good, bad, code=1)
    assert result.stdout == f"api/{hashlib.sha256(PICTURE).hexdigest()}.png\n"
    assert "APIKEY_UPLOAD_FAILED" in result.stderr


def test_a_lora_may_be_larger_than_other_files(operator: Operator, tmp_path: Path) -> None:
    path = tmp_path / "huge.safetensors"
    with path.open("wb") as huge:
        huge.truncate(LORA_LIMIT + 1)
    assert "larger than 2048 MiB" in operator("upload", "--as", "lora", str(path), code=2).stderr
    assert "larger than 100 MiB" in operator("upload", "--as", "nodes", str(path), code=2).stderr


def test_the_client_tells_how_far_a_lora_is(server: RunningServer, tmp_path: Path) -> None:
    seen: list[tuple[int, int | None]] = []
    with server.client() as client:
        path = Path(file(tmp_path, "far.safetensors", BYTES + b"far"))
        client.upload_lora(path, lambda done, total: seen.append((done, total)))
    assert seen[-1] == (len(LORA) + 3, len(LORA) + 3)
    assert len(seen) > 1


# ---------------------------------------------------------------- styles


def test_styles_are_a_table_of_what_they_are(operator: Operator) -> None:
    lines = operator("styles", PICTURE_APP.id).stdout.splitlines()
    assert [line.split()[:3] for line in lines[:2]] == [["id", "name", "key"], ["1", "Watercolour", "watercolour"]]
    assert "watercolour.safetensors" in lines[1]
    document = json.loads(operator("styles", PICTURE_APP.id, "--json").stdout)
    assert [each["modelName"] for each in document["items"]][:2] == ["Watercolour", "Ink"]


def test_styles_are_of_a_type_and_of_an_app(operator: Operator) -> None:
    none = operator("styles", PICTURE_APP.id, "--type", "7")
    assert (none.stdout, none.stderr) == ("", f"AI app {PICTURE_APP.id} has no styles of type 7\n")
    assert "there is no AI app abc" in operator("styles", "abc", code=3).stderr
    assert "--type" in operator("styles", PICTURE_APP.id, "--type", "x", code=2).stderr
    assert f"there is no AI app {TEXT_TO_IMAGE.id}" in operator("styles", TEXT_TO_IMAGE.id, code=3).stderr


@pytest.mark.parametrize(("kind", "target"), [("app", VIDEO_APP.id), ("workflow", TEXT_TO_IMAGE.id)])
def test_the_command_shown_for_an_app_or_a_workflow_sets_the_values_that_it_has(
    operator: Operator, kind: str, target: str
) -> None:
    has = {
        (node["node"], node["field"]): node["value"]
        for node in json.loads(operator(kind, target, "--json").stdout)["nodes"]
    }
    words = shlex.split(operator(kind, target).stdout.splitlines()[-1])
    assert words[:4] == ["receiver", "submit", f"--{kind}", target]
    nodes = read_nodes([word for word in words[4:] if word != "--node"])
    assert nodes
    for node in nodes:
        if node["fieldValue"] != "@one.jpg":
            assert node["fieldValue"] == has[str(node["nodeId"]), str(node["fieldName"])]


# ---------------------------------------------------------------- the account


def test_the_account_is_shown_with_how_much_may_run_at_once(operator: Operator) -> None:
    shown = dict(
        line.split(maxsplit=1) for line in operator("account").stdout.replace("at once", "at_once").splitlines()
    )
    assert (shown["coins"].isdecimal(), shown["key"], shown["at_once"]) == (True, "SHARED", "100")
    operator.server.simulator.outage("queue", "code", times=1, code="1009")
    told = json.loads(operator("account", "--json").stdout)
    assert (told["type"], told["currency"], told["queue"]) == ("SHARED", "CNY", None)


# ---------------------------------------------------------------- a task's bare status


def test_a_tasks_bare_status_is_the_providers_own_word(operator: Operator) -> None:
    task_id = operator.ended()
    checks = len(json.loads(operator("task", task_id, "--json").stdout)["checks"])
    assert operator("task", task_id, "--status").stdout == "SUCCESS\n"
    assert json.loads(operator("task", task_id, "--status", "--json").stdout) == {"status": "SUCCESS"}
    assert len(json.loads(operator("task", task_id, "--json").stdout)["checks"]) == checks


def test_what_a_task_made_is_told_by_the_outputs_endpoint_and_nothing_is_recorded(operator: Operator) -> None:
    words = ("submit", "--workflow", TEXT_TO_IMAGE.id, "--wait", "--json")
    task = json.loads(operator(*words).stdout)
    shown = operator("task", task["id"], "--outputs").stdout
    assert shown.split()[:2] == ["state", "succeeded"]
    assert task["results"][0]["url"] in shown
    said = json.loads(operator("task", task["id"], "--outputs", "--json").stdout)
    assert (said["state"], said["error"], said["results"][0]["node_id"]) == ("succeeded", None, "9")
    assert said["usage"]["consumeCoins"]
    assert len(json.loads(operator("task", task["id"], "--json").stdout)["checks"]) == len(task["checks"])
    operator.server.simulator.plan_next(Fault.FAILED)
    failed = json.loads(operator(*words, code=1).stdout)["id"]
    assert "error  805 " in operator("task", failed, "--outputs").stdout


def test_what_became_of_a_callback_is_told(operator: Operator) -> None:
    task_id = operator.ended()
    shown = operator("task", task_id, "--webhook").stdout
    assert "SUCCESS" in shown
    said = json.loads(operator("task", task_id, "--webhook", "--json").stdout)
    assert (said["status"], said["retry_count"], len(said["id"])) == ("SUCCESS", 0, 19)
    operator.server.simulator.outage("detail", "code", times=1, code="1")
    assert "RunningHub has no callback of this task" in operator("task", task_id, "--webhook", code=3).stderr


def test_a_task_that_the_provider_does_not_know_has_no_status(operator: Operator, server: RunningServer) -> None:
    assert "there is no task nobody" in operator("task", "nobody", "--status", code=3).stderr
    server.simulator.outage("submit", "code", times=1, code="1014")
    with server.client() as client:
        task_id = server.ended(client).id
        with pytest.raises(ApiError) as refused:
            client.provider_status(task_id)
    assert (refused.value.status, refused.value.code) == (409, "not_submitted")
    assert "RunningHub's id for it is not known" in operator("task", task_id, "--status", code=1).stderr


def test_the_client_has_a_method_for_every_way_to_bring_a_file() -> None:
    with Client("http://127.0.0.1:9", None) as client:
        for bring in (client.upload, client.upload_for_nodes, client.upload_lora):
            with pytest.raises(FileNotFoundError):
                bring(Path("no such file"))
