"""What the tallies of a ledger must be, counted in its tables."""

import json
import sqlite3
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

ENDS = """
select e.state, e.at, e.usage, t.kind, t.target, t.created_at, t.sent_at from events e join tasks t on t.key = e.task
"""
COSTS = {"consumeMoney": "money", "thirdPartyConsumeMoney": "money", "consumeCoins": "coins"}

Place = tuple[str, int, str, str]
"""Span, beginning, kind and target."""


def places(kind: str, target: str, at: float) -> list[Place]:
    hour, day = (int(at) // seconds * seconds for seconds in (3600, 86400))
    return [("hour", hour, kind, target), ("day", day, kind, target), ("ever", 0, kind, "")]


class Counted:
    """By place: how many ends of each sort, coins and money, and seconds of waiting and running, in millionths."""

    def __init__(self) -> None:
        self.n: Counter[tuple[Place, str]] = Counter()
        self.sums: defaultdict[tuple[Place, str], int] = defaultdict(int)

    def __eq__(self, other: object) -> bool:
        assert isinstance(other, Counted)
        return +self.n == +other.n and self._sums() == other._sums()

    def __repr__(self) -> str:
        return f"{dict(self.n)} {self._sums()}"

    def _sums(self) -> dict[tuple[Place, str], int]:
        return {key: value for key, value in self.sums.items() if value}


def in_tables(path: Path) -> Counted:
    """Every event, gone through."""
    counted = Counted()
    for state, at, usage, kind, target, created_at, sent_at in _rows(path, ENDS):
        said = json.loads(usage)
        for place in places(kind, target, at):
            counted.n[place, state] += 1
            for name in {COSTS[field] for field in COSTS if float(said.get(field) or 0)}:
                counted.n[place, name] += 1
            for field, name in COSTS.items():
                counted.sums[place, name] += round(float(said.get(field) or 0) * 1e6)
            if state in ("succeeded", "failed") and sent_at is not None:
                whole = max(0.0, at - created_at)
                run = min(whole, float(said.get("taskCostTime") or 0) or max(0.0, at - sent_at))
                for measure, seconds in (("wait", whole - run), ("run", run)):
                    counted.n[place, measure] += 1
                    counted.sums[place, measure] += round(seconds * 1e6)
    return counted


def in_tallies(path: Path) -> Counted:
    """What the tallies say, their buckets taken together; without what is counted of callbacks."""
    counted = Counted()
    for span, at, kind, target, name, n, micro in _rows(path, "select * from tallies"):
        if name.startswith(("delay.", "lag.")):
            continue
        counted.n[(span, at, kind, target), name.partition(".")[0]] += n
        counted.sums[(span, at, kind, target), name.partition(".")[0]] += micro
    return counted


def _rows(path: Path, sql: str) -> list[Any]:
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    try:
        return connection.execute(sql).fetchall()
    finally:
        connection.close()
