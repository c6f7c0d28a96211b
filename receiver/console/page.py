"""How pages are made: the templates in both languages, what every page knows, forms that are read, and failures."""

from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import parse_qsl, urlencode

import jinja2
import structlog
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from receiver.console import show, words
from receiver.console.static import NAMES
from receiver.model import sentences
from receiver.model.errors import Refused, StoreUnavailable
from receiver.model.records import Filter
from receiver.model.sessions import Role
from receiver.runninghub.errors import ProviderError
from receiver.server.service import Service
from receiver.web.answers import CLIENT_CLOSED
from receiver.web.guard import Keeper

Handler: TypeAlias = Callable[["Console", Request], Awaitable[Response]]

THEMES = ("auto", "light", "dark")
THEME_COOKIE, LANGUAGE_COOKIE = "receiver_theme", "receiver_language"
FORM_LIMIT = 64 * 1024
"""Bytes of a form: filters and numbers."""
BADGE = 50
"""Open alerts that are counted for the navigation; more of them are as many."""

log = structlog.get_logger()


def environment(translate: Callable[[str], str]) -> jinja2.Environment:
    """The templates in a language. What is not defined is an error, and everything is escaped."""
    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        extensions=["jinja2.ext.i18n"],
        auto_reload=False,
    )
    made.install_gettext_callables(  # type: ignore[attr-defined]
        translate, lambda one, many, count: translate(one if count == 1 else many), newstyle=True
    )
    for each in (show.when, show.span, show.between, show.size, show.pretty, show.cut, show.breakable, show.timed):
        made.filters[each.__name__] = each
    made.filters["said"] = lambda text: translate(str(text).replace("_", " "))
    made.filters["sentence"] = lambda text: capital(words.translated(str(text), translate))
    made.globals.update(
        static=NAMES, s=sentences, address=show.address, labels=show.labels, form_of=show.form_of, is_web=show.is_web
    )
    return made


def capital(text: str) -> str:
    """A sentence as it begins on a page; the command line goes on with it in the middle of a line."""
    return text[:1].upper() + text[1:]


class Console:
    """What the pages of a running service are made with."""

    def __init__(self, service: Service, keeper: Keeper, sources: Mapping[str, str]) -> None:
        self.sources = sources
        self.service = service
        self.store = service.store
        self.keeper = keeper
        chinese = words.chinese()
        self._environments = {
            words.ENGLISH: environment(lambda text: text),
            words.CHINESE: environment(lambda text: chinese.get(text, text)),
        }

    async def page(self, request: Request, template: str, status: int = 200, /, **given: Any) -> Response:  # noqa: ANN401
        """A page for somebody who signed in, with the navigation around it."""
        alerts = await self.store.alerts(Filter(state=("open",), limit=BADGE))
        badge = f"{BADGE}+" if alerts.next else str(len(alerts.items) or "")
        admin = request.scope.get("receiver.role") is Role.ADMIN
        return self.bare(request, template, status, admin=admin, badge=badge, done=done(request), **given)

    def bare(self, request: Request, template: str, status: int = 200, /, **given: Any) -> Response:  # noqa: ANN401
        """A page without all that only who signed in may see."""
        theme = request.cookies.get(THEME_COOKIE)
        language = words.language_of(
            request.cookies.get(LANGUAGE_COOKIE), request.headers.get("accept-language", "")[:200]
        )
        made = self._environments[language].get_template(template)
        path = request.url.path
        about = {
            "language": language,
            "languages": words.LANGUAGES,
            "theme": theme if theme in THEMES else "auto",
            "themes": THEMES,
            "path": path,
            "here": address_of(request),
            "place": request.scope.get("receiver.place", ""),
            "query": request.query_params,
        }
        return HTMLResponse(made.render(about | given), status)

    async def failed(self, request: Request, error: Exception) -> Response:
        """The page that says why something could not be done, and what to do."""
        status, code, message, headers = _told(error)
        details = getattr(error, "details", None)
        listed = details if isinstance(details, list) else []
        if status == 500:
            log.error("request", exc_info=error)
        known = "receiver.role" in request.scope
        what = {"status": status, "code": code, "message": message, "details": listed, "known": known}
        answer = self.bare(request, "error.html", status, admin=False, badge="", done=None, **what)
        answer.headers.update(headers)
        return answer


def _told(error: Exception) -> tuple[int, str, str, Mapping[str, str]]:
    match error:
        case Refused():
            again = {} if error.retry_after is None else {"retry-after": str(error.retry_after)}
            return error.status, error.code, error.message, again
        case StoreUnavailable():
            return 503, error.reason, str(error), {"retry-after": str(error.retry_after)}
        case ProviderError():
            return 502, "provider_error", f"RunningHub: {error}", {}
        case ClientDisconnect():
            return CLIENT_CLOSED, "client_closed", "the request broke off before its end", {}
        case HTTPException():
            return error.status_code, "http_error", error.detail, error.headers or {}
    return 500, "internal", "something broke here; the server's log says what", {}


DONE = frozenset(
    (
        *("retried", "skipped", "paused", "resumed", "acknowledged", "closed", "reconciled", "resent", "cancelled"),
        *("ordered", "there_already", "begun", "cancelled_replay", "resumed_replay"),
    )
)
"""What pages can say of what was just done."""


def done(request: Request) -> str | None:
    """What was just done, as the address says it: a word out of a list."""
    word = request.query_params.get("done")
    return word if word in DONE else None


def after(path: str, word: str, **values: object) -> Response:
    """To the page that shows what became of it, and says so."""
    return RedirectResponse(show.address(path, {**values, "done": word}), 303)


def address_of(request: Request) -> str:
    """The page's own address without the word about what was done."""
    query = [(name, value) for name, value in request.query_params.multi_items() if name != "done" and value]
    return f"{request.url.path}?{urlencode(query)}" if query else request.url.path


def cleaned(request: Request) -> Request:
    """The request without what is empty in its query, as forms send it, and without the word about what was done."""
    query = address_of(request).partition("?")[2]
    return Request({**request.scope, "query_string": query.encode()}, request.receive)


async def read_form(request: Request) -> dict[str, str]:
    """The fields of a form; of those that are sent twice the last. Raises Refused (413, 422)."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > FORM_LIMIT:
            raise Refused(413, "too_large", f"a form of the console has {FORM_LIMIT} bytes at the most")
    try:
        return dict(parse_qsl(body.decode(), max_num_fields=100, errors="strict"))
    except ValueError:
        raise Refused(422, "invalid", "the form cannot be read") from None


def own_path(given: str | None) -> str:
    """A path of this server's, whatever was given: nobody is sent anywhere else."""
    if given is None or not given.startswith("/") or given[1:2] in ("/", "\\") or not given.isprintable():
        return "/"
    return given
