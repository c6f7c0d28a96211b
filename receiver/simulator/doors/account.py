"""Owns the doors of the account: what is left, what is under way, and the keys."""

from dataclasses import dataclass

from starlette.requests import Request as Asked
from starlette.responses import Response
from starlette.routing import Route

from receiver.simulator.account import Account
from receiver.simulator.answers import Family, Refused, envelope, local_time, media_envelope
from receiver.simulator.gate import Gate, is_text, json_object, said
from receiver.simulator.intake import Limits
from receiver.simulator.tasks import Status, Tasks

USUAL_LIMITS = {"NORMAL": 2, "SHARED": 100, "EXCLUSIVE": 1}
"""Tasks at once, as said where the simulator has no limit of its own."""


@dataclass(frozen=True)
class AccountDoors:
    """One account with one key. With `apikey_only` its status takes the key under the documented name alone."""

    gate: Gate
    account: Account
    limits: Limits
    tasks: Tasks
    opened_at: float
    apikey_only: bool

    def routes(self) -> list[Route]:
        route = self.gate.route
        return [
            route("account", "/uc/openapi/accountStatus", self.status, Family.V1),
            route("queue", "/openapi/v2/queue/status", self.queue, Family.MEDIA, method="GET"),
            route("keys", "/openapi/v2/api-key/list", self.keys, Family.MEDIA, method="GET"),
        ]

    async def status(self, asked: Asked, body: bytes) -> Response:
        """`apikey` in, written like this and nowhere else; texts out (page "Get Account Information").

        The measured refusal of a call without it asks for `apiKey` by name, and published clients send only that.
        Nobody measured it, so both are taken unless told otherwise.
        """
        given = json_object(body) or {}
        key = given.get("apikey")
        if not is_text(key) and not self.apikey_only:
            key = given.get("apiKey")
        if not isinstance(key, str) or not is_text(key):
            raise Refused(1601)
        self.gate.check(key)
        left = self.account.shown()
        return said(
            envelope(
                {
                    "remainCoins": left["remainCoins"],
                    "currentTaskCounts": str(len(self.tasks.open)),
                    "remainMoney": left["remainMoney"],
                    "currency": left["currency"],
                    "apiType": left["apiType"],
                }
            )
        )

    async def queue(self, asked: Asked, body: bytes) -> Response:
        """How many tasks run and wait: one number and three texts. No page describes this one; it was seen."""
        refused = self.gate.bearer(asked, Family.MEDIA)
        if refused is not None:
            return refused
        usual = USUAL_LIMITS[self.account.api_type]
        return said(
            media_envelope(
                {
                    "apiKeyType": self.account.api_type,
                    "concurrentLimit": usual if self.limits.max_in_flight is None else self.limits.max_in_flight,
                    "runningCount": str(self.tasks.count(Status.RUNNING)),
                    "queuedCount": str(self.tasks.count(Status.QUEUED)),
                    "totalCurrentTasks": str(len(self.tasks.open)),
                }
            )
        )

    async def keys(self, asked: Asked, body: bytes) -> Response:
        """The account's only key, masked. No page describes this one; it was seen."""
        refused = self.gate.bearer(asked, Family.MEDIA)
        if refused is not None:
            return refused
        key = {
            "key": "*" * 32,
            "apiKeyName": "simulated",
            "status": 1,
            "quotaLimit": None,
            "quotaUsed": 0.0,
            "visible": False,
            "expireAt": None,
            "expireInMinute": None,
            "createdAt": local_time(self.opened_at),
        }
        return said(media_envelope([key]))
