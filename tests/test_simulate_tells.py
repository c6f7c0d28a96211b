"""`receiver simulate` says what it serves, and what it is asked."""

import re

import httpx
import pytest
from provider import HOOK, KEY, MODEL, START, URL

from receiver.cli.simulate import introduction
from receiver.simulator import DeliveryAnswer, Options, Simulator
from receiver.simulator.delivery import noted
from receiver.simulator.workflows import APPS, WORKFLOWS


def test_it_names_its_key_and_everything_that_has_an_id() -> None:
    lines = list(introduction(Options(api_key="a right key", port=9001)))
    assert max(map(len, lines[1:])) <= 80
    told = re.sub(r" \\\n +", " ", "\n".join(lines))
    assert "RUNNINGHUB_BASE_URL=http://127.0.0.1:9001 RUNNINGHUB_API_KEY='a right key' receiver serve" in told
    assert "accepts this API key alone" in told
    for known in [*(each.id for each in WORKFLOWS), *(each.id for each in APPS)]:
        assert known in told
    assert "RUNNINGHUB_API_KEY=any" in "\n".join(introduction(Options()))


def test_there_is_an_app_that_takes_a_file_and_asks_for_no_password() -> None:
    free = [app for app in APPS if app.workflow.password is None]
    assert any(node.type == "IMAGE" for app in free for node in app.nodes)


@pytest.mark.story
async def test_each_request_and_each_callback_is_a_line_with_what_was_answered() -> None:
    lines: list[str] = []
    now = START

    async def deliver(*_: object) -> DeliveryAnswer:
        return DeliveryAnswer(None, "Connection refused")

    simulator = Simulator(
        Options(base_url=URL), clock=lambda: now, deliver=noted(deliver, lines.append), note=lines.append
    )
    async with httpx.AsyncClient(transport=simulator.transport(), base_url=URL) as http:
        order = {"prompt": "a cat", "webhookUrl": HOOK}
        task_id = (await http.post(MODEL, json=order, headers=KEY)).json()["taskId"]
        await http.post("/openapi/v2/query", json={"taskId": "7"}, headers=KEY)
        simulator.outage("query", "code", code="1011", times=1)
        await http.post("/openapi/v2/query", json={"taskId": task_id}, headers=KEY)
        now += 10
        await simulator.tick()
    assert lines[0].startswith(f"POST {MODEL}: {task_id} ")
    assert lines[1].startswith("POST /openapi/v2/query: refused with 1004: ")
    assert lines[2] == "POST /openapi/v2/query: out of order: code"
    assert lines[3] == "callback to https://us.test/callbacks/…: Connection refused"
