"""The whole program and its provider under everything at once, played by hypothesis on a clock of its own.

Orders with every fault, outages and answers that come too late, a server that is down, dies and starts again with other
definitions, a clock that is wrong by days, claims of strangers, targets that fail. Then both are well again, and within
a bounded time every order that RunningHub finished stands in the ledger as RunningHub says, and what today's settings
owe for it was done with the truth, or is dead with an alert.
"""

import asyncio
import shutil
import tempfile
from collections import defaultdict
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

from house import House
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from test_stories import callback_of

from receiver.actions import ActionFailed, Done, Work
from receiver.model import rules
from receiver.model.definitions import FailureClass
from receiver.model.entries import ListedTask
from receiver.model.records import Action, ActionState, Event, Filter, Purpose
from receiver.runninghub.requests import submit_request
from receiver.simulator import Fault, Plan, Status
from receiver.simulator.outages import Outage
from receiver.simulator.tasks import Task as Truth

T = TypeVar("T")

SETTINGS = "keep_files = false\n[reconcile]\npatience = 3600\n"
DEFINITIONS = {
    "keep": 'on = ["succeeded"]',
    "eager": 'on = ["succeeded", "failed"]\nunconfirmed = true',
    "after-keep": 'on = ["succeeded"]\nmax_attempts = 4\nafter = ["keep"]',
}
WELL_AGAIN = rules.LOST_REST + 2 * rules.LADDER_REST
"""Seconds in which the ledger knows every end once all is well: the longest pause between two questions, and some."""
WORKED_OFF = rules.LINKS_LIVE + rules.BACKOFF_CAP
"""And those in which everything that is owed is worked off: no action waits longer between two attempts."""
TASK_SECONDS = st.sampled_from([5.0, 5.0, 60.0, 20_000.0])
"""How long tasks take: the longest ones are overdue before they end."""
IN_MEMORY = Path("/dev/shm")
"""Nothing here is about the disk, which would take most of the time."""
MANY = Filter(limit=100_000)
PLANS = [
    Plan(),
    Plan(frozenset({Fault.FAILED})),
    Plan(frozenset({Fault.LOST_CALLBACK})),
    Plan(frozenset({Fault.NEVER_SENT, Fault.FAILED})),
    Plan(frozenset({Fault.DUPLICATE, Fault.BEFORE_ANSWER})),
    Plan(frozenset({Fault.LATE}), delay=120),
    Plan(frozenset({Fault.JUNK_BODY})),
    Plan(frozenset({Fault.WRONG_TOKEN})),
    Plan(frozenset({Fault.OTHER_ID})),
    Plan(frozenset({Fault.NO_RESULTS}), results_after_queries=2),
    Plan(frozenset({Fault.NO_RESULTS, Fault.LOST_CALLBACK})),
    Plan(frozenset({Fault.FALSE_CLAIM})),
    Plan(frozenset({Fault.EARLY_CLAIM}), seconds=400),
    Plan(frozenset({Fault.ANSWER_LOST})),
    Plan(frozenset({Fault.ANSWER_LOST, Fault.FALSE_CLAIM})),
    Plan(frozenset({Fault.ANSWER_LOST, Fault.LOST_CALLBACK})),
    Plan(frozenset({Fault.FORGOTTEN})),
    Plan(frozenset({Fault.FORGOTTEN, Fault.LOST_CALLBACK, Fault.FAILED})),
]
SILENT = [each for each in PLANS if each.faults & {Fault.LOST_CALLBACK, Fault.NEVER_SENT, Fault.WRONG_TOKEN}]
"""Those of which RunningHub may be the second to tell."""
DOUBTED = [Plan(frozenset({Fault.LOST_CALLBACK})), *(each for each in PLANS if Fault.ANSWER_LOST in each.faults)]
ROUTES = ["*", "submit", "query", "detail", "resend"]
OUTAGES = st.sampled_from([each.value for each in Outage if each is not Outage.CODE])
MOODS = {
    "well": FailureClass.FAILED,
    "unwell": FailureClass.UNWELL,
    "late": FailureClass.TIMEOUT,
    "refuses": FailureClass.REFUSED,
    "dies": FailureClass.FAILED,
}
WRONG = st.sampled_from([864_000.0, 864_000.0, 90_000.0, 700.0, -700.0, -90_000.0])
"""How far a clock is ahead."""
SOME = st.lists(st.sampled_from(PLANS), min_size=1, max_size=3)
PASSING = st.sampled_from([1.0, 6.0, 35.0, 130.0, 700.0, 5000.0, 30_000.0])


class Died(BaseException):
    """The whole server is gone, in the midst of an action."""


class World(RuleBasedStateMachine):
    """`owing` has the definitions that stood in the settings when a task was seen to have ended so.

    `promised` has the bodies that were answered 200, beside those of RunningHub's own callbacks.
    """

    house: House

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.directory = Path(tempfile.mkdtemp(dir=IN_MEMORY if IN_MEMORY.is_dir() else None))
        self.mood = "well"
        self.done: dict[tuple[str, str], Work] = {}
        self.owing: dict[tuple[str, str], set[str]] = defaultdict(set)
        self.promised: set[tuple[str, bytes]] = set()

    def run(self, playing: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(playing)

    async def effect(self, work: Work) -> Done:
        if self.mood == "dies":
            raise Died
        if self.mood == "well":
            self.done[work.task_id, work.definition.name] = work
            return Done(detail={})
        raise ActionFailed(self.mood, category=MOODS[self.mood], permanent=self.mood == "refuses")

    # ------------------------------------------------------------ what happens

    @initialize(plan=st.sampled_from(PLANS), task_seconds=TASK_SECONDS)
    def first_order(self, plan: Plan, task_seconds: float) -> None:
        self.task_seconds = task_seconds
        self.house = House(self.directory, toml_of(DEFINITIONS), {}, task_seconds=task_seconds)
        self.house.effect = self.effect
        self.run(self.house.open())
        self.an_order_comes(plan)

    @rule(plan=st.sampled_from(PLANS))
    def an_order_comes(self, plan: Plan) -> None:
        self.house.simulator.add_plan(plan)
        self.run(self.house.submit())

    @rule(seconds=PASSING)
    def time_passes(self, seconds: float) -> None:
        """A server that dies of an action starts again at once."""
        until = self.house.clock.now + seconds
        while True:
            try:
                self.run(self.house.advance(max(0.0, until - self.house.clock.now)))
            except Died:
                self.mood = "well"
                self.run(self.house.reopen())
            else:
                break

    @rule(route=st.sampled_from(ROUTES), kind=OUTAGES, plan=st.sampled_from(PLANS), seconds=PASSING, then=PASSING)
    def the_provider_is_out_of_order(self, route: str, kind: str, plan: Plan, seconds: float, then: float) -> None:
        """From the order on, or from a while after it."""
        self.an_order_comes(plan)
        self.time_passes(then)
        self.house.simulator.outage(route, kind)
        self.an_order_comes(plan)
        self.time_passes(seconds)
        self.house.simulator.heal()

    @rule(plan=st.sampled_from(PLANS), seconds=PASSING, restart=st.booleans())
    def the_server_is_down(self, plan: Plan, seconds: float, restart: bool) -> None:
        self.an_order_comes(plan)
        self.time_passes(1.0)
        self.house.door_open = False
        self.time_passes(seconds)
        if restart:
            self.run(self.house.reopen())
        self.house.door_open = True

    @rule(names=st.sets(st.sampled_from(sorted(DEFINITIONS))), plan=st.sampled_from(PLANS), seconds=PASSING)
    def definitions_go_and_come_back(self, names: set[str], plan: Plan, seconds: float) -> None:
        """While their actions are owed, and have failed."""
        mood, self.mood = self.mood, "late"
        self.an_order_comes(plan)
        self.time_passes(7.0)
        self.restart(names)
        self.time_passes(seconds)
        self.mood = mood
        self.restart(set(DEFINITIONS))

    def restart(self, names: set[str]) -> None:
        self.nothing_is_paid_twice_and_nothing_confirmed_is_false()
        (self.directory / "receiver.toml").write_text(toml_of(names))
        self.run(self.house.reopen())

    @rule(taken=st.booleans(), plan=st.sampled_from(PLANS))
    def the_server_dies_while_it_submits(self, taken: bool, plan: Plan) -> None:
        """Before the provider has taken the task, or after it and before that is written down."""
        self.an_order_comes(plan)

        async def play() -> None:
            house = self.house
            task = await house.store.take_queued_task(house.wall(), 100, callback=True, node=house.service.node)
            if task is not None and taken:
                url = house.service.links.issue(task.id, Purpose.SUBMIT)
                request = submit_request(task.kind, task.api, task.target, task.input, url)
                await asyncio.gather(house.service.provider.submit(request), return_exceptions=True)
            await house.reopen()

        self.run(play())

    @rule(seconds=WRONG, while_=st.sampled_from([6.0, 35.0, 700.0, 5000.0]), outage=OUTAGES, plans=SOME,
          mood=st.sampled_from(["late", *sorted(MOODS)]))  # fmt: skip
    def the_servers_clock_is_wrong(
        self, seconds: float, while_: float, outage: str, plans: list[Plan], mood: str
    ) -> None:
        """While orders come, one of which is not answered, and targets are as they are."""
        self.house.skew, before = seconds, self.mood
        self.mood = mood
        self.house.simulator.outage("submit", outage, times=1)
        for plan in plans:
            self.an_order_comes(plan)
        self.time_passes(while_)
        self.house.skew, self.mood = 0.0, before
        self.house.simulator.heal("submit")

    @rule(plan=st.sampled_from(DOUBTED), seconds=PASSING)
    def the_provider_has_forgotten_its_tasks(self, plan: Plan, seconds: float) -> None:
        """It answers, but knows of none for a while. A callback may be all there is."""
        self.an_order_comes(plan)
        self.time_passes(1.0)
        self.house.simulator.outage("query", "code", code="1004")
        self.house.simulator.outage("detail", "code", code="1")
        self.time_passes(seconds)
        self.house.simulator.heal()

    @rule(
        data=st.data(),
        status=st.sampled_from(["SUCCESS", "SUCCESS", "FAILED"]),
        plan=st.sampled_from(SILENT),
        hears=st.sampled_from([False, False, True]),
    )
    def a_stranger_claims_an_end(self, data: st.DataObject, status: str, plan: Plan, hears: bool) -> None:
        """Perhaps while RunningHub cannot be asked, so that it may be believed."""
        self.an_order_comes(plan)
        self.time_passes(0.0)
        if not hears:
            for route in ("query", "detail", "outputs"):
                self.house.simulator.outage(route, "503")
        task = data.draw(st.sampled_from(self.tasks()[:3]))
        body = callback_of(task.provider_task_id or "2052287938007814145", status)
        answer = self.run(self.house.http.post(self.house.callback_path(task.id), content=body))
        if answer.status_code == 200:
            self.promised.add((task.id, body))
        self.time_passes(900.0)
        self.house.simulator.heal()

    @rule(mood=st.sampled_from(sorted(MOODS)))
    def the_targets_change(self, mood: str) -> None:
        self.mood = mood

    @rule(data=st.data(), verb=st.sampled_from(["reconcile", "resend", "cancel"]))
    def somebody_presses_a_button(self, data: st.DataObject, verb: str) -> None:
        task = data.draw(st.sampled_from(self.tasks()))
        self.run(self.house.api.post(f"/tasks/{task.id}/{verb}"))

    @rule(data=st.data(), skew=st.sampled_from([0.0, 864_000.0]))
    def somebody_retries_what_is_dead(self, data: st.DataObject, skew: float) -> None:
        self.house.skew = skew
        if dead := [each for each in self.actions() if each.state is ActionState.DEAD]:
            self.run(self.house.api.post(f"/actions/{data.draw(st.sampled_from(dead)).id}/retry"))
        self.house.skew = 0.0

    # ------------------------------------------------------------ what holds

    @invariant()
    def nothing_is_paid_twice_and_nothing_confirmed_is_false(self) -> None:
        truths = self.truths()
        assert all(len(each) == 1 for each in truths.values()), "sent twice by itself"
        configured = {each.name: each for each in self.house.service.definitions}
        for task, event in self.ended():
            if event.confirmed and (truth := truths.get(task.id)):
                assert is_true(task, truth[0]), f"{task.state}, but RunningHub says {truth[0].status}"
            wanted = {name for name, each in configured.items() if event.state in each.on}
            if (task.id, event.state) not in self.owing:
                self.owing[task.id, event.state] = wanted

    def teardown(self) -> None:
        try:
            if hasattr(self, "house"):
                self.all_is_well_again()
        finally:
            if hasattr(self, "house"):
                self.run(self.house.close())
            self.runner.close()
            shutil.rmtree(self.directory)

    def all_is_well_again(self) -> None:
        self.house.simulator.heal()
        self.house.door_open, self.house.skew, self.mood = True, 0.0, "well"
        self.restart(set(DEFINITIONS))
        self.time_passes(WELL_AGAIN + self.task_seconds)
        self.nothing_is_paid_twice_and_nothing_confirmed_is_false()
        truths, alerted = self.truths(), self.alerted()
        for task in self.tasks():
            truth = truths.get(task.id, [None])[0]
            if truth is None or (task.provider_task_id is None and not self.was_told(truth)):
                assert task.state in ("cancelled", "rejected") or task.id in alerted, f"{task.state}, and nobody knows"
            else:
                assert is_true(task, truth), f"{task.state}, but RunningHub says {truth.status}"
        self.what_was_promised_is_kept()
        self.time_passes(WORKED_OFF)
        self.everything_owed_was_done_with_the_truth()

    def what_was_promised_is_kept(self) -> None:
        for sent in self.house.simulator.callbacks:
            link = self.house.service.links.read_url(sent.url)
            if sent.status == 200 and link is not None:
                self.promised.add((link.task_id, sent.body))
        assert self.promised <= self.run(self.kept()), "answered 200, and not kept"

    async def kept(self) -> set[tuple[str, bytes]]:
        found = (await self.house.store.deliveries(MANY)).items
        return {(each.task, await self.house.store.delivery_body(each.id) or b"") for each in found}

    def everything_owed_was_done_with_the_truth(self) -> None:
        alerted = self.alerted()
        actions: dict[str, dict[str, Action]] = defaultdict(dict)
        for action in sorted(self.actions(), key=lambda each: each.generation):
            actions[action.task][action.name] = action
        for task, event in self.ended():
            for name in self.owing[task.id, event.state] if event.confirmed else ():
                assert name in actions[task.id], f"{name} is not even owed"
                action = actions[task.id][name]
                if action.state is ActionState.DEAD:
                    assert name in alerted, f"{name} is dead, and nobody knows"
                elif action.state is ActionState.SKIPPED:
                    assert event.contradicted, f"skipped: {action.reason}"
                else:
                    assert self.is_done_or_waits(action, actions[task.id]), f"{name} is {action.state}: {action.reason}"
                if action.state is ActionState.DONE:
                    first = actions[task.id].get("keep") if name == "after-keep" else None
                    assert first is None or first.state is not ActionState.DEAD, "done before what it comes after"
                    self.has_seen_the_truth(event, self.done[task.id, name])

    def is_done_or_waits(self, action: Action, beside: dict[str, Action]) -> bool:
        """What comes after something dead waits for whoever retries that."""
        first = beside.get("keep") if action.name == "after-keep" else None
        return action.state is ActionState.DONE or (first is not None and first.state is ActionState.DEAD)

    def has_seen_the_truth(self, event: Event, work: Work) -> None:
        assert work.body["type"] == f"task.{event.state}", "done for an end that was not true"
        assert [each.url for each in work.results] == [each.url for each in event.results], "done with false results"

    # ------------------------------------------------------------ looking

    def tasks(self) -> list[ListedTask]:
        return self.run(self.house.store.tasks(MANY)).items

    def actions(self) -> list[Action]:
        return self.run(self.house.store.actions(MANY)).items

    def ended(self) -> list[tuple[ListedTask, Event]]:
        events = {each.task: each for each in self.run(self.house.store.events(MANY)).items}
        return [(each, events[each.id]) for each in self.tasks() if each.id in events]

    def alerted(self) -> set[str]:
        """What open alerts are about."""
        return {
            each.subject for each in self.run(self.house.store.alerts(Filter(limit=100_000, state=("open",)))).items
        }

    def truths(self) -> dict[str, list[Truth]]:
        """The provider's tasks by the order that they were made for."""
        found: dict[str, list[Truth]] = defaultdict(list)
        for truth in self.house.simulator.tasks.values():
            link = self.house.service.links.read_url(truth.order.webhook_url or "")
            assert link is not None
            found[link.task_id].append(truth)
        return found

    def was_told(self, truth: Truth) -> bool:
        """Whether a callback that names the task was taken."""
        if truth.plan.faults & {Fault.JUNK_BODY, Fault.OTHER_ID}:
            return False
        return any(sent.status == 200 for sent in self.house.simulator.callbacks if sent.task_id == truth.id)


class LongWorld(World):
    """The same world, which another test plays for longer."""


def is_true(task: ListedTask, truth: Truth) -> bool:
    said = {Status.SUCCESS: "succeeded", Status.FAILED: "failed", Status.CANCEL: "cancelled"}
    return task.state == said.get(truth.status)


def toml_of(names: object) -> str:
    assert isinstance(names, (set, dict))
    parts = [SETTINGS]
    for name in DEFINITIONS:
        if name in names:
            told = DEFINITIONS[name] if "keep" in names else DEFINITIONS[name].replace('after = ["keep"]', "")
            parts.append(f'[[actions]]\nname = "{name}"\nkind = "python"\nfunction = "effects:effect"\n{told}\n')
    return "".join(parts)
