"""Owns the doors of the account: what is left, what is under way, and the keys."""

from dataclasses import dataclass

from starlette.requests import Request as HttpRequest
from starlette.routing import Route

from receiver.simulator.account import Account
from receiver.simulator.answers import Document, Family, Refused, envelope, local_time, media_envelope
from receiver.simulator.gate import Gate, is_text, json_object
from receiver.simulator.options import TASKS_AT_ONCE, Options
from receiver.simulator.tasks import Status, Tasks


@dataclass(frozen=True)
class AccountDoors:
    """One account with one key."""

    gate: Gate
    options: Options
    account: Account
    tasks: Tasks
    opened_at: float

    def routes(self) -> list[Route]:
        route = self.gate.route
        return [
            route("account", "/uc/openapi/accountStatus", self.status, Family.V1),
            route("queue", "/openapi/v2/queue/status", self.queue, Family.MEDIA, method="GET"),
            route("keys", "/openapi/v2/api-key/list", self.keys, Family.MEDIA, method="GET"),
        ]

    async def status(self, request: HttpRequest, body: bytes) -> Document:
        """`apikey` in, written like this and nowhere else; texts out (page "Get Account Information").

        The measured refusal of a call without it asks for `apiKey` by name, and published clients send only that.
        Nobody measured it, so both are taken unless told otherwise.
        """
        given = json_object(body) or {}
        names = ("apikey",) if self.options.apikey_only else ("apikey", "apiKey")
        key = next((given[name] for name in names if is_text(given.get(name))), None)
        if key is None:
            raise Refused(1601)
        self.gate.check(key)
        rest = self.account.shown()
        coins, under_way = rest.pop("remainCoins"), str(len(self.tasks.open))
        return envelope({"remainCoins": coins, "currentTaskCounts": under_way, **rest})

    async def queue(self, request: HttpRequest, body: bytes) -> Document:
        """How many tasks run and wait: one number and three texts. No page describes this one; it was seen."""
        usual = TASKS_AT_ONCE[self.account.api_type]
        return media_envelope(
            {
                "apiKeyType": self.account.api_type,
                "concurrentLimit": usual if self.options.max_in_flight is None else self.options.max_in_flight,
                "runningCount": str(self.tasks.count(Status.RUNNING)),
                "queuedCount": str(self.tasks.count(Status.QUEUED)),
                "totalCurrentTasks": str(len(self.tasks.open)),
            }
        )

    async def keys(self, request: HttpRequest, body: bytes) -> Document:
        """The account's only key, masked. No page describes this one; it was seen."""
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
        return media_envelope([key])
