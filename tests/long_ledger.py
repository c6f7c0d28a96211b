"""A ledger of any length with variety, made in seconds, and every filter of every list with values that match much,
little and nothing."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from receiver.model.records import Filter
from receiver.store.sqlite.database import connect, create_private

NOW = 1_790_000_000.0
TARGETS = 225
OPEN = 2000
"""Tasks that have not ended, at the most: one in ten of a short ledger."""

FILL = """
create temp table n as with recursive n(i) as (select 1 union all select i + 1 from n where i < {rows}) select i from n;
insert into tasks
  (id, kind, api, target, input, labels, state, created_at, sent_at, ended_at, provider_task_id, settled, digest)
  select printf('0197b0a2-5f0e-7c61-8000-%012d', i),
    case when i % 50 = 0 then 'workflow' when i % 51 = 0 then 'app' else 'model' end,
    'v2',
    case when i % 50 = 0 then 1900000000000000000 + i % 2000
      else printf('maker-%02d/model-%03d', i % 15, i % {targets}) end,
    '{{"prompt": "a lighthouse"}}',
    case when i % 3 = 0 then json_object('project', 'p' || (i % 10))
         when i % 3 = 1 then json_object('project', 'p' || (i % 10), 'user', 'u' || (i % 5000))
         else '{{}}' end,
    case when i > {rows} - {open} then
      case i % 4 when 0 then 'queued' when 1 then 'submitted' when 2 then 'in_doubt' else 'lost' end
      when i % 20 = 0 then 'failed' else 'succeeded' end,
    {now} + i, {now} + i, case when i <= {rows} - {open} then {now} + i + 60 end, 'p' || i, i <= {rows} - {open},
    zeroblob(32)
  from n;
insert into events (id, task, state, source, confirmed, at, results, usage, extra)
  select 'e' || id, key, state, 'callback', 1, created_at + 60, '[]', '{{}}', '{{}}'
  from tasks where state in ('succeeded', 'failed');
insert into definitions (name, kind, configured) values ('keep-files', 'download', 1), ('shop', 'http', 1);
insert into actions (task, event, name, state, created_at, settled_at)
  select task, key, 'keep-files', case when key % 1000 = 0 then 'dead' else 'done' end, at, at from events;
insert into actions (task, event, name, state, created_at, due_at)
  select task, key, 'shop', 'owed', at, {now} + 1e9 from events where key % 100 = 0;
insert into deliveries (task, purpose, digest, received_at, last_at, size, problem, body)
  select key, 'submit', zeroblob(32), created_at + 60, created_at + 60, 2, case when key % 500 = 0 then 'no JSON' end,
    x'7b7d'
  from tasks where settled = 1;
insert into checks (task, kind, at, seconds, ok, summary)
  select key, 'query', created_at + 61, 0.2, 1, 'SUCCESS' from tasks where settled = 1;
insert into replays (mode, filter, created_at, matched) select 'retry', '{{}}', {now} + i, 0 from n where i <= 200;
insert into alerts (kind, subject, message, opened_at, last_at, closed_at)
  select 'task_lost', 's' || i, 'lost', {now} + i, {now} + i, {now} + i from n where i <= 2000;
insert into audit (at, door, verb, object, filter, result)
  select {now} + i, 'api', case when i % 500 = 0 then 'replay' else 'submit' end, 'tasks/' || i, '{{}}', 'done' from n;
update actions set replay = 1 where name = 'shop';
drop table n;
"""


def make(path: Path, rows: int, *, left: int | None = None) -> None:
    """A new database file with so many tasks, and an event, actions, a delivery and a check for each that ended.

    `left` is how many have not ended.
    """
    left = min(OPEN, rows // 10) if left is None else left
    create_private(path)
    connection = connect(path)
    for name, value in (("journal_mode", "off"), ("synchronous", "off"), ("cache_size", -400_000)):
        connection.execute(f"pragma {name} = {value}")  # nobody needs what is half done
    connection.execute("begin")
    for statement in FILL.split(";\n"):
        connection.execute(statement.format(rows=rows, targets=TARGETS, open=left, now=NOW))
    connection.execute("commit")
    connection.execute("pragma journal_mode = wal")
    connection.close()


def values(rows: int) -> Mapping[str, Mapping[str, Sequence[object]]]:
    """By list and filter: values that match much, little, and nothing."""
    times: dict[str, Sequence[object]] = {
        "since": [NOW, NOW + rows * 0.999, NOW + 9 * rows],
        "until": [NOW + 9 * rows, NOW + rows * 0.001, NOW - 1],
    }
    task = [f"0197b0a2-5f0e-7c61-8000-{7:012}", "0197b0a2-0000-7000-8000-000000000000"]
    labels = [
        (("project", "p1"),),
        (("user", "u7"),),
        (("project", "p1"), ("user", "u3")),
        (("project", "nobody"),),
    ]
    return {
        "tasks": {
            "state": [("succeeded",), ("failed", "lost"), ("queued",), ("cancelled",)],
            "kind": [("model",), ("workflow", "app"), ("quick",)],
            "target": ["maker-01/model-001", "1900000000000000050", "nobody/ordered-this", "maker-0*", "*/model-00?"],
            "label": labels,
            "q": ["maker-01", "m", "proj", "0197b0a2-5f0e", "190000000000000005", "p1", "u", "u77", *task, "p7", "zzz"],
            **times,
        },
        "deliveries": {"state": [("readable",), ("unreadable",), ("contradicting",)], "task": task, **times},
        "events": {
            "state": [("succeeded",), ("failed",), ("cancelled",)],
            "task": task,
            "label": labels,
            **times,
        },
        "actions": {
            "state": [("done",), ("dead", "owed"), ("skipped",)],
            "name": ["keep-files", "shop", "nobody"],
            "task": task,
            "label": labels,
            **times,
        },
        "alerts": {"state": [("open",), ("closed",)], "kind": [("task_lost",), ("action_dead",)], **times},
        "replays": times,
        "audit": {"verb": ["submit", "replay", "nothing"], **times},
    }


def filters(rows: int) -> Iterator[tuple[str, Filter]]:
    """Every list with no filter, and with every value of every filter, alone and beside every value of every other."""
    for listed, known in values(rows).items():
        yield listed, Filter()
        for name, choices in known.items():
            yield from ((listed, Filter(**{name: choice})) for choice in choices)  # type: ignore[arg-type]
        for first, second in itertools.combinations(known, 2):
            for one, other in itertools.product(known[first], known[second]):
                yield listed, Filter(**{first: one, second: other})  # type: ignore[arg-type]
