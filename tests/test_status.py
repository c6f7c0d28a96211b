"""`receiver status`: what waits, what is wrong, and what to do about it."""

import json

import msgspec
import pytest
from house import House
from test_cli import Operator

from receiver.model.records import AlertKind
from receiver.model.remedies import REMEDIES
from receiver.model.views import OverviewView
from receiver.simulator import Fault

pytestmark = pytest.mark.story


async def status(house: House) -> OverviewView:
    answer = await house.api.get("/status")
    assert answer.status_code == 200, answer.text
    return msgspec.json.decode(answer.content, type=OverviewView)


def test_every_kind_of_alert_has_a_remedy() -> None:
    assert set(REMEDIES) == set(AlertKind)


async def test_nothing_waits_and_nothing_is_wrong_at_first(house: House) -> None:
    found = await status(house)
    assert (found.ready, found.wrong, found.more_wrong) == (True, [], False)
    assert set(found.tasks.values()) == {0}


async def test_what_waits_is_counted_by_its_state(house: House) -> None:
    await house.submit()
    assert (await status(house)).tasks["queued"] == 1
    await house.settle()
    assert (await status(house)).tasks["submitted"] == 1
    await house.advance(60)
    assert set((await status(house)).tasks.values()) == {0}


async def test_what_is_wrong_is_told_with_what_to_do(house: House) -> None:
    await house.submit(Fault.ANSWER_LOST)
    await house.settle()
    found = await status(house)
    assert found.tasks["in_doubt"] == 1
    wrong = {each.kind: each for each in found.wrong}
    (task,) = (await house.api.get("/tasks")).json()["items"]
    assert wrong["task_in_doubt"].remedy.endswith(f"then: receiver submit-again {task['id']}")
    alerts = (await house.api.get("/alerts")).json()["items"]
    assert {each.alert for each in found.wrong} == {each["id"] for each in alerts}


async def test_a_server_without_a_key_says_so(house: House) -> None:
    await house.reopen(RUNNINGHUB_API_KEY="")
    assert [each.kind for each in (await status(house)).wrong] == ["no_api_key"]


async def test_a_server_that_is_not_ready_says_why(house: House) -> None:
    await house.service.hold(0.0)
    found = await status(house)
    assert (found.ready, found.wrong[0].message) == (False, "stopping")


def test_the_command_shows_what_is_wrong_line_by_line(operator: Operator) -> None:
    assert "Nothing is wrong." in operator("status").stdout
    operator.ended()
    told = operator("status").stdout
    assert operator.server.url in told
    assert "1 dead" in told
    assert "action_dead" in told
    assert "receiver replay --name breaks" in told
    assert json.loads(operator("status", "--json").stdout)["actions"]["dead"] == 1
