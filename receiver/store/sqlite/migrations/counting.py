"""What is counted as it happens, and what was done by whom: pages and scrapes read it, and count nothing."""

TALLIES = (
    # In the order of its key, as every table without rowid.
    """
    create table tallies (
      span text not null, at integer not null, kind text not null, target text not null, name text not null,
      n integer not null, micro integer not null,
      primary key (span, at, kind, target, name)
    ) strict, without rowid
    """,
    # The events up to `upto` are older than the tallies; those up to `place` are counted.
    "create table tallied (key integer primary key, place integer not null, upto integer not null) strict",
    "insert into tallied (key, place, upto) select 1, 0, coalesce(max(key), 0) from events",
)


TASK_COUNTS = (
    "create table task_counts (state text primary key, n integer not null) strict, without rowid",
    "insert into task_counts (state, n) select state, count(*) from tasks group by state",
    """
    create trigger tasks_counted after insert on tasks begin
      insert into task_counts (state, n) values (new.state, 1) on conflict (state) do update set n = n + 1;
    end
    """,
    """
    create trigger tasks_counted_anew after update of state on tasks when old.state <> new.state begin
      insert into task_counts (state, n) values (old.state, -1), (new.state, 1)
        on conflict (state) do update set n = n + excluded.n;
    end
    """,
    """
    create trigger tasks_uncounted after delete on tasks begin
      update task_counts set n = n - 1 where state = old.state;
    end
    """,
)


AUDIT = (
    """
    create table audit (
      id integer primary key autoincrement, at real not null, door text not null, session text, verb text not null,
      object text not null, filter text not null, count integer, result text not null
    ) strict
    """,
    "create index audit_by_time on audit (at)",
    "create index audit_by_verb on audit (verb, at)",
)
