"""Lists, pages and scrapes: no table is counted or gone through."""

SUBMISSIONS_HELD = (
    "alter table tasks rename column confirmed to settled",
    "alter table tasks drop column bodies_over",
    # Which node sends a task, and until when it may be believed to.
    "alter table tasks add column holder text",
    "alter table tasks add column held_until real",
    """
    update tasks set holder = 'local', sent_at = coalesce(sent_at, created_at),
      held_until = coalesce(sent_at, created_at) + 600
    where state = 'submitting'
    """,
    "alter table definitions add column concurrency integer not null default 4",
)


LISTS = (
    "create index tasks_by_time on tasks (created_at)",
    "create index tasks_by_kind on tasks (kind, state, created_at)",
    "create index tasks_by_target on tasks (target, kind, state, created_at)",
    "create index tasks_missed on tasks (miss_cause) where miss in ('missed', 'resent')",
    "create index deliveries_readable on deliveries (received_at) where problem is null",
    "create index deliveries_unreadable on deliveries (received_at) where problem is not null",
    "create index deliveries_contradicting on deliveries (received_at) where contradicting = 1",
    "create index events_by_state on events (state, at)",
    "create index alerts_closed on alerts (opened_at) where closed_at is not null",
    "drop index files_by_content",
    # What begins with a text is looked up here, in lower case.
    """
    create table targets (
      target text primary key, folded text not null
    ) strict, without rowid
    """,
    "create index targets_by_text on targets (folded)",
    """
    create table labels (
      name text not null, value text not null, folded text not null,
      primary key (name, value)
    ) strict, without rowid
    """,
    "create index labels_by_text on labels (folded)",
    # In the order of its key: SQLite 3.40 checks a table without rowid wrongly when its columns stand in another.
    """
    create table task_labels (
      name text not null, value text not null, kind text not null, state text not null, created_at real not null,
      task integer not null references tasks (key), target text not null, ended_at real,
      primary key (name, value, kind, state, created_at, task)
    ) strict, without rowid
    """,
    "create index task_labels_by_target on task_labels (name, value, target, kind, state, created_at, task)",
    "create index task_labels_by_end on task_labels (name, value, state, ended_at, task) where ended_at is not null",
    "create index task_labels_by_task on task_labels (task)",
    """
    create trigger tasks_added after insert on tasks begin
      insert or ignore into targets (target, folded) values (new.target, lower(new.target));
      insert or ignore into labels (name, value, folded)
        select key, value, lower(value) from json_each(new.labels) where type = 'text';
      insert or ignore into task_labels (name, value, target, kind, state, created_at, ended_at, task)
        select l.key, l.value, new.target, new.kind, new.state, new.created_at, new.ended_at, new.key
        from json_each(new.labels) l where l.type = 'text';
    end
    """,
    """
    create trigger tasks_moved after update of state on tasks when old.state <> new.state begin
      update task_labels set state = new.state, ended_at = new.ended_at where task = new.key;
    end
    """,
    "insert into targets (target, folded) select distinct target, lower(target) from tasks",
    """
    insert or ignore into labels (name, value, folded)
      select distinct l.key, l.value, lower(l.value) from tasks t, json_each(t.labels) l where l.type = 'text'
    """,
    """
    insert or ignore into task_labels (name, value, target, kind, state, created_at, ended_at, task)
      select l.key, l.value, t.target, t.kind, t.state, t.created_at, t.ended_at, t.key
      from tasks t, json_each(t.labels) l where l.type = 'text'
    """,
)


ACTIONS = (
    # An action is owed for an event of a task, or for an alert.
    """
    create table actions_new (
      id integer primary key autoincrement, task integer references tasks (key),
      event integer references events (key), alert integer references alerts (id), name text not null,
      generation integer not null default 1, state text not null, held integer not null default 0,
      after text not null default '[]', due_at real, holder text, lease_until real,
      fence integer not null default 0, attempts integer not null default 0, crashes integer not null default 0,
      created_at real not null, settled_at real, reason text, replay integer references replays (id),
      before_replay text, parked integer not null default 0,
      unique (event, name, generation),
      unique (alert, name, generation),
      check ((event is null) <> (alert is null) and (event is null) = (task is null))
    ) strict
    """,
    """
    insert into actions_new (id, task, event, name, generation, state, held, after, due_at, holder, lease_until, fence,
        attempts, crashes, created_at, settled_at, reason, replay, before_replay, parked)
      select id, task, event, name, generation, state, held, after, due_at,
        case when state = 'running' then 'local' end, lease_until, fence,
        attempts, crashes, created_at, settled_at, reason, replay, before_replay, parked
      from actions
    """,
    "drop table actions",
    "alter table actions_new rename to actions",
    "create index actions_due on actions (name, due_at, id) where state = 'owed' and due_at is not null",
    "create index actions_by_event on actions (name, event) where state = 'owed' and due_at is not null",
    "create index actions_leased on actions (lease_until) where state = 'running'",
    "create index actions_by_name on actions (name, state, created_at)",
    "create index actions_by_task on actions (task) where task is not null",
    "create index actions_by_replay on actions (replay) where replay is not null",
    "create index actions_parked on actions (replay) where parked = 1",
)


COUNTS = (
    """
    create table action_counts (
      name text not null, state text not null, n integer not null,
      primary key (name, state)
    ) strict, without rowid
    """,
    "insert into action_counts (name, state, n) select name, state, count(*) from actions group by name, state",
    """
    create trigger actions_added after insert on actions begin
      insert into action_counts (name, state, n) values (new.name, new.state, 1)
        on conflict (name, state) do update set n = n + 1;
    end
    """,
    """
    create trigger actions_moved after update of state on actions when old.state <> new.state begin
      update action_counts set n = n - 1 where name = old.name and state = old.state;
      insert into action_counts (name, state, n) values (new.name, new.state, 1)
        on conflict (name, state) do update set n = n + 1;
    end
    """,
    # What became of a replay's actions: how many are owed or running, parked, dead; and when the last one ended.
    "alter table replays add column open integer not null default 0",
    "alter table replays add column parked integer not null default 0",
    "alter table replays add column dead integer not null default 0",
    "alter table replays add column settled_at real",
    """
    update replays set (open, parked, dead, settled_at) = (
      select coalesce(sum(state in ('owed', 'running')), 0), coalesce(sum(parked), 0),
        coalesce(sum(state = 'dead' and not parked), 0), max(settled_at)
      from actions where replay = replays.id)
    """,
    """
    create trigger actions_owed_by_replay after insert on actions when new.replay is not null begin
      update replays set open = open + 1 where id = new.replay;
    end
    """,
    """
    create trigger actions_of_replay_moved after update of state, parked, replay on actions
      when new.replay is not null or old.replay is not null begin
      update replays set open = open - (old.state in ('owed', 'running')), parked = parked - old.parked,
          dead = dead - (old.state = 'dead' and not old.parked)
        where id = old.replay;
      update replays set open = open + (new.state in ('owed', 'running')), parked = parked + new.parked,
          dead = dead + (new.state = 'dead' and not new.parked),
          settled_at = max(coalesce(settled_at, new.settled_at), coalesce(new.settled_at, settled_at))
        where id = new.replay;
    end
    """,
)


NAMES_OF_LABELS = ("create index labels_by_name on labels (lower(name))",)
