"""Owns the doors of the standard models: to submit a task, and to ask what it would cost."""

from dataclasses import dataclass

from starlette.requests import Request as HttpRequest
from starlette.responses import Response
from starlette.routing import Route

from receiver.simulator.answers import Document, Family, Refused
from receiver.simulator.gate import Gate, v2, webhook_url_of
from receiver.simulator.intake import Intake
from receiver.simulator.options import SIGNS
from receiver.simulator.orders import Dialect, Kind, Making, Order
from receiver.simulator.tasks import output_type_of


@dataclass(frozen=True)
class ModelDoors:
    """Without a judge any path and any parameters are taken."""

    gate: Gate
    intake: Intake

    def routes(self) -> list[Route]:
        """The second route takes every path that no other one has: put it last."""
        return [
            self.gate.route("price", "/openapi/v2/price-preview/{model:path}", self.price, Family.V2),
            self.gate.route("submit", "/openapi/v2/{model:path}", self.submit, Family.V2),
        ]

    async def submit(self, request: HttpRequest, body: bytes) -> Response | Document:
        """Model parameters and perhaps `webhookUrl` in, the V2 task object out (page "Standard Model API")."""
        order = self._order(request.path_params["model"], body)
        if self.intake.account.api_type != "SHARED":
            raise Refused(1014)
        return await self.intake.take(order)

    async def price(self, request: HttpRequest, body: bytes) -> Document:
        """The same body in, what it would cost out. No page describes this one; it was seen."""
        price, currency = self._order(request.path_params["model"], body).price, self.intake.account.currency
        return {
            "errorCode": "",
            "errorMessage": "",
            "estimatedPrice": float(price or 0),
            "currency": currency,
            "priceText": f"{SIGNS[currency]}{price}",
            "isFreeThisCall": False,
        }

    def _order(self, model: str, body: bytes) -> Order:
        params = v2(body)
        webhook_url = webhook_url_of(params)
        judge = self.intake.options.judge
        extension = output_type_of(model) if judge is None else judge(model, params)
        return Order(
            kind=Kind.MODEL,
            target=model,
            dialect=Dialect.V2,
            makes=(Making(extension),),
            params=params,
            webhook_url=webhook_url,
            price=self.intake.account.price(model, params),
        )
