"""What became of every line of a batch: told by answers and events, counted, and summed up as a report. No I/O."""

import threading
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from itertools import chain

from msgspec import Struct
from msgspec.structs import replace

from receiver.cli.batch.lines import BatchLine
from receiver.model.tallies import SPENT, amount_of
from receiver.model.views import EventView, OrderedView, TaskFacts

UNSENT = "unsent"
REFUSED = "refused"
IN_DOUBT = "in_doubt"
LOST = "lost"
SUCCEEDED = "succeeded"
NOT_UPLOADED = "not_uploaded"
"""The code of a line's end for want of a file."""
WAITING = frozenset({"queued", "submitting", "submitted"})
RETRIED = ("failed", "rejected")
"""Ends after which --retry-failed orders a line again: nothing more is to come of them, and nobody wanted them."""
AGAIN = {
    REFUSED: "correct what is wrong, and give the same command again",
    UNSENT: "give the same command again",
    **dict.fromkeys(RETRIED, "give the same command with --retry-failed to order it again"),
    **{
        state: f"receiver tasks --state {state} names it, and receiver submit-again ID orders it again, for money"
        for state in ("cancelled", IN_DOUBT, LOST)
    },
}
TROUBLE = (REFUSED, "rejected", "failed", "cancelled", IN_DOUBT, LOST, UNSENT)
"""States of which a report says more than how many there are."""


class Why(Struct, frozen=True, kw_only=True):
    """Why a line did not succeed; `path` is where in its order, when that is to blame."""

    code: str
    message: str
    path: str = ""


class LineReport(Struct, frozen=True, kw_only=True):
    """What became of one line: `new` when this run ordered its task; `note` is what to know of the order."""

    line: int
    key: str
    task: str | None = None
    state: str = UNSENT
    errors: list[Why] = []
    files: list[str] = []
    new: bool = False
    note: str | None = None


class Reason(Struct, frozen=True, kw_only=True):
    """Lines that came to the same end for the same reason, and how to order them again."""

    state: str
    code: str
    message: str
    lines: list[int]
    again: str


class Report(Struct, frozen=True, kw_only=True):
    """What became of a batch; costs are by the provider's own names, `files` are those saved.

    `new` lines were ordered by this run, which took `cost`; all others were there, and took `earlier_cost` before.
    """

    batch: str
    lines: int
    counts: dict[str, int]
    reasons: list[Reason]
    cost: dict[str, str]
    earlier_cost: dict[str, str]
    new: int
    files: int
    tasks: list[LineReport]


class Tally:
    """The lines of a batch and what is known of them. Threads may tell it at once; events may precede answers."""

    def __init__(self, batch: str, lines: Iterable[BatchLine]) -> None:
        self.batch = batch
        self._told = {line.number: LineReport(line=line.number, key=line.key) for line in lines}
        """What the server said of each line's order."""
        self._before: dict[int, Sequence[str]] = {}
        """The tasks of each line that failed before its last one."""
        self._events: dict[str, EventView] = {}
        self._doubtful: Mapping[str, str] = {}
        self._lock = threading.Lock()

    def ordered(self, line: BatchLine, task: TaskFacts, new: bool, before: Sequence[str] = ()) -> None:
        """The server has a task for a line: a `new` one, or one of an earlier run; those `before` it failed."""
        note = task.note if isinstance(task, OrderedView) else None
        with self._lock:
            told = self._told[line.number]
            self._told[line.number] = replace(told, task=task.id, state=task.state, new=new, note=note)
            self._before[line.number] = before

    def refused(self, line: BatchLine, errors: Sequence[Why]) -> None:
        """A line was not ordered."""
        with self._lock:
            self._told[line.number] = replace(self._told[line.number], state=REFUSED, errors=list(errors))

    def happened(self, events: Iterable[EventView]) -> None:
        """Tasks have ended; events of tasks that are not this batch's do no harm."""
        with self._lock:
            self._events.update((event.task, event) for event in events)

    def doubted(self, states: Mapping[str, str]) -> None:
        """All tasks that are in doubt or lost now, with which of these they are."""
        with self._lock:
            self._doubtful = dict(states)

    def knows(self, event: EventView) -> bool:
        """Whether this event of its task was heard of before."""
        with self._lock:
            known = self._events.get(event.task)
            return known is not None and known.id == event.id

    def counts(self) -> Counter[str]:
        """How many lines are in which state."""
        with self._lock:
            return Counter(map(self._state, self._told.values()))

    def report(self) -> Report:
        with self._lock:
            tasks = [self._reported(line) for _, line in sorted(self._told.items())]
            cost = self._cost(each.task for each in tasks if each.new)
            there = (each.task for each in tasks if not each.new)
            earlier_cost = self._cost(chain(there, *self._before.values()))
        return Report(
            batch=self.batch,
            lines=len(tasks),
            counts=dict(sorted(Counter(each.state for each in tasks).items())),
            reasons=grouped(tasks),
            cost=cost,
            earlier_cost=earlier_cost,
            new=sum(each.new for each in tasks),
            files=sum(len(each.files) for each in tasks),
            tasks=tasks,
        )

    def _cost(self, tasks: Iterable[str | None]) -> dict[str, str]:
        """What the provider took for tasks, each counted once."""
        return summed(self._events[task].usage for task in dict.fromkeys(tasks) if task in self._events)

    def _state(self, line: LineReport) -> str:
        if line.task is None:
            return line.state
        if event := self._events.get(line.task):
            return event.state
        if line.task in self._doubtful:
            return self._doubtful[line.task]
        # Neither in doubt nor lost any more, and not ended: it goes on.
        return "submitted" if line.state in (IN_DOUBT, LOST) else line.state

    def _reported(self, line: LineReport) -> LineReport:
        """The line with the end of its task, if that is known."""
        event = self._events.get(line.task or "")
        errors = list(line.errors)
        if event is not None and event.error is not None and event.state != SUCCEEDED:
            errors.append(Why(code=event.error.code, message=f"{event.error.name}: {event.error.message}"))
        files = [result.file for result in event.results if result.file] if event else []
        return replace(line, state=self._state(line), errors=errors, files=files)


def grouped(tasks: Iterable[LineReport]) -> list[Reason]:
    """What did not succeed, by reason, the most frequent first within a state."""
    found: dict[tuple[str, str, str], list[LineReport]] = {}
    for each in tasks:
        if each.state in TROUBLE:
            file = _message(each) if any(why.code == NOT_UPLOADED for why in each.errors) else ""
            found.setdefault((each.state, _code(each), file), []).append(each)
    ordered = sorted(found.items(), key=lambda group: (TROUBLE.index(group[0][0]), -len(group[1])))
    return [
        Reason(
            state=state,
            code=code,
            message=_message(group[0]),
            lines=[each.line for each in group],
            again=AGAIN[state],
        )
        for (state, code, _), group in ordered
    ]


def summed(usages: Iterable[Mapping[str, object]]) -> dict[str, str]:
    """What the provider says it took, to the last digit; what it did not say is left out."""
    amounts = ((name, amount_of(usage.get(name))) for usage in usages for name in SPENT)
    return _sums((name, amount) for name, amount in amounts if amount is not None)


def spent(cost: Mapping[str, str]) -> dict[str, str]:
    """A report's cost as money and coins."""
    return _sums((SPENT[name], Decimal(amount)) for name, amount in cost.items())


def _sums(amounts: Iterable[tuple[str, Decimal]]) -> dict[str, str]:
    sums: dict[str, Decimal] = {}
    for name, amount in amounts:
        sums[name] = sums.get(name, Decimal(0)) + amount
    return {name: f"{amount.normalize():f}" for name, amount in sums.items()}


def _code(each: LineReport) -> str:
    first = each.errors[0] if each.errors else Why(code="", message="")
    return (each.state == REFUSED and first.path) or first.code


def _message(each: LineReport) -> str:
    return "; ".join(f"{why.path}: {why.message}" if why.path else why.message for why in each.errors)
