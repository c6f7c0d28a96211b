"""What is counted of every end, by the hour, by the day and for ever: how tasks ended, how long, for how much. Pure.

The tallies of an end follow from its rows alone. So an end that is corrected takes back what it counted before.
"""

import math
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal, InvalidOperation
from enum import StrEnum
from typing import NamedTuple

from msgspec import Struct

from receiver.model.records import End, JsonObject

MICRO = 1_000_000
"""Amounts and seconds are summed as whole millionths: sums of whole numbers do not drift."""
MOST = 1_000_000
"""Coins, or units of money, of one task; more than that is no price, and would spoil the sum of all others."""
BELIEVED = 10**15
"""The same for what is left on an account."""
BUCKETS = (1.0, 2.0, 5.0, 10.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1200.0, 1800.0, 3600.0, 7200.0, 10800.0)
"""Upper bounds in seconds, from one second to three hours: tasks take minutes, the slow ones an hour."""
BEYOND = "inf"
COINS, MONEY = "coins", "money"
SPENT = {"consumeMoney": MONEY, "thirdPartyConsumeMoney": MONEY, "consumeCoins": COINS}
"""What RunningHub calls what a task took. Its own charge and a third party's are paid from one balance."""
WAIT, RUN, DELAY, LAG = "wait", "run", "delay", "lag"


class Span(StrEnum):
    """How long the time is that a tally is about."""

    HOUR = "hour"
    DAY = "day"
    EVER = "ever"


SECONDS = {Span.HOUR: 3600, Span.DAY: 86400}


class Tally(Struct, frozen=True, kw_only=True):
    """How many there were of something in a time that began `at` (seconds since 1970, UTC); their sum in millionths.

    `name` is an end, `coins`, `money`, or a measure and the upper bound of its bucket: `run.60`. The tallies of all
    time are not told apart by target.
    """

    span: Span
    at: int
    kind: str
    target: str
    name: str
    n: int
    micro: int


class Ended(NamedTuple):
    """What the tallies of an end follow from; times in seconds."""

    kind: str
    target: str
    state: str
    created_at: float
    sent_at: float | None
    at: float
    usage: JsonObject


Key = tuple[str, int, str, str, str]
"""Span, beginning, kind, target and name."""
Sums = dict[Key, tuple[int, int]]
"""By key: how many, and their sum in millionths."""


def tallies_of(ended: Ended) -> Sums:
    """What an end counts."""
    names: dict[str, tuple[int, int]] = {ended.state: (1, 0)}
    for name, amount in spent(ended.usage).items():
        names[name] = (1, int(amount * MICRO))
    if ended.sent_at is not None and ended.state in (End.SUCCEEDED, End.FAILED):
        wait, run = wait_and_run(ended)
        names[bucket(WAIT, wait)] = (1, round(wait * MICRO))
        names[bucket(RUN, run)] = (1, round(run * MICRO))
    return spread(ended.kind, ended.target, ended.at, names)


def wait_and_run(ended: Ended) -> tuple[float, float]:
    """Seconds in which a task waited, here and at RunningHub, and in which it ran.

    It ran for as long as RunningHub says; where it says nothing, from when it was sent.
    """
    whole = max(0.0, ended.at - ended.created_at)
    told = amount_of(ended.usage.get("taskCostTime"))
    run = float(told) if told else max(0.0, ended.at - (ended.sent_at or ended.created_at))
    run = min(run, whole)
    return whole - run, run


def spread(kind: str, target: str, at: float, names: Mapping[str, tuple[int, int]]) -> Sums:
    """The same counts for the hour and the day of a time, and for ever."""
    sums: Sums = {}
    for name, count in names.items():
        for span, seconds in SECONDS.items():
            sums[span, int(at // seconds) * seconds, kind, target, name] = count
        sums[Span.EVER, 0, kind, "", name] = count
    return sums


def difference(after: Sums, before: Sums) -> Sums:
    """What has to be added to `before` to make it `after`."""
    found = {}
    for key in after.keys() | before.keys():
        (n, micro), (less, minus) = after.get(key, (0, 0)), before.get(key, (0, 0))
        if (n, micro) != (less, minus):
            found[key] = n - less, micro - minus
    return found


def total(several: Iterable[Sums]) -> Sums:
    sums: Sums = {}
    for each in several:
        for key, (n, micro) in each.items():
            before = sums.get(key, (0, 0))
            sums[key] = before[0] + n, before[1] + micro
    return sums


def bucket(measure: str, seconds: float) -> str:
    """The name under which so many seconds of a measure are counted."""
    place = bisect_left(BUCKETS, seconds)
    return f"{measure}.{BUCKETS[place]:g}" if place < len(BUCKETS) else f"{measure}.{BEYOND}"


def counts_by_bucket(tallies: Iterable[Tally], measure: str) -> list[int]:
    """How many there were of a measure in each of `BUCKETS`, and beyond the last one."""
    place = {f"{measure}.{bound:g}": number for number, bound in enumerate(BUCKETS)}
    place[f"{measure}.{BEYOND}"] = len(BUCKETS)
    counts = [0] * (len(BUCKETS) + 1)
    for each in tallies:
        if each.name in place:
            counts[place[each.name]] += each.n
    return counts


def percentile(counts: Sequence[int], share: float) -> float | None:
    """About the seconds that a share of all stayed within, from the counts by bucket; None of nothing.

    Within a bucket they are taken to lie evenly. What is beyond the last bound is told as that bound.
    """
    wanted, below = share * sum(counts), 0
    for number, count in enumerate(counts):
        if count and below + count >= wanted:
            lower = BUCKETS[number - 1] if number else 0.0
            upper = BUCKETS[min(number, len(BUCKETS) - 1)]
            return lower + (upper - lower) * (wanted - below) / count
        below += count
    return None


def spent(usage: Mapping[str, object]) -> dict[str, Decimal]:
    """The coins and the money that a task took, as far as RunningHub says it."""
    sums: dict[str, Decimal] = {}
    for told, name in SPENT.items():
        if amount := amount_of(usage.get(told)):
            sums[name] = sums.get(name, Decimal(0)) + amount
    return sums


def amount_of(value: object, *, most: int = MOST) -> Decimal | None:
    """An amount as a number; None for what cannot be one."""
    try:
        amount = Decimal(str(value)) if value is not None else None
    except InvalidOperation:
        return None
    return amount if amount is not None and amount.is_finite() and 0 <= amount <= most else None


def is_countable(at: object) -> bool:
    """Whether a time has an hour."""
    return isinstance(at, int | float) and math.isfinite(at) and 0 <= at < 2**40
