"""A row of the API's table: what may be asked, and what is answered."""

from collections.abc import Awaitable, Callable
from typing import TypeAlias, TypeVar

from msgspec import Struct
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from receiver.model.records import Filter, Page
from receiver.model.views import PageView
from receiver.server.service import Service
from receiver.store import Store
from receiver.web.answers import answer
from receiver.web.filters import Filters, read_filter, refuse_unknown

R = TypeVar("R")

Handler: TypeAlias = Callable[[Service, Request], Awaitable[Response]]


class Endpoint(Struct, frozen=True):
    """One method of one path below /api. `gives` and `body` are the types of the JSON documents, bytes for raw ones.

    `filters` are the query's names that a list takes: any other is refused. None: it is no list.
    """

    method: str
    path: str
    handler: Handler
    gives: object
    body: object = None
    filters: Filters | None = None

    def route(self, service: Service) -> Route:
        """The endpoint at the door of a running service."""

        async def handle(request: Request) -> Response:
            if self.filters is not None:
                refuse_unknown(request, self.filters)
            return await self.handler(service, request)

        return Route(self.path, handle, methods=[self.method])


def paged(
    path: str,
    verb: Callable[[Store], Callable[[Filter], Awaitable[Page[R]]]],
    view: Callable[[R], object],
    gives: object,
    filters: Filters,
) -> Endpoint:
    """The endpoint of a list: what a verb of the store finds, each as `view` shows it, page by page."""

    async def handler(service: Service, request: Request) -> Response:
        found = await verb(service.store)(read_filter(request, filters))
        return answer(PageView(items=[view(each) for each in found.items], next=found.next))

    return Endpoint("GET", path, handler, gives, filters=filters)
