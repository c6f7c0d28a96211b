"""One exchange with the provider about a task, kept as a check whatever came of it."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

from receiver.model.entries import NewCheck
from receiver.model.records import AlertKind, CheckKind, Task
from receiver.model.redaction import Redactor
from receiver.runninghub.errors import ProviderError
from receiver.store import Store

T = TypeVar("T")

KEY_REFUSED = frozenset({"401", "412", "801", "802", "806", "811", "1002", "1014", "no_key", "http_401", "http_403"})
"""Codes that say that the API key is no good."""
ALERTS = (AlertKind.UNREACHABLE, AlertKind.KEY_REFUSED)


async def exchange(
    store: Store,
    redact: Redactor,
    clock: Callable[[], float],
    task: Task,
    kind: CheckKind,
    ask: Callable[[], Awaitable[T]],
    describe: Callable[[T], tuple[str, bytes]],
) -> T:
    """Asks, keeps the check, and returns the answer; `describe` gives its one-line summary and its raw bytes.

    Raises what `ask` raised, after a ProviderError was kept and, where it concerns every task, alerted.
    """
    started = clock()

    async def keep(summary: str, raw: bytes, *, ok: bool) -> None:
        check = NewCheck(
            kind=kind,
            at=started,
            seconds=max(0.0, clock() - started),
            ok=ok,
            summary=redact.text(summary),
            answer=redact.body(raw) or None,
        )
        await store.add_check(task.id, check)

    try:
        answer = await ask()
    except ProviderError as error:
        await keep(str(error), error.answer, ok=False)
        await _alert(store, error, clock())
        raise
    summary, raw = describe(answer)
    await keep(summary, raw, ok=True)
    for alert in ALERTS:
        await store.clear_alert(alert, "runninghub", clock())
    return answer


async def _alert(store: Store, error: ProviderError, now: float) -> None:
    if error.code in KEY_REFUSED:
        await store.raise_alert(AlertKind.KEY_REFUSED, "runninghub", f"RunningHub refuses the API key: {error}", now)
    elif error.code in ("not_sent", "unanswered", "unreadable") or (error.http_status or 0) >= 500:
        await store.raise_alert(AlertKind.UNREACHABLE, "runninghub", f"RunningHub cannot be asked: {error}", now)
