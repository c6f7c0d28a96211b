"""The audit: everything that changes something through the API stands there, with the change itself, and no secret."""

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest
from house import ADMIN_TOKEN, API_KEY, SECRET, House, open_house
from ledgers import end_tasks
from long_ledger import NOW
from test_cli import Operator

from receiver.housekeep.prune import DAY, Pruning
from receiver.model.deeds import ACTING, DOOR_HEADER, Deed
from receiver.model.entries import Settlement
from receiver.model.records import Filter
from receiver.model.retention import Keep
from receiver.store import Store
from receiver.store.ledger.transaction import Transaction
from receiver.store.sqlite.store import SqliteStore
from receiver.web.audited import VERBS
from receiver.web.origins import SAFE
from receiver.web.routes import ENDPOINTS

T = TypeVar("T")


async def deeds(house: House, **query: str) -> list[dict[str, Any]]:
    answer = await house.api.get("/audit", params=query)
    assert answer.status_code == 200
    found: list[dict[str, Any]] = answer.json()["items"]
    return found


def test_every_method_that_may_change_something_has_a_verb_and_no_other() -> None:
    assert VERBS.keys() == {f"{each.method} {each.path}" for each in ENDPOINTS if each.method not in SAFE}


async def test_what_was_done_is_told_newest_first(house: House) -> None:
    task = await house.submit()
    await house.api.post("/definitions/on-success/pause", headers={DOOR_HEADER: "cli"})
    await house.api.post(f"/tasks/{task[:13]}/cancel")
    told = [(each["verb"], each["object"], each["door"], each["result"]) for each in await deeds(house)]
    assert told == [
        ("cancel", f"tasks/{task}", "api", "done"),
        ("pause", "definitions/on-success", "cli", "done"),
        ("submit", f"tasks/{task}", "api", "done"),
    ]
    assert [each["verb"] for each in await deeds(house, verb="pause")] == ["pause"]
    assert {each["session"] for each in await deeds(house)} == {None}


async def test_a_replay_tells_what_it_chose_by_and_how_many_that_were(house: House) -> None:
    await end_tasks(house.store, 2, house.service.definitions, house.clock())
    while (claimed := await house.store.claim_action("on-success", house.clock(), 60)) is not None:
        await house.store.settle_action(claimed, Settlement(outcome="dead", reason="full"), house.clock())
    order = {"filter": {"name": "on-success"}, "dry_run": True}
    await house.api.post("/replays", json=order)
    assert await deeds(house) == []
    made = (await house.api.post("/replays", json={**order, "dry_run": False})).json()
    (deed,) = await deeds(house)
    assert (deed["verb"], deed["object"], deed["count"]) == ("replay", f"replays/{made['id']}", 2)
    assert deed["filter"] == {"mode": "retry", "name": "on-success"}


async def test_what_only_looks_or_is_refused_at_once_leaves_nothing(house: House) -> None:
    await house.api.get("/tasks")
    await house.api.post("/previews", json={"target": "no/model", "input": {}})
    await house.api.post("/tasks", json={"target": "no/model", "input": {}})
    await house.api.post("/tasks/nowhere/cancel")
    await house.http.post("/api/definitions/on-success/pause")
    assert await deeds(house) == []


async def test_what_the_program_does_by_itself_is_no_deed(house: House) -> None:
    await house.submit()
    await house.advance(600)
    await house.http.post("/callbacks/none")
    assert [each["verb"] for each in await deeds(house)] == ["submit"]


async def test_a_change_that_was_tried_in_vain_says_why(house: House) -> None:
    await house.submit()
    await house.advance(600)
    (done, *_) = (await house.api.get("/actions")).json()["items"]
    assert (await house.api.post(f"/actions/{done['id']}/skip")).status_code == 409
    (deed, _) = await deeds(house)
    assert (deed["verb"], deed["object"], deed["result"]) == ("skip", f"actions/{done['id']}", "not_owed")


async def test_no_secret_is_in_the_audit(house: House) -> None:
    body = {"target": "1", "kind": "workflow", "input": {"accessPassword": "sentinel-password"}}
    await house.api.post("/tasks", json=body)
    await house.api.post("/secrets/rotate")
    text = (await house.api.get("/audit")).text
    assert [each for each in (ADMIN_TOKEN, API_KEY, SECRET, "sentinel-password") if each in text] == []


async def test_the_deed_and_the_change_are_one_transaction(tmp_path: Path) -> None:
    """A commit that fails takes both with it; one that is tried again writes the deed once."""

    class Failing(SqliteStore):
        fails = True

        async def write(self, work: Callable[[Transaction], T]) -> T:
            def breaking(tx: Transaction) -> T:
                value = work(tx)
                if self.fails:
                    raise ZeroDivisionError
                return value

            return await super().write(breaking)

    store = Failing(tmp_path / "receiver.db")
    await store.open()
    deed = Deed(NOW, "api", None, "count", "")
    token = ACTING.set(deed)
    with pytest.raises(ZeroDivisionError):
        await store.count("things")
    assert ((await store.audit(Filter())).items, deed.row) == ([], None)
    store.fails = False
    await store.count("things")
    await store.count("things")
    ACTING.reset(token)
    assert [each.verb for each in (await store.audit(Filter())).items] == ["count"]
    assert (await store.counters())["things"] == 2
    await store.close()


async def test_old_deeds_go_when_the_settings_say_so(store: Store) -> None:
    for at in (NOW, NOW + 20 * DAY):
        token = ACTING.set(Deed(at, "api", None, "count", ""))
        await store.count("things")
        ACTING.reset(token)
    kept = {**dict.fromkeys(Keep.__struct_fields__, 0.0), "audit": 30.0}
    pruning = Pruning(Keep(**kept), NOW + 40 * DAY)
    while await pruning.step(store):
        pass
    assert [each.at for each in (await store.audit(Filter())).items] == [NOW + 20 * DAY]


async def test_deeds_are_kept_over_a_restart(tmp_path: Path) -> None:
    async with open_house(tmp_path) as house:
        await house.api.post("/definitions/on-success/pause")
    connection = sqlite3.connect(tmp_path / "receiver.db")
    assert connection.execute("select verb, object, result from audit").fetchall() == [
        ("pause", "definitions/on-success", "done")
    ]
    connection.close()


def test_the_command_line_says_that_it_did_it(operator: Operator) -> None:
    assert operator("actions", "pause", "works").exit_code == 0
    assert operator("actions", "resume", "works").exit_code == 0
    listed = operator("audit", "--verb", "pause", "--limit", "1")
    assert listed.exit_code == 0
    assert [word in listed.stdout for word in ("cli", "pause", "definitions/works", "done")] == [True] * 4
