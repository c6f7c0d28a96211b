"""Owns the doors of the account: what is left, what is under way, and the keys."""

from starlette.requests import Request as HttpRequest

from receiver.simulator.answers import Document, Family, Refused, envelope, local_time, media_envelope
from receiver.simulator.gate import Door, check_key, is_text, json_object
from receiver.simulator.options import TASKS_AT_ONCE
from receiver.simulator.provider import Provider
from receiver.simulator.tasks import Status


async def status(provider: Provider, request: HttpRequest, body: bytes) -> Document:
    """`apikey` in, written like this and nowhere else; texts out (page "Get Account Information").

    The measured refusal of a call without it asks for `apiKey` by name, and published clients send only that.
    Nobody measured it, so both are taken unless told otherwise.
    """
    given = json_object(body) or {}
    names = ("apikey",) if provider.options.apikey_only else ("apikey", "apiKey")
    key = next((given[name] for name in names if is_text(given.get(name))), None)
    if key is None:
        raise Refused(1601)
    check_key(provider, key)
    shown, under_way = provider.account.shown(), str(len(provider.tasks.open))
    return envelope({"remainCoins": shown["remainCoins"], "currentTaskCounts": under_way, **shown})


async def queue(provider: Provider, request: HttpRequest, body: bytes) -> Document:
    """How many tasks run and wait: one number and three texts. No page describes this one; it was seen."""
    options = provider.options
    usual = TASKS_AT_ONCE[options.api_type]
    return media_envelope(
        {
            "apiKeyType": options.api_type,
            "concurrentLimit": usual if options.max_in_flight is None else options.max_in_flight,
            "runningCount": str(provider.tasks.count(Status.RUNNING)),
            "queuedCount": str(provider.tasks.count(Status.QUEUED)),
            "totalCurrentTasks": str(len(provider.tasks.open)),
        }
    )


async def keys(provider: Provider, request: HttpRequest, body: bytes) -> Document:
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
        "createdAt": local_time(provider.opened_at),
    }
    return media_envelope([key])


DOORS = (
    Door("account", "/uc/openapi/accountStatus", status, Family.V1),
    Door("queue", "/openapi/v2/queue/status", queue, Family.MEDIA, "GET"),
    Door("keys", "/openapi/v2/api-key/list", keys, Family.MEDIA, "GET"),
)
