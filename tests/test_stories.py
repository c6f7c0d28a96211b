"""The main job, told as stories: submit, receive, confirm, act, and what happens when something is missing."""

from house import House

from receiver.simulator import Fault


async def test_a_task_is_submitted_called_back_confirmed_and_acted_on(house: House) -> None:
    task_id = await house.submit()
    await house.advance(10)
    task = await house.task(task_id)
    assert task.state == "succeeded"
    assert task.event is not None
    assert (task.event.source, task.event.confirmed) == ("callback", True)
    assert [check.kind for check in task.checks] == ["submit", "query"]
    assert house.effects_of(task_id) == ["on-success"]
    assert task.results[0].url
    assert await house.alerts() == []
