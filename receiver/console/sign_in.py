"""Signing in and out, and how the pages look in this browser."""

import math

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from receiver.console import words
from receiver.console.page import LANGUAGE_COOKIE, THEME_COOKIE, THEMES, Console, own_path, read_form
from receiver.web.throttle import address_of

YEAR = 365 * 86400
FIELD_LIMIT = 1000
"""Characters of a token that are looked at."""


async def show(console: Console, request: Request) -> Response:
    console.keeper.origins.refuse_strange_host(request.headers)
    wanted = own_path(request.query_params.get("next"))
    if await console.keeper.session(request.scope) is not None:
        return RedirectResponse(wanted, 303)
    return console.bare(request, "sign_in.html", wanted=wanted, left=None, wait=0)


async def sign_in(console: Console, request: Request) -> Response:
    """A new session for whoever has the token. After some wrong ones nothing is looked at for a while."""
    keeper, now = console.keeper, console.service.clock()
    keeper.origins.refuse_strange_host(request.headers)
    keeper.origins.refuse_cross_site(request.method, request.headers)
    address = address_of(request.scope)
    form = await read_form(request)
    wanted = own_path(form.get("next"))
    wait = math.ceil(keeper.form.wait(address, now))
    if wait:
        refused = console.bare(request, "sign_in.html", 429, wanted=wanted, left=None, wait=wait)
        refused.headers["retry-after"] = str(wait)
        return refused
    role = keeper.role_of(form.get("token", "")[:FIELD_LIMIT].strip().encode())
    if role is None:
        left = keeper.form.failed(address, now)
        return console.bare(request, "sign_in.html", 401, wanted=wanted, left=left, wait=0)
    keeper.form.succeeded(address)
    welcome = RedirectResponse(wanted, 303)
    welcome.headers.append("set-cookie", await keeper.sign_in(request.scope, role))
    return welcome


async def sign_out(console: Console, request: Request) -> Response:
    """This browser's session ends; with `everywhere` every session of everybody does."""
    form = await read_form(request)
    if form.get("everywhere"):
        await console.store.end_sessions()
    gone = RedirectResponse("/sign-in", 303)
    gone.headers.append("set-cookie", console.keeper.cookie(request.scope, None))
    return gone


async def look(console: Console, request: Request) -> Response:
    """The theme and the language of this browser."""
    form = await read_form(request)
    back = RedirectResponse(own_path(form.get("next")), 303)
    for name, field, known in ((THEME_COOKIE, "theme", THEMES), (LANGUAGE_COOKIE, "language", tuple(words.LANGUAGES))):
        if form.get(field) in known:
            back.set_cookie(name, form[field], max_age=YEAR, samesite="lax", httponly=True)
    return back
