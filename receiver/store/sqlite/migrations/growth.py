"""What a ledger needs that has grown, and met what goes wrong."""

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


CHEAPER_COUNTS = (
    "drop trigger actions_moved",
    """
    create trigger actions_moved after update of state on actions when old.state <> new.state begin
      insert into action_counts (name, state, n) values (old.name, old.state, -1), (new.name, new.state, 1)
        on conflict (name, state) do update set n = n + excluded.n;
    end
    """,
)


PRUNING = (
    # Of which deliveries the bytes are there yet, in the order in which they came.
    "create index deliveries_with_body on deliveries (received_at) where length(body) > 0",
    """
    create trigger actions_removed after delete on actions begin
      update action_counts set n = n - 1 where name = old.name and state = old.state;
      update replays set parked = parked - old.parked, dropped = dropped + old.parked where id = old.replay;
    end
    """,
    # What was ever removed, by kind, and since when.
    """
    create table pruned (
      kind text primary key, removed integer not null, bytes integer not null, since real not null, at real not null
    ) strict
    """,
)


IN_SLICES = (
    # What a replay is about, how far it has looked for it (a time and a key) and how far it will (null: it has found
    # all), and what is to be done to what it has found: `cancel` or `resume`.
    "alter table replays add column selection text",
    "alter table replays add column place_at real not null default 0",
    "alter table replays add column place integer not null default 0",
    "alter table replays add column upto integer",
    "alter table replays add column turn text",
    # From when on what was cancelled is owed again, and how much of it is.
    "alter table replays add column resumed_at real",
    "alter table replays add column resumed integer not null default 0",
    "create index actions_not_begun on actions (replay) where state = 'owed' and attempts = 0 and replay is not null",
    """
    create index replays_at_work on replays (id)
      where turn is not null or (upto is not null and cancelled_at is null)
    """,
)


INPUTS_ASIDE = (
    # How an input begins, and its bytes. A password that opens a workflow is not told in a list.
    "alter table tasks add column input_start text not null default ''",
    "alter table tasks add column input_size integer not null default 0",
    "alter table tasks add column moved text not null default '{}'",
    """
    update tasks set moved = input, input_size = length(cast(input as blob)),
      input_start = case when instr(input, '"accessPassword"') then '' else substr(input, 1, 200) end
    """,
    # Behind all that a list shows: what stands behind a large column is found by going through all of it.
    "alter table tasks drop column input",
    "alter table tasks rename column moved to input",
)
