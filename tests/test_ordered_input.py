"""An action is told what was ordered, unless its definition says that it must not be."""

from pathlib import Path

import pytest
from house import INPUT, open_house

from receiver.actions.body import filled
from receiver.events import Event
from receiver.model.redaction import MASK
from receiver.simulator.workflows import ANIMATED
from receiver.testing import ActionRunner, make_event

TOML = """
[[actions]]
name = "told"
kind = "python"
function = "effects:told"
[[actions]]
name = "untold"
kind = "python"
function = "effects:untold"
include_input = false
"""


@pytest.mark.story
async def test_an_action_gets_what_was_ordered_unless_it_must_not(tmp_path: Path) -> None:
    async with open_house(tmp_path, TOML) as house:
        await house.submit()
        await house.advance(60)
        received = {work.definition.name: Event(work.body) for work in house.effects}
    assert received["told"].task.input == INPUT
    assert received["untold"].task.input is None
    assert "input" not in received["untold"]["task"]


@pytest.mark.story
async def test_the_password_of_a_workflow_stays_with_us(tmp_path: Path) -> None:
    nodes = [{"nodeId": "52", "fieldName": "seconds", "fieldValue": "5"}]
    order = {"accessPassword": ANIMATED.password, "nodeInfoList": nodes}
    async with open_house(tmp_path, TOML) as house:
        body = {"kind": "workflow", "target": ANIMATED.id, "input": order}
        answer = await house.api.post("/tasks", json=body)
        assert answer.status_code == 202, answer.text
        await house.advance(60)
        told = next(Event(work.body) for work in house.effects if work.definition.name == "told")
    assert told.task.input == {"accessPassword": MASK, "nodeInfoList": nodes}


def test_a_made_up_event_has_an_order_as_well() -> None:
    assert make_event(input={"prompt": "a harbour"}).task.input == {"prompt": "a harbour"}
    assert make_event().task.input
    table = {"kind": "python", "function": "receiver.events:Event", "include_input": False}
    assert ActionRunner()(table).event.task.input is None


def test_a_body_is_made_of_what_was_ordered() -> None:
    assert filled({"text": "{task.input.prompt}"}, dict(make_event(input={"prompt": "a harbour"}))) == {
        "text": "a harbour"
    }
