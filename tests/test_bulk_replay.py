"""Two thousand dead actions taken up again by their time: counted, slowly, cancelled halfway, resumed, each once."""

from collections import Counter
from pathlib import Path

import pytest
from house import START, House, open_house
from ledgers import end_tasks

from receiver.actions import Done, Work
from receiver.model.entries import Settlement
from receiver.model.records import rfc3339

pytestmark = pytest.mark.slow

TOML = '[[actions]]\nname = "one"\nkind = "python"\nfunction = "effects:one"\nconcurrency = 8\n'
DEAD = 2000
OTHERS = 150
"""Dead actions before and after the time range, which must stay as they are."""
RATE = 100.0


async def bury(house: House, count: int) -> list[str]:
    """So many tasks that end now, each with a dead action."""
    tasks = await end_tasks(house.store, count, house.service.definitions, house.clock())
    while (claimed := await house.store.claim_action("one", house.clock(), 60)) is not None:
        await house.store.settle_action(claimed, Settlement(outcome="dead", reason="the disk was full"), house.clock())
    return [task.id for task in tasks]


async def state(house: House, number: int) -> dict[str, object]:
    found: dict[str, object] = (await house.api.get(f"/replays/{number}")).json()
    return found


async def play(house: House, seconds: float) -> None:
    """Lets the definition work for a while: the whole world of a house turns too slowly for thousands."""
    until = house.clock.now + seconds
    while (due := await house.store.next_action_at("one", house.clock())) is not None and due <= until:
        house.clock.now = max(house.clock.now, due)
        while await house.service.dispatch_next(house.service.definitions[0]) is not None:
            pass
    house.clock.now = until


async def test_two_thousand_are_replayed_by_their_time_with_exact_counts(tmp_path: Path) -> None:
    async with open_house(tmp_path, TOML) as house:
        before = await bury(house, OTHERS)
        house.clock.now = START + 3600
        wanted = await bury(house, DEAD)
        house.clock.now = START + 7200
        after = await bury(house, OTHERS)
        done = Counter[str]()

        async def count(work: Work) -> Done:
            done[work.task_id] += 1
            return Done(detail={})

        house.effect = count
        order = {
            "filter": {"action_state": "dead", "since": rfc3339(START + 3600), "until": rfc3339(START + 7200)},
            "rate": RATE,
        }

        dry = await house.api.post("/replays", json={**order, "dry_run": True})
        assert (dry.status_code, dry.json()["matched"], dry.json()["id"]) == (200, DEAD, None)
        made = (await house.api.post("/replays", json=order)).json()
        assert (made["matched"], made["done"], made["state"]) == (DEAD, 0, "running")
        again = (await house.api.post("/replays", json=order)).json()
        assert again["matched"] == 0

        await play(house, 9.995)
        halfway = DEAD // 2
        assert (await state(house, made["id"]))["done"] == halfway
        cancelled = (await house.api.request("DELETE", f"/replays/{made['id']}")).json()
        assert (cancelled["state"], cancelled["done"], cancelled["cancelled"]) == ("cancelled", halfway, DEAD - halfway)
        await play(house, 60)
        assert sum(done.values()) == halfway
        counts = (await house.api.get("/definitions")).json()["items"][0]["counts"]
        assert counts == {"done": halfway, "dead": DEAD - halfway + 2 * OTHERS}

        resumed = await house.api.post(f"/replays/{made['id']}/resume")
        assert (resumed.status_code, resumed.json()["state"], resumed.json()["cancelled"]) == (202, "running", 0)
        await play(house, 4.995)
        assert (await state(house, made["id"]))["done"] == halfway + 500
        await play(house, 10)
        ended = await state(house, made["id"])
        assert (ended["state"], ended["done"], ended["cancelled"]) == ("done", DEAD, 0)
        assert done == dict.fromkeys(wanted, 1)
        assert not set(done) & {*before, *after}
        twice = await house.api.post(f"/replays/{made['id']}/resume")
        assert (twice.status_code, twice.json()["error"]["code"]) == (409, "not_cancelled")


async def test_what_a_cancelled_replay_left_may_be_taken_up_by_another_and_both_count_right(tmp_path: Path) -> None:
    async with open_house(tmp_path, TOML) as house:
        await bury(house, 10)
        first = (await house.api.post("/replays", json={"rate": 1, "all": True})).json()
        await play(house, 3.5)
        await house.api.request("DELETE", f"/replays/{first['id']}")
        second = (await house.api.post("/replays", json={"all": True})).json()
        assert second["matched"] == 6
        await play(house, 5)
        shown = (await house.api.get("/replays")).json()["items"]
        assert [(each["id"], each["done"], each["cancelled"], each["state"]) for each in shown] == [
            (second["id"], 6, 0, "done"),
            (first["id"], 4, 6, "cancelled"),
        ]
