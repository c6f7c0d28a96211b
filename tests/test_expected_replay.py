"""What was counted is what is replayed: a dry run freezes its time, and another count does nothing."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner
from house import House, open_house
from ledgers import end_tasks
from test_client import RunningServer

from receiver.cli.replays import confirmed
from receiver.client import ApiError
from receiver.model.entries import Settlement
from receiver.model.views import ReplayView

TOML = '[[actions]]\nname = "one"\nkind = "python"\nfunction = "effects:one"\n'


async def bury(house: House, count: int) -> None:
    await end_tasks(house.store, count, house.service.definitions, house.clock())
    while (claimed := await house.store.claim_action("one", house.clock(), 60)) is not None:
        await house.store.settle_action(claimed, Settlement(outcome="dead", reason="full"), house.clock())


async def posted(house: House, **order: Any) -> tuple[int, dict[str, Any]]:
    answer = await house.api.post("/replays", json=order)
    return answer.status_code, answer.json()


@pytest.mark.parametrize("mode", ["retry", "again"])
async def test_what_a_dry_run_counted_is_replayed_and_what_came_later_is_not(tmp_path: Path, mode: str) -> None:
    async with open_house(tmp_path, TOML) as house:
        await bury(house, 3)
        _, counted = await posted(house, mode=mode, filter={"name": "one"}, dry_run=True)
        house.clock.now += 1
        await bury(house, 2)
        frozen = {"name": "one", "until": counted["until"]}
        status, made = await posted(house, mode=mode, filter=frozen, expected=counted["matched"])
        assert (status, counted["matched"], made["matched"]) == (202, 3, 3)


async def test_another_count_than_expected_is_told_and_nothing_is_done(tmp_path: Path) -> None:
    async with open_house(tmp_path, TOML) as house:
        await bury(house, 3)
        _, counted = await posted(house, filter={"name": "one"}, dry_run=True)
        (first, *_) = (await house.api.get("/actions?state=dead")).json()["items"]
        await house.api.post(f"/actions/{first['id']}/skip")
        frozen = {"name": "one", "until": counted["until"]}
        status, refused = await posted(house, filter=frozen, expected=3)
        assert (status, refused["error"]["code"], refused["error"]["details"]) == (409, "another_count", {"matched": 2})
        assert (await house.api.get("/replays")).json()["items"] == []
        assert len((await house.api.get("/actions?state=dead")).json()["items"]) == 2


async def test_a_time_that_was_given_is_the_one_that_a_dry_run_tells(tmp_path: Path) -> None:
    async with open_house(tmp_path, TOML) as house:
        _, counted = await posted(house, filter={"until": "2026-01-01T00:00:00Z"}, dry_run=True)
        assert (counted["until"], counted["matched"]) == ("2026-01-01T00:00:00.000Z", 0)


@pytest.mark.parametrize("expected", ["3", -1, 2**63, 1.5])
async def test_what_is_expected_is_a_whole_number(house: House, expected: object) -> None:
    status, refused = await posted(house, all=True, expected=expected)
    assert (status, refused["error"]["details"][0]["path"]) == (422, "expected")


# ---------------------------------------------------------------- the command line


def test_what_has_changed_meanwhile_is_counted_and_asked_again() -> None:
    counts, orders = iter([5, 4]), list[dict[str, Any]]()

    def begin(filter: dict[str, Any], **order: Any) -> ReplayView:
        orders.append({**filter, **order})
        if order.get("dry_run"):
            return ReplayView(mode="retry", matched=next(counts), rate=None, dry_run=True, until="T")
        if order["expected"] == 5:
            raise ApiError(409, "another_count", "4 match now, and 5 were expected: nothing was done")
        return ReplayView(id=1, mode="retry", matched=4, rate=None)

    @click.command()
    def command() -> None:
        assert confirmed(begin, {"name": "one"}).id == 1

    ran = CliRunner().invoke(command, input="y\ny\n")
    assert ran.exit_code == 0, ran.output
    assert "5 would be owed again" in ran.output
    assert "4 match now" in ran.output
    assert orders[-1] == {"name": "one", "until": "T", "all": False, "expected": 4}


@pytest.mark.slow
@pytest.mark.parametrize(("said", "status"), [(b"n\n", 1), (b"y\n", 0)])
def test_on_a_terminal_it_is_asked_and_in_a_pipe_it_is_not(server: RunningServer, said: bytes, status: int) -> None:
    environment = {**os.environ, "RECEIVER_URL": server.url, "RECEIVER_ADMIN_TOKEN": server.token}
    command = [sys.executable, "-m", "receiver", "replay", "--all"]
    ours, theirs = os.openpty()
    ran = subprocess.Popen(command, stdin=theirs, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment)
    os.close(theirs)
    os.write(ours, said)
    out, _ = ran.communicate(timeout=60)
    os.close(ours)
    assert (ran.returncode, b"0 would be owed again" in out) == (status, True)
    piped = subprocess.run([*command, "--json"], input=b"", capture_output=True, env=environment)
    assert piped.returncode == 0
    assert json.loads(piped.stdout)["matched"] == 0
