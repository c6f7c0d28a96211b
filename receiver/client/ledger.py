"""What came, what was done about it, and doing it again."""

import math
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Unpack

from receiver.client.patience import ALONE, USUAL, Patience
from receiver.client.transport import ListFilter, Transport, pauses
from receiver.model.deeds import DeedView
from receiver.model.views import (
    ActionView,
    AlertView,
    DefinitionView,
    DeliveryPage,
    EventView,
    PageView,
    PruneView,
    ReplayView,
    RotatedView,
)


class Ledger(Transport):
    """Lists of what came and what was done, actions one by one, and replays."""

    def deliveries(self, **narrow: Unpack[ListFilter]) -> DeliveryPage:
        return self._list(DeliveryPage, "deliveries", narrow)

    def delivery_body(self, delivery_id: int) -> bytes:
        """A callback's raw bytes, as they came."""
        return self._send(self._http.build_request("GET", f"/api/deliveries/{delivery_id}/body")).content

    def events(self, **narrow: Unpack[ListFilter]) -> PageView[EventView]:
        return self._list(PageView[EventView], "events", narrow)

    def alerts(self, **narrow: Unpack[ListFilter]) -> PageView[AlertView]:
        return self._list(PageView[AlertView], "alerts", narrow)

    def acknowledge_alert(self, alert_id: int) -> AlertView:
        """Says that an alert has been seen; it stays open until its cause is gone."""
        return self._call("POST", AlertView, "alerts", alert_id, "acknowledge")

    def close_alert(self, alert_id: int) -> AlertView:
        return self._call("POST", AlertView, "alerts", alert_id, "close")

    def actions(self, **narrow: Unpack[ListFilter]) -> PageView[ActionView]:
        return self._list(PageView[ActionView], "actions", narrow)

    def action(self, action_id: int) -> ActionView:
        """An action with its tries, which a list leaves out."""
        return self._call("GET", ActionView, "actions", action_id)

    def retry(self, action_id: int) -> ActionView:
        return self._call("POST", ActionView, "actions", action_id, "retry")

    def skip(self, action_id: int) -> ActionView:
        return self._call("POST", ActionView, "actions", action_id, "skip")

    def definitions(self) -> PageView[DefinitionView]:
        return self._call("GET", PageView[DefinitionView], "definitions")

    def pause(self, name: str) -> DefinitionView:
        return self._call("POST", DefinitionView, "definitions", name, "pause")

    def resume(self, name: str) -> DefinitionView:
        return self._call("POST", DefinitionView, "definitions", name, "resume")

    def replay(
        self,
        filter: Mapping[str, object] | None = None,
        *,
        mode: str = "retry",
        dry_run: bool = False,
        rate: float | None = None,
        all: bool = False,
        expected: int | None = None,
    ) -> ReplayView:
        """Owes actions again: those of a filter, or `all`. `rate` in actions per second; a dry run only counts.

        With what a dry run told, `expected` and the filter's `until`, just what it counted is replayed: when another
        number matches, ApiError (409) has it in its details.

        Raises ValueError for a rate that is no finite number, for JSON would make it no rate at all.
        """
        if rate is not None and not math.isfinite(rate):
            raise ValueError(f"rate: expected a finite number, got {rate}")
        body = {"filter": filter or {}, "mode": mode, "dry_run": dry_run, "rate": rate, "all": all}
        body |= {} if expected is None else {"expected": expected}
        return self._call("POST", ReplayView, "replays", body=body)

    def replay_state(self, replay_id: int) -> ReplayView:
        return self._call("GET", ReplayView, "replays", replay_id)

    def replays(self, **narrow: Unpack[ListFilter]) -> PageView[ReplayView]:
        return self._list(PageView[ReplayView], "replays", narrow)

    def prune(self, *, dry_run: bool = False) -> PruneView:
        """Removes what is older than it is kept; a dry run only counts. May answer while that goes on."""
        return self._call("POST", PruneView, "prune", body={"dry_run": dry_run})

    def pruning(self) -> PruneView:
        """The run of pruning that goes on, or the last one, and what was ever removed."""
        return self._call("GET", PruneView, "prune")

    def stop_pruning(self) -> PruneView:
        return self._call("DELETE", PruneView, "prune")

    def wait_for_pruning(
        self,
        *,
        on_progress: Callable[[PruneView], None] = lambda found: None,
        pause: Callable[[float], None] = time.sleep,
    ) -> PruneView:
        """Asks how far pruning is, less and less often, until it is over."""
        for rest in pauses():
            found = self.pruning()
            on_progress(found)
            if found.state != "running":
                break
            pause(rest)
        return found

    def wait_for_replay(
        self,
        replay_id: int,
        *,
        on_progress: Callable[[ReplayView], None] = lambda replay: None,
        patience: float = USUAL,
        pause: Callable[[float], None] = time.sleep,
    ) -> ReplayView:
        """Asks about a replay, less and less often, until nothing of it is on its way any more.

        A server that is away is waited for `patience` seconds.
        """
        asked = Patience(patience, longest=ALONE, pause=pause)
        for rest in pauses():
            replay = asked.ask(partial(self.replay_state, replay_id))
            on_progress(replay)
            if replay.state != "running":
                break
            pause(rest)
        return replay

    def resume_replay(self, replay_id: int) -> ReplayView:
        """Takes up what the replay's cancellation stopped."""
        return self._call("POST", ReplayView, "replays", replay_id, "resume")

    def audit(self, **narrow: Unpack[ListFilter]) -> PageView[DeedView]:
        """What people did, newest first; `verb` is what was done."""
        return self._list(PageView[DeedView], "audit", narrow)

    def rotate_secret(self) -> RotatedView:
        """Another secret signs callback URLs from now on."""
        return self._call("POST", RotatedView, "secrets", "rotate")

    def cancel_replay(self, replay_id: int) -> ReplayView:
        return self._call("DELETE", ReplayView, "replays", replay_id)
