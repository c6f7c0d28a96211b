"""Owns what can go wrong with one task: the faults by name, the plan of a task, the chances plans are drawn from."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from enum import StrEnum
from random import Random
from typing import Any, TypedDict


class Fault(StrEnum):
    """One thing that goes wrong with one task."""

    LOST_CALLBACK = "lost_callback"
    """The callback never arrives; the provider believes that all its attempts failed."""
    NEVER_SENT = "never_sent"
    """The callback is never attempted, and the webhook row shows no attempt."""
    DUPLICATE = "duplicate"
    """The callback arrives twice with the same bytes."""
    LATE = "late"
    """The callback is sent `delay` seconds after the end."""
    BEFORE_ANSWER = "before_answer"
    """The task ends at once, and its callback is answered before the submission is."""
    JUNK_BODY = "junk_body"
    """The callback's body is no JSON."""
    WRONG_TOKEN = "wrong_token"
    """The callback goes to the URL with another last path segment."""
    HUGE_BODY = "huge_body"
    """The callback's body has more than `megabytes` MiB."""
    FAILED = "failed"
    """The task fails with `error_code`."""
    NO_RESULTS = "no_results"
    """The task succeeds without results; the query has them after `results_after_queries` queries, None for never."""
    FALSE_CLAIM = "false_claim"
    """The callback claims success with results, the query says that the task failed."""
    EARLY_CLAIM = "early_claim"
    """The callback claims success while the query says RUNNING for `seconds` more."""
    ANSWER_LOST = "answer_lost"
    """The task is accepted, but the answer to its submission is lost."""
    FORGOTTEN = "forgotten"
    """The query does not know the task after its end; `detail_knows` says whether the webhook detail still does."""
    EXPIRED_LINK = "expired_link"
    """The result's link is dead; with `fresh_after_query` the queries after the end give one that works."""
    OTHER_ID = "other_id"
    """The callback's body names another task."""


class PlanOptions(TypedDict, total=False):
    """The options of a plan, as they are given; `Plan` says what they mean and their defaults."""

    delay: float
    megabytes: float
    error_code: str
    results_after_queries: int | None
    seconds: float
    detail_knows: bool
    fresh_after_query: bool
    answer_says_end: bool


@dataclass(frozen=True)
class Plan:
    """What will go wrong with one task. Faults combine; each option belongs to one of them."""

    faults: frozenset[Fault] = frozenset()
    delay: float = 3600.0
    """LATE: seconds between the end and the first attempt."""
    megabytes: float = 2.0
    """HUGE_BODY: MiB of padding."""
    error_code: str = "1501"
    """FAILED and FALSE_CLAIM: the V2 error code."""
    results_after_queries: int | None = None
    """NO_RESULTS: how many queries after the end still say null; None for all of them."""
    seconds: float = 60.0
    """EARLY_CLAIM: how long after the end the query still says RUNNING."""
    detail_knows: bool = True
    """FORGOTTEN: whether the webhook detail still tells the event."""
    fresh_after_query: bool = False
    """EXPIRED_LINK: whether a query after the end gives a new link, which works."""
    answer_says_end: bool = False
    """BEFORE_ANSWER: whether the submit answer already tells the end; otherwise it tells how the task began."""

    def has(self, fault: Fault) -> bool:
        return fault in self.faults

    @property
    def fails(self) -> bool:
        """Whether the task's true end is a failure."""
        return Fault.FAILED in self.faults or Fault.FALSE_CLAIM in self.faults


SOUND = Plan()
"""Nothing goes wrong."""


@dataclass(frozen=True)
class Chances:
    """How likely each fault befalls a task that has no plan of its own; 0 never, 1 always, drawn independently."""

    drop: float = 0.0
    """LOST_CALLBACK."""
    unsent: float = 0.0
    """NEVER_SENT."""
    duplicate: float = 0.0
    late: float = 0.0
    before_answer: float = 0.0
    junk: float = 0.0
    """JUNK_BODY."""
    fail: float = 0.0
    """FAILED."""
    no_results: float = 0.0
    false_claim: float = 0.0
    early_claim: float = 0.0
    answer_lost: float = 0.0
    late_seconds: float = 60.0
    """How late a late callback is; not a chance."""

    def draw(self, rng: Random) -> Plan:
        """The plan of one task."""
        # Every chance is drawn, also a zero one, so that raising one of them leaves the others' outcomes alone.
        drawn = [fault for name, fault in _CHANCES.items() if rng.random() < getattr(self, name)]
        return Plan(frozenset(drawn), delay=self.late_seconds) if drawn else SOUND


_CHANCES = {
    "drop": Fault.LOST_CALLBACK,
    "unsent": Fault.NEVER_SENT,
    "duplicate": Fault.DUPLICATE,
    "late": Fault.LATE,
    "before_answer": Fault.BEFORE_ANSWER,
    "junk": Fault.JUNK_BODY,
    "fail": Fault.FAILED,
    "no_results": Fault.NO_RESULTS,
    "false_claim": Fault.FALSE_CLAIM,
    "early_claim": Fault.EARLY_CLAIM,
    "answer_lost": Fault.ANSWER_LOST,
}


def read_plan(document: Mapping[str, Any]) -> Plan:
    """The plan a JSON object describes: `faults`, a list of names, and options beside it. ValueError says why not."""
    options = {name: value for name, value in document.items() if name != "faults"}
    named = document.get("faults", [])
    if not isinstance(named, list):
        raise ValueError("faults is a list of names")
    for name, value in options.items():
        _check_option(name, value)
    return Plan(frozenset(Fault(name) for name in named), **options)


def _check_option(name: str, value: object) -> None:
    defaults = {field.name: field.default for field in fields(Plan) if field.name != "faults"}
    if name not in defaults:
        raise ValueError(f"there is no option {name!r}")
    number = isinstance(value, int | float) and not isinstance(value, bool) and value >= 0
    if name == "results_after_queries":
        fits = value is None or (number and isinstance(value, int))
    elif isinstance(defaults[name], float):
        fits = number
    else:
        fits = type(value) is type(defaults[name])
    if not fits:
        raise ValueError(f"option {name!r} cannot be {value!r}")
