"""Replaying: what failed is owed again, or what is configured today is owed for tasks that ended before."""

from collections.abc import Sequence

from receiver import rules
from receiver.drafts import NewEvent, OwedAction
from receiver.records import Definition, End, JsonObject, Replay, ReplayMode, Source
from receiver.store import Store
from receiver.store.terms import Candidate, Selection


async def replay(
    store: Store,
    definitions: Sequence[Definition],
    mode: ReplayMode,
    wanted: Selection,
    note: JsonObject,
    *,
    rate: float | None,
    dry_run: bool,
    now: float,
) -> tuple[int, Replay | None]:
    """Owes actions again and returns how many, and the replay unless it was a dry run.

    `retry` takes up the same rows with a fresh budget of tries; `again` owes today's definitions as a new generation;
    `missing` owes only the definitions an event has no action of. `rate` is actions per second, None for at once.
    """
    if mode is ReplayMode.RETRY:
        if dry_run:
            return await store.count_retries(wanted), None
        replayed = await store.retry(wanted, note, rate, now)
        return replayed.matched, replayed
    chosen = [each for each in definitions if wanted.name in (None, each.name)]
    owed = [
        (candidate, generation, actions)
        for candidate in await store.candidates(wanted)
        for generation, actions in [_anew(mode, chosen, candidate)]
        if actions
    ]
    if dry_run:
        return sum(len(actions) for _, _, actions in owed), None
    replayed = await store.owe_anew(mode, owed, note, rate, now)
    return replayed.matched, replayed


def _anew(mode: ReplayMode, definitions: Sequence[Definition], candidate: Candidate) -> tuple[int, list[OwedAction]]:
    end = End(candidate.task.state.value)
    event = NewEvent(task=candidate.task, state=end, source=Source.QUERY, confirmed=True, settled=True)
    actions = rules.owed(definitions, event)
    if mode is ReplayMode.AGAIN:
        return candidate.generation + 1, actions
    return max(1, candidate.generation), [action for action in actions if action.name not in candidate.present]
