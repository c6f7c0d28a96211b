"""How the API reads requests and writes answers: JSON by msgspec, bounded bodies, one form of error."""

from collections.abc import Collection
from datetime import UTC, datetime

import msgspec
import structlog
from starlette.requests import Request
from starlette.responses import Response

from receiver.model.errors import Refused, StoreUnavailable, invalid, not_found, problems
from receiver.model.records import Filter, Json, JsonObject, Kind
from receiver.model.views import ErrorDocument, ErrorView
from receiver.runninghub import catalogue
from receiver.runninghub.client import RunningHub
from receiver.runninghub.errors import ProviderError
from receiver.runninghub.wire import DEPTH, Unreadable, decode_json

BODY_LIMIT = 8 * 1024 * 1024
LIMIT_MOST = 500
FILTERS = frozenset(Filter.__struct_fields__)
KINDS = tuple(Kind)

log = structlog.get_logger()


def answer(content: object, status: int = 200) -> Response:
    """Any struct as a JSON answer."""
    return Response(msgspec.json.encode(content), status, media_type="application/json")


def error_answer(status: int, code: str, message: str, details: object = None) -> Response:
    return answer(ErrorDocument(error=ErrorView(code=code, message=message, details=details)), status)


async def refused(_: Request, error: Exception) -> Response:
    assert isinstance(error, Refused)
    return error_answer(error.status, error.code, error.message, error.details)


async def unavailable(_: Request, error: Exception) -> Response:
    assert isinstance(error, StoreUnavailable)
    response = error_answer(503, error.reason, str(error))
    response.headers["retry-after"] = str(error.retry_after)
    return response


async def provider_failed(_: Request, error: Exception) -> Response:
    assert isinstance(error, ProviderError)
    details = {"code": error.code, "name": error.name, "retryable": error.retryable}
    return error_answer(502, "provider_error", f"RunningHub: {error}", details)


async def broken(_: Request, error: Exception) -> Response:
    log.error("request", exc_info=error)
    return error_answer(500, "internal", "something broke here; the server's log says what")


async def read_object(request: Request) -> JsonObject:
    """The request's JSON object. Raises Refused (400, 413)."""
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > BODY_LIMIT:
            raise Refused(
                413,
                "too_large",
                f"the body is larger than {BODY_LIMIT} bytes; upload large files first (POST /api/uploads)",
            )
    if not body:
        return {}
    try:
        value = decode_json(body)
    except Unreadable as problem:
        raise Refused(400, "not_json", f"the body cannot be read: {problem}") from None
    if not isinstance(value, dict):
        raise Refused(400, "not_an_object", "the body must be a JSON object")
    _refuse_unstorable(value, DEPTH, "")
    return value


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


def read_filter(request: Request, *, states: Collection[str], kinds: Collection[str] = KINDS) -> Filter:
    """What a list is narrowed to, from its query, with the states it knows and the kinds (none named: any).

    Raises Refused (422), also for a misspelt name: unheard, it would show everything.
    """
    query = request.query_params
    strange = [(name, "there is no such filter") for name in query if name not in FILTERS]
    for name, known in (("state", states), ("kind", kinds)):
        if known and set(_several(query.getlist(name))) - set(known):
            strange.append((name, f"expected any of {', '.join(known)}"))
    if strange:
        raise problems(strange)
    labels = []
    for text in query.getlist("label"):
        name, separator, value = text.replace("=", ":", 1).partition(":")
        if not separator:
            raise invalid("label", "expected name:value")
        labels.append((name, value))
    return Filter(
        state=_several(query.getlist("state")),
        kind=_several(query.getlist("kind")),
        target=_target(query.get("target")),
        label=tuple(labels),
        q=query.get("q") or None,
        task=query.get("task"),
        name=query.get("name"),
        since=read_time(query.get("since"), "since"),
        until=read_time(query.get("until"), "until"),
        limit=_number(query.get("limit"), "limit", 1, LIMIT_MOST) or 50,
        cursor=query.get("cursor") or None,
    )


def read_time(text: object, path: str) -> float | None:
    """RFC 3339, or seconds since 1970. Raises Refused (422)."""
    if text is None or text == "":
        return None
    try:
        if isinstance(text, int | float) and not isinstance(text, bool):
            return float(text)
        moment = datetime.fromisoformat(str(text))
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        raise invalid(path, "expected a time such as 2026-11-22T08:00:00Z") from None


def read_id(request: Request, what: str) -> int:
    """The number in the path of an action, a replay or `what` else. Raises Refused (404)."""
    text = request.path_params["id"]
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise not_found(what, text[:64])
    return int(text)


def _target(text: str | None) -> str | None:
    """A task is kept under its model's endpoint, by whatever name it was ordered."""
    return None if text is None else catalogue.endpoint_of(text)


def _several(values: list[str]) -> tuple[str, ...]:
    return tuple(part for value in values for part in value.split(",") if part)


def _number(text: str | None, path: str, least: int, most: int) -> int | None:
    if text is None or text == "":
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 20 and least <= int(text) <= most):
        raise invalid(path, f"expected a whole number from {least} to {most}")
    return int(text)
