"""Every page of the provider's reference about its API has a method here, a route to it, and a simulated twin."""

import pytest
from house import House

from receiver.runninghub.client import RunningHub
from receiver.runninghub.resources import Resources
from receiver.simulator.workflows import PICTURE_APP
from receiver.web.api import Api
from receiver.web.resources import ResourceDoors

pytestmark = pytest.mark.story

PAGES = [
    # page, method, route of ours, routes of the simulator
    ("Standard Model API", "submit", "/tasks", {"submit"}),
    ("Check Task Status", "status", "/tasks/{task}/status", {"status"}),
    ("Check Task Output", "outputs", "/tasks/{task}/reconcile", {"outputs"}),
    ("Get Webhook Event Details", "webhook_detail", "/tasks/{task}/reconcile", {"detail"}),
    ("Resend Specific Webhook Event", "resend", "/tasks/{task}/resend", {"resend"}),
    ("Query generation result (V2)", "query", "/tasks/{task}/reconcile", {"query"}),
    ("Start ComfyUI Task 1 - Basic", "submit", "/tasks", {"create", "run_workflow"}),
    ("Start ComfyUI Task 2 - Advanced", "submit", "/tasks", {"create", "run_workflow"}),
    ("Get Workflow JSON", "workflow", "/workflows/{id}", {"workflow_json"}),
    ("Cancel ComfyUI Task", "cancel", "/tasks/{task}/cancel", {"cancel"}),
    ("Start AI App Task", "submit", "/tasks", {"app_run", "run_app"}),
    ("Get API call examples for AI application", "app", "/apps/{id}", {"app_demo"}),
    ("Obtain quick create style data", "styles", "/apps/{id}/styles", {"quick_styles"}),
    ("Initiate Quick Create Task", "submit", "/tasks", {"quick_run"}),
    ("File upload (new)", "upload", "/uploads", {"upload"}),
    ("Upload Resource", "upload_for_nodes", "/uploads", {"old_upload"}),
    ("Upload Lora", "upload_lora", "/uploads", {"lora_url", "lora_put"}),
    ("Get Account Information", "account", "/account", {"account"}),
]


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize(("page", "method", "route", "simulated"), PAGES, ids=[row[0] for row in PAGES])
async def test_a_page_has_a_method_a_route_and_a_simulated_endpoint(
    shared_house: House, page: str, method: str, route: str, simulated: set[str]
) -> None:
    owner = RunningHub if hasattr(RunningHub, method) else Resources
    assert getattr(owner, method).__doc__, page
    doors = [*Api(shared_house.service).routes(), *ResourceDoors(shared_house.service).routes()]
    assert route in [door.path for door in doors]
    assert simulated <= set(shared_house.simulator.routes)


async def test_a_running_task_is_asked_for_the_providers_own_word(house: House) -> None:
    task_id = await house.submit()
    assert (await house.api.get(f"/tasks/{task_id}/status")).status_code == 409
    await house.settle()
    assert (await house.api.get(f"/tasks/{task_id}/status")).json()["status"] in ("QUEUED", "RUNNING")
    await house.advance(10)
    assert (await house.api.get(f"/tasks/{task_id}/status")).json() == {"status": "SUCCESS"}
    assert (await house.api.get("/tasks/nobody/status")).status_code == 404


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
            "/uploads", params={"name": name, "as": purpose}, content=b"\x89PNG" + b"x" * 5000
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
