"""Owns the provider's tasks: how they are accepted, queue, run and end. Knows neither HTTP nor callbacks."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from receiver.simulator.agenda import Agenda, Entry
from receiver.simulator.faults import Fault, Plan
from receiver.simulator.files import Files
from receiver.simulator.ids import Snowflakes, chance_source, hex_id

QUEUED_PART = 0.1
"""The part of a task's seconds that is spent in the queue, for those tasks that queue at all."""


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
class Task:
    """One accepted task. Times in seconds since 1970; `links` holds the result's URLs, the newest last."""

    id: str
    model: str
    params: Mapping[str, Any]
    webhook_url: str | None
    plan: Plan
    client_id: str
    price: str
    output_type: str
    created_at: float
    links: list[str]
    status: Status = Status.QUEUED
    ended_at: float | None = None
    queries_after_end: int = 0
    ahead: list[Entry] = field(default_factory=list)
    """What the agenda still holds for its life."""

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


class Tasks:
    """All tasks by id. `on_end` is told of every end, and gives the agenda's entries that follow from it."""

    def __init__(
        self,
        *,
        seed: int,
        snowflakes: Snowflakes,
        agenda: Agenda,
        files: Files,
        task_seconds: float,
        on_end: Callable[[Task], Sequence[Entry]],
    ) -> None:
        self.by_id: dict[str, Task] = {}
        self.in_flight = 0
        self._seed = seed
        self._snowflakes = snowflakes
        self._agenda = agenda
        self._files = files
        self._task_seconds = task_seconds
        self._on_end = on_end

    def accept(self, model: str, params: Mapping[str, Any], webhook_url: str | None, plan: Plan, now: float) -> Task:
        """A new task, whose start and end stand on the agenda."""
        rng = chance_source(self._seed, "task", len(self.by_id))
        output_type = output_type_of(model)
        task = Task(
            id=self._snowflakes.mint(),
            model=model,
            params=params,
            webhook_url=webhook_url,
            plan=plan,
            client_id=hex_id(rng),
            price=f"0.{rng.randrange(5, 95):02d}",
            output_type=output_type,
            created_at=now,
            links=[self._files.link(hex_id(rng), output_type)],
        )
        self.by_id[task.id] = task
        self.in_flight += 1
        # Both answers are seen in the wild: some tasks wait in the queue first, others run at once.
        queue_seconds = self._task_seconds * QUEUED_PART if rng.random() < 0.5 else 0.0
        self._schedule(task, now, queue_seconds)
        return task

    def end(self, task: Task, now: float, status: Status | None = None) -> Sequence[Entry]:
        """Ends a task at `now` as its plan says, or as `status`; gives the entries of its callbacks."""
        if task.status.ended:
            return ()
        self._agenda.drop(task.ahead)
        self.in_flight -= 1
        task.status = status or (Status.FAILED if task.plan.fails else Status.SUCCESS)
        task.ended_at = now
        if task.status is Status.SUCCESS:
            self._files.publish(task.links[-1], now, dead=task.plan.has(Fault.EXPIRED_LINK))
        return self._on_end(task)

    def note_query(self, task: Task, now: float) -> None:
        """Counts a query, which after the end may change what the next ones say."""
        if not task.told_status(now).ended:
            return
        task.queries_after_end += 1
        if task.plan.has(Fault.EXPIRED_LINK) and task.plan.fresh_after_query and len(task.links) == 1:
            rng = chance_source(self._seed, "fresh link", task.id)
            task.links.append(self._files.link(hex_id(rng), task.output_type))
            self._files.publish(task.links[-1], now, dead=False)

    def _schedule(self, task: Task, now: float, queue_seconds: float) -> None:
        ends_at = now + self._task_seconds

        async def start() -> None:
            task.status = Status.RUNNING

        async def end() -> None:
            self.end(task, ends_at)

        if queue_seconds:
            task.ahead.append(self._agenda.add(now + queue_seconds, start))
        else:
            task.status = Status.RUNNING
        task.ahead.append(self._agenda.add(ends_at, end))


def output_type_of(model: str) -> str:
    """The file extension of what a model makes, guessed from its path as people do."""
    path = model.lower()
    if "3d" in path:
        return "glb"
    # "image-to-video" makes a video: what stands after the last "to-" counts, if anything does.
    made = path.rpartition("-to-")[2] if "-to-" in path else path
    for part in (made, path):
        for words, extension in _MAKES:
            if any(word in part for word in words):
                return extension
    return "png"


_MAKES = (
    (("video",), "mp4"),
    (("audio", "speech", "music", "tts"), "mp3"),
    (("image",), "png"),
)
