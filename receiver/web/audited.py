"""Writes down what is done through the API: one deed for each request that changes something."""

from collections.abc import Mapping
from contextlib import suppress

from starlette.requests import Request
from starlette.responses import Response

from receiver.model.deeds import ACTING, API, CLI, DONE, DOOR_HEADER, PAGE, Deed
from receiver.model.errors import Refused, StoreUnavailable
from receiver.runninghub.errors import ProviderError
from receiver.server.service import Service
from receiver.web.answers import Handler

VERBS: Mapping[str, str] = {
    "POST /tasks": "submit",
    "POST /previews": "preview",
    "POST /tasks/{task}/reconcile": "reconcile",
    "POST /tasks/{task}/resend": "resend",
    "POST /tasks/{task}/cancel": "cancel",
    "POST /tasks/{task}/submit-again": "submit again",
    "POST /actions/{id}/retry": "retry",
    "POST /actions/{id}/skip": "skip",
    "POST /definitions/{name}/pause": "pause",
    "POST /definitions/{name}/resume": "resume",
    "POST /alerts/{id}/acknowledge": "acknowledge",
    "POST /alerts/{id}/close": "close",
    "POST /replays": "replay",
    "DELETE /replays/{id}": "cancel replay",
    "POST /replays/{id}/resume": "resume replay",
    "POST /uploads": "upload",
    "POST /prune": "prune",
    "DELETE /prune": "stop pruning",
    "POST /secrets/rotate": "rotate secret",
}
"""What each of them does, in a word or two. What changes nothing is never written down."""


async def audited(service: Service, request: Request, verb: str, handler: Handler) -> Response:
    """What the handler answers, with the deed written down by its first write and ended by its last."""
    deed = Deed(service.clock(), _door(request), request.scope.get("session"), verb, _object(request))
    token, result = ACTING.set(deed), "failed"
    begun = (deed.object, deed.filter, deed.count, DONE)
    try:
        response = await handler(service, request)
        result = DONE
    except (Refused, ProviderError) as problem:
        result = problem.code
        raise
    except StoreUnavailable as problem:
        result = problem.reason
        raise
    finally:
        ACTING.reset(token)
        if deed.row is not None and (deed.object, deed.filter, deed.count, result) != begun:
            with suppress(StoreUnavailable):
                await service.store.end_deed(deed, result)
    return response


def _door(request: Request) -> str:
    if request.scope.get("session") is not None:
        return PAGE
    return CLI if request.headers.get(DOOR_HEADER) == CLI else API


def _object(request: Request) -> str:
    """The folder of the path and the name in it, such as actions/17. A handler may know it better."""
    parts = [*request.path_params.values()]
    folder = request.url.path.removeprefix("/api").strip("/").partition("/")[0]
    return "/".join([folder, *(str(part)[:100] for part in parts)]) if parts else ""
