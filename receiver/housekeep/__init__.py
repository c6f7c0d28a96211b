"""Housekeeping: leases of dead workers, submissions without a sender, actions without a definition, times that a wrong
clock left behind, dying result links, uploads of long ago."""

from collections.abc import Collection, Sequence

from receiver.model import rules
from receiver.model.definitions import ActionKind, Definition
from receiver.model.records import AlertKind
from receiver.store import Store


async def housekeep(
    store: Store,
    definitions: Sequence[Definition],
    policy: rules.Policy,
    now: float,
    in_hand: Collection[int] = (),
    *,
    sending: Collection[str] = (),
    site: str | None = None,
    sites: Collection[str] = (),
) -> bool:
    """One round. True when anything was found that makes an action or a task due.

    `in_hand` are the ids of the actions that run in this process, `sending` those of the tasks that it sends to its
    `site`: no clock and no full disk frees them. `sites` are those at which its API key may be shown.
    """
    freed = await store.free_expired_leases(now, {each.name: each.max_attempts for each in definitions}, in_hand)
    doubted = await store.doubt_interrupted(now, in_hand=sending)
    if site is not None:
        await store.tell_elsewhere(site, sites, now)
    skipped = 0
    while slice := await store.skip_orphans(now - rules.ORPHANS_KEPT, now):
        skipped += slice
    brought_back = await store.bound_times(now, policy.patience)
    await store.forget_uploads(now - rules.UPLOAD_REMEMBERED)
    downloads = [each.name for each in definitions if each.kind is ActionKind.DOWNLOAD]
    unsaved = dict(await store.unsaved_since(downloads, now - rules.LINKS_ALERT))
    for name, count in unsaved.items():
        message = f"{count} results are not saved by {name}, and their links die within hours or are refused"
        await store.raise_alert(AlertKind.LINKS_EXPIRING, name, message, now)
    for name in downloads:
        if name not in unsaved:
            await store.clear_alert(AlertKind.LINKS_EXPIRING, name, now)
    return any((freed, doubted, skipped, brought_back))
