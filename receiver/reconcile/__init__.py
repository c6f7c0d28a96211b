"""Reconciling: what should have arrived, and going to get it when it did not.

A task is due when a delivery came for it, on its ladder after submission, or when somebody asked. It is pushed away
before it is looked at; then the provider is asked, every exchange kept as a check:

1. The query says that it ended: the event is recorded. It runs, or is unknown, although a delivery claims an end: it
   is asked again soon, for a while. SUCCESS without results is believed only after several questions.
2. It ended, a callback URL was sent, and no delivery came: the webhook detail says what became of the callback. When
   the provider's tries are used up, or enough time has passed, the callback is missed: counted by cause, and alerted.
3. The query does not know the task: what the webhook detail kept is the event.
4. A missed callback is asked for again at a fresh URL, ever more rarely, and at once when any other callback comes;
   its arrival proves that the door is open again.
5. Nothing anywhere for long: the task is lost, until anything is heard of it.

A delivery is a hint: the event is recorded from the provider's own answer. Only when the provider cannot be asked for
`confirm_patience` is the delivery's content recorded, unconfirmed; actions that need certainty wait.

`inquiry` has the steps 1, 3 and 5, `missed` the steps 2 and 4, and `recording` writes what was found out.
"""

from collections.abc import Callable, Sequence

from receiver.model import rules
from receiver.model.definitions import Definition
from receiver.model.entries import NewEvent, Telling
from receiver.model.errors import Refused, not_found
from receiver.model.links import Links
from receiver.model.records import End, Line, Source, Task, TaskState
from receiver.orders.exchange import Asker
from receiver.reconcile.inquiry import Inquiry
from receiver.reconcile.missed import MissedCallbacks
from receiver.reconcile.recording import Recorder
from receiver.store import Store

SUBMITTING_RECHECK = 2.0
CANCEL_RECHECK = 2.0


class Reconciler:
    """The ladder, for one due task at a time."""

    def __init__(
        self,
        store: Store,
        asker: Asker,
        links: Links,
        definitions: Sequence[Definition],
        policy: rules.Policy,
        clock: Callable[[], float],
    ) -> None:
        self._store = store
        self._asker = asker
        self._clock = clock
        self._recorder = Recorder(store, definitions, clock)
        self._inquiry = Inquiry(store, asker, links, self._recorder, policy, clock)
        self._missed = MissedCallbacks(store, asker, links, policy, clock)

    async def step(self) -> Line | None:
        """Looks at the task that is due longest. None when none is due."""
        task = await self._store.take_due_task(self._clock(), rules.CHECK_HOLD)
        if task is None:
            return None
        try:
            await self._examine(task)
        except Refused as problem:
            # Something else of it was written by another version: it must not be looked at again and again.
            await self._store.set_task_aside(task, problem, self._clock())
        return {"task": task.id, "state": task.state.value}

    async def reconcile(self, task_id: str) -> None:
        """Looks at one task now, because somebody asked. Raises Refused (404)."""
        await self._known(task_id)
        task = await self._store.hold_task(task_id, self._clock(), rules.CHECK_HOLD)
        assert task is not None
        await self._examine(task)

    async def resend(self, task_id: str) -> None:
        """Asks the provider to call back again at a fresh URL, because somebody asked.

        Raises Refused when there is no public URL or no callback to resend, and ProviderError.
        """
        await self._missed.resend(await self._known(task_id))

    async def cancel(self, task_id: str) -> None:
        """Cancels a task: at once while it is in our own queue, else at the provider. Raises Refused, ProviderError."""
        task = await self._known(task_id)
        if task.state is TaskState.QUEUED and await self._cancel_queued(task):
            return
        task = await self._known(task_id)
        if task.state in rules.ENDED:
            raise Refused(409, "ended", f"the task has {task.state} already")
        if task.provider_task_id is None:
            raise Refused(409, "not_submitted", f"the task is {task.state}; RunningHub's id for it is not known")
        await self._asker.cancel(task, task.provider_task_id)
        held = await self._store.hold_task(task_id, self._clock(), CANCEL_RECHECK)
        assert held is not None

    async def _examine(self, task: Task) -> None:
        if task.state in rules.ENDED and task.settled:
            await self._missed.examine(task)
        elif task.state in (TaskState.QUEUED, TaskState.REJECTED):
            await self._store.stop_watching(task)
        elif task.state is TaskState.SUBMITTING:
            await self._store.check_again(task, self._clock() + SUBMITTING_RECHECK)
        else:
            await self._inquiry.examine(task)

    async def _cancel_queued(self, task: Task) -> bool:
        event = NewEvent(
            task=task,
            state=End.CANCELLED,
            source=Source.CANCEL,
            confirmed=True,
            settled=True,
            only_from=TaskState.QUEUED,
        )
        return await self._recorder.tell(task, event) is Telling.NEW

    async def _known(self, task_id: str) -> Task:
        task = await self._store.task(task_id)
        if task is None:
            raise not_found("task", task_id)
        return task
