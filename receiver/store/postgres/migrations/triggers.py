"""What follows a change by itself: looking up by labels and targets, and the counts that are kept."""


def trigger(name: str, event: str, table: str, body: str, when: str = "") -> tuple[str, str]:
    """A trigger for each row, and the function that it runs. A later version replaces the function alone."""
    return (
        f"create or replace function {name}() returns trigger language plpgsql as $$ begin {body} return null; end $$",
        f"create trigger {name} after {event} on {table} for each row {when} execute function {name}()",
    )


LABELS_OF_NEW = r"""
json_each(cast(regexp_replace(new.labels, '(?<!\\)((?:\\\\)*)\\u0000', '\1', 'g') as json)) l
  where json_typeof(l.value) = 'string'
"""
"""No text of PostgreSQL holds a NUL, so labels are looked up without; the task itself keeps what was given."""

TRIGGERS = (
    *trigger(
        "tasks_added",
        "insert",
        "tasks",
        f"""
        insert into targets (target, folded) values (new.target, lower(new.target)) on conflict do nothing;
        insert into labels (name, value, folded)
          select l.key, l.value #>> '{{}}', lower((l.value #>> '{{}}') collate "C") from {LABELS_OF_NEW}
          on conflict do nothing;
        insert into task_labels (name, value, target, kind, state, created_at, ended_at, task)
          select l.key, l.value #>> '{{}}', new.target, new.kind, new.state, new.created_at, new.ended_at, new.key
          from {LABELS_OF_NEW} on conflict do nothing;
        """,
    ),
    *trigger(
        "tasks_moved",
        "update of state",
        "tasks",
        "update task_labels set state = new.state, ended_at = new.ended_at where task = new.key;",
        "when (old.state <> new.state)",
    ),
    *trigger(
        "actions_added",
        "insert",
        "actions",
        """
        insert into action_counts (name, state, n) values (new.name, new.state, 1)
          on conflict (name, state) do update set n = action_counts.n + 1;
        """,
    ),
    *trigger(
        "actions_moved",
        "update of state",
        "actions",
        """
        insert into action_counts (name, state, n) values (old.name, old.state, -1), (new.name, new.state, 1)
          on conflict (name, state) do update set n = action_counts.n + excluded.n;
        """,
        "when (old.state <> new.state)",
    ),
    *trigger(
        "actions_owed_by_replay",
        "insert",
        "actions",
        "update replays set open = open + 1 where id = new.replay;",
        "when (new.replay is not null)",
    ),
    *trigger(
        "actions_of_replay_moved",
        "update of state, parked, replay",
        "actions",
        """
        update replays set open = open - cast(old.state in ('owed', 'running') as integer),
            parked = parked - old.parked, dead = dead - cast(old.state = 'dead' and old.parked = 0 as integer)
          where id = old.replay;
        update replays set open = open + cast(new.state in ('owed', 'running') as integer),
            parked = parked + new.parked, dead = dead + cast(new.state = 'dead' and new.parked = 0 as integer),
            settled_at = greatest(settled_at, new.settled_at)
          where id = new.replay;
        """,
        "when (new.replay is not null or old.replay is not null)",
    ),
    *trigger(
        "actions_removed",
        "delete",
        "actions",
        """
        update action_counts set n = n - 1 where name = old.name and state = old.state;
        update replays set parked = parked - old.parked, dropped = dropped + old.parked where id = old.replay;
        """,
    ),
)
