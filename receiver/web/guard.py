"""Who may come in: whoever has the admin token, whoever may look, and their browsers while they are signed in."""

import secrets
from urllib.parse import quote

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import RedirectResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from receiver.model import sessions
from receiver.model.errors import Refused
from receiver.model.sessions import Role, Session, Sessions
from receiver.server.service import Service
from receiver.web.origins import SAFE, Origins
from receiver.web.throttle import BearerThrottle, FormThrottle, address_of

POLICY = "; ".join(
    (
        "default-src 'none'",
        *(f"{kind}-src 'self'" for kind in ("script", "style", "img", "media", "connect")),
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types receiver",
    )
)
HEADERS = {
    "content-security-policy": POLICY,
    # Never no-referrer: a form's Origin would be null then, and on plain HTTP that is all a browser says of itself.
    "referrer-policy": "same-origin",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}
"""What goes with every answer that does not say otherwise itself."""
COOKIE, SECURE_COOKIE = "receiver_session", "__Host-receiver_session"
FOR_ADMINS = frozenset({"/backup"})
"""Below /api: what only an admin may read. The database has the secrets in it."""
FOR_ALL = frozenset({"/sign-out", "/look"})
"""What changes nothing but a cookie, so that whoever may look may do it."""


class Armour:
    """Puts the headers on that keep a browser from doing with an answer what it should not."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def armoured(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        await self._app(scope, receive, armoured)


class Keeper:
    """Knows the tokens and the sessions of a running service, and who tried a wrong token."""

    def __init__(self, service: Service) -> None:
        settings = service.settings
        self._service = service
        self._tokens = {Role.ADMIN: service.admin_token.encode()}
        if settings.view_token is not None:
            self._tokens[Role.VIEW] = settings.view_token.encode()
        self._sessions = Sessions([service.admin_token, settings.view_token])
        self.origins = Origins(settings.public_url, (settings.host, *settings.hosts))
        self.form, self.bearer = FormThrottle(), BearerThrottle()

    def role_of(self, token: bytes) -> Role | None:
        """What a token lets its bearer do. Every token is compared, in constant time."""
        found = [role for role, known in self._tokens.items() if secrets.compare_digest(token, known)]
        return found[0] if found else None

    async def session(self, scope: Scope) -> Session | None:
        """Whose browser it is; None for a stranger's."""
        text = _cookies(Headers(scope=scope)).get(self._cookie_name(scope))
        if text is None:
            return None
        return self._sessions.read(text, self._service.clock(), await self._service.store.session_epoch())

    async def sign_in(self, scope: Scope, role: Role) -> str:
        """The cookie of a new session: one from before is never taken up."""
        now, epoch = self._service.clock(), await self._service.store.session_epoch()
        session = Session(id=secrets.token_urlsafe(9), role=role, epoch=epoch, began=now, seen=now)
        return self.cookie(scope, session)

    def cookie(self, scope: Scope, session: Session | None) -> str:
        """The Set-Cookie header of a session; of None one that ends it in this browser."""
        name = self._cookie_name(scope)
        value = self._sessions.write(session) if session else ""
        age = int(sessions.LONGEST) if session else 0
        secure = "; Secure" if name == SECURE_COOKIE else ""
        return f"{name}={value}; Path=/; Max-Age={age}; HttpOnly; SameSite=Lax{secure}"

    def renewed(self, scope: Scope, session: Session) -> str | None:
        """The cookie of a session that is to be written down anew."""
        used = session.used(self._service.clock())
        return None if used is None else self.cookie(scope, used)

    def refuse_bearer(self, scope: Scope) -> Refused:
        """The refusal of a request that carries a wrong token, or none."""
        scheme, _, token = _authorization(scope).partition(b" ")
        is_guess = scheme.lower() == b"bearer" and token.strip()
        wait = self.bearer.failed(address_of(scope), self._service.clock()) if is_guess else 0
        if wait:
            told = "too many wrong tokens; wait, then send the right one"
            return Refused(429, "too_many_tries", told, retry_after=wait)
        return Refused(401, "unauthorized", "send the admin token as Authorization: Bearer TOKEN")

    def _cookie_name(self, scope: Scope) -> str:
        secure = self.origins.is_secure(scope.get("scheme", "http"), Headers(scope=scope))
        return SECURE_COOKIE if secure else COOKIE


class Guard:
    """Lets through what carries a token, or the cookie of a session. Pure ASGI: BaseHTTPMiddleware costs eight requests
    (measured). A stranger is sent to the page where one signs in when there are `pages` behind the guard.
    """

    def __init__(self, app: ASGIApp, keeper: Keeper, *, pages: bool = False) -> None:
        self._app = app
        self._keeper = keeper
        self._pages = pages

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scheme, _, token = _authorization(scope).partition(b" ")
        role = self._keeper.role_of(token.strip()) if scheme.lower() == b"bearer" else None
        session = None
        if role is None:
            headers = Headers(scope=scope)
            session = None if scheme else await self._keeper.session(scope)
            if session is None:
                await self._send_away(scope, receive, send)
                return
            self._keeper.origins.refuse_strange_host(headers)
            self._keeper.origins.refuse_cross_site(scope["method"], headers)
            role = session.role
        _refuse_viewer(scope, role)
        scope["receiver.role"], scope["session"] = role, session and session.id
        cookie = self._keeper.renewed(scope, session) if session else None
        await self._app(scope, receive, _with_cookie(send, cookie) if cookie else send)

    async def _send_away(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not self._pages or _authorization(scope):
            raise self._keeper.refuse_bearer(scope)
        self._keeper.origins.refuse_strange_host(Headers(scope=scope))
        await RedirectResponse(f"/sign-in?next={quote(_wanted(scope))}", 303)(scope, receive, send)


def _refuse_viewer(scope: Scope, role: Role) -> None:
    if role is Role.ADMIN:
        return
    path = scope["path"].removeprefix(scope.get("root_path", ""))
    if (scope["method"] not in SAFE and path not in FOR_ALL) or path in FOR_ADMINS:
        raise Refused(403, "only_looking", "this token may look, but not change anything")


def _wanted(scope: Scope) -> str:
    """Where somebody goes after signing in: what was asked for, if that can be asked for again."""
    if scope["method"] not in SAFE:
        return "/"
    query = scope["query_string"].decode("latin-1")
    return f"{scope['path']}?{query}" if query else str(scope["path"])


def _authorization(scope: Scope) -> bytes:
    given: bytes = next((value for name, value in scope["headers"] if name == b"authorization"), b"")
    return given


def _cookies(headers: Headers) -> dict[str, str]:
    found: dict[str, str] = {}
    for part in headers.get("cookie", "").split(";"):
        name, separator, value = part.strip().partition("=")
        if separator:
            found.setdefault(name, value)
    return found


def _with_cookie(send: Send, cookie: str) -> Send:
    async def sent(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            if "set-cookie" not in headers:
                headers.append("set-cookie", cookie)
        await send(message)

    return sent
