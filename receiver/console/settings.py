"""Settings: what is in effect, where it was given, and what is wrong with it."""

from collections.abc import Iterator, Mapping

from starlette.requests import Request
from starlette.responses import Response

from receiver.console.page import Console, Handler
from receiver.console.show import NOTHING
from receiver.console.words import WRONG
from receiver.model.records import AlertKind, Filter, rfc3339
from receiver.model.sessions import TOKEN_ADVISED
from receiver.server.settings import FIELDS, Settings
from receiver.web.overview import standing

DEEDS = 20
"""What was done last, as much as one looks at."""
OF_SETTINGS = frozenset(
    (
        *("no_api_key", AlertKind.KEY_REFUSED, AlertKind.MOVED, AlertKind.ELSEWHERE),
        *(AlertKind.DEFINITION_MISSING, AlertKind.DISK_LOW),
    )
)
"""What is mended by another setting, of all that can be wrong."""


async def show(console: Console, request: Request) -> Response:
    settings = console.service.settings
    return await console.page(
        request,
        "settings.html",
        rows=list(_rows(settings, console.sources)),
        definitions=console.service.definitions,
        wrong=[each for each in (await standing(console.service)).wrong if each.kind in OF_SETTINGS],
        public_url=settings.public_url,
        titles=WRONG,
        deeds=(await console.store.audit(Filter(limit=DEEDS))).items,
        at=rfc3339,
        short_tokens=[
            name
            for name, token in (("admin_token", settings.admin_token), ("view_token", settings.view_token))
            if token is not None and len(token) < TOKEN_ADVISED
        ],
    )


def _rows(settings: Settings, sources: Mapping[str, str]) -> Iterator[tuple[str, str | None, str | None, str]]:
    """Key, value (None: a secret that is set, or not), where it was given (None: nowhere), and what it is for."""
    for field in FIELDS:
        value = getattr(settings, field.name)
        text = None if field.secret else _text(value)
        yield field.key, text, sources.get(field.key), field.help


def _text(value: object) -> str:
    if value is None or value == ():
        return NOTHING
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:g}"
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)


ROUTES: tuple[tuple[str, str, Handler], ...] = (("GET", "/settings", show),)
