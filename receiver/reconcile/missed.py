"""After the end of a task: steps 2 and 4 of the ladder, for a callback that did not come, and dead result links."""

from collections.abc import Callable
from contextlib import suppress

from msgspec import Struct

from receiver.model import rules
from receiver.model.errors import Refused
from receiver.model.links import Links
from receiver.model.records import End, MissCause, MissState, Purpose, Source, Task
from receiver.orders.exchange import Asker
from receiver.runninghub.errors import ProviderError
from receiver.store import Store

MISS_RETRY = 60.0
"""Seconds until the webhook detail is asked for again after it could not be read."""


class MissedCallbacks(Struct, frozen=True):
    """Looks for callbacks that did not come, and asks for them again. Records no event."""

    store: Store
    asker: Asker
    links: Links
    policy: rules.Policy
    clock: Callable[[], float]

    async def examine(self, task: Task) -> None:
        """Looks at a task whose end is confirmed."""
        provider_id = task.provider_task_id
        if task.refresh and provider_id is not None:
            await self._refresh(task, provider_id)
        if task.miss in (MissState.WATCHING, MissState.MISSED, MissState.RESENT) and provider_id is not None:
            await self._look_for_callback(task, provider_id)
        else:
            await self.store.stop_watching(task)

    async def resend(self, task: Task) -> None:
        """Asks for the callback at a fresh URL, because somebody asked. Raises Refused and ProviderError."""
        if not self.links.can_issue:
            raise Refused(409, "no_public_url", "set public_url, so that a callback URL can be issued")
        if task.provider_task_id is None:
            raise Refused(409, "not_submitted", "RunningHub has not taken this task, so there is nothing to resend")
        detail = await self.asker.webhook_detail(task, task.provider_task_id)
        if detail is None:
            raise Refused(409, "no_callback", "RunningHub has no callback registered for this task")
        if not await self._resend_once(task, detail.id):
            raise Refused(429, "too_soon", "another resend was asked for within this second; try again")

    async def _refresh(self, task: Task, provider_id: str) -> None:
        """The links of the results were refused before they were saved. Others may come; nothing is promised."""
        with suppress(ProviderError):
            report = await self.asker.query(task, provider_id)
            if report.end is End.SUCCEEDED and rules.has_content(report.results):
                await self.store.refresh_results(task, report.results)

    async def _look_for_callback(self, task: Task, provider_id: str) -> None:
        """It ended, and no callback came: what became of it? Then, when it is missed, ask for it again."""
        now = self.clock()
        seen_at = task.ended_at if task.ended_at is not None else now
        try:
            detail = await self.asker.webhook_detail(task, provider_id)
        except ProviderError:
            await self._without_detail(task, seen_at, now)
            return
        if detail is None:
            await self.store.mark_missed(task, MissCause.UNREGISTERED, now)
            await self.store.stop_watching(task)
            return
        if task.miss is MissState.WATCHING:
            if not rules.callback_is_missed(detail.status, detail.retry_count, seen_at, now):
                await self.store.check_again(task, min(now + rules.MISS_RECHECK, seen_at + rules.MISS_PATIENCE))
                return
            cause = rules.miss_cause(detail.status, detail.response, detail.retry_count)
            if not await self.store.mark_missed(task, cause, now):
                return
        if await self._may_resend(task):
            with suppress(ProviderError):
                await self._resend_once(task, detail.id)
        else:
            await self.store.stop_watching(task)

    async def _without_detail(self, task: Task, seen_at: float, now: float) -> None:
        """The detail cannot be read. That is asked again for a while; then it is a miss without a cause."""
        again: float | None = now + MISS_RETRY
        if task.miss is not MissState.WATCHING or now - seen_at >= self.policy.patience:
            await self.store.mark_missed(task, MissCause.UNKNOWN, now)
            again = rules.resend_again(max(1, task.resends), seen_at, now)
        if again is None:
            await self.store.stop_watching(task)
        else:
            await self.store.check_again(task, again)

    async def _may_resend(self, task: Task) -> bool:
        if not self.links.can_issue or self.policy.resend == "never":
            return False
        if self.policy.resend == "missed":
            return True
        event = await self.store.event(task.id)
        return event is not None and event.source is Source.DETAIL

    async def _resend_once(self, task: Task, webhook_id: str) -> bool:
        """Asks for one resend. False when another left within this second: then the task is due again after it.

        Raises ProviderError, after a missed task was put back to be tried again.
        """
        now = self.clock()
        again = rules.resend_again(task.resends + 1, task.ended_at or now, now)
        if await self.store.begin_resend(task, now, again) is not None:
            return False
        url = self.links.issue(task.id, Purpose.RESEND)
        assert url is not None
        try:
            await self.asker.resend(task, webhook_id, url)
        except ProviderError:
            soon = self.clock() + rules.RESEND_RETRY if task.resends + 1 < rules.RESEND_TRIES else again
            await self.store.resend_failed(task, soon)
            raise
        return True
