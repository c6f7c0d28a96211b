"""Every page of the provider's reference about its API has a method here, a command that goes over a route of ours,
and a simulated twin: each command is typed, and the twin must hear of it by way of a running server."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from house import House
from offering import beginning
from test_cli import Operator
from test_client import MODEL, RunningServer

from receiver.runninghub.client import RunningHub
from receiver.runninghub.resources import Resources
from receiver.simulator import Fault
from receiver.simulator.workflows import PICTURE_APP, TEXT_TO_IMAGE

pytestmark = pytest.mark.story

WORKFLOW, APP = TEXT_TO_IMAGE.id, PICTURE_APP.id
BASIC, ADVANCED = f"submit --workflow {WORKFLOW} --wait", f"submit --workflow {WORKFLOW} --node 6.text=ink --wait"


@dataclass(frozen=True)
class Page:
    """A page, the client's method for it, and commands with the simulator's routes that each of them reaches.

    {ended} is a task that has ended, {running} one that RunningHub works on, {file} and {lora} paths of files.
    """

    name: str
    method: str
    commands: dict[str, str]


PAGES = [
    Page("Standard Model API", "submit", {f"submit {MODEL} prompt=ink --wait": "submit"}),
    Page("Check Task Status", "status", {"task {ended} --status": "status"}),
    Page("Check Task Output", "outputs", {"task {ended} --outputs": "outputs"}),
    Page("Get Webhook Event Details", "webhook_detail", {"task {ended} --webhook": "detail"}),
    Page("Resend Specific Webhook Event", "resend", {"resend {ended}": "resend"}),
    Page("Query generation result (V2)", "query", {"reconcile {running}": "query"}),
    Page("Start ComfyUI Task 1 - Basic", "submit", {BASIC: "run_workflow", f"{BASIC} --v1": "create"}),
    Page("Start ComfyUI Task 2 - Advanced", "submit", {ADVANCED: "run_workflow", f"{ADVANCED} --v1": "create"}),
    Page("Get Workflow JSON", "workflow", {f"workflow {WORKFLOW}": "workflow_json"}),
    Page("Cancel ComfyUI Task", "cancel", {"cancel {running}": "cancel"}),
    Page(
        "Start AI App Task",
        "submit",
        {f"submit --app {APP} --wait": "run_app", f"submit --app {APP} --wait --v1": "app_run"},
    ),
    Page("Get API call examples for AI application", "app", {f"app {APP}": "app_demo"}),
    Page("Obtain quick create style data", "styles", {f"styles {APP}": "quick_styles"}),
    Page(
        "Initiate Quick Create Task",
        "submit",
        {f"submit --quick {APP} quickCreateCode=002 --node 6.text=ink --wait": "quick_run"},
    ),
    Page("File upload (new)", "upload", {"upload {file}": "upload"}),
    Page("Upload Resource", "upload_for_nodes", {"upload --as nodes {file}": "old_upload"}),
    Page("Upload Lora", "upload_lora", {"upload --as lora {lora}": "lora_put"}),
    Page("Get Account Information", "account", {"account": "account"}),
    # What the published clients use as well, and no page tells.
    Page("Queue status", "queue", {"account": "queue"}),
    Page("Price preview", "price", {f"submit {MODEL} prompt=ink --dry-run": "price"}),
]


class LeisurelyServer(RunningServer):
    """Its tasks run for as long as anybody cares."""

    task_seconds = 3600.0


@pytest.fixture(scope="module")
def operator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operator]:
    with RunningServer(tmp_path_factory.mktemp("server")).running() as server:
        yield Operator(server)


@pytest.fixture(scope="module")
def leisurely(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operator]:
    with LeisurelyServer(tmp_path_factory.mktemp("leisurely")).running() as server:
        yield Operator(server)


@pytest.mark.parametrize("page", PAGES, ids=[page.name for page in PAGES])
def test_a_page_has_a_method_a_command_and_a_simulated_endpoint_that_hears_of_it(
    operator: Operator, leisurely: Operator, page: Page, tmp_path: Path
) -> None:
    owner = RunningHub if hasattr(RunningHub, page.method) else Resources
    assert getattr(owner, page.method).__doc__
    file = tmp_path / "one.png"
    file.write_bytes(beginning(file.name) + f"{tmp_path}".encode())
    for command, route in page.commands.items():
        typing = leisurely if "{running}" in command else operator
        words = [filled(word, typing, file) for word in command.split()]
        before = typing.server.simulator.count(route)
        typing(*words)
        assert typing.server.simulator.count(route) > before, command


def filled(word: str, operator: Operator, file: Path) -> str:
    match word:
        case "{file}":
            return str(file)
        case "{lora}":
            lora = file.with_suffix(".safetensors")
            lora.write_bytes(beginning(lora.name) + str(file).encode())
            return str(lora)
        case "{ended}":
            return operator.ended()
        case "{running}":
            return running(operator)
    return word


def running(operator: Operator) -> str:
    """A task that RunningHub works on."""
    with operator.server.client() as client:
        task = client.submit(WORKFLOW, {}, kind="workflow")
        return client.wait(task.id, until=lambda each: each.state == "submitted", timeout=20, pause=lambda _: None).id


async def test_a_running_task_is_asked_for_the_providers_own_word(house: House) -> None:
    task_id = await house.submit()
    assert (await house.api.get(f"/tasks/{task_id}/status")).status_code == 409
    await house.settle()
    assert (await house.api.get(f"/tasks/{task_id}/status")).json()["status"] in ("QUEUED", "RUNNING")
    await house.advance(10)
    assert (await house.api.get(f"/tasks/{task_id}/status")).json() == {"status": "SUCCESS"}
    assert (await house.api.get("/tasks/nobody/status")).status_code == 404


async def test_what_became_of_a_callback_is_told_without_the_token_in_its_url(house: House) -> None:
    task_id = await house.submit(Fault.LOST_CALLBACK)
    assert (await house.api.get(f"/tasks/{task_id}/webhook")).status_code == 409
    await house.settle()
    house.door_open = False
    await house.advance(200)
    told = (await house.api.get(f"/tasks/{task_id}/webhook")).json()
    assert (told["status"], told["retry_count"]) == ("FAILED", 3)
    assert "http://receiver.test/callbacks/[secret]" in told["response"]


async def test_a_task_that_the_provider_has_forgotten_has_no_outputs(house: House) -> None:
    task_id = await house.submit()
    assert (await house.api.get(f"/tasks/{task_id}/outputs")).status_code == 409
    await house.settle()
    running = (await house.api.get(f"/tasks/{task_id}/outputs")).json()
    assert (running["state"], running["results"]) == (None, [])
    house.simulator.outage("outputs", "code", code="807")
    forgotten = await house.api.get(f"/tasks/{task_id}/outputs")
    assert (forgotten.status_code, forgotten.json()["error"]["code"]) == (404, "unknown_to_provider")
    assert (await house.api.get("/tasks/nobody/outputs")).status_code == 404


async def test_an_apps_styles_are_shown(house: House) -> None:
    styles = (await house.api.get(f"/apps/{PICTURE_APP.id}/styles")).json()["items"]
    assert [style["modelName"] for style in styles] == [style.name for style in PICTURE_APP.styles]
    assert (await house.api.get(f"/apps/{PICTURE_APP.id}/styles?type=x")).status_code == 422


@pytest.mark.parametrize(("purpose", "name"), [("lora", "style.safetensors"), ("nodes", "one.png")])
async def test_a_file_that_goes_an_older_way_comes_back_as_a_name_for_nodes(
    house: House, purpose: str, name: str
) -> None:
    async def sent() -> str:
        answer = await house.api.post(
            "/uploads", params={"name": name, "as": purpose}, content=beginning(name) + b"x" * 5000
        )
        assert answer.status_code == 201, answer.text
        file_name: str = answer.json()["file_name"]
        return file_name

    first = await sent()
    assert first.endswith(name.rpartition(".")[2])
    assert await sent() == first
    if purpose == "lora":
        assert house.simulator.count("lora_put") == 1
    wrong = await house.api.post("/uploads", params={"name": name, "as": "music"}, content=b"x")
    assert wrong.status_code == 422
