"""The schema, as an append-only list of migrations. Public ids are UUIDs; integer keys stay inside the store.

Times are seconds since 1970 (UTC). Partial indexes answer "what is due" in constant time however long the ledger is.
"""

from collections.abc import Mapping, Sequence

from sqlite_utils import Database
from sqlite_utils.migrations import Migrations

from receiver.store.sqlite.migrations import counting, growth, ledger, lists

migrations = Migrations("receiver")

STEPS: Mapping[str, Sequence[str]] = {
    # Everything the main job needs.
    "m001_ledger": ledger.LEDGER,
    # Tasks know the uploads in their input, and uploads the site that has them.
    "m002_uploads_in_orders": ledger.UPLOADS_IN_ORDERS,
    # Rates, breakers, crashes counted, and replays that can be taken up again.
    "m003_dispatch": ledger.DISPATCH,
    # Submissions have a holder, alerts may owe actions, and no list or page counts or scans a table.
    "m004_lists_and_counts": (*lists.SUBMISSIONS_HELD, *lists.LISTS, *lists.ACTIONS, *lists.COUNTS),
    # Patience counts answers, overdue tasks free their place, and what a missing definition owes is held.
    "m005_nothing_lost": growth.NOTHING_LOST,
    # A move of an action is counted in one statement.
    "m006_cheaper_counts": growth.CHEAPER_COUNTS,
    # What is old can be found and removed, and kept counts follow.
    "m007_pruning": growth.PRUNING,
    # Replays find what they are about, and change it, a little at a time; lists do without inputs.
    "m008_in_slices": (*growth.IN_SLICES, *growth.INPUTS_ASIDE),
    # Tasks are found by the beginning of a label's name, as they are by that of its value.
    "m009_names_of_labels": lists.NAMES_OF_LABELS,
    # Ends are tallied, tasks counted by state, and what people did is written down.
    "m010_counted_and_audited": (*counting.TALLIES, *counting.TASK_COUNTS, *counting.AUDIT),
}
"""Once released, none is changed: a ledger may have been through it."""


def _add(name: str, statements: Sequence[str]) -> None:
    @migrations(name=name)
    def step(db: Database) -> None:
        for statement in statements:
            db.execute(statement)


for each in STEPS.items():
    _add(*each)
