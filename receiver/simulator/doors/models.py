"""Owns the doors of the standard models: to submit a task, and to ask what it would cost."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request as Asked
from starlette.responses import Response
from starlette.routing import Route

from receiver.simulator.account import Tariff
from receiver.simulator.answers import Family, Refused
from receiver.simulator.gate import Gate, json_object, said
from receiver.simulator.intake import Intake
from receiver.simulator.models import ModelFacts
from receiver.simulator.orders import Dialect, Kind, Making, Order
from receiver.simulator.tasks import output_type_of

SIGNS = {"CNY": "¥", "USD": "$"}


@dataclass(frozen=True)
class ModelDoors:
    """`models` None takes any path and any parameters."""

    gate: Gate
    intake: Intake
    tariff: Tariff
    models: Mapping[str, ModelFacts] | None

    def routes(self) -> list[Route]:
        """The second route takes every path that no other one has: put it last."""
        return [
            self.gate.route("price", "/openapi/v2/price-preview/{model:path}", self.price, Family.V2),
            self.gate.route("submit", "/openapi/v2/{model:path}", self.submit, Family.V2),
        ]

    async def submit(self, asked: Asked, body: bytes) -> Response:
        """Model parameters and perhaps `webhookUrl` in, the V2 task object out (page "Standard Model API")."""
        refused = self.gate.bearer(asked)
        if refused is not None:
            return refused
        order = self._order(asked.path_params["model"], body)
        if self.intake.account.api_type != "SHARED":
            raise Refused("1014")
        self.intake.account.check(order)
        return await self.intake.take(order)

    async def price(self, asked: Asked, body: bytes) -> Response:
        """The same body in, what it would cost out. No page describes this one; it was seen."""
        refused = self.gate.bearer(asked)
        if refused is not None:
            return refused
        price = self._order(asked.path_params["model"], body).price
        return said(
            {
                "errorCode": "",
                "errorMessage": "",
                "estimatedPrice": float(price or 0),
                "currency": self.tariff.currency,
                "priceText": f"{SIGNS[self.tariff.currency]}{price}",
                "isFreeThisCall": False,
            }
        )

    def _order(self, model: str, body: bytes) -> Order:
        params = json_object(body)
        if params is None:
            raise Refused("1007")
        webhook_url = webhook_url_of(params)
        return Order(
            kind=Kind.MODEL,
            target=model,
            dialect=Dialect.V2,
            makes=self._makes(model, params),
            params=params,
            webhook_url=webhook_url,
            price=self.tariff.price(model, params),
        )

    def _makes(self, model: str, params: Mapping[str, Any]) -> tuple[Making, ...]:
        if self.models is None:
            return (Making(output_type_of(model)),)
        facts = self.models.get(model)
        if facts is None:
            raise Refused("1001")
        facts.check(params)
        return facts.makes


def webhook_url_of(document: dict[str, Any]) -> str | None:
    """Takes the webhook URL out of a request; an empty one is none."""
    url = document.pop("webhookUrl", None) or None
    if url is not None and not isinstance(url, str):
        raise Refused(301, "webhookUrl must be a string")
    return url
