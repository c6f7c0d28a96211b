"""A file and a server give the same answers: one story is played on both, and everything that can be asked is asked."""

import re
from pathlib import Path

import pytest
from house import INPUT, MODEL, House, open_house
from postgres import new_ledger

from receiver.actions import Done, Work
from receiver.simulator import Fault

pytestmark = pytest.mark.slow

ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
FAULTS = [None, *Fault]
LABELS: tuple[dict[str, str], ...] = ({}, {"project": "shop", "user": "Änne"}, {"project": "Shop", "USER": "50%_"})
LISTS = ("tasks", "deliveries", "events", "actions", "alerts", "replays", "definitions", "audit")
FILTERS = {
    "tasks": ("q=SHOP", "q=än", "q=rhart", "label=project=shop", "target=*VIDEO", "state=failed", "q=50%25", "limit=2"),
    "events": ("state=failed", "label=project=shop"),
    "actions": ("state=dead", "name=on-success", "label=project=shop&state=done"),
    "deliveries": ("state=unreadable", "state=contradicting"),
    "alerts": ("state=closed", "kind=callback_missed"),
}


async def play(house: House) -> None:
    """Tasks with everything that goes wrong, actions that fail at first, people who mend it."""
    begun = house.clock.now

    async def effect(work: Work) -> Done:
        if house.clock.now < begun + 40_000:
            raise RuntimeError("not yet")
        return Done(detail={"said": "done"})

    house.effect = effect
    for number, fault in enumerate(FAULTS):
        if fault is not None:
            house.simulator.plan_next(fault)
        ordered = {"target": MODEL, "input": INPUT, "labels": LABELS[number % len(LABELS)]}
        answer = await house.api.post("/tasks", json=ordered, headers={"Idempotency-Key": f"k{number}"})
        assert answer.status_code == 202, answer.text
        await house.advance(7)
    await house.advance(30_000)
    await house.api.post("/definitions/on-failure/pause")
    await house.advance(20_000)
    await house.api.post("/replays", json={"mode": "retry", "filter": {"action_state": ["dead"]}, "rate": 2})
    await house.api.post("/replays", json={"mode": "again", "filter": {"name": "on-success"}})
    for _ in range(40):
        await house.service.replay_next()
    await house.advance(4000)
    await house.api.post("/definitions/on-failure/resume")
    await house.advance(4000)


async def answers(house: House) -> dict[str, str]:
    """By what was asked: the answer, in which tasks are numbered as they come."""
    paths = [f"/{name}" for name in (*LISTS, "status", "prune")]
    paths += [f"/{name}?{each}" for name, several in FILTERS.items() for each in several]
    listed = (await house.api.get("/tasks?limit=100")).json()["items"]
    paths += [f"/tasks/{each['id']}" for each in listed]
    cursor = (await house.api.get("/tasks?limit=5")).json()["next"]
    paths.append(f"/tasks?limit=5&after={cursor}")
    known = {each["id"]: f"task {number}" for number, each in enumerate(listed)}
    found = {}
    for path in paths:
        answer = await house.api.get(path)
        assert answer.status_code == 200, f"{path}: {answer.text}"
        found[told(path, known)] = told(answer.text, known)
    return found


def told(text: str, known: dict[str, str]) -> str:
    for number, (id_, name) in enumerate(known.items()):
        # Ids are random, and so are their shortest beginnings.
        text = re.sub(rf'"short_id":"{id_[:8]}[0-9a-f-]*"', f'"short_id":"{number}"', text).replace(id_, name)
    return ID.sub("another id", text)


async def test_every_list_and_task_is_told_alike_after_the_same_story(tmp_path: Path) -> None:
    found = []
    for name, more in (("file", {}), ("server", {"RECEIVER_DATABASE": new_ledger()})):
        (tmp_path / name).mkdir()
        async with open_house(tmp_path / name, environment=more) as house:
            await play(house)
            found.append(await answers(house))
    file, server = found
    assert file.keys() == server.keys()
    for path, answer in file.items():
        assert server[path] == answer, path
