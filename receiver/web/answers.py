"""How the API reads requests and writes answers: JSON by msgspec, bounded bodies, one form of error."""

import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import TypeAlias, TypeVar

import msgspec
import structlog
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from receiver.model.errors import Refused, StoreUnavailable, invalid, not_found
from receiver.model.records import Json, JsonObject
from receiver.model.rules import BODY_LIMIT, ORDER_LIMIT
from receiver.model.views import ErrorDocument, ErrorView
from receiver.orders.repeats import refuse_repeated
from receiver.runninghub.client import RunningHub
from receiver.runninghub.errors import ProviderError
from receiver.runninghub.wire import BOM, DEPTH, Unreadable, decode_json
from receiver.server.service import Service

Handler: TypeAlias = Callable[[Service, Request], Awaitable[Response]]

T = TypeVar("T")

DATA_URI = re.compile(rb'"data:[^"\\]*"')
"""A file in the place of its link, in JSON. It is not read letter by letter, as all else is."""
CLIENT_CLOSED = 499
"""What nginx calls it when nobody waits for the answer any more."""

log = structlog.get_logger()


def answer(content: object, status: int = 200) -> Response:
    """Any struct as a JSON answer."""
    return Response(msgspec.json.encode(content), status, media_type="application/json")


def error_answer(
    status: int, code: str, message: str, details: object = None, headers: Mapping[str, str] | None = None
) -> Response:
    response = answer(ErrorDocument(error=ErrorView(code=code, message=message, details=details)), status)
    response.headers.update(headers or {})
    return response


async def failed(_: Request, error: Exception) -> Response:
    """The answer to a request that could not be granted, for whatever reason."""
    match error:
        case Refused():
            headers = {} if error.retry_after is None else {"retry-after": str(error.retry_after)}
            headers |= {"www-authenticate": "Bearer"} if error.status == 401 else {}
            return error_answer(error.status, error.code, error.message, error.details, headers)
        case StoreUnavailable():
            return error_answer(503, error.reason, str(error), headers={"retry-after": str(error.retry_after)})
        case ProviderError():
            details = {"code": error.code, "name": error.name, "retryable": error.retryable}
            return error_answer(502, "provider_error", f"RunningHub: {error}", details)
        case ClientDisconnect():
            return error_answer(CLIENT_CLOSED, "client_closed", "the request broke off before its end")
        case HTTPException():
            return _astray(error)
    log.error("request", exc_info=error)
    return error_answer(500, "internal", "something broke here; the server's log says what")


def _astray(error: HTTPException) -> Response:
    """The answer to a request for which there is no route."""
    if error.status_code == 404:
        return error_answer(404, "not_found", "there is no such route; `receiver docs api` lists them")
    code = "method_not_allowed" if error.status_code == 405 else "http_error"
    return error_answer(error.status_code, code, error.detail, headers=error.headers)


def wrong_method(method: str, taken: Iterable[str]) -> HTTPException:
    """What a request's method is refused with where others are taken."""
    takes = ", ".join(sorted(taken))
    return HTTPException(405, f"this route takes {takes}, not {method[:20]}", {"Allow": takes})


async def read_object(request: Request) -> JsonObject:
    """The request's JSON object. Raises Refused (400, 413)."""
    body = await _bounded_body(request)
    if not body:
        return {}
    try:
        value = decode_json(body.removeprefix(BOM))
    except Unreadable as problem:
        raise Refused(400, "not_json", f"the body cannot be read: {problem}") from None
    if not isinstance(value, dict):
        raise Refused(400, "not_an_object", "the body must be a JSON object")
    _refuse_unstorable(value, DEPTH, "")
    refuse_repeated(body)
    return value


async def _bounded_body(request: Request) -> bytes:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > BODY_LIMIT:
            message = f"the body is larger than {BODY_LIMIT // 2**20} MiB; upload large files first (POST /api/uploads)"
            raise Refused(413, "too_large", message)
    if len(body) > ORDER_LIMIT:
        rest = len(body) - sum(len(uri[0]) for uri in DATA_URI.finditer(body))
        if rest > ORDER_LIMIT:
            message = f"expected {ORDER_LIMIT // 2**20} MiB at the most beside files in data: URIs, got {rest} bytes"
            raise invalid("body", f"{message}; upload large files first (POST /api/uploads)")
    return bytes(body)


def _refuse_unstorable(value: Json, depth: int, path: str) -> None:
    """What could not be kept as it is must not be changed silently: an order costs money."""
    if isinstance(value, int) and not -(2**63) <= value < 2**64:
        raise invalid(path, "expected a whole number of 64 bits at the most")
    if isinstance(value, dict | list) and depth == 0:
        raise invalid(path[:100], f"expected {DEPTH} levels at the most")
    if isinstance(value, dict):
        for name, item in value.items():
            _refuse_unstorable(item, depth - 1, f"{path}.{name}" if path else name)
    if isinstance(value, list):
        for index, item in enumerate(value):
            _refuse_unstorable(item, depth - 1, f"{path}[{index}]")


def refuse_without_key(provider: RunningHub) -> None:
    if not provider.has_key:
        raise Refused(409, "no_api_key", "no API key is configured: set RUNNINGHUB_API_KEY and start again")


def known(found: T | None, what: str, name: str) -> T:
    """What was found under a name. Raises Refused (404) for None."""
    if found is None:
        raise not_found(what, name[:64])
    return found


async def found_by_id(request: Request, what: str, verb: Callable[[int], Awaitable[T | None]]) -> T:
    """What a verb of the store finds under the number in the path. Raises Refused (404)."""
    number = read_id(request, what)
    return known(await verb(number), what, str(number))


def read_id(request: Request, what: str) -> int:
    """The number in the path of an action, a replay or `what` else. Raises Refused (404)."""
    text = request.path_params["id"]
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise not_found(what, text[:64])
    return int(text)
