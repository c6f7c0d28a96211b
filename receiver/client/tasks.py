"""Ordering tasks, following them, and what can be done to one."""

import time
from collections.abc import Callable, Iterator, Mapping
from typing import TypeVar, Unpack

from receiver.client.transport import Listed, ListFilter, Transport, part, pauses
from receiver.model.views import (
    OrderedView,
    OutputsView,
    PageView,
    PreviewView,
    StatusView,
    TaskDetail,
    TaskView,
    WebhookView,
)

T = TypeVar("T")

ENDED = frozenset({"succeeded", "failed", "cancelled", "rejected", "lost"})
"""States in which waiting for a task is over."""


def has_ended(task: TaskView) -> bool:
    """Whether nothing more is waited for; even a lost task may still be heard of."""
    return task.state in ENDED


class Tasks(Transport):
    """Ordering tasks, following them to their ends, and what can be done to one."""

    def submit(
        self,
        target: str,
        input: Mapping[str, object],
        *,
        kind: str = "model",
        api: str | None = None,
        validate: bool = True,
        labels: Mapping[str, str] | None = None,
        idempotency_key: str | None = None,
    ) -> OrderedView:
        """Orders a task. With an idempotency key, the same order again is the same task.

        `api` is v1 or v2 (None: the usual one of the kind); without `validate` a model's input is not checked.
        """
        body = _order(kind, target, input, labels or {}, api, validate=validate)
        headers = {} if idempotency_key is None else {b"idempotency-key": idempotency_key.encode()}
        return self._call("POST", "/api/tasks", OrderedView, body=body, headers=headers)

    def preview(
        self,
        target: str,
        input: Mapping[str, object],
        *,
        kind: str = "model",
        api: str | None = None,
        validate: bool = True,
        labels: Mapping[str, str] | None = None,
    ) -> PreviewView:
        """The order as it would be sent, and its price. Nothing is ordered."""
        body = _order(kind, target, input, labels or {}, api, validate=validate)
        return self._call("POST", "/api/previews", PreviewView, body=body)

    def task(self, task_id: str) -> TaskDetail:
        return self._call("GET", f"/api/tasks/{part(task_id)}", TaskDetail)

    def tasks(self, **narrow: Unpack[ListFilter]) -> PageView[TaskView]:
        return self._list("tasks", PageView[TaskView], narrow)

    def each(self, page: Callable[..., Listed[T]], **narrow: Unpack[ListFilter]) -> Iterator[T]:
        """Everything of a list, page after page: `client.each(client.tasks, state="failed")`."""
        while True:
            found = page(**narrow)
            yield from found.items
            if found.next is None:
                return
            narrow["cursor"] = found.next

    def wait(
        self,
        task_id: str,
        *,
        until: Callable[[TaskDetail], bool] = has_ended,
        on_change: Callable[[TaskDetail], None] | None = None,
        timeout: float | None = None,
        clock: Callable[[], float] = time.monotonic,
        pause: Callable[[float], None] = time.sleep,
    ) -> TaskDetail:
        """Asks about a task, less and less often, until it has ended. `on_change` sees every new state.

        Raises TimeoutError after `timeout` seconds; the task goes on.
        """
        begun = clock()
        seen: tuple[str, str | None] | None = None
        rests = pauses()
        while True:
            task = self.task(task_id)
            if on_change is not None and seen != (task.state, task.provider_status):
                seen = (task.state, task.provider_status)
                on_change(task)
            if until(task):
                return task
            if timeout is not None and clock() - begun >= timeout:
                raise TimeoutError(f"task {task_id} is still {task.state} after {timeout:g} s")
            pause(next(rests))

    def reconcile(self, task_id: str) -> TaskDetail:
        """Asks the provider about the task now."""
        return self._on_task(task_id, "reconcile", TaskDetail)

    def resend(self, task_id: str) -> TaskDetail:
        """Has the provider send the task's callback again."""
        return self._on_task(task_id, "resend", TaskDetail)

    def cancel(self, task_id: str) -> TaskDetail:
        return self._on_task(task_id, "cancel", TaskDetail)

    def submit_again(self, task_id: str) -> OrderedView:
        """A new task with the same order."""
        return self._on_task(task_id, "submit-again", OrderedView)

    def provider_status(self, task_id: str) -> StatusView:
        """RunningHub's own word for a task, asked now: QUEUED, RUNNING, SUCCESS or FAILED. It is not recorded."""
        return self._call("GET", f"/api/tasks/{part(task_id)}/status", StatusView)

    def provider_outputs(self, task_id: str) -> OutputsView:
        """What RunningHub's outputs endpoint says that a task made, asked now. It is not recorded."""
        return self._call("GET", f"/api/tasks/{part(task_id)}/outputs", OutputsView)

    def provider_webhook(self, task_id: str) -> WebhookView:
        """What became of a task's callback at RunningHub, asked now. It is not recorded."""
        return self._call("GET", f"/api/tasks/{part(task_id)}/webhook", WebhookView)

    def _on_task(self, task_id: str, verb: str, kind: type[T]) -> T:
        return self._call("POST", f"/api/tasks/{part(task_id)}/{verb}", kind)


def _order(
    kind: str,
    target: str,
    input: Mapping[str, object],
    labels: Mapping[str, str],
    api: str | None,
    *,
    validate: bool,
) -> dict[str, object]:
    order = {"kind": kind, "target": target, "input": input, "labels": labels, "validate": validate}
    return order if api is None else {**order, "api": api}
