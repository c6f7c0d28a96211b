"""The ledger under everything at once: ends, repeated callbacks, workers, crashes, a clock that steps, replays.

Hypothesis plays against the real store, as many workers at once. After every step: each action made a legal move, no
action is in two hands, nothing is owed less than before, and whatever runs has a lease. What cannot be claimed is not
said to be due. In the end everything that was owed is done, dead or skipped.
"""

import asyncio
import hashlib
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, precondition, rule
from postgres import new_ledger
from uuid_utils import uuid7
from world import LongWorld, World

from receiver.housekeep import housekeep
from receiver.model import rules
from receiver.model.definitions import ActionKind, Definition
from receiver.model.entries import NewDelivery, NewEvent, NewTask, Selection, Settlement
from receiver.model.records import (
    Action,
    ActionState,
    Claimed,
    End,
    Filter,
    Kind,
    Purpose,
    ReplayMode,
    Source,
    TaskState,
)
from receiver.model.views import ReplayBody
from receiver.replay import go_on, replay
from receiver.server.definitions import KEEP_FILES
from receiver.server.settings import Settings
from receiver.store import Store, open_store

LEASE = 60.0
DEFINITIONS = (
    KEEP_FILES,
    Definition(name="forward", kind=ActionKind.HTTP, timeout=30, max_attempts=4, breaker=2),
    Definition(name="then", kind=ActionKind.COMMAND, timeout=30, max_attempts=4, after=("keep-files",), rate=0.5),
)
NAMES = [each.name for each in DEFINITIONS]
OUTCOMES = ("done", "retry", "dead", "returned")

Key = tuple[str, str, int]
"""Task, definition, generation: what is owed once."""


class Ledger(RuleBasedStateMachine):
    """`hands` are the claims that workers hold, however old; a crashed worker's claim is forgotten."""

    tasks = Bundle("tasks")

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.directory = Path(tempfile.mkdtemp())
        self.now = 1_790_000_000.0
        self.ordered = 0
        self.hands: list[Claimed] = []
        self.before: dict[Key, Action] = {}
        self.finished: set[tuple[Key, int]] = set()
        self.replays: list[int] = []
        self.store = self.opened()

    def url(self) -> str:
        """Where the ledger is, the same each time."""
        template = _template()
        target = self.directory / "receiver.db"
        if not target.exists():
            target.write_bytes(template)
        return f"sqlite:///{target}"

    def opened(self) -> Store:
        store = open_store(self.url())

        async def begin() -> None:
            await store.open()
            await store.sync_definitions(DEFINITIONS, self.now)

        self.runner.run(begin())
        return store

    # ------------------------------------------------------------ what happens

    @initialize(target=tasks)
    def first_task(self) -> str:
        return self.end_a_task(End.SUCCEEDED)

    @rule(target=tasks, end=st.sampled_from([End.SUCCEEDED, End.SUCCEEDED, End.FAILED]))
    def a_task_ends(self, end: End) -> str:
        return self.end_a_task(end)

    def end_a_task(self, end: End) -> str:
        self.ordered += 1
        number = self.ordered

        async def play() -> str:
            order = NewTask(
                id=str(uuid7()), kind=Kind.MODEL, target="m", input={}, labels={}, digest=str(number).encode()
            )
            await self.store.add_task(order, self.now)
            task = await self.store.take_queued_task(self.now, 1_000_000, callback=True)
            assert task is not None
            await self.store.mark_submitted(task, str(number), "RUNNING", self.now + 30, self.now)
            await self.tell(task.id, end)
            return task.id

        return self.runner.run(play())

    async def tell(self, task_id: str, end: End) -> None:
        task = await self.store.task(task_id)
        assert task is not None
        event = NewEvent(task=task, state=end, source=Source.QUERY, confirmed=True, settled=True)
        await self.store.record_event(event, rules.owed(DEFINITIONS, event), self.now)

    @rule(task=tasks, end=st.sampled_from(list(End)), body=st.sampled_from([b"one", b"two"]))
    def a_callback_comes_and_is_told_again(self, task: str, end: End, body: bytes) -> None:
        async def play() -> None:
            digest = hashlib.sha256(body).digest()
            new = NewDelivery(task=task, purpose=Purpose.SUBMIT, body=body, digest=digest, size=3, claim=end)
            await self.store.record_delivery(new, self.now)
            await self.tell(task, end)

        self.runner.run(play())

    @rule(name=st.sampled_from(NAMES))
    def a_worker_claims(self, name: str) -> None:
        claimed = self.runner.run(self.store.claim_action(name, self.now, LEASE))
        if claimed is not None:
            held = [each for each in self.hands if each.action.id == claimed.action.id]
            assert all(self.is_stale(each) for each in held), "claimed while it was in other hands"
            self.hands.append(claimed)
        else:
            due = self.runner.run(self.store.next_action_at(name, self.now))
            assert due is None or due > self.now, "due, but nobody may take it: its worker would spin"

    def is_stale(self, claimed: Claimed) -> bool:
        current = self.runner.run(self.store.action(claimed.action.id))
        assert current is not None
        until = current.lease_until
        return not (self.fence(claimed) == claimed.fence and until is not None and until > self.now)

    def fence(self, claimed: Claimed) -> int:
        """The number of the newest try, which is the fence of whoever holds the action."""
        return self.runner.run(self.store.attempts(claimed.action.id))[-1].number

    @rule(name=st.sampled_from(NAMES), outcome=st.sampled_from(OUTCOMES), unwell=st.booleans())
    def a_worker_claims_and_settles_at_once(self, name: str, outcome: str, unwell: bool) -> None:
        held = len(self.hands)
        self.a_worker_claims(name)
        if len(self.hands) > held:
            self.settle(self.hands.pop(), outcome, unwell)

    @precondition(lambda self: self.hands)
    @rule(data=st.data(), outcome=st.sampled_from(OUTCOMES), unwell=st.booleans())
    def a_worker_settles_however_late(self, data: st.DataObject, outcome: str, unwell: bool) -> None:
        self.settle(self.hands.pop(data.draw(st.integers(0, len(self.hands) - 1))), outcome, unwell)

    def settle(self, claimed: Claimed, outcome: str, unwell: bool) -> None:
        current = self.runner.run(self.store.action(claimed.action.id))
        assert current is not None
        mine = current.state is ActionState.RUNNING and self.fence(claimed) == claimed.fence
        due = self.now + rules.backoff(max(1, claimed.action.attempts), 0.5)
        settlement = Settlement(outcome=outcome, due_at=due, reason="because", unwell=unwell and outcome != "done")
        assert self.runner.run(self.store.settle_action(claimed, settlement, self.now)) == mine
        if mine and outcome == "done":
            self.finished.add((key_of(current), current.id))

    @precondition(lambda self: self.hands)
    @rule(data=st.data())
    def a_worker_renews_its_lease(self, data: st.DataObject) -> None:
        claimed = data.draw(st.sampled_from(self.hands))
        current = self.runner.run(self.store.action(claimed.action.id))
        assert current is not None
        mine = current.state is ActionState.RUNNING and self.fence(claimed) == claimed.fence
        assert self.runner.run(self.store.renew_lease(claimed, self.now + LEASE)) == mine

    @rule()
    def all_workers_die_and_the_server_starts_again(self) -> None:
        self.hands.clear()
        self.runner.run(self.store.close())
        self.store = self.opened()

    @rule(seconds=st.sampled_from([0.0, 1.0, 7.0, 61.0, 4000.0, -5.0]))
    def the_clock_steps(self, seconds: float) -> None:
        self.now += seconds
        self.keep_house()

    def keep_house(self) -> None:
        self.runner.run(housekeep(self.store, DEFINITIONS, Settings().policy, self.now))
        for action in self.actions().values():
            assert action.state is not ActionState.RUNNING or (action.lease_until or 0) > self.now

    @rule(
        mode=st.sampled_from([ReplayMode.RETRY, ReplayMode.RETRY, ReplayMode.AGAIN, ReplayMode.MISSING]),
        name=st.sampled_from([None, *NAMES]),
        states=st.sampled_from([(), ("dead",), ("dead", "skipped"), ("done",)]),
        rate=st.sampled_from([None, 0.1]),
    )
    def somebody_replays(self, mode: ReplayMode, name: str | None, states: tuple[str, ...], rate: float | None) -> None:
        wanted = Selection(name=name, action_state=states)
        matched, made = self.runner.run(
            replay(self.store, DEFINITIONS, ReplayBody(mode=mode, filter=wanted, rate=rate), {"name": name}, self.now)
        )
        assert made is not None
        assert matched == made.matched
        self.replays.append(made.id)

    @precondition(lambda self: self.replays)
    @rule(data=st.data(), cancel=st.booleans())
    def somebody_cancels_or_resumes_a_replay(self, data: st.DataObject, cancel: bool) -> None:
        number = data.draw(st.sampled_from(self.replays))
        verb = self.store.cancel_replay if cancel else self.store.resume_replay
        self.runner.run(verb(number, self.now))
        found = self.runner.run(go_on(self.store, DEFINITIONS, number, self.now))
        assert found is not None
        assert found.done + found.cancelled <= found.matched

    @rule(name=st.sampled_from(NAMES), paused=st.booleans())
    def somebody_pauses_or_resumes(self, name: str, paused: bool) -> None:
        self.runner.run(self.store.set_paused(name, self.now, paused=paused))
        if paused:
            assert self.runner.run(self.store.claim_action(name, self.now, LEASE)) is None

    @rule(data=st.data())
    def somebody_skips(self, data: st.DataObject) -> None:
        chosen = data.draw(st.sampled_from(sorted(self.actions().values(), key=lambda each: each.id)))
        done = self.runner.run(self.store.skip_action(chosen.id, "by hand", self.now))
        assert done == (chosen.state in rules.action_sources(ActionState.SKIPPED))

    # ------------------------------------------------------------ what holds

    def actions(self) -> dict[Key, Action]:
        found = self.runner.run(self.store.actions(Filter(limit=100_000))).items
        keyed = {key_of(each): each for each in found}
        assert len(keyed) == len(found), "the same thing is owed twice"
        return keyed

    @invariant()
    def every_move_is_legal_and_nothing_owed_is_lost(self) -> None:
        now = self.actions()
        assert self.before.keys() <= now.keys()
        for key, action in now.items():
            earlier = self.before.get(key)
            if earlier is not None and earlier.state is not action.state:
                assert action.state in rules.ACTION_MOVES[earlier.state], f"{earlier.state} -> {action.state}"
            if action.state is ActionState.DONE:
                assert (key, action.id) in self.finished, "done, and nobody did it"
            if action.state is ActionState.OWED:
                assert action.due_at is not None or self.waits(action, now)
            if action.state is ActionState.RUNNING:
                assert action.lease_until is not None
        self.before = now
        ended = self.runner.run(self.store.tasks(Filter(state=(TaskState.SUCCEEDED,), limit=100_000))).items
        assert all((task.id, name, 1) in now for task in ended for name in NAMES)

    def waits(self, action: Action, all_of_them: dict[Key, Action]) -> bool:
        """Whether a forerunner of the action is not through yet."""
        earlier = [
            each
            for each in all_of_them.values()
            if (each.task, each.name) == (action.task, "keep-files") and each.generation <= action.generation
        ]
        if action.name != "then" or not earlier:
            return False
        return max(earlier, key=lambda each: each.generation).state not in ("done", "skipped")

    def teardown(self) -> None:
        try:
            self.play_to_the_end()
        finally:
            self.runner.run(self.store.close())
            self.runner.close()
            shutil.rmtree(self.directory)

    def play_to_the_end(self) -> None:
        """Workers that always succeed, from now on: nothing may be left over."""
        self.hands.clear()
        for name in NAMES:
            self.runner.run(self.store.set_paused(name, self.now, paused=False))
        for _ in range(10_000):
            self.keep_house()
            due = [self.runner.run(self.store.next_action_at(name, self.now)) for name in NAMES]
            running = [each.lease_until for each in self.actions().values() if each.lease_until is not None]
            times = [time for time in (*due, *running) if time is not None]
            if not times:
                break
            self.now = max(self.now, min(times))
            for name in NAMES:
                claimed = self.runner.run(self.store.claim_action(name, self.now, LEASE))
                if claimed is not None:
                    self.finished.add((key_of(claimed.action), claimed.action.id))
                    assert self.runner.run(self.store.settle_action(claimed, Settlement(outcome="done"), self.now))
        left = [
            each
            for each in self.actions().values()
            if each.state in ("owed", "running") and not self.waits(each, self.actions())
        ]
        assert left == []


class LedgerOnPostgres(Ledger):
    """The same on a server: fewer plays, for each step takes longer."""

    ledger: str | None = None

    def url(self) -> str:
        self.ledger = self.ledger or new_ledger()
        return self.ledger


def key_of(action: Action) -> Key:
    return (action.task, action.name, action.generation)


_made: list[bytes] = []


def _template() -> bytes:
    """A database without a row, made once."""
    if not _made:
        with tempfile.TemporaryDirectory() as directory:
            store = open_store(f"sqlite:///{directory}/receiver.db")

            async def make() -> None:
                await store.open()
                await store.close()

            asyncio.run(make())
            _made.append(Path(directory, "receiver.db").read_bytes())
    return _made[0]


TestLedger = pytest.mark.slow(Ledger.TestCase)
TestLedger.settings = settings(
    max_examples=40, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)
TestLedgerOnPostgres = pytest.mark.slow(pytest.mark.timeout(300)(LedgerOnPostgres.TestCase))
TestLedgerOnPostgres.settings = settings(TestLedger.settings, max_examples=6, stateful_step_count=25)
# Without shrinking, which plays for minutes: what failed is printed as it was played.
PLAYED = settings(
    deadline=None, suppress_health_check=list(HealthCheck), phases=[Phase.explicit, Phase.reuse, Phase.generate]
)
TestWorld = World.TestCase
TestWorld.settings = settings(PLAYED, max_examples=4, stateful_step_count=10, derandomize=True, database=None)
TestLongWorld = pytest.mark.slow(LongWorld.TestCase)
TestLongWorld.settings = settings(PLAYED, max_examples=20, stateful_step_count=15)
