"""What the log says of tasks, actions and alerts: a line for every outcome, however it came about."""

from collections.abc import AsyncIterator, Iterable, MutableMapping
from pathlib import Path
from typing import Any

import pytest
import structlog
from house import House, open_house

from receiver.actions import ActionFailed, Done, Work
from receiver.model.records import AlertKind
from receiver.simulator import Fault

pytestmark = pytest.mark.story

Lines = list[MutableMapping[str, Any]]
ONE_TRY = """
[[actions]]
name = "tell"
kind = "python"
function = "effects:tell"
max_attempts = 2
breaker = 0
"""


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with open_house(tmp_path, ONE_TRY) as made:
        yield made


def of(lines: Iterable[MutableMapping[str, Any]], kind: str) -> list[tuple[str, str]]:
    """The states that a kind of row came to, each with the level of its line."""
    return [(line["state"], line["log_level"]) for line in lines if line["event"] == kind]


async def test_a_task_that_a_callback_ends_is_logged_with_its_end_and_how_it_was_learned(house: House) -> None:
    with structlog.testing.capture_logs() as lines:
        task_id = await house.submit()
        await house.advance(60)
    assert of(lines, "task") == [("queued", "info"), ("submitted", "info"), ("succeeded", "info")]
    task = await house.task(task_id)
    (ended,) = [line for line in lines if line["state"] == "succeeded"]
    assert {"id": task_id, "source": "callback", "confirmed": True}.items() <= ended.items()
    assert ended["provider_task_id"] == task.provider_task_id
    assert of(lines, "action") == [("done", "info")]


async def test_an_end_that_somebody_asked_for_is_logged_as_well(house: House) -> None:
    task_id = await house.submit(Fault.LOST_CALLBACK)
    await house.settle()
    house.simulator.finish((await house.task(task_id)).provider_task_id or "")
    with structlog.testing.capture_logs() as lines:
        await house.api.post(f"/tasks/{task_id}/reconcile")
    assert of(lines, "task") == [("succeeded", "info")]
    assert [line["source"] for line in lines if line["event"] == "task"] == ["query"]


async def test_what_somebody_should_look_at_is_a_warning(house: House) -> None:
    with structlog.testing.capture_logs() as lines:
        await house.submit(Fault.ANSWER_LOST)
        await house.settle()
        house.simulator.outage("submit", "code", code="1007", times=1)
        await house.submit()
        await house.settle()
    assert ("in_doubt", "warning") in of(lines, "task")
    assert ("rejected", "warning") in of(lines, "task")
    alerts = [line for line in lines if line["event"] == "alert" and line["state"] == "open"]
    assert {(line["alert"], line["log_level"]) for line in alerts} == {
        ("provider_unreachable", "warning"),
        ("task_in_doubt", "warning"),
    }
    (rejected,) = [line for line in lines if line["state"] == "rejected"]
    assert rejected["error"].startswith("1007 ")


async def test_each_failed_try_is_logged_with_its_reason_and_a_dead_action_is_a_warning(house: House) -> None:
    async def fail(_: Work) -> Done:
        raise ActionFailed("the till is shut")

    house.effect = fail
    with structlog.testing.capture_logs() as lines:
        task_id = await house.submit()
        await house.advance(120)
    assert of(lines, "action") == [("owed", "info"), ("dead", "warning")]
    for line in (line for line in lines if line["event"] == "action"):
        assert (line["name"], line["task"], line["reason"]) == ("tell", task_id, "the till is shut")
    assert [line["alert"] for line in lines if line["event"] == "alert"] == ["action_dead"]


async def test_an_alert_is_logged_when_it_opens_and_when_it_closes_and_not_each_time_it_is_raised(house: House) -> None:
    with structlog.testing.capture_logs() as lines:
        for _ in range(3):
            await house.store.raise_alert(AlertKind.DISK_LOW, "files", "the disk is nearly full", 1.0)
        await house.store.clear_alert(AlertKind.DISK_LOW, "files", 2.0)
    assert of(lines, "alert") == [("open", "warning"), ("closed", "info")]
    assert {line["message"] for line in lines} == {"the disk is nearly full"}


async def test_a_task_that_is_not_taken_yet_is_logged_as_queued_again_with_the_reason(house: House) -> None:
    house.simulator.outage("submit", "code", code="421", times=1)
    with structlog.testing.capture_logs() as lines:
        await house.submit()
        await house.settle()
    again = [line for line in lines if line["event"] == "task"][1]
    assert (again["state"], "421" in again["reason"]) == ("queued", True)


async def test_what_a_dead_server_left_is_logged_when_the_next_one_finds_it(house: House) -> None:
    await house.submit()
    taken = await house.store.take_queued_task(house.clock(), 5, callback=True)
    assert taken is not None
    with structlog.testing.capture_logs() as lines:
        await house.reopen()
    assert of(lines, "task") == [("in_doubt", "warning")]
    assert [line["reason"] for line in lines if line["event"] == "task"] == ["the server stopped while it was sent"]


async def test_at_the_end_the_provider_s_own_word_is_the_end_s(house: House) -> None:
    task_id = await house.submit(Fault.FAILED)
    await house.settle()
    await house.api.post(f"/tasks/{task_id}/reconcile")
    assert (await house.task(task_id)).provider_status in ("QUEUED", "RUNNING")
    await house.advance(60)
    assert (await house.task(task_id)).provider_status == "FAILED"
