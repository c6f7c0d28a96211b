"""Recording how a task ended: by the provider's own word, or by what a delivery claims."""

from collections.abc import Callable, Sequence

from msgspec import Struct

from receiver.model import rules
from receiver.model.definitions import Definition
from receiver.model.entries import NewEvent, Saying, Telling
from receiver.model.records import End, Purpose, Source, Task
from receiver.runninghub import wire
from receiver.store import Store


class Recorder(Struct, frozen=True):
    """Writes events, and what they owe by today's definitions."""

    store: Store
    definitions: Sequence[Definition]
    clock: Callable[[], float]

    async def newest_claim(self, task: Task) -> Saying | None:
        """The newest delivery that claims an end."""
        return next((claim for claim in await self.store.sayings(task) if claim.claim is not None), None)

    async def record(self, task: Task, report: wire.TaskReport, claim: Saying | None, source: Source) -> None:
        """Records the provider's own word. When a delivery made us ask, the delivery is how we learned of it."""
        learned = _claim_source(claim) if claim is not None else source
        await self.tell(task, _event(task, report, learned, confirmed=True, settled=True))

    async def believe(self, task: Task, claim: Saying, *, settled: bool) -> Telling:
        """Records what a delivery claims. `settled` when that is how the operator wants it."""
        body = await self.store.delivery_body(claim.delivery)
        try:
            report = wire.read_callback(body or b"")
        except wire.Unreadable:
            # It was readable when it came, by another version or with more room on the stack: it is no claim any more.
            await self.store.contradict(claim.delivery)
            return Telling.ILLEGAL
        event = _event(task, report, _claim_source(claim), confirmed=False, settled=settled)
        return await self.tell(task, event)

    async def tell(self, task: Task, event: NewEvent) -> Telling:
        """Records an event. What it says may be known already, or be no legal move: then nobody looks on."""
        now = self.clock()
        telling = await self.store.record_event(event, rules.owed(self.definitions, event), now)
        if telling is Telling.ILLEGAL:
            await self.store.stop_watching(task)
        return telling


def _event(task: Task, report: wire.TaskReport, source: Source, *, confirmed: bool, settled: bool) -> NewEvent:
    assert report.end is not None
    return NewEvent(
        task=task,
        state=report.end,
        source=source,
        confirmed=confirmed,
        settled=settled,
        no_results=report.end is End.SUCCEEDED and not rules.has_content(report.results),
        results=report.results,
        error=report.error,
        usage=report.usage,
        extra=report.extra,
        provider_status=report.status or None,
    )


def _claim_source(claim: Saying) -> Source:
    return Source.RESEND if claim.purpose is Purpose.RESEND else Source.CALLBACK
