"""The schema, as an append-only list of migrations. Public ids are UUIDs; integer keys stay inside the store.

Times are seconds since 1970 (UTC). Partial indexes answer "what is due" in constant time however long the ledger is.
"""

from sqlite_utils import Database
from sqlite_utils.migrations import Migrations

migrations = Migrations("receiver")

LEDGER = (
    """
    create table tasks (
      key integer primary key autoincrement, id text not null unique, kind text not null, api text not null,
      target text not null, input text not null, labels text not null, state text not null,
      created_at real not null, sent_at real, submitted_at real, ended_at real, provider_task_id text unique,
      provider_status text, callback integer not null default 0, error text, confirmed integer not null default 0,
      check_at real, asked integer not null default 0, unsure_asked integer not null default 0, delivered_at real,
      queried_at real, empty_since real, empty_count integer not null default 0, miss text, miss_cause text,
      missed_at real, resends integer not null default 0, resent_at real, refresh integer not null default 0,
      bodies integer not null default 0, bodies_over integer not null default 0, idempotency_key text unique,
      digest blob not null, again_of text
    ) strict
    """,
    "create index tasks_due on tasks (check_at) where check_at is not null",
    "create index tasks_by_state on tasks (state, key)",
    """
    create table deliveries (
      id integer primary key autoincrement, task integer not null references tasks (key), purpose text not null,
      digest blob not null, received_at real not null, last_at real not null, count integer not null default 1,
      size integer not null, provider_task_id text, claim text, problem text,
      contradicting integer not null default 0, body blob not null,
      unique (task, purpose, digest)
    ) strict
    """,
    """
    create table events (
      key integer primary key autoincrement, id text not null unique,
      task integer not null unique references tasks (key), state text not null, source text not null,
      confirmed integer not null, contradicted integer not null default 0, no_results integer not null default 0,
      at real not null, results text not null, error text, usage text not null, extra text not null
    ) strict
    """,
    """
    create table actions (
      id integer primary key autoincrement, task integer not null references tasks (key),
      event integer not null references events (key), name text not null, generation integer not null default 1,
      state text not null, held integer not null default 0, after text not null default '[]', due_at real,
      lease_until real, fence integer not null default 0, attempts integer not null default 0,
      created_at real not null, settled_at real, reason text, replay integer references replays (id),
      before_replay text,
      unique (event, name, generation)
    ) strict
    """,
    "create index actions_due on actions (name, due_at, id) where state = 'owed' and due_at is not null",
    "create index actions_leased on actions (lease_until) where state = 'running'",
    "create index actions_by_state on actions (state, id)",
    "create index actions_by_task on actions (task)",
    "create index actions_by_replay on actions (replay) where replay is not null",
    """
    create table attempts (
      action integer not null references actions (id), number integer not null, started_at real not null,
      ended_at real, outcome text, detail text not null default '{}',
      primary key (action, number)
    ) strict
    """,
    """
    create table files (
      task integer not null references tasks (key), result integer not null, path text not null,
      sha256 text not null, size integer not null,
      primary key (task, result, path)
    ) strict
    """,
    """
    create table checks (
      id integer primary key autoincrement, task integer not null references tasks (key), kind text not null,
      at real not null, seconds real not null, ok integer not null, summary text not null, answer text
    ) strict
    """,
    "create index checks_by_task on checks (task)",
    """
    create table alerts (
      id integer primary key autoincrement, kind text not null, subject text not null, message text not null,
      opened_at real not null, last_at real not null, closed_at real, count integer not null default 1
    ) strict
    """,
    "create unique index alerts_open on alerts (kind, subject) where closed_at is null",
    """
    create table definitions (
      name text primary key, kind text not null, configured integer not null, paused integer not null default 0
    ) strict
    """,
    """
    create table replays (
      id integer primary key autoincrement, mode text not null, filter text not null, rate real,
      created_at real not null, matched integer not null, cancelled_at real
    ) strict
    """,
    """
    create table counters (
      name text primary key, value integer not null
    ) strict
    """,
    """
    create table facts (
      name text primary key, value any not null
    ) strict
    """,
    """
    create table secrets (
      name text primary key, value text not null
    ) strict
    """,
    """
    create table uploads (
      id text primary key, name text not null, type text not null, size integer not null,
      sha256 text not null unique, url text not null, file_name text not null, at real not null
    ) strict
    """,
)


UPLOADS_IN_ORDERS = (
    # Upload id -> the text that stands for it in the task's input; null where none does, or where nobody wrote it down.
    "alter table tasks add column uploads text",
    # The provider's base URL; empty for uploads of which nobody wrote it down, and which are therefore not used again.
    "alter table uploads add column site text not null default ''",
    "create index uploads_by_time on uploads (at)",
)


@migrations()
def m001_ledger(db: Database) -> None:
    """Everything the main job needs."""
    for statement in LEDGER:
        db.execute(statement)


@migrations()
def m002_uploads_in_orders(db: Database) -> None:
    """Tasks know the uploads in their input, and uploads the site that has them."""
    for statement in UPLOADS_IN_ORDERS:
        db.execute(statement)


DISPATCH = (
    "alter table definitions add column breaker_limit integer not null default 0",
    "alter table definitions add column rate real",
    "alter table definitions add column next_at real not null default 0",
    "alter table definitions add column failed text not null default '[]'",
    "alter table definitions add column openings integer not null default 0",
    "alter table definitions add column open_until real",
    "alter table definitions add column trial integer",
    "alter table actions add column crashes integer not null default 0",
    "alter table actions add column parked integer not null default 0",
    # Downloads are claimed in the order in which their links die.
    "create index actions_by_event on actions (name, event) where state = 'owed' and due_at is not null",
    "create index actions_parked on actions (replay) where parked = 1",
    "alter table replays add column dropped integer not null default 0",
    "create index files_by_content on files (sha256)",
    # Whether any action of a definition is dead, however many of others are.
    "create index actions_dead on actions (name) where state = 'dead'",
)


@migrations()
def m003_dispatch(db: Database) -> None:
    """Rates, breakers, crashes counted, and replays that can be taken up again."""
    for statement in DISPATCH:
        db.execute(statement)


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


@migrations()
def m004_lists_and_counts(db: Database) -> None:
    """Submissions have a holder, alerts may owe actions, and no list or page counts or scans a table."""
    for statement in (*SUBMISSIONS_HELD, *LISTS, *ACTIONS, *COUNTS):
        db.execute(statement)


NOTHING_LOST = (
    # For how long RunningHub has said that it does not know a task, and when it said so last.
    "alter table tasks add column unknown_for real not null default 0",
    "alter table tasks add column unknown_at real",
    "alter table tasks add column overdue integer not null default 0",
    # Since when a definition is missing from the settings.
    "alter table definitions add column gone_at real",
    # The site that a task was sent to, whether the order was taken once more, whether its row cannot be read.
    "alter table tasks add column site text",
    "alter table tasks add column repeated integer not null default 0",
    "alter table tasks add column aside integer not null default 0",
    "create index tasks_aside on tasks (key) where aside = 1",
    # A resend that did not arrive is repeated.
    "update tasks set check_at = coalesce(resent_at, 0) where miss = 'resent' and check_at is null",
    "alter table alerts add column acknowledged_at real",
    # When the target of a definition was last seen to be well, and which of its actions was tried least.
    "alter table definitions add column well_at real",
    """
    create index actions_least_tried on actions (name, attempts, due_at, id)
      where state = 'owed' and due_at is not null
    """,
    # The program that an action runs: its process id, and when it was started.
    "alter table actions add column process text",
    # When a signing secret was replaced: it is accepted for a while.
    "alter table secrets add column replaced_at real",
)


@migrations()
def m005_nothing_lost(db: Database) -> None:
    """Patience counts answers, overdue tasks free their place, and what a missing definition owes is held."""
    for statement in NOTHING_LOST:
        db.execute(statement)


@migrations()
def m006_names_of_labels(db: Database) -> None:
    """Tasks are found by the beginning of a label's name, as they are by that of its value."""
    db.execute("create index labels_by_name on labels (lower(name))")
