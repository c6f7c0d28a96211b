"""What came, what was done about it, and doing it again."""

from collections.abc import Mapping
from typing import Unpack

from receiver.client.transport import ListFilter, Transport, part
from receiver.views import ActionView, AlertView, DefinitionView, DeliveryPage, EventView, PageView, ReplayView


class Ledger(Transport):
    """Lists of what came and what was done, actions one by one, and replays."""

    def deliveries(self, **narrow: Unpack[ListFilter]) -> DeliveryPage:
        return self._list("deliveries", DeliveryPage, narrow)

    def delivery_body(self, delivery_id: int) -> bytes:
        """A callback's raw bytes, as they came."""
        return self._send(self._http.build_request("GET", f"/api/deliveries/{delivery_id}/body")).content

    def events(self, **narrow: Unpack[ListFilter]) -> PageView[EventView]:
        return self._list("events", PageView[EventView], narrow)

    def alerts(self, **narrow: Unpack[ListFilter]) -> PageView[AlertView]:
        return self._list("alerts", PageView[AlertView], narrow)

    def actions(self, **narrow: Unpack[ListFilter]) -> PageView[ActionView]:
        return self._list("actions", PageView[ActionView], narrow)

    def action(self, action_id: int) -> ActionView:
        """An action with its tries, which a list leaves out."""
        return self._call("GET", f"/api/actions/{action_id}", ActionView)

    def retry(self, action_id: int) -> ActionView:
        return self._call("POST", f"/api/actions/{action_id}/retry", ActionView)

    def skip(self, action_id: int) -> ActionView:
        return self._call("POST", f"/api/actions/{action_id}/skip", ActionView)

    def definitions(self) -> PageView[DefinitionView]:
        return self._call("GET", "/api/definitions", PageView[DefinitionView])

    def pause(self, name: str) -> DefinitionView:
        return self._call("POST", f"/api/definitions/{part(name)}/pause", DefinitionView)

    def resume(self, name: str) -> DefinitionView:
        return self._call("POST", f"/api/definitions/{part(name)}/resume", DefinitionView)

    # ------------------------------------------------------------ replays

    def replay(
        self,
        filter: Mapping[str, object] | None = None,
        *,
        mode: str = "retry",
        dry_run: bool = False,
        rate: float | None = None,
    ) -> ReplayView:
        """Owes actions again. `rate` in actions per second; a dry run only counts."""
        body = {"filter": filter or {}, "mode": mode, "dry_run": dry_run, "rate": rate}
        return self._call("POST", "/api/replays", ReplayView, body=body)

    def replay_state(self, replay_id: int) -> ReplayView:
        return self._call("GET", f"/api/replays/{replay_id}", ReplayView)

    def cancel_replay(self, replay_id: int) -> ReplayView:
        return self._call("DELETE", f"/api/replays/{replay_id}", ReplayView)
