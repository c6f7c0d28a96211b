"""Owns the doors of the standard models: to submit a task, and to ask what it would cost."""

from starlette.requests import Request as HttpRequest

from receiver.simulator.answers import Answer, Document, Family, Refused
from receiver.simulator.gate import Door, v2, webhook_url_of
from receiver.simulator.intake import take
from receiver.simulator.options import SIGNS
from receiver.simulator.orders import Dialect, Kind, Making, Order
from receiver.simulator.provider import Provider
from receiver.simulator.tasks import output_type_of


async def submit(provider: Provider, request: HttpRequest, body: bytes) -> Answer:
    """Model parameters and perhaps `webhookUrl` in, the V2 task object out (page "Standard Model API")."""
    order = _order(provider, request.path_params["model"], body)
    if provider.options.api_type != "SHARED":
        raise Refused(1014)
    return await take(provider, order)


async def price_preview(provider: Provider, request: HttpRequest, body: bytes) -> Document:
    """The same body in, what it would cost out. No page describes this one; it was seen."""
    price, currency = _order(provider, request.path_params["model"], body).price, provider.options.currency
    return {
        "errorCode": "",
        "errorMessage": "",
        "estimatedPrice": float(price or 0),
        "currency": currency,
        "priceText": f"{SIGNS[currency]}{price}",
        "isFreeThisCall": False,
    }


def _order(provider: Provider, model: str, body: bytes) -> Order:
    params = v2(body)
    webhook_url = webhook_url_of(params)
    judge = provider.options.judge
    extension = output_type_of(model) if judge is None else judge(model, params)
    return Order(
        kind=Kind.MODEL,
        target=model,
        dialect=Dialect.V2,
        makes=(Making(extension),),
        params=params,
        webhook_url=webhook_url,
        price=provider.account.price(model, params),
    )


DOORS = (
    Door("price", "/openapi/v2/price-preview/{model:path}", price_preview, Family.V2),
    Door("submit", "/openapi/v2/{model:path}", submit, Family.V2),
)
"""The second one takes every path that no other one has: it comes last."""
