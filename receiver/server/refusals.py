"""Callbacks whose URLs are none of ours: counted in the ledger and logged, at a pace that no stranger sets."""

from collections.abc import Callable

import structlog

from receiver.model import rules
from receiver.store import Store

log = structlog.get_logger()


class Refusals:
    """Counts what was refused until it is written down; `clock` is in seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._uncounted = self._unlogged = 0
        self._logged_at = float("-inf")

    def note(self) -> None:
        """One more. No token is logged: its owner may only have been given another secret."""
        self._uncounted += 1
        self._unlogged += 1
        if abs(self._clock() - self._logged_at) >= rules.REFUSALS_LOGGED:
            self._log()

    async def write_down(self, store: Store) -> None:
        """What was not logged or counted yet. Raises StoreUnavailable; then nothing is forgotten."""
        if self._unlogged:
            self._log()
        if count := self._uncounted:
            await store.count("callbacks_refused", count)
            self._uncounted -= count

    def _log(self) -> None:
        log.warning(
            "callbacks refused: no secret of ours signed their URLs, or their tasks are gone", count=self._unlogged
        )
        self._unlogged, self._logged_at = 0, self._clock()
