"""Reconciling: what should have arrived, and going to get it when it did not.

A task is due when a delivery came for it, on its ladder after submission, or when somebody asked. It is pushed away
before it is looked at; then the provider is asked, every exchange kept as a check:

1. The query says that it ended: the event is recorded. It runs, or is unknown, although a delivery claims an end: it
   is asked again soon, for a while. SUCCESS without results is believed only after several questions.
2. It ended, a callback URL was sent, and no delivery came: the webhook detail says what became of the callback. When
   the provider's tries are used up, or enough time has passed, the callback is missed: counted by cause, and alerted.
3. The query does not know the task: what the webhook detail kept is the event.
4. A missed callback is asked for again, once, at a fresh URL; its arrival proves that the door is open again.
5. Nothing anywhere for long: the task is lost, until anything is heard of it.

A delivery is a hint: the event is recorded from the provider's own answer. Only when the provider cannot be asked for
`confirm_patience` is the delivery's content recorded, unconfirmed; actions that need certainty wait.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress

from receiver.exchange import exchange
from receiver.model import rules
from receiver.model.definitions import Definition
from receiver.model.entries import NewEvent, Saying, Telling
from receiver.model.errors import Refused
from receiver.model.links import Links
from receiver.model.records import (
    AlertKind,
    CheckKind,
    End,
    Kind,
    Line,
    MissCause,
    MissState,
    Purpose,
    Source,
    Task,
    TaskState,
)
from receiver.model.redaction import Redactor
from receiver.runninghub import wire
from receiver.runninghub.client import DetailReading, Reading, RunningHub
from receiver.runninghub.errors import ProviderError
from receiver.store import Store

ADOPTION_CANDIDATES = 5
SUBMITTING_RECHECK = 2.0
MISS_RETRY = 60.0
CANCEL_RECHECK = 2.0


class Reconciler:
    """The ladder, for one due task at a time."""

    def __init__(
        self,
        store: Store,
        provider: RunningHub,
        links: Links,
        definitions: Sequence[Definition],
        policy: rules.Policy,
        redact: Redactor,
        clock: Callable[[], float],
    ) -> None:
        self._store = store
        self._provider = provider
        self._links = links
        self._definitions = definitions
        self._policy = policy
        self._redact = redact
        self._clock = clock

    async def step(self) -> Line | None:
        """Looks at the task that is due longest. None when none is due."""
        task = await self._store.take_due_task(self._clock(), rules.CHECK_HOLD)
        if task is None:
            return None
        await self._examine(task)
        return {"task": task.id, "state": task.state.value}

    async def reconcile(self, task_id: str) -> None:
        """Looks at one task now, because somebody asked. Raises Refused (404)."""
        await self._examine(await self._held(task_id))

    async def resend(self, task_id: str) -> None:
        """Asks the provider to call back again at a fresh URL, because somebody asked.

        Raises Refused when there is no public URL or no callback to resend, and ProviderError.
        """
        task = await self._known(task_id)
        if not self._links.can_issue:
            raise Refused(409, "no_public_url", "set public_url, so that a callback URL can be issued")
        if task.provider_task_id is None:
            raise Refused(409, "not_submitted", "RunningHub has not taken this task, so there is nothing to resend")
        detail = (await self._ask_detail(task, task.provider_task_id)).detail
        if detail is None:
            raise Refused(409, "no_callback", "RunningHub has no callback registered for this task")
        if not await self._resend_once(task, detail.id):
            raise Refused(429, "too_soon", "another resend was asked for within this second; try again")

    async def cancel(self, task_id: str) -> None:
        """Cancels a task: at once while it is in our own queue, else at the provider. Raises Refused, ProviderError."""
        task = await self._known(task_id)
        if task.state is TaskState.QUEUED and await self._cancel_queued(task):
            return
        task = await self._known(task_id)
        if task.state in rules.ENDED:
            raise Refused(409, "ended", f"the task has {task.state} already")
        provider_id = task.provider_task_id
        if provider_id is None:
            raise Refused(409, "not_submitted", f"the task is {task.state}; RunningHub's id for it is not known")
        await exchange(
            self._store,
            self._redact,
            self._clock,
            task,
            CheckKind.CANCEL,
            lambda: self._provider.cancel(provider_id),
            lambda answer: ("cancelled", answer),
        )
        held = await self._store.hold_task(task_id, self._clock(), CANCEL_RECHECK)
        assert held is not None

    # ------------------------------------------------------------ the ladder

    async def _examine(self, task: Task) -> None:
        if task.state in rules.ENDED and task.settled:
            await self._after_the_end(task)
        elif task.state in (TaskState.QUEUED, TaskState.REJECTED):
            await self._store.stop_watching(task)
        elif task.state is TaskState.SUBMITTING:
            await self._store.check_again(task, self._clock() + SUBMITTING_RECHECK)
        elif task.provider_task_id is None:
            await self._adopt(task)
        else:
            await self._ask(task, task.provider_task_id)

    async def _ask(self, task: Task, provider_id: str) -> None:
        claim = await self._newest_claim(task)
        if claim is not None and not self._policy.confirm:
            await self._believe(task, claim, settled=True)
            return
        try:
            outcome = (await self._ask_query(task, provider_id)).outcome
            if not outcome.known:
                await self._unknown(task, provider_id, claim)
            elif outcome.end is None:
                await self._store.note_running(task, outcome.status)
                await self._later(task, claim, alive=True)
            elif outcome.end is End.SUCCEEDED and not rules.has_content(outcome.results):
                await self._empty(task, provider_id, claim, outcome)
            else:
                await self._record(task, outcome, claim, Source.QUERY)
        except ProviderError:
            await self._unanswered(task, claim)

    async def _unknown(self, task: Task, provider_id: str, claim: Saying | None) -> None:
        """The query does not know the task. Right after submission that means nothing yet."""
        young = task.submitted_at is not None and self._clock() - task.submitted_at < rules.UNKNOWN_GRACE
        if young and claim is None:
            await self._later(task, claim)
            return
        if task.kind is not Kind.MODEL:
            outputs = (await self._ask_outputs(task, provider_id)).outcome
            if outputs.end is not None:
                await self._record(task, outputs, claim, Source.QUERY)
                return
        detail = (await self._ask_detail(task, provider_id)).detail
        if detail is not None and detail.outcome is not None and detail.outcome.end is not None:
            await self._record(task, detail.outcome, claim, Source.DETAIL)
        else:
            await self._unanswered(task, claim)

    async def _empty(self, task: Task, provider_id: str, claim: Saying | None, outcome: wire.Outcome) -> None:
        """SUCCESS without results: results have come late before, so it is asked again, and the detail is read."""
        now = self._clock()
        since = task.empty_since if task.empty_since is not None else now
        count = task.empty_count + 1
        if not rules.empty_is_final(count, since, now):
            spacing = rules.EMPTY_PATIENCE / (rules.EMPTY_QUERIES - 1)
            await self._store.note_empty(task, now, max(now + 1, since + count * spacing))
            return
        detail = (await self._ask_detail(task, provider_id)).detail
        kept = detail.outcome if detail is not None else None
        if kept is not None and kept.end is End.SUCCEEDED and rules.has_content(kept.results):
            outcome = kept
        await self._record(task, outcome, claim, Source.QUERY)

    async def _unanswered(self, task: Task, claim: Saying | None) -> None:
        """The provider cannot be asked, or knows nothing. After the patience, a claim is all there is."""
        waited = self._clock() - task.delivered_at if task.delivered_at is not None else 0.0
        if claim is not None and waited >= self._policy.confirm_patience:
            telling = await self._believe(task, claim, settled=False)
            if telling is not Telling.KNOWN:
                return
        await self._later(task, claim)

    async def _later(self, task: Task, claim: Saying | None, *, alive: bool = False) -> None:
        """Sets the next question. `alive` is what the provider says works on; anything else is lost one day."""
        now = self._clock()
        since = task.submitted_at or task.sent_at or task.created_at
        if claim is not None and now - (task.delivered_at or now) < self._policy.confirm_patience:
            await self._store.check_again(task, now + rules.unsure_delay(task.unsure_asked), unsure=True)
        elif now - since >= self._policy.patience and not alive:
            await self._store.give_up(task, now)
        else:
            due = rules.ladder(since, task.asked + 1, now + 1, callback=task.callback)
            await self._store.check_again(task, due if alive else min(due, since + self._policy.patience))

    async def _adopt(self, task: Task) -> None:
        """A task in doubt gets a provider id from a delivery, if the provider calls back at this task's URL.

        A delivery alone proves nothing: whoever has the URL could make us follow another task.
        """
        claim = await self._newest_claim(task)
        if claim is not None and not self._policy.confirm:
            await self._believe(task, claim, settled=True)
            return
        try:
            for provider_id, delivery in await self._candidates(task):
                detail = (await self._ask_detail(task, provider_id)).detail
                if detail is None:
                    continue
                link = self._links.read_url(detail.url)
                ours = link is not None and link.task_id == task.id
                if ours and await self._store.adopt(task, provider_id, self._clock()):
                    return
                await self._store.contradict(delivery)
        except ProviderError:
            await self._unanswered(task, claim)
            return
        await self._unanswered(task, await self._newest_claim(task))

    async def _candidates(self, task: Task) -> list[tuple[str, int]]:
        found: dict[str, int] = {}
        for claim in await self._store.sayings(task):
            if claim.provider_task_id is not None:
                found.setdefault(claim.provider_task_id, claim.delivery)
        return list(found.items())[:ADOPTION_CANDIDATES]

    # ------------------------------------------------------------ recording

    async def _record(self, task: Task, outcome: wire.Outcome, claim: Saying | None, source: Source) -> None:
        """Records the provider's own word. When a delivery made us ask, the delivery is how we learned of it."""
        learned = _claim_source(claim) if claim is not None else source
        await self._tell(task, _event(task, outcome, learned, confirmed=True, settled=True))

    async def _believe(self, task: Task, claim: Saying, *, settled: bool) -> Telling:
        """Records what a delivery claims. `settled` when that is how the operator wants it."""
        body = await self._store.delivery_body(claim.delivery)
        try:
            outcome = wire.read_callback(body or b"")
        except wire.Unreadable:
            # It was readable when it came, by another version or with more room on the stack: it is no claim any more.
            await self._store.contradict(claim.delivery)
            return Telling.ILLEGAL
        event = _event(task, outcome, _claim_source(claim), confirmed=False, settled=settled)
        return await self._tell(task, event)

    async def _tell(self, task: Task, event: NewEvent) -> Telling:
        now = self._clock()
        telling = await self._store.record_event(event, rules.owed(self._definitions, event), now)
        if telling is Telling.ILLEGAL:
            await self._store.stop_watching(task)
        for alert in (AlertKind.TASK_IN_DOUBT, AlertKind.TASK_LOST):
            await self._store.clear_alert(alert, task.id, now)
        return telling

    # ------------------------------------------------------------ after the end

    async def _after_the_end(self, task: Task) -> None:
        if task.refresh and task.provider_task_id is not None:
            await self._refresh(task, task.provider_task_id)
        if task.miss in (MissState.WATCHING, MissState.MISSED) and task.provider_task_id is not None:
            await self._look_for_callback(task, task.provider_task_id)
        else:
            await self._store.stop_watching(task)

    async def _refresh(self, task: Task, provider_id: str) -> None:
        """The links of the results died before they were saved. The provider is asked once; nothing is promised."""
        try:
            outcome = (await self._ask_query(task, provider_id)).outcome
        except ProviderError:
            return
        if outcome.end is End.SUCCEEDED and rules.has_content(outcome.results):
            await self._store.refresh_results(task, outcome.results)

    async def _look_for_callback(self, task: Task, provider_id: str) -> None:
        """It ended, and no callback came: what became of it? Then, when it is missed, ask for it again."""
        now = self._clock()
        seen_at = task.ended_at if task.ended_at is not None else now
        try:
            detail = (await self._ask_detail(task, provider_id)).detail
        except ProviderError:
            await self._not_told(task, seen_at, now)
            return
        if detail is None:
            await self._store.mark_missed(task, MissCause.UNREGISTERED, now)
            await self._store.stop_watching(task)
            return
        if task.miss is MissState.WATCHING:
            if not rules.callback_is_missed(detail.status, detail.retry_count, seen_at, now):
                await self._store.check_again(task, min(now + rules.MISS_RECHECK, seen_at + rules.MISS_PATIENCE))
                return
            cause = rules.miss_cause(detail.status, detail.response, detail.retry_count)
            if not await self._store.mark_missed(task, cause, now):
                return
        if await self._may_resend(task):
            with suppress(ProviderError):
                await self._resend_once(task, detail.id)
        else:
            await self._store.stop_watching(task)

    async def _not_told(self, task: Task, seen_at: float, now: float) -> None:
        """The detail cannot be read. That is asked again for a while; then the miss stays without a cause."""
        if now - seen_at < self._policy.patience:
            await self._store.check_again(task, now + MISS_RETRY)
            return
        await self._store.mark_missed(task, MissCause.UNKNOWN, now)
        await self._store.stop_watching(task)

    async def _may_resend(self, task: Task) -> bool:
        if not self._links.can_issue or self._policy.resend == "never":
            return False
        if self._policy.resend == "missed":
            return True
        event = await self._store.event(task.id)
        return event is not None and event.source is Source.DETAIL

    async def _resend_once(self, task: Task, webhook_id: str) -> bool:
        """Asks for one resend. False when another left within this second: then the task is due again after it.

        Raises ProviderError, after a missed task was put back to be tried again.
        """
        if await self._store.begin_resend(task, self._clock()) is not None:
            return False
        try:
            await self._ask_resend(task, webhook_id)
        except ProviderError:
            again = self._clock() + rules.RESEND_RETRY if task.resends + 1 < rules.RESEND_TRIES else None
            await self._store.resend_failed(task, again)
            raise
        return True

    async def _cancel_queued(self, task: Task) -> bool:
        event = NewEvent(
            task=task,
            state=End.CANCELLED,
            source=Source.CANCEL,
            confirmed=True,
            settled=True,
            only_from=TaskState.QUEUED,
        )
        return await self._tell(task, event) is Telling.NEW

    # ------------------------------------------------------------ asking

    async def _ask_query(self, task: Task, provider_id: str) -> Reading:
        return await exchange(
            self._store,
            self._redact,
            self._clock,
            task,
            CheckKind.QUERY,
            lambda: self._provider.query(provider_id),
            lambda reading: (_query_summary(reading.outcome), reading.answer),
        )

    async def _ask_outputs(self, task: Task, provider_id: str) -> Reading:
        return await exchange(
            self._store,
            self._redact,
            self._clock,
            task,
            CheckKind.OUTPUTS,
            lambda: self._provider.outputs(provider_id),
            lambda reading: (_query_summary(reading.outcome), reading.answer),
        )

    async def _ask_detail(self, task: Task, provider_id: str) -> DetailReading:
        return await exchange(
            self._store,
            self._redact,
            self._clock,
            task,
            CheckKind.DETAIL,
            lambda: self._provider.webhook_detail(provider_id),
            lambda reading: (_detail_summary(reading.detail), reading.answer),
        )

    async def _ask_resend(self, task: Task, webhook_id: str) -> None:
        url = self._links.issue(task.id, Purpose.RESEND)
        assert url is not None
        await exchange(
            self._store,
            self._redact,
            self._clock,
            task,
            CheckKind.RESEND,
            lambda: self._provider.resend(webhook_id, url),
            lambda answer: ("asked to call back again at a fresh URL", answer),
        )

    async def _newest_claim(self, task: Task) -> Saying | None:
        return next((claim for claim in await self._store.sayings(task) if claim.claim is not None), None)

    async def _known(self, task_id: str) -> Task:
        task = await self._store.task(task_id)
        if task is None:
            raise Refused(404, "not_found", f"there is no task {task_id}")
        return task

    async def _held(self, task_id: str) -> Task:
        await self._known(task_id)
        task = await self._store.hold_task(task_id, self._clock(), rules.CHECK_HOLD)
        assert task is not None
        return task


def _event(task: Task, outcome: wire.Outcome, source: Source, *, confirmed: bool, settled: bool) -> NewEvent:
    assert outcome.end is not None
    return NewEvent(
        task=task,
        state=outcome.end,
        source=source,
        confirmed=confirmed,
        settled=settled,
        no_results=outcome.end is End.SUCCEEDED and not rules.has_content(outcome.results),
        results=outcome.results,
        error=outcome.error,
        usage=outcome.usage,
        extra=outcome.extra,
    )


def _claim_source(claim: Saying) -> Source:
    return Source.RESEND if claim.purpose is Purpose.RESEND else Source.CALLBACK


def _query_summary(outcome: wire.Outcome) -> str:
    if not outcome.known:
        return "the task is not known"
    error = f", {outcome.error.name}" if outcome.error else ""
    return f"{outcome.status}, {len(outcome.results)} results{error}" if outcome.end else outcome.status


def _detail_summary(detail: wire.WebhookDetail | None) -> str:
    if detail is None:
        return "no callback is registered"
    return (
        f"callback {detail.status or 'not tried'}, {detail.retry_count} retries: {detail.response[:200] or 'no answer'}"
    )
