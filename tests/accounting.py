"""The account of a soak: what the ledger says of every order beside what the provider and the targets know."""

import hashlib
import time
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from hook import Hook
from servers import rows

from receiver.model.links import Links
from receiver.simulator import Simulator, Status
from receiver.simulator.tasks import Task as Truth

ENDS = {Status.SUCCESS: "succeeded", Status.FAILED: "failed", Status.CANCEL: "cancelled"}


@dataclass
class Report:
    """What happened, and what was wrong: the ids of orders by what is wrong with them, and sentences."""

    seed: int
    seconds: float
    acts: Counter[str] = field(default_factory=Counter)
    skipped: dict[str, str] = field(default_factory=dict)
    counts: dict[str, object] = field(default_factory=dict)
    unaccounted: dict[str, str] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)
    memory: list[tuple[float, int, float]] = field(default_factory=list)
    """Seconds since the start, the process, its MiB."""

    @property
    def ok(self) -> bool:
        return not self.unaccounted and not self.wrong


class Readiness:
    """What `/readyz` may say, from which time on; and what it said that it should not have."""

    def __init__(self) -> None:
        self._told: list[tuple[float, frozenset[str]]] = [(0.0, frozenset({"gone"}))]
        self.said: Counter[str] = Counter()
        self.wrong: list[str] = []

    @property
    def since(self) -> float:
        """When that which holds now began."""
        return self._told[-1][0]

    def may_say(self, *answers: str) -> None:
        self._told.append((time.monotonic(), frozenset(answers)))

    def note(self, begun: float, answer: str) -> None:
        """An answer to a question that was asked at `begun` fits what held at any moment since."""
        self.said[answer] += 1
        told = [each for at, each in self._told if at > begun]
        told.append([each for at, each in self._told if at <= begun][-1])
        if not any(answer in each for each in told):
            self.wrong.append(f"/readyz said {answer}, and should have said {' or '.join(sorted(told[-1]))}")


@dataclass(frozen=True)
class Account:
    """Looks into the ledger from beside the server."""

    database: Path
    links: Links
    simulator: Simulator
    hook: Hook

    def unaccounted(self, orders: Iterable[str]) -> dict[str, str]:
        """The orders of which something is not as it should be, each with what."""
        found: dict[str, str] = {}
        tasks = {
            str(each[0]): each[1:] for each in rows(self.database, "select id, state, provider_task_id from tasks")
        }
        alerted = {str(each[0]) for each in rows(self.database, "select subject from alerts where closed_at is null")}
        truths, told, actions = self.truths(), self.told(), self.actions()
        for task_id in orders:
            state, provider_id = tasks.get(task_id, ("not in the ledger", None))
            known = bool(truths[task_id]) and (provider_id is not None or truths[task_id][0].id in told)
            problem = self.falsehood(task_id, state, truths[task_id], alerted, known=known)
            # What somebody claimed of a task that nobody can know is held, but for what may be done unconfirmed.
            if problem is None and state in ENDS.values() and known:
                problem = self.undone(task_id, str(state), truths[task_id], actions[task_id], alerted)
            if problem is not None:
                found[task_id] = problem
        return found

    def falsehood(
        self, task_id: str, state: object, truths: list[Truth], alerted: set[str], *, known: bool
    ) -> str | None:
        """What is wrong with what the ledger says of an order; what nobody can know must be alerted."""
        if len(truths) > 1:
            return f"sent {len(truths)} times"
        if not known and state in ("in_doubt", "lost", "succeeded", "failed"):
            return None if task_id in alerted else f"{state}, nobody can know better, and no alert says so"
        if not truths:
            return None if state == "cancelled" else f"{state}, and RunningHub has no such task"
        said = ENDS.get(truths[0].status)
        return None if state == said else f"{state}, but RunningHub says {truths[0].status} of {truths[0].id}"

    def undone(
        self, task_id: str, state: str, truths: list[Truth], actions: dict[str, tuple[str, bool]], alerted: set[str]
    ) -> str | None:
        """What is wrong with what was done for an order that ended."""
        for name in ("keep", "hook") if state == "succeeded" else ("hook",):
            if name not in actions:
                return f"{name} is not owed"
        for name, (at, by_denial) in actions.items():
            if at == "dead" and name in alerted:
                continue
            waits = name == "note" and actions.get("keep", ("", False))[0] == "dead"
            if at != "done" and not waits and not (at == "skipped" and by_denial):
                return f"{name} is {at}"
        if truths and actions["hook"][0] == "done":
            heard = self.hook.heard.get(task_id, {})
            if heard.get("type") != f"task.{state}":
                return f"{state}, but the endpoint heard {heard.get('type')}"
        return None

    def truths(self) -> dict[str, list[Truth]]:
        """The provider's tasks by the order that they were made for."""
        found: dict[str, list[Truth]] = defaultdict(list)
        for truth in self.simulator.tasks.values():
            link = self.links.read_url(truth.order.webhook_url or "")
            if link is not None:
                found[link.task_id].append(truth)
        return found

    def told(self) -> set[str]:
        """The provider's tasks of which a readable callback was taken."""
        return {each.task_id for each in self.simulator.callbacks if each.status == 200}

    def actions(self) -> dict[str, dict[str, tuple[str, bool]]]:
        """By order and definition, the state of the newest action, and whether the provider denied its event."""
        sql = """
        select t.id, a.name, a.state, e.contradicted from actions a
        join tasks t on t.key = a.task join events e on e.key = a.event order by a.generation
        """
        found: dict[str, dict[str, tuple[str, bool]]] = defaultdict(dict)
        for task_id, name, state, denied in rows(self.database, sql):
            found[str(task_id)][str(name)] = (str(state), denied == 1)
        return found

    def promised_to_the_provider(self) -> set[tuple[str, bytes]]:
        found = set()
        for each in self.simulator.callbacks:
            link = self.links.read_url(each.url)
            if each.status == 200 and link is not None:
                found.add((link.task_id, hashlib.sha256(each.body).digest()))
        return found

    def unsaved(self) -> list[str]:
        """Files that are said to be saved, and are not there as they should be."""
        found = []
        for task_id, path, digest in rows(
            self.database, "select t.id, f.path, f.sha256 from files f join tasks t on t.key = f.task"
        ):
            file = self.database.parent / str(path)
            if not file.is_file() or hashlib.sha256(file.read_bytes()).hexdigest() != digest:
                found.append(f"the file {path} of {task_id} is not there as it was saved")
        return found
