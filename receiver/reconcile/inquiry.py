"""Until the end of a task is known: steps 1, 3 and 5 of the ladder, and adoption of a task in doubt."""

from collections.abc import Callable

from msgspec import Struct

from receiver.model import rules
from receiver.model.entries import Saying, Telling
from receiver.model.links import Links
from receiver.model.records import End, Kind, Source, Task
from receiver.orders.exchange import Asker
from receiver.reconcile.recording import Recorder
from receiver.runninghub.errors import ProviderError
from receiver.runninghub.wire import TaskReport
from receiver.store import Store

ADOPTION_CANDIDATES = 5
"""Ids of the provider, claimed by deliveries, that are looked into for one task in doubt."""


class Inquiry(Struct, frozen=True):
    """Finds out how a task ended, or when to ask again."""

    store: Store
    asker: Asker
    links: Links
    recorder: Recorder
    policy: rules.Policy
    clock: Callable[[], float]

    async def examine(self, task: Task) -> None:
        """Looks at a task that was sent and has no confirmed end."""
        claim = await self.recorder.newest_claim(task)
        if claim is not None and not self.policy.confirm:
            await self.recorder.believe(task, claim, settled=True)
            return
        try:
            if task.provider_task_id is not None:
                await self._ask(task, task.provider_task_id, claim)
            elif not await self._adopt(task):
                await self._not_adopted(task)
        except ProviderError:
            await self._unanswered(task, claim)

    async def _ask(self, task: Task, provider_id: str, claim: Saying | None) -> None:
        report = await self.asker.query(task, provider_id)
        if not report.known:
            await self._unknown_to_query(task, provider_id, claim)
        elif report.end is None:
            await self.store.note_running(task, report.status, self.clock())
            await self._ask_again_later(task, claim, alive=True)
            await self._note_overdue(task)
        elif report.end is End.SUCCEEDED and not rules.has_content(report.results):
            await self._without_results(task, provider_id, claim, report)
        else:
            await self.recorder.record(task, report, claim, Source.QUERY)

    async def _unknown_to_query(self, task: Task, provider_id: str, claim: Saying | None) -> None:
        """The query does not know the task. Right after submission that means nothing yet."""
        young = task.submitted_at is not None and self.clock() - task.submitted_at < rules.UNKNOWN_GRACE
        if young and claim is None:
            await self._ask_again_later(task, claim)
            return
        if task.kind is not Kind.MODEL:
            outputs = await self.asker.outputs(task, provider_id)
            if outputs.end is not None:
                await self.recorder.record(task, outputs, claim, Source.QUERY)
                return
        kept = await self._kept_report(task, provider_id)
        if kept is not None and kept.end is not None:
            await self.recorder.record(task, kept, claim, Source.DETAIL)
        else:
            unknown_for = await self.store.note_unknown(task, self.clock())
            await self._unanswered(task, claim, is_lost=unknown_for >= self.policy.patience)

    async def _without_results(self, task: Task, provider_id: str, claim: Saying | None, report: TaskReport) -> None:
        """SUCCESS without results: results have come late before, so it is asked again, and the detail is read.

        The detail keeps what the callback brought: when one came, it is read at once.
        """
        now = self.clock()
        since = task.empty_since if task.empty_since is not None else now
        count = task.empty_count + 1
        is_final = rules.empty_is_final(count, since, now)
        if is_final or (claim is not None and count == 1):
            kept = await self._kept_report(task, provider_id)
            if kept is not None and kept.end is End.SUCCEEDED and rules.has_content(kept.results):
                report, is_final = kept, True
        if is_final:
            await self.recorder.record(task, report, claim, Source.QUERY)
        else:
            await self.store.note_empty(task, now, rules.empty_again(count, since, now))

    async def _kept_report(self, task: Task, provider_id: str) -> TaskReport | None:
        """What the provider keeps of the callback it sent, or was to send."""
        detail = await self.asker.webhook_detail(task, provider_id)
        if detail is None or detail.report is None or detail.report.task_id not in (None, provider_id):
            return None
        return detail.report

    async def _unanswered(self, task: Task, claim: Saying | None, *, is_lost: bool = False) -> None:
        """The provider cannot be asked, or knows nothing. After the patience, a claim is all there is."""
        waited = self.clock() - task.delivered_at if task.delivered_at is not None else 0.0
        if claim is not None and waited >= self.policy.confirm_patience:
            telling = await self.recorder.believe(task, claim, settled=False)
            if telling is not Telling.KNOWN:
                return
        await self._ask_again_later(task, claim, is_lost=is_lost)

    async def _ask_again_later(
        self, task: Task, claim: Saying | None, *, alive: bool = False, is_lost: bool = False
    ) -> None:
        """Sets the next question. A task is lost when RunningHub has said for the whole patience that it knows none.

        A task without any id of the provider's cannot be asked about: it is lost when it was sent so long ago.
        """
        now = self.clock()
        nameless = task.provider_task_id is None and not await self._is_named(task)
        since = task.submitted_at or task.sent_at or task.created_at
        if claim is not None and now - (task.delivered_at or now) < self.policy.confirm_patience:
            await self.store.check_again(task, now + rules.unsure_delay(task.unsure_asked), unsure=True)
        elif is_lost or (nameless and now - since >= self.policy.patience):
            await self.store.give_up(task, now)
        else:
            due = rules.ladder(since, task.asked + 1, now + 1, callback=task.callback)
            if alive and task.overdue:
                due = now + rules.OVERDUE_REST
            if nameless:
                due = min(due, since + self.policy.patience)
            await self.store.check_again(task, due)

    async def _note_overdue(self, task: Task) -> None:
        runs = self.clock() - (task.submitted_at or task.created_at)
        if runs < rules.OVERDUE_LEAST or task.overdue:
            return
        if runs >= rules.overdue_after(await self.store.longest_run(task), self.policy.overdue):
            await self.store.mark_overdue(task, self.clock())

    async def _not_adopted(self, task: Task) -> None:
        """RunningHub does not say of any id that a delivery names that it is this task's."""
        is_lost = False
        if await self._is_named(task):
            is_lost = await self.store.note_unknown(task, self.clock()) >= self.policy.patience
        await self._unanswered(task, await self.recorder.newest_claim(task), is_lost=is_lost)

    async def _is_named(self, task: Task) -> bool:
        """Whether a delivery names an id that RunningHub can be asked about."""
        return any(saying.provider_task_id is not None for saying in await self.store.sayings(task))

    async def _adopt(self, task: Task) -> bool:
        """Gives a task in doubt a provider id from a delivery, if the provider calls back at this task's URL.

        A delivery alone proves nothing: whoever has the URL could make us follow another task.
        """
        claimed: dict[str, int] = {}
        for claim in await self.store.sayings(task):
            if claim.provider_task_id is not None:
                claimed.setdefault(claim.provider_task_id, claim.delivery)
        for provider_id, delivery in list(claimed.items())[:ADOPTION_CANDIDATES]:
            detail = await self.asker.webhook_detail(task, provider_id)
            if detail is None:
                continue
            link = self.links.read_url(detail.url)
            ours = link is not None and link.task_id == task.id
            if ours and await self.store.adopt(task, provider_id, self.clock()):
                return True
            await self.store.contradict(delivery)
        return False
