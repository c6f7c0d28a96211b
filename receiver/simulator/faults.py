"""Owns what can go wrong with one task: the faults by name, and the plan of a task."""

from enum import StrEnum
from typing import Annotated, TypeAlias

from msgspec import Meta, Struct

Number: TypeAlias = Annotated[float, Meta(ge=0)]


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
    LINK_AWAY = "link_away"
    """The result's link answers 503 for `away` seconds after the end, then it works."""
    OTHER_ID = "other_id"
    """The callback's body names another task."""


class Plan(Struct, frozen=True, forbid_unknown_fields=True):
    """What will go wrong with one task. Faults combine; each option belongs to one of them."""

    faults: frozenset[Fault] = frozenset()
    delay: Number = 3600.0
    """LATE: seconds between the end and the first attempt."""
    megabytes: Number = 2.0
    """HUGE_BODY: MiB of padding."""
    error_code: str = "1501"
    """FAILED and FALSE_CLAIM: the V2 error code."""
    results_after_queries: Annotated[int, Meta(ge=0)] | None = None
    """NO_RESULTS: how many queries after the end still say null; None for all of them."""
    seconds: Number = 60.0
    """EARLY_CLAIM: how long after the end the query still says RUNNING."""
    detail_knows: bool = True
    """FORGOTTEN: whether the webhook detail still tells the event."""
    fresh_after_query: bool = False
    """EXPIRED_LINK: whether a query after the end gives a new link, which works."""
    away: Number = 600.0
    """LINK_AWAY: for how many seconds after the end."""
    answer_says_end: bool = False
    """BEFORE_ANSWER: whether the submit answer already tells the end; otherwise it tells how the task began."""

    def has(self, fault: Fault) -> bool:
        return fault in self.faults

    @property
    def fails(self) -> bool:
        """Whether the task's true end is a failure."""
        return Fault.FAILED in self.faults or Fault.FALSE_CLAIM in self.faults
