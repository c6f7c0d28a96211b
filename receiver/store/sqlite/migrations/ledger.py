"""What the main job needs: tasks, deliveries, events, actions and their neighbours."""

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
