"""Configured actions: what every kind of them is configured with, and the kinds. A kind's own settings stand beside
what performs it.
"""

import math
import re
from collections.abc import Sequence
from enum import StrEnum
from typing import Annotated, TypeAlias

from msgspec import Struct

from receiver.model.fields import Condition, Setting, more_than_0
from receiver.model.records import End

NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
LONGEST = 30 * 86400.0
"""Seconds; what would take longer is a slip of the pen, and no calendar has the year in which it ends."""
SLOWEST_RATE = 1 / LONGEST
MOST_BREAKER = 1000


class ActionKind(StrEnum):
    DOWNLOAD = "download"
    HTTP = "http"
    COMMAND = "command"
    PYTHON = "python"


class FailureClass(StrEnum):
    """What a failed attempt says about its target."""

    TRANSPORT = "transport"
    """It could not be reached, or broke off."""
    TIMEOUT = "timeout"
    """It took too long."""
    THROTTLED = "throttled"
    """It asked for fewer or later requests: 429, 502, 503, 504."""
    UNWELL = "unwell"
    """It broke on this one: another 5xx, 408, 425."""
    REFUSED = "refused"
    """It, or our own guard, said no to this one for good."""
    GONE = "gone"
    """It asked us to stop: 410."""
    POSTPONED = "postponed"
    """A function raised Retry: it is well, and the time has not come."""
    FAILED = "failed"
    """Nothing is known but that the attempt failed."""

    @property
    def accuses_target(self) -> bool:
        """Whether the target may be at fault, and not this one event: many of these in a row open its breaker."""
        return self not in (self.REFUSED, self.GONE, self.POSTPONED)

    @property
    def is_silence(self) -> bool:
        """Whether nothing was heard of the target: what answers, if badly, can bear more trials."""
        return self in (self.TRANSPORT, self.TIMEOUT)


class When(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which tasks a definition is for: all named labels equal, and the target matches the pattern."""

    labels: dict[str, str] = {}
    target: str | None = None


Seconds: TypeAlias = Annotated[float, Setting(more_than_0(LONGEST))]
Attempts: TypeAlias = Annotated[int, Setting(more_than_0(1_000_000))]
Workers: TypeAlias = Annotated[int, Setting(more_than_0(1000))]
"""One costs memory and a look at the ledger; of more than a thousand none would find the machine free."""

_RATE = Condition(
    f"a finite number, at least one in 30 days ({SLOWEST_RATE:.1e} in a second)",
    lambda rate: rate is None or SLOWEST_RATE <= rate < math.inf,
)
_BREAKER = Condition(
    f"0 (never) or how many actions must fail in a row, at most {MOST_BREAKER}",
    lambda failures: 0 <= failures <= MOST_BREAKER,
)


class Definition(Struct, frozen=True, kw_only=True):
    """A configured action; each kind adds its own settings, and may have other defaults. Durations in seconds.

    `timeout` is how long an attempt may take, `lease` how long a claim lasts unless it is renewed, `rate` how many
    attempts may begin in a second (None: any), `breaker` how many actions must fail in a row to make the rest wait
    until the target is well again (0: never), `include_input` whether it receives what was ordered.
    """

    name: Annotated[str, Setting(Condition("lower-case letters, digits, - and _", NAME.fullmatch))]
    kind: ActionKind
    on: Annotated[tuple[End, ...], Setting(Condition(f"at least one of {', '.join(End)}", bool))] = (End.SUCCEEDED,)
    when: When = When()
    timeout: Seconds = 300.0
    lease: Seconds = 60
    max_attempts: Attempts = 12
    concurrency: Workers = 4
    rate: Annotated[float | None, Setting(_RATE)] = None
    breaker: Annotated[int, Setting(_BREAKER)] = 10
    unconfirmed: bool = False
    allow_private: bool = False
    include_input: bool = True
    after: tuple[str, ...] = ()

    __rich_repr__ = None  # type: ignore[assignment]  # it would show the secrets

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r}, {self.kind.value})"

    def secrets(self) -> list[str]:
        """What must not be read in any log, record or page."""
        return []

    def conflict(self, others: Sequence["Definition"]) -> str | None:
        """Why it cannot stand beside the definitions before it, with the setting's name; None when it can."""
        return None
