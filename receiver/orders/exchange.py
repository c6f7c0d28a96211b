"""The provider, asked about a task: every exchange is kept as a check, whatever came of it."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TypeVar

from receiver.model import rules
from receiver.model.entries import NewCheck
from receiver.model.errors import StoreUnavailable
from receiver.model.records import AlertKind, CheckKind, Task
from receiver.model.redaction import Redactor
from receiver.runninghub.client import Reply, RunningHub
from receiver.runninghub.errors import ProviderError
from receiver.runninghub.wire import TaskReport, WebhookDetail
from receiver.store import Store

T = TypeVar("T")

KEY_REFUSED = frozenset({"401", "412", "801", "802", "806", "811", "1002", "1014", "no_key", "http_401", "http_403"})
"""Codes that say that the API key is no good."""
ALERTS = (AlertKind.UNREACHABLE, AlertKind.KEY_REFUSED, AlertKind.MOVED)


WRITE_AGAIN = 0.5
"""Seconds between two attempts to write down what cannot be undone, while nothing can be written."""


async def until_written(write: Callable[[], Awaitable[T]]) -> T:
    """Repeats a write until it is on disk: it is about something that has happened outside.

    Raises StoreUnavailable only when the store is being closed.
    """
    while True:
        try:
            return await write()
        except StoreUnavailable as problem:
            if problem.reason == "closing":
                raise
            await asyncio.sleep(WRITE_AGAIN)


class Asker:
    """Asks the provider about tasks, each at the site to which it was sent. Every method returns what was answered.

    Raises ProviderError, after it was kept as the check's answer and, where it concerns every task, alerted.
    """

    def __init__(self, provider: RunningHub, store: Store, redact: Redactor, clock: Callable[[], float]) -> None:
        self.provider = provider
        self._store = store
        self._redact = redact
        self._clock = clock
        self._well_at = float("-inf")
        """When the alerts about the provider were last closed; nothing here has opened one since."""

    async def query(self, task: Task, provider_id: str) -> TaskReport:
        """How the task stands."""
        return await self._ask(task, CheckKind.QUERY, lambda hub: hub.query(provider_id), _report_summary)

    async def outputs(self, task: Task, provider_id: str) -> TaskReport:
        """What the task made, when the query knows nothing of it. Not for models."""
        return await self._ask(task, CheckKind.OUTPUTS, lambda hub: hub.outputs(provider_id), _report_summary)

    async def webhook_detail(self, task: Task, provider_id: str) -> WebhookDetail | None:
        """What became of the task's callback; None when none is registered."""
        return await self._ask(task, CheckKind.DETAIL, lambda hub: hub.webhook_detail(provider_id), _detail_summary)

    async def resend(self, task: Task, webhook_id: str, url: str) -> None:
        """Asks for the callback once more, at `url`."""
        summary = "asked to call back again at a fresh URL"
        await self._ask(task, CheckKind.RESEND, lambda hub: hub.resend(webhook_id, url), lambda _: summary)

    async def cancel(self, task: Task, provider_id: str) -> None:
        """Cancels the task."""
        await self._ask(task, CheckKind.CANCEL, lambda hub: hub.cancel(provider_id), lambda _: "cancelled")

    async def _ask(
        self, task: Task, kind: CheckKind, ask: Callable[[RunningHub], Awaitable[Reply[T]]], summary: Callable[[T], str]
    ) -> T:
        """Asks at the task's own site; one that has moved is asked where the settings say that it is now.

        Raises ProviderError, without asking, when that site must not see today's API key.
        """
        try:
            return await self.exchange(task, kind, ask(self.provider.at(task.site)), summary)
        except ProviderError as error:
            if error.code != "moved" or self._is_here(task):
                raise
        return await self.exchange(task, kind, ask(self.provider), summary)

    def _is_here(self, task: Task) -> bool:
        return task.site in (None, self.provider.site)

    async def exchange(
        self, task: Task, kind: CheckKind, asking: Awaitable[Reply[T]], summary: Callable[[T], str]
    ) -> T:
        """Awaits a reply and keeps it as a check of this kind; `summary` makes one line of what was answered."""
        started = self._clock()

        async def keep(summary: str, raw: bytes, *, ok: bool) -> None:
            check = NewCheck(
                kind=kind,
                at=started,
                seconds=max(0.0, self._clock() - started),
                ok=ok,
                summary=self._redact.text(summary),
                answer=self._redact.body(raw) or None,
            )
            # What was answered counts, whether or not there is room to keep it as evidence.
            with suppress(StoreUnavailable):
                await self._store.add_check(task.id, check)

        try:
            reply = await asking
        except ProviderError as error:
            await keep(str(error), error.answer, ok=False)
            if self._is_here(task):
                with suppress(StoreUnavailable):
                    await self._alert(error)
                self._well_at = float("-inf")
            raise
        await keep(summary(reply.content), reply.raw, ok=True)
        if self._is_here(task):
            await self._close_alerts()
        return reply.content

    async def _close_alerts(self) -> None:
        """The provider answers. To look for alerts at every answer would cost more than the answer."""
        now = self._clock()
        if not 0 <= now - self._well_at < rules.WELL_KNOWN:
            self._well_at = now  # before the look, so that an alert which is opened meanwhile is looked for again
            try:
                for alert in ALERTS:
                    await self._store.clear_alert(alert, "runninghub", now)
            except StoreUnavailable:
                self._well_at = float("-inf")

    async def _alert(self, error: ProviderError) -> None:
        raise_alert, now = self._store.raise_alert, self._clock()
        if error.code in KEY_REFUSED:
            await raise_alert(AlertKind.KEY_REFUSED, "runninghub", f"RunningHub refuses the API key: {error}", now)
        elif error.code == "moved":
            await raise_alert(AlertKind.MOVED, "runninghub", f"RunningHub is somewhere else: {error}", now)
        elif error.code in ("not_sent", "unanswered", "unreadable") or (error.http_status or 0) >= 500:
            await raise_alert(AlertKind.UNREACHABLE, "runninghub", f"RunningHub cannot be asked: {error}", now)


def _report_summary(report: TaskReport) -> str:
    if not report.known:
        return "the task is not known"
    error = f", {report.error.name}" if report.error else ""
    return f"{report.status}, {len(report.results)} results{error}" if report.end else report.status


def _detail_summary(detail: WebhookDetail | None) -> str:
    if detail is None:
        return "no callback is registered"
    status, response = detail.status or "not tried", detail.response[:200] or "no answer"
    return f"callback {status}, {detail.retry_count} retries: {response}"
