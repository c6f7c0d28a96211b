"""What became of every line of a batch: told by answers and events, counted, and summed up as a report. No I/O."""

import threading
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal, InvalidOperation
from itertools import chain

from msgspec import Struct

from receiver.cli.batch.lines import BatchLine
from receiver.model.views import EventView, OrderedView, TaskView

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
SPENT = {"consumeMoney": "money", "thirdPartyConsumeMoney": "money", "consumeCoins": "coins"}
"""What an amount is called in a report. The provider's own charge and a third party's are paid from one balance."""


class Why(Struct, frozen=True, kw_only=True):
    """Why a line did not succeed; `path` is where in its order, when that is to blame."""

    code: str
    message: str
    path: str = ""


class LineReport(Struct, frozen=True, kw_only=True):
    """What became of one line: `new` when this run ordered its task; `note` is what to know of the order."""

    line: int
    key: str
    task: str | None
    state: str
    errors: list[Why]
    files: list[str]
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


class _Entry(Struct):
    """A line, and what its order was answered."""

    line: BatchLine
    task: str | None = None
    state: str = UNSENT
    errors: list[Why] = []
    new: bool = False
    note: str | None = None
    before: Sequence[str] = ()
    """The tasks that failed before it."""


class Tally:
    """The lines of a batch and what is known of them. Threads may tell it at once; events may precede answers."""

    def __init__(self, batch: str, lines: Iterable[BatchLine]) -> None:
        self.batch = batch
        self._entries = {line.number: _Entry(line) for line in lines}
        self._events: dict[str, EventView] = {}
        self._doubtful: Mapping[str, str] = {}
        self._lock = threading.Lock()

    # ------------------------------------------------------------ news

    def ordered(self, line: BatchLine, task: TaskView, new: bool, before: Sequence[str] = ()) -> None:
        """The server has a task for a line: a `new` one, or one of an earlier run; those `before` it failed."""
        with self._lock:
            entry = self._entries[line.number]
            entry.task, entry.state, entry.new, entry.before = task.id, task.state, new, before
            entry.note = task.note if isinstance(task, OrderedView) else None

    def refused(self, line: BatchLine, errors: Sequence[Why]) -> None:
        """A line was not ordered."""
        with self._lock:
            entry = self._entries[line.number]
            entry.state, entry.errors = REFUSED, list(errors)

    def happened(self, events: Iterable[EventView]) -> None:
        """Tasks have ended; events of tasks that are not this batch's do no harm."""
        with self._lock:
            for event in events:
                self._events[event.task] = event

    def doubted(self, states: Mapping[str, str]) -> None:
        """All tasks that are in doubt or lost now, with which of these they are."""
        with self._lock:
            self._doubtful = dict(states)

    def knows(self, event: EventView) -> bool:
        """Whether this event of its task was heard of before."""
        with self._lock:
            known = self._events.get(event.task)
            return known is not None and known.id == event.id

    # ------------------------------------------------------------ answers

    def counts(self) -> Counter[str]:
        """How many lines are in which state."""
        with self._lock:
            return Counter(self._state(entry) for entry in self._entries.values())

    def report(self) -> Report:
        with self._lock:
            tasks = [self._reported(entry) for _, entry in sorted(self._entries.items())]
            entries = self._entries.values()
            cost = self._cost(entry.task for entry in entries if entry.new)
            earlier = [*(entry.task for entry in entries if not entry.new), *chain(*(each.before for each in entries))]
            earlier_cost = self._cost(earlier)
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
        return summed(event.usage for event in map(self._events.get, dict.fromkeys(filter(None, tasks))) if event)

    def _state(self, entry: _Entry) -> str:
        if entry.task is None:
            return entry.state
        if event := self._events.get(entry.task):
            return event.state
        if entry.task in self._doubtful:
            return self._doubtful[entry.task]
        # Neither in doubt nor lost any more, and not ended: it goes on.
        return "submitted" if entry.state in (IN_DOUBT, LOST) else entry.state

    def _reported(self, entry: _Entry) -> LineReport:
        event = self._events.get(entry.task or "")
        errors = list(entry.errors)
        if event is not None and event.error is not None and event.state != SUCCEEDED:
            errors.append(Why(code=event.error.code, message=f"{event.error.name}: {event.error.message}"))
        return LineReport(
            line=entry.line.number,
            key=entry.line.key,
            task=entry.task,
            state=self._state(entry),
            errors=errors,
            files=[result.file for result in event.results if result.file] if event else [],
            new=entry.new,
            note=entry.note,
        )


def grouped(tasks: Iterable[LineReport]) -> list[Reason]:
    """What did not succeed, by reason, the most frequent first within a state."""
    found: dict[tuple[str, str, str], list[LineReport]] = {}
    for each in tasks:
        if each.state in TROUBLE:
            found.setdefault((each.state, _code(each), _which(each)), []).append(each)
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
    amounts = ((name, _amount(usage.get(name))) for usage in usages for name in SPENT)
    return _sums((name, amount) for name, amount in amounts if amount is not None)


def spent(cost: Mapping[str, str]) -> dict[str, str]:
    """A report's cost as money and coins."""
    return _sums((SPENT[name], Decimal(amount)) for name, amount in cost.items())


def _sums(amounts: Iterable[tuple[str, Decimal]]) -> dict[str, str]:
    sums: dict[str, Decimal] = {}
    for name, amount in amounts:
        sums[name] = sums.get(name, Decimal(0)) + amount
    return {name: f"{amount.normalize():f}" for name, amount in sums.items()}


def _amount(value: object) -> Decimal | None:
    try:
        amount = Decimal(str(value)) if value is not None else None
    except InvalidOperation:
        return None
    return amount if amount is not None and amount.is_finite() and abs(amount.adjusted()) < 20 else None


def _code(each: LineReport) -> str:
    if each.state == REFUSED and each.errors:
        return each.errors[0].path or each.errors[0].code
    return each.errors[0].code if each.errors else ""


def _which(each: LineReport) -> str:
    """What sets reasons of one code apart: the file that could not be uploaded."""
    return _message(each) if any(why.code == NOT_UPLOADED for why in each.errors) else ""


def _message(each: LineReport) -> str:
    return "; ".join(f"{why.path}: {why.message}" if why.path else why.message for why in each.errors)
