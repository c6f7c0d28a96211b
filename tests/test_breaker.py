"""The circuit breaker: pure moves, and a definition whose target is unwell."""

from collections.abc import AsyncIterator
from itertools import pairwise
from pathlib import Path

import pytest
from house import House, open_house
from hypothesis import given
from hypothesis import strategies as st
from ledgers import end_tasks

from receiver.actions import ActionFailed, Done, Work
from receiver.model import breaker as breakers
from receiver.model import sentences
from receiver.model.entries import Settlement
from receiver.model.records import Breaker

LIMIT = 3
OPENED = 7
"""Seconds after which the tasks have ended, and no trial was made yet."""
TOML = """
[[actions]]
name = "one"
kind = "python"
function = "effects:one"
breaker = 3
max_attempts = 50
concurrency = 2
[[actions]]
name = "two"
kind = "python"
function = "effects:two"
"""

steps = st.lists(
    st.tuples(st.sampled_from(["begun", "failed", "done", "back"]), st.integers(1, 4), st.floats(0, 2000)), max_size=60
)


def play(given_steps: list[tuple[str, int, float]], limit: int) -> list[tuple[float, Breaker]]:
    """The breaker after every step, as the store would move it: what may not begin does not."""
    breaker, now, seen = breakers.CLOSED, 0.0, []
    for step, action, seconds in given_steps:
        now += seconds
        if step == "begun":
            if breakers.ready_at(breaker, now, trial_runs=breaker.trial is not None) <= now:
                breaker = breakers.begun(breaker, action)
        elif step == "failed":
            breaker = breakers.failed(breaker, action, now, limit=limit, silent=action % 2 == 0)
        elif step == "done":
            breaker = breakers.well(breaker, now)
        else:
            breaker = breakers.given_back(breaker, action)
        seen.append((now, breaker))
    return seen


@given(steps, st.integers(1, 6))
def test_it_is_open_only_after_as_many_failures_in_a_row_as_its_limit_and_none_that_was_well_for_a_while(
    given_steps: list[tuple[str, int, float]], limit: int
) -> None:
    before = breakers.CLOSED
    for now, breaker in play(given_steps, limit):
        assert not breakers.is_open(breaker) or len(breaker.failed) == limit
        if breakers.is_open(breaker) and not breakers.is_open(before):
            assert breaker.well_at is None or now - breaker.well_at >= breakers.CALM
        before = breaker
        assert len(set(breaker.failed)) == len(breaker.failed)
        assert breakers.is_open(breaker) == (breaker.openings > 0)
        assert breaker.trial is None or breakers.is_open(breaker)


@given(steps, st.integers(1, 6))
def test_no_rest_is_longer_than_the_longest(given_steps: list[tuple[str, int, float]], limit: int) -> None:
    for now, breaker in play(given_steps, limit):
        assert breaker.open_until is None or breaker.open_until <= now + breakers.LONGEST_REST


@given(st.integers(1, 6), st.lists(st.integers(1, 6), max_size=40))
def test_actions_that_fail_again_and_again_count_once(limit: int, failing: list[int]) -> None:
    breaker = breakers.CLOSED
    for action in failing:
        breaker = breakers.failed(breaker, action, 0.0, limit=limit)
    assert breakers.is_open(breaker) == (len(set(failing)) >= limit)


@pytest.mark.parametrize(("silent", "expected"), [(True, [5, 10, 20, 30, 30, 30, 30]), (False, [5, 5, 5, 5, 5, 5, 5])])
def test_trials_come_as_often_as_a_target_can_bear_that_is_down_or_that_answers(
    silent: bool, expected: list[float]
) -> None:
    breaker, now, rests = breakers.CLOSED, 0.0, []
    for action in range(LIMIT):
        breaker = breakers.failed(breaker, action, now, limit=LIMIT, silent=silent)
    for action in range(10, 17):
        assert breaker.open_until is not None
        rests.append(breaker.open_until - now)
        now = breaker.open_until
        breaker = breakers.failed(breakers.begun(breaker, action), action, now, limit=LIMIT, silent=silent)
    assert rests == expected


def test_what_was_begun_before_it_opened_neither_prolongs_nor_repeats_the_opening() -> None:
    breaker = Breaker(failed=(1, 2, 3), openings=1, open_until=30.0)
    assert breakers.failed(breaker, 4, 1.0, limit=LIMIT) == breaker


@pytest.mark.parametrize(("asked", "rest"), [(333.0, 333.0), (1.0, 5.0), (1e9, breakers.LONGEST_ASKED)])
def test_the_target_may_ask_for_a_longer_rest_within_bounds(asked: float, rest: float) -> None:
    breaker = breakers.failed(breakers.CLOSED, 1, 100.0, limit=1, retry_after=asked)
    assert breaker.open_until == 100 + rest


class Target:
    """Something that is well or not; `seen` are the actions that reached it."""

    def __init__(self) -> None:
        self.well = True
        self.seen: list[str] = []

    async def __call__(self, work: Work) -> Done:
        if work.definition.name == "one":
            self.seen.append(work.task_id)
            if not self.well:
                raise ActionFailed("no answer")
        return Done(detail={})


@pytest.fixture
async def unwell(tmp_path: Path) -> AsyncIterator[tuple[House, Target, list[str]]]:
    """Eight tasks have ended while the target of `one` was unwell: its breaker has just opened."""
    async with open_house(tmp_path, TOML) as house:
        target = Target()
        target.well = False
        house.effect = target
        tasks = [await house.submit() for _ in range(8)]
        await house.advance(OPENED)
        yield house, target, tasks


async def definition(house: House, name: str = "one") -> dict[str, object]:
    items = (await house.api.get("/definitions")).json()["items"]
    found: dict[str, object] = next(each for each in items if each["name"] == name)
    return found


@pytest.mark.story
async def test_after_so_many_failures_the_rest_waits_without_losing_a_try(
    unwell: tuple[House, Target, list[str]],
) -> None:
    house, target, tasks = unwell
    assert len(target.seen) == LIMIT
    shown = await definition(house)
    assert (shown["breaker"], shown["failures"], shown["counts"]) == ("open", 3, {"owed": 8})
    actions = [(await house.task(task)).actions[0] for task in tasks]
    assert sorted(each.attempts for each in actions) == [0] * 5 + [1] * 3
    assert all(each.waits_for == sentences.WAITS_FOR["trial"] for each in actions)
    assert "breaker_open" in await house.alerts()


@pytest.mark.story
async def test_other_definitions_go_on(unwell: tuple[House, Target, list[str]]) -> None:
    house, _, tasks = unwell
    assert len([each for each in house.effects if each.definition.name == "two"]) == len(tasks)
    assert (await definition(house, "two"))["breaker"] == "closed"


@pytest.mark.story
async def test_one_trial_at_a_time_until_one_succeeds_and_then_all(unwell: tuple[House, Target, list[str]]) -> None:
    house, target, tasks = unwell
    await house.advance(22)
    # After 5, 10 seconds and more, each with an action that was not tried yet.
    assert len(target.seen) == len(set(target.seen)) == LIMIT + 4
    target.well = True
    await house.advance(30)
    assert (await definition(house))["counts"] == {"done": 8}
    assert set(target.seen) == set(tasks)
    assert (await definition(house))["breaker"] == "closed"
    assert "breaker_open" not in await house.alerts()


@pytest.mark.story
async def test_while_a_trial_runs_no_other_action_is_claimed(unwell: tuple[House, Target, list[str]]) -> None:
    house, _, _ = unwell
    house.clock.now += 31
    trial = await house.store.claim_action("one", house.clock(), 60)
    assert trial is not None
    assert await house.store.claim_action("one", house.clock(), 60) is None
    house.clock.now += 61
    await house.service.housekeep()
    assert await house.store.claim_action("one", house.clock(), 60) is not None


@pytest.mark.story
async def test_an_open_breaker_survives_a_restart(unwell: tuple[House, Target, list[str]]) -> None:
    house, target, _ = unwell
    await house.reopen()
    await house.settle()
    assert len(target.seen) == LIMIT
    assert (await definition(house))["breaker"] == "open"


@pytest.mark.story
async def test_resuming_by_hand_tries_at_once(unwell: tuple[House, Target, list[str]]) -> None:
    house, target, tasks = unwell
    target.well = True
    answer = await house.api.post("/definitions/one/resume")
    assert (answer.json()["breaker"], answer.json()["failures"]) == ("closed", 0)
    assert "breaker_open" not in await house.alerts()
    await house.settle()
    await house.advance(30)
    assert (await definition(house))["counts"] == {"done": len(tasks)}


@pytest.mark.story
async def test_an_answer_that_refuses_one_event_is_no_sign_of_illness(tmp_path: Path) -> None:
    async with open_house(tmp_path, TOML) as house:

        async def refuse(_: Work) -> Done:
            raise ActionFailed("the target answered 404", permanent=True)

        house.effect = refuse
        for _ in range(6):
            await house.submit()
        await house.advance(10)
        shown = await definition(house)
        assert (shown["breaker"], shown["counts"]) == ("closed", {"dead": 6})


@pytest.mark.story
async def test_a_breaker_of_zero_never_opens(tmp_path: Path) -> None:
    async with open_house(tmp_path, TOML.replace("breaker = 3", "breaker = 0")) as house:
        target = Target()
        target.well = False
        house.effect = target
        for _ in range(8):
            await house.submit()
        await house.advance(7)
        assert len(set(target.seen)) == 8
        assert (await definition(house))["breaker"] == "closed"


@pytest.mark.story
async def test_a_rate_bounds_how_many_tries_begin_in_a_second(tmp_path: Path) -> None:
    async with open_house(tmp_path, TOML + "rate = 2\n") as house:
        begun: list[float] = []

        async def note(work: Work) -> Done:
            if work.definition.name == "two":
                begun.append(house.clock())
            return Done(detail={})

        house.effect = note
        for _ in range(10):
            await house.submit()
        await house.advance(30)
        assert len(begun) == 10
        gaps = [later - earlier for earlier, later in pairwise(begun)]
        assert min(gaps) >= 0.39
        assert begun[-1] - begun[0] == pytest.approx(9 / 2, abs=0.11)


async def test_a_rate_outlives_a_restart(tmp_path: Path) -> None:
    async with open_house(tmp_path, TOML + "rate = 0.001\n") as house:
        await end_tasks(house.store, 3, house.service.definitions, house.clock())
        await house.settle()
        await house.reopen()
        await house.advance(500)
        assert [work.definition.name for work in house.effects].count("two") == 1
        await house.advance(501)
        assert [work.definition.name for work in house.effects].count("two") == 2


async def test_a_rate_that_was_raised_counts_from_the_restart(tmp_path: Path) -> None:
    async with open_house(tmp_path, TOML + "rate = 0.001\n") as house:
        await end_tasks(house.store, 3, house.service.definitions, house.clock())
        await house.settle()
        (tmp_path / "receiver.toml").write_text(TOML + "rate = 1\n")
        await house.reopen()
        await house.advance(3)
        assert [work.definition.name for work in house.effects].count("two") == 3


async def test_a_clock_that_is_set_back_does_not_stop_a_rate(tmp_path: Path) -> None:
    async with open_house(tmp_path, TOML + "rate = 1\n") as house:
        for _ in range(2):
            await end_tasks(house.store, 1, house.service.definitions, house.clock())
            await house.settle()
            house.clock.now -= 1e6
        assert [work.definition.name for work in house.effects].count("two") == 2


async def test_a_clock_that_is_set_back_does_not_hold_a_breaker_open(unwell: tuple[House, Target, list[str]]) -> None:
    house, target, _ = unwell
    house.clock.now -= 1e6
    target.well = True
    await end_tasks(house.store, 1, house.service.definitions, house.clock())
    await house.settle()
    # What waited for a time that lies eleven days ahead now comes back as well.
    assert (await definition(house))["counts"] == {"done": len(set(target.seen))}
    assert (await definition(house))["breaker"] == "closed"


async def test_a_trial_that_is_given_back_says_nothing_of_the_target(unwell: tuple[House, Target, list[str]]) -> None:
    house, _, _ = unwell
    house.clock.now += 31
    trial = await house.store.claim_action("one", house.clock(), 60)
    assert trial is not None
    returned = Settlement(outcome="returned", due_at=house.clock(), reason="the server stopped while it ran")
    assert await house.store.settle_action(trial, returned, house.clock())
    assert (await definition(house))["breaker"] == "half_open"
    assert await house.store.claim_action("one", house.clock(), 60) is not None
    assert await house.store.claim_action("one", house.clock(), 60) is None
