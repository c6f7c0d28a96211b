"""Which ranges of the indexes a filter of the list of tasks asks for.

A task is in an index by kind and state, in one by target, and in two for each of its labels; every one of them goes on
with kind, state and time. So these filters, alone or in pairs, are a few ranges: one for each pair of kind and state
that is wanted and that any task has. `q` is looked up first: it stands for the targets and labels that begin with it.
So is a target with * or ? in it: it stands for the targets that it fits.
"""

import re
from collections.abc import Mapping, Sequence

from msgspec.structs import replace

from receiver.model import rules
from receiver.model.records import Filter
from receiver.store.ledger.access import Conditions
from receiver.store.ledger.pages import Range, Table, words
from receiver.store.ledger.transaction import Transaction

TASKS = Table("tasks", "created_at", "key")
LABELS = Table("task_labels", "created_at", "task")
SPARSE = 50
"""Targets, and labels, that may begin with a text; of more than these, the newest tasks are walked instead."""
FEW = 4
"""The same for labels beside a label that is asked for: the tasks of each of them are walked."""
LAST = "\U0010ffff"
LABELLED = "exists (select 1 from task_labels l where l.task = {task} and l.name = ? and l.value = ?)"
BEGINS = r"""
exists (select 1 from tasks t where t.key = w.place and (t.id like lower(?) escape '\'
  or lower(t.target) like lower(?) escape '\'
  or exists (select 1 from task_labels l where l.task = t.key
    and (lower(l.value) like lower(?) escape '\' or lower(l.name) like lower(?) escape '\'))))
"""
FITS = r"exists (select 1 from tasks t where t.key = w.place and lower(t.target) like lower(?) escape '\')"
BEGINNING = re.compile(rf"[0-9a-f-]{{{rules.ID_TYPED},36}}")
"""What an id may begin with."""
WILDCARDS = {"*": "%", "?": "_"}

MANY = 1000

Pair = tuple[str, str]
"""A kind and a state."""
Label = tuple[str, str]
"""A name and a value."""


def ranges_of(tx: Transaction, wanted: Filter) -> list[Range]:
    """The ranges of the tasks that a filter is about; `since`, `until` and the cursor are for the page to narrow."""
    if not (wanted.kind or wanted.state or wanted.label or wanted.target or wanted.q):
        return [Range(TASKS, "1 = 1")]
    if wanted.target is not None and not WILDCARDS.keys().isdisjoint(wanted.target):
        return _fitting_ranges(tx, wanted, wanted.target)
    pairs = _pairs(tx, wanted)
    return _searched(tx, wanted, wanted.q, pairs) if wanted.q else _narrowed(tx, wanted, pairs)


def _searched(tx: Transaction, wanted: Filter, q: str, pairs: Sequence[Pair]) -> list[Range]:
    """The ranges of the tasks whose id, target or labels begin with `q`."""
    targets = _beginning(tx, "select target from targets", q)
    values = _beginning(tx, "select name, value from labels", q)
    names = _beginning(tx, "select name, value from labels", q, "lower(name)")
    named = _named(tx, q)
    found = _by_keys(named, wanted)
    labels = {*(values or ()), *(names or ())}
    too_many = len(named) > SPARSE or (wanted.label and len(labels) > FEW)
    if targets is None or values is None or names is None or too_many:
        begins = _like(q) + "%"
        return found + [_holding(each, BEGINS, *[begins] * 4) for each in ranges_of(tx, replace(wanted, q=None))]
    for (target,) in targets:
        if wanted.target in (None, target):
            found += _narrowed(tx, replace(wanted, target=target), pairs)
    for name, value in labels:
        found += _narrowed(tx, replace(wanted, label=((name, value), *wanted.label)), pairs)
    return found


def _pairs(tx: Transaction, wanted: Filter) -> list[Pair]:
    """The pairs of kind and state that are wanted and that some task has."""
    return [
        (kind, state)
        for kind in words(tx, "tasks", "kind")
        if not wanted.kind or kind in wanted.kind
        for state in words(tx, "tasks", "state", "kind = ?", (kind,))
        if not wanted.state or state in wanted.state
    ]


def _narrowed(tx: Transaction, wanted: Filter, pairs: Sequence[Pair]) -> list[Range]:
    """The ranges of a filter without `q`: by target or kind in the tasks, by the rarest label in the labels."""
    fixed = Conditions()
    labels = rarest_first(tx, wanted.label)
    holds, held = labelled(labels[1:])
    for label in labels[:1]:
        fixed.add("name = ? and value = ?", *label)
    if wanted.target is not None:
        fixed.add("target = ?", wanted.target)
    fixed.add("kind = ? and state = ?")
    return [
        Range(
            LABELS if labels else TASKS,
            " and ".join(fixed.texts),
            (*fixed.values, *pair),
            holds,
            held,
        )
        for pair in pairs
    ]


def rarest_first(tx: Transaction, labels: Sequence[Label]) -> list[Label]:
    """The labels, the one that the fewest tasks have first; above `MANY` they count as equal."""
    if len(labels) < 2:
        return list(labels)
    return sorted(set(labels), key=lambda label: _tasks_with(tx, label))


def is_rare(tx: Transaction, label: Label) -> bool:
    """Whether so few tasks have a label that all of them may be gone through."""
    return _tasks_with(tx, label) < MANY


def _tasks_with(tx: Transaction, label: Label) -> int:
    """How many tasks have a label, counted up to `MANY`."""
    few = "select count(*) as value from (select 1 from task_labels where name = ? and value = ? limit ?) few"
    return int(tx.value(few, *label, MANY))


def labelled(labels: Sequence[Label], task: str = "w.place") -> tuple[str, tuple[object, ...]]:
    """The condition that a walked row's task has all of these labels, and what is bound in it."""
    holds = " and ".join(LABELLED.format(task=task) for _ in labels)
    return holds, tuple(text for label in labels for text in label)


def _fitting_ranges(tx: Transaction, wanted: Filter, pattern: str) -> list[Range]:
    """The ranges of a filter whose target has wildcards."""
    fits = _like(pattern, WILDCARDS)
    head = re.split(r"[*?]", pattern, maxsplit=1)[0]
    targets = tx.all(
        r"""
        select target from targets
        where folded >= lower(?) and folded < lower(?) and folded like lower(?) escape '\' limit ?
        """,
        *(head, head + LAST, fits, SPARSE + 1),
    )
    if len(targets) > SPARSE:
        return [_holding(each, FITS, fits) for each in ranges_of(tx, replace(wanted, target=None))]
    return [each for row in targets for each in ranges_of(tx, replace(wanted, target=row["target"]))]


def among_ids(text: str) -> tuple[str, str] | None:
    """From where to where the ids stand that begin with a text; None for what is too short, or begins none."""
    begins = text.strip().lower()
    return (begins, begins + LAST) if BEGINNING.fullmatch(begins) else None


def _named(tx: Transaction, q: str) -> list[int]:
    """The keys of the tasks of which `q` is an id, ours or the provider's, or the beginning of ours."""
    exact = tx.all("select key from tasks where id = ? union select key from tasks where provider_task_id = ?", q, q)
    among = among_ids(q)
    begun = tx.all("select key from tasks where id >= ? and id < ? limit ?", *among, SPARSE + 1) if among else []
    return list(dict.fromkeys(row["key"] for row in (*exact, *begun)))


def _by_keys(keys: Sequence[int], wanted: Filter) -> list[Range]:
    """These tasks, as far as the rest of the filter holds for them."""
    also = Conditions()
    also.among("kind", wanted.kind)
    also.among("state", wanted.state)
    if wanted.target is not None:
        also.add("target = ?", wanted.target)
    holds, held = labelled(wanted.label)
    where = " and ".join(["key = ?", *also.texts])
    return [Range(TASKS, where, (key, *also.values), holds, held) for key in keys]


def _beginning(tx: Transaction, select: str, q: str, column: str = "folded") -> list[tuple[str, ...]] | None:
    """What begins with a text, whatever its case; None when it is too much to be asked for one by one."""
    rows = tx.all(f"{select} where {column} >= lower(?) and {column} < lower(?) limit ?", q, q + LAST, SPARSE + 1)
    return [tuple(row[name] for name in row.keys()) for row in rows] if len(rows) <= SPARSE else None  # noqa: SIM118


def _holding(each: Range, condition: str, *values: object) -> Range:
    """The range, narrowed by a condition that no index answers."""
    holds = f"{each.holds} and {condition}" if each.holds else condition
    return each._replace(holds=holds, held=(*each.held, *values))


def _like(text: str, wildcards: Mapping[str, str] = {}) -> str:
    """A pattern for `like … escape '\\'` that matches the text, in which wildcards may stand."""
    special = {each: "\\" + each for each in ("\\", "%", "_")}
    return "".join({**special, **wildcards}.get(each, each) for each in text)
