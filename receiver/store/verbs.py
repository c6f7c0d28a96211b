"""The store: every verb of the ledger in one list. Each is one atomic unit, written once for all engines."""

import secrets
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import IO

from receiver.model.entries import Change, NewDelivery, Recorded, Storing
from receiver.store import ledger
from receiver.store.ledger.access import Access

Listener = Callable[[Sequence[Change]], None]


class Store(Access):
    """What the program is handed. An engine adds how it is opened, closed, looked at and copied."""

    add_task = ledger.tasks.add_task
    task = ledger.tasks.task
    task_shown = ledger.ids.task_shown
    tasks = ledger.tasks.tasks
    look_at_unreadable = ledger.tasks.look_at_unreadable
    set_task_aside = ledger.tasks.set_task_aside
    count_tasks = ledger.tasks.count_tasks
    find_task = ledger.ids.find_task
    whole_id = ledger.ids.whole_id
    short_ids = ledger.ids.short_ids
    task_by_idempotency_key = ledger.tasks.task_by_idempotency_key

    take_queued_task = ledger.submissions.take_queued_task
    queue_resumes_at = ledger.submissions.queue_resumes_at
    mark_submitted = ledger.submissions.mark_submitted
    put_back = ledger.submissions.put_back
    mark_in_doubt = ledger.submissions.mark_in_doubt
    doubt_interrupted = ledger.submissions.doubt_interrupted
    adopt = ledger.submissions.adopt
    use_key = ledger.submissions.use_key
    tell_elsewhere = ledger.submissions.tell_elsewhere

    bound_times = ledger.reconciling.bound_times
    take_due_task = ledger.reconciling.take_due_task
    next_check_at = ledger.reconciling.next_check_at
    hold_task = ledger.reconciling.hold_task
    note_running = ledger.reconciling.note_running
    note_unknown = ledger.reconciling.note_unknown
    longest_run = ledger.reconciling.longest_run
    mark_overdue = ledger.reconciling.mark_overdue
    check_again = ledger.reconciling.check_again
    note_empty = ledger.reconciling.note_empty
    give_up = ledger.reconciling.give_up
    stop_watching = ledger.reconciling.stop_watching

    mark_missed = ledger.misses.mark_missed
    begin_resend = ledger.misses.begin_resend
    resend_failed = ledger.misses.resend_failed

    deliveries = ledger.deliveries.deliveries
    delivery_body = ledger.deliveries.delivery_body
    sayings = ledger.deliveries.sayings
    contradict = ledger.deliveries.contradict

    record_event = ledger.events.record_event
    refresh_results = ledger.events.refresh_results
    event = ledger.events.event
    event_shown = ledger.events.event_shown
    events = ledger.events.events
    saved_files = ledger.events.saved_files

    claim_action = ledger.actions.claim_action
    renew_lease = ledger.actions.renew_lease
    note_process = ledger.actions.note_process
    left_programs = ledger.actions.left_programs
    settle_action = ledger.actions.settle_action
    settle_and_claim = ledger.actions.settle_and_claim
    free_expired_leases = ledger.actions.free_expired_leases
    next_action_at = ledger.actions.next_action_at
    action = ledger.actions.action
    actions = ledger.actions.actions
    attempts = ledger.actions.attempts
    skip_action = ledger.actions.skip_action
    ask_for_new_links = ledger.actions.ask_for_new_links
    unsaved_since = ledger.actions.unsaved_since

    sync_definitions = ledger.definitions.sync_definitions
    skip_orphans = ledger.definitions.skip_orphans
    set_paused = ledger.definitions.set_paused
    definition_states = ledger.definitions.definition_states

    count_retries = ledger.replays.count_retries
    begin_replay = ledger.replays.begin_replay
    plan_search = ledger.replays.plan_search
    search = ledger.replays.search
    find_retried = ledger.replays.find_retried
    retry = ledger.replays.retry
    candidates = ledger.owing_anew.candidates
    owe_anew = ledger.owing_anew.owe_anew
    replay = ledger.replays.replay
    cancel_replay = ledger.replays.cancel_replay
    resume_replay = ledger.replays.resume_replay
    park = ledger.replays.park
    unpark = ledger.replays.unpark
    replays = ledger.replays.replays

    kept_deliveries = ledger.rereading.kept_deliveries
    count_kept_deliveries = ledger.rereading.count_kept_deliveries
    reread = ledger.rereading.reread

    old_rows = ledger.pruning.old_rows
    remove_old = ledger.pruning.remove_old
    pruned = ledger.pruning.pruned

    add_check = ledger.checks.add_check
    checks = ledger.checks.checks

    raise_alert = ledger.alerts.raise_alert
    clear_alert = ledger.alerts.clear_alert
    settle_alert = ledger.alerts.settle_alert
    alerts = ledger.alerts.alerts
    counters = ledger.alerts.counters
    count = ledger.alerts.count

    session_epoch = ledger.secrets.session_epoch
    end_sessions = ledger.secrets.end_sessions
    figures = ledger.figures.figures
    tallies = ledger.tallies.tallies
    tally_older = ledger.tallies.tally_older
    is_tallied = ledger.tallies.is_tallied

    audit = ledger.audit.audit
    end_deed = ledger.audit.end_deed

    signing_secrets = ledger.secrets.signing_secrets

    add_upload = ledger.uploads.add_upload
    uploads = ledger.uploads.uploads
    forget_uploads = ledger.uploads.forget_uploads
    replace_uploads = ledger.uploads.replace_uploads

    async def record_delivery(self, new: NewDelivery, now: float) -> Recorded | None:
        """Keeps a callback and makes its task due, in one transaction. None when there is no such task."""
        return await ledger.arrivals.record_deliveries(self, (new, now))

    async def secret(self, name: str, *, length: int = 32) -> str:
        """A secret of the database's own, made when it is first asked for. `length` in random bytes."""
        return await ledger.secrets.secret(self, name, secrets.token_urlsafe(length))

    async def rotate_signing(self, now: float) -> None:
        """Another secret signs callback URLs from now on."""
        await ledger.secrets.rotate_signing(self, secrets.token_urlsafe(32), now)

    async def begin_signing(self, now: float, *, given: bool) -> None:
        """There is a secret to sign with, unless the settings have `given` some."""
        await ledger.secrets.begin_signing(self, secrets.token_urlsafe(32), now, given=given)

    async def probe(self) -> None:
        """Tries to write, so that a storage that failed is noticed to be well again. Raises StoreUnavailable."""
        await self.write(lambda _: None)

    @abstractmethod
    def listen(self, listener: Listener) -> None:
        """Tells a listener, in the loop, what every commit changed: once, in order, when it is on disk."""

    @abstractmethod
    async def open(self, patience: float = 30.0, waiting: Callable[[str], None] = lambda why: None) -> None:
        """Opens the ledger and brings its schema up to date.

        Waits up to `patience` seconds for another owner to go; `waiting` is told why, once.
        """

    @abstractmethod
    async def close(self) -> None:
        """Commits what waits, and lets go of the ledger."""

    @abstractmethod
    def refused(self) -> Mapping[str, int]:
        """How many writes the storage itself has refused since the start, by the reason."""

    @abstractmethod
    def storing(self) -> Storing:
        """How the storage fares, measured since the start."""

    @abstractmethod
    def problem(self) -> str | None:
        """Why new things cannot be stored now, as a reason code; None when they can."""

    @abstractmethod
    async def backup(self) -> IO[bytes]:
        """A copy of the whole ledger, as an open file without a name; one is made at a time."""
