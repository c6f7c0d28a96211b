"""Owns the provider's tasks: how they are accepted, queue, run and end. Knows neither HTTP nor callbacks."""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from math import ceil

from receiver.simulator.agenda import Agenda, Entry
from receiver.simulator.faults import Fault, Plan
from receiver.simulator.files import Files
from receiver.simulator.ids import Snowflakes, chance_source, hex_id
from receiver.simulator.options import Options
from receiver.simulator.orders import TEXT, Kind, Order

QUEUED_PART = 0.1
"""The part of a task's seconds that is spent in the queue, for those tasks that queue at all."""
MADE = {"video": "mp4", "audio": "mp3", "speech": "mp3", "music": "mp3", "tts": "mp3", "image": "png"}
"""What a model makes, by a word in its path; the first word that is found counts."""


class Status(StrEnum):
    """What the provider says of a task; CANCEL is undocumented, but its own client knows it."""

    QUEUED = "QUEUED"
    RUNNING = "RUNNING"
    SUCCESS = "SUCCESS"
    FAILED = "FAILED"
    CANCEL = "CANCEL"

    @property
    def ended(self) -> bool:
        return self in (Status.SUCCESS, Status.FAILED, Status.CANCEL)


@dataclass
class Output:
    """One result: the URLs of its file, the newest last, and the text it is if it is one."""

    node_id: str
    extension: str
    links: list[str]
    text: str | None = None


@dataclass(eq=False)
class Task:
    """One accepted task. Times in seconds since 1970."""

    id: str
    order: Order
    plan: Plan
    client_id: str
    created_at: float
    outputs: list[Output]
    child_id: str | None = None
    """The task of a third party's model within this one."""
    status: Status = Status.QUEUED
    started_at: float | None = None
    ended_at: float | None = None
    queries_after_end: int = 0
    ahead: list[Entry] = field(default_factory=list)
    """What the agenda still holds for its life."""

    @property
    def links(self) -> list[str]:
        """The URLs of the first result, the newest last."""
        return self.outputs[0].links

    @property
    def seconds(self) -> int:
        """Whole seconds of machine time, none for a model: a third party's costs no machine of the provider."""
        if self.order.kind is Kind.MODEL or self.started_at is None or self.ended_at is None:
            return 0
        return ceil(self.ended_at - self.started_at)

    @property
    def coins(self) -> int | None:
        """RH coins that this machine time costs, None where coins are not what is paid with."""
        if self.order.kind is Kind.MODEL:
            return None
        return ceil(self.seconds * self.order.coin_rate)

    def told_status(self, now: float) -> Status:
        """The status a query says at `now`: behind the true one when the callback came early."""
        if self.ended_at is not None and self.plan.has(Fault.EARLY_CLAIM) and now < self.ended_at + self.plan.seconds:
            return Status.RUNNING
        return self.status

    @property
    def tells_results(self) -> bool:
        """Whether a query may say results by now, for a task that succeeded."""
        if not self.plan.has(Fault.NO_RESULTS):
            return True
        after = self.plan.results_after_queries
        return after is not None and self.queries_after_end > after


@dataclass(frozen=True)
class Tasks:
    """All tasks by id. `on_end` is told of every end, and gives the agenda's entries that follow from it."""

    options: Options
    snowflakes: Snowflakes
    agenda: Agenda
    files: Files
    on_end: Callable[[Task], Sequence[Entry]]
    by_id: dict[str, Task] = field(default_factory=dict)
    open: dict[str, Task] = field(default_factory=dict)
    """Those that have not ended."""
    waiting: deque[Task] = field(default_factory=deque)
    """Those of the open ones that wait for a machine of one's own."""

    @property
    def in_flight(self) -> int:
        """How many occupy a machine or are about to."""
        return len(self.open) - len(self.waiting)

    def count(self, status: Status) -> int:
        """How many of the open tasks are in a state."""
        return sum(task.status is status for task in self.open.values())

    def known(self, task_id: str) -> Task | None:
        """The task as an asker may know it: one that was planned to be forgotten is gone with its end."""
        task = self.by_id.get(task_id)
        return None if task is None or (task.status.ended and task.plan.has(Fault.FORGOTTEN)) else task

    def accept(self, order: Order, plan: Plan, now: float, *, waits: bool = False) -> Task:
        """A new task, whose start and end stand on the agenda; one that waits is started by another one's end."""
        rng = chance_source(self.options.seed, "task", len(self.by_id))
        task_id = self.snowflakes.mint()
        client_id = hex_id(rng)
        outputs = []
        for making in order.makes:
            link = self.files.link(hex_id(rng), making.extension)
            text = f"A text that node {making.node_id} wrote." if making.extension == TEXT else None
            outputs.append(Output(making.node_id, making.extension, [link], text))
        task = Task(task_id, order, plan, client_id, now, outputs)
        if order.kind is not Kind.MODEL and order.price is not None:
            task.child_id = self.snowflakes.mint()
        self.by_id[task.id] = self.open[task.id] = task
        # Both answers are seen in the wild: some tasks wait in the queue first, others run at once.
        queue_seconds = self.options.task_seconds * QUEUED_PART if rng.random() < 0.5 else 0.0
        if waits:
            self.waiting.append(task)
        else:
            self._schedule(task, now, queue_seconds)
        return task

    def end(self, task: Task, now: float, status: Status | None = None) -> Sequence[Entry]:
        """Ends a task at `now` as its plan says, or as `status`; gives the entries of its callbacks."""
        if task.status.ended:
            return ()
        self.agenda.drop(task.ahead)
        del self.open[task.id]
        if task in self.waiting:
            self.waiting.remove(task)
        elif self.waiting:
            self._schedule(self.waiting.popleft(), now, 0.0)
        task.status = status or (Status.FAILED if task.plan.fails else Status.SUCCESS)
        task.ended_at = now
        if task.status is Status.SUCCESS:
            for output in task.outputs:
                dead = task.plan.has(Fault.EXPIRED_LINK)
                away = task.plan.away if task.plan.has(Fault.LINK_AWAY) else 0.0
                self.files.publish(output.links[-1], now, dead=dead, text=output.text, away=away)
        return self.on_end(task)

    def note_query(self, task: Task, now: float) -> None:
        """Counts a query, which after the end may change what the next ones say."""
        if not task.told_status(now).ended:
            return
        task.queries_after_end += 1
        if task.plan.has(Fault.EXPIRED_LINK) and task.plan.fresh_after_query and len(task.links) == 1:
            rng = chance_source(self.options.seed, "fresh link", task.id)
            for output in task.outputs:
                output.links.append(self.files.link(hex_id(rng), output.extension))
                self.files.publish(output.links[-1], now, dead=False, text=output.text)

    def _schedule(self, task: Task, now: float, queue_seconds: float) -> None:
        starts_at, ends_at = now + queue_seconds, now + self.options.task_seconds

        async def start() -> None:
            self._start(task, starts_at)

        async def end() -> None:
            self.end(task, ends_at)

        if queue_seconds:
            task.ahead.append(self.agenda.add(starts_at, start))
        else:
            self._start(task, now)
        task.ahead.append(self.agenda.add(ends_at, end))

    def _start(self, task: Task, now: float) -> None:
        task.status, task.started_at = Status.RUNNING, now


def output_type_of(model: str) -> str:
    """The file extension of what a model makes, guessed from its path as people do."""
    path = model.lower()
    if "3d" in path:
        return "glb"
    # "image-to-video" makes a video: what stands after the last "to-" counts, if anything does.
    made = path.rpartition("-to-")[2] if "-to-" in path else path
    if made.startswith("text"):
        return TEXT
    return next((MADE[word] for part in (made, path) for word in MADE if word in part), "png")
