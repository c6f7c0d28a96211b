"""Every page of the provider's reference that is about its API has a method here, a way to it, and a simulated twin."""

import pytest
from house import House

from receiver.cli import main
from receiver.runninghub.client import RunningHub
from receiver.runninghub.resources import Resources

PAGES = [
    # page, method, command or route, routes of the simulator
    ("Standard Model API", "submit", "submit", {"submit"}),
    ("Check Task Status", "status", "task", {"status"}),
    ("Check Task Output", "outputs", "task", {"outputs"}),
    ("Get Webhook Event Details", "webhook_detail", "reconcile", {"detail"}),
    ("Resend Specific Webhook Event", "resend", "resend", {"resend"}),
    ("Query generation result (V2)", "query", "reconcile", {"query"}),
    ("Start ComfyUI Task 1 - Basic", "submit", "submit", {"create", "run_workflow"}),
    ("Start ComfyUI Task 2 - Advanced", "submit", "submit", {"create", "run_workflow"}),
    ("Get Workflow JSON", "workflow", "workflow", {"workflow_json"}),
    ("Cancel ComfyUI Task", "cancel", "cancel", {"cancel"}),
    ("Start AI App Task", "submit", "submit", {"app_run", "run_app"}),
    ("Get API call examples for AI application", "app", "app", {"app_demo"}),
    ("Obtain quick create style data", "styles", "submit", {"quick_styles"}),
    ("Initiate Quick Create Task", "submit", "submit", {"quick_run"}),
    ("File upload (new)", "upload", "upload", {"upload"}),
    ("Upload Resource", "upload_for_nodes", "upload", {"old_upload"}),
    ("Upload Lora", "upload_lora", "upload", {"lora_url", "lora_put"}),
    ("Get Account Information", "account", "account", {"account"}),
]


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize(("page", "method", "command", "routes"), PAGES, ids=[row[0] for row in PAGES])
async def test_a_page_has_a_method_a_command_and_a_simulated_endpoint(
    shared_house: House, page: str, method: str, command: str, routes: set[str]
) -> None:
    owner = RunningHub if hasattr(RunningHub, method) else Resources
    assert getattr(owner, method).__doc__, page
    assert command in main.commands
    assert routes <= set(shared_house.simulator.routes)
