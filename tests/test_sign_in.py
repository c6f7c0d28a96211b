"""Who may come in: tokens, sessions, other sites, strange names, wrong tries; and the headers of every answer."""

from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path

import httpx
import pytest
from house import ADMIN_TOKEN, House, open_house
from starlette.datastructures import Headers

from receiver.console.app import CLOSED, OPEN
from receiver.console.page import own_path
from receiver.model import sessions
from receiver.model.errors import Refused
from receiver.model.sessions import Role, Session, Sessions
from receiver.web.guard import COOKIE, SECURE_COOKIE
from receiver.web.origins import Origins
from receiver.web.routes import ENDPOINTS
from receiver.web.throttle import BearerThrottle, FormThrottle, address_of

VIEW_TOKEN = "view-token-of-somebody-who-looks"
ORIGIN = {"origin": "http://receiver.test"}
READABLE = ("/healthz", "/readyz", "/sign-in")


@pytest.fixture
async def watched(tmp_path: Path) -> AsyncIterator[House]:
    """A house with a token for those who only look."""
    async with open_house(tmp_path, environment={"RECEIVER_VIEW_TOKEN": VIEW_TOKEN}) as house:
        yield house


async def sign_in(house: House, token: str = ADMIN_TOKEN, **headers: str) -> httpx.Response:
    return await house.http.post("/sign-in", data={"token": token}, headers={**ORIGIN, **headers})


def browser(house: House, base_url: str = "http://receiver.test", address: str = "192.0.2.1") -> httpx.AsyncClient:
    transport = httpx.ASGITransport(house.app, client=(address, 4000))
    return httpx.AsyncClient(transport=transport, base_url=base_url, headers={"origin": base_url})


def refusal(look: Callable[[], None]) -> int | None:
    """The status of a refusal; None when there was none."""
    try:
        look()
    except Refused as refused:
        return refused.status
    return None


def in_path(path: str) -> str:
    for name, value in (("{task}", "x"), ("{id}", "1"), ("{name}", "x"), ("{name:path}", "x"), ("{n}", "0")):
        path = path.replace(name, value)
    return path


# ---------------------------------------------------------------- what is closed


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize(("method", "path"), [(method, in_path(path)) for method, path, _ in CLOSED])
async def test_a_stranger_is_sent_to_where_one_signs_in(shared_house: House, method: str, path: str) -> None:
    answer = await shared_house.http.request(method, path, headers=ORIGIN)
    assert answer.status_code == 303
    assert answer.headers["location"].startswith("/sign-in?next=/")


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("each", ENDPOINTS, ids=lambda each: f"{each.method} {each.path}")
async def test_the_api_is_closed_to_strangers(shared_house: House, each: object) -> None:
    method, path = getattr(each, "method", ""), in_path(getattr(each, "path", ""))
    answer = await shared_house.http.request(method, f"/api{path}", headers=ORIGIN)
    assert answer.status_code == 401


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("path", READABLE)
async def test_what_is_open_is_open(shared_house: House, path: str) -> None:
    assert (await shared_house.http.get(path)).status_code == 200


@pytest.mark.parametrize(
    "given",
    ["//evil.example", "/\\evil.example", "https://evil.example", "evil", "javascript:alert(1)", "/a\r\nb", "", None],
)
def test_nobody_is_sent_to_another_site_after_signing_in(given: str | None) -> None:
    assert own_path(given) == "/"


async def test_who_signs_in_comes_to_the_page_that_was_asked_for(house: House) -> None:
    away = await house.http.get("/tasks?state=failed")
    page = await house.http.get(away.headers["location"])
    assert 'value="/tasks?state=failed"' in page.text
    form = {"token": ADMIN_TOKEN, "next": "/tasks?state=failed"}
    answer = await house.http.post("/sign-in", data=form, headers=ORIGIN)
    assert (answer.status_code, answer.headers["location"]) == (303, "/tasks?state=failed")
    assert (await house.http.get("/tasks?state=failed")).status_code == 200
    assert (await house.http.get("/sign-in?next=/alerts")).headers["location"] == "/alerts"


# ---------------------------------------------------------------- sessions


def session(**changes: object) -> Session:
    made: dict[str, object] = {"id": "x", "role": Role.ADMIN, "epoch": 0, "began": 0.0, "seen": 0.0}
    return Session(**(made | changes))  # type: ignore[arg-type]


def test_a_session_is_read_as_it_was_written() -> None:
    written = Sessions(["admin", None]).write(session(role=Role.VIEW))
    assert Sessions(["admin", None]).read(written, 1.0, 0) == session(role=Role.VIEW)


@pytest.mark.parametrize(
    ("now", "changes"),
    [
        (sessions.IDLE + 1, {}),
        (sessions.LONGEST + 1, {"seen": sessions.LONGEST}),
        (1.0, {"epoch": 1}),
    ],
    ids=["nobody used it", "it is too old", "everybody was signed out"],
)
def test_a_session_ends(now: float, changes: dict[str, object]) -> None:
    written = Sessions(["admin", None]).write(session(**changes))
    assert Sessions(["admin", None]).read(written, now, 0) is None


@pytest.mark.parametrize("tokens", [["other", None], ["admin", "view"]])
def test_another_token_ends_all_sessions(tokens: list[str | None]) -> None:
    written = Sessions(["admin", None]).write(session())
    assert Sessions(tokens).read(written, 1.0, 0) is None


@pytest.mark.parametrize("text", ["", "x", "é", "." * 600, "W10.x", "\x00"])
def test_a_cookie_that_is_none_of_ours_is_nobody(text: str) -> None:
    assert Sessions(["admin"]).read(text, 1.0, 0) is None


def test_a_cookie_with_one_changed_byte_is_nobody() -> None:
    written = Sessions(["admin"]).write(session())
    for place in range(len(written) - 1):  # the last letter holds bits that say nothing
        changed = written[:place] + ("A" if written[place] != "A" else "B") + written[place + 1 :]
        assert Sessions(["admin"]).read(changed, 1.0, 0) is None


async def test_a_cookie_from_before_signing_in_is_never_taken_up(house: House) -> None:
    house.http.cookies.set(COOKIE, "chosen-by-somebody-else", domain="receiver.test")
    answer = await sign_in(house)
    made = answer.cookies[COOKIE]
    assert made != "chosen-by-somebody-else"
    assert (await sign_in(house)).cookies[COOKIE] != made


async def test_a_session_that_is_used_lasts_and_an_idle_one_ends(house: House) -> None:
    await sign_in(house)
    for _ in range(3):
        house.clock.now += sessions.IDLE - 60
        assert (await house.http.get("/tasks")).status_code == 200
    house.clock.now += sessions.IDLE + 60
    assert (await house.http.get("/tasks")).status_code == 303


async def test_sign_out_ends_the_session_of_this_browser(house: House) -> None:
    await sign_in(house)
    assert (await house.http.post("/sign-out", headers=ORIGIN)).headers["location"] == "/sign-in"
    assert (await house.http.get("/tasks")).status_code == 303


async def test_sign_out_everywhere_ends_the_sessions_of_all_browsers(house: House) -> None:
    async with browser(house) as other:
        await other.post("/sign-in", data={"token": ADMIN_TOKEN})
        await sign_in(house)
        assert (await other.get("/tasks")).status_code == 200
        await house.http.post("/sign-out", data={"everywhere": "1"}, headers=ORIGIN)
        assert (await other.get("/tasks")).status_code == 303
        stale = other.cookies[COOKIE]
    await house.reopen()  # it is written down
    house.http.cookies.set(COOKIE, stale, domain="receiver.test")
    assert (await house.http.get("/tasks")).status_code == 303
    await sign_in(house)
    assert (await house.http.get("/tasks")).status_code == 200


async def test_the_cookie_is_hidden_from_scripts_and_kept_to_tls_where_there_is_any(house: House) -> None:
    plain = (await sign_in(house)).headers["set-cookie"]
    assert plain.startswith(f"{COOKIE}=")
    assert {"HttpOnly", "SameSite=Lax", "Path=/"} <= set(plain.split("; "))
    assert "Secure" not in plain
    async with browser(house, "https://receiver.test") as over_tls:
        secure = (await over_tls.post("/sign-in", data={"token": ADMIN_TOKEN})).headers["set-cookie"]
    assert secure.startswith(f"{SECURE_COOKIE}=")
    assert {"HttpOnly", "SameSite=Lax", "Path=/", "Secure"} <= set(secure.split("; "))
    await house.reopen(RECEIVER_PUBLIC_URL="https://receiver.test")
    assert (await sign_in(house)).headers["set-cookie"].startswith(f"{SECURE_COOKIE}=")  # a proxy has the TLS


async def test_a_session_opens_the_api_too(house: House) -> None:
    await sign_in(house)
    assert (await house.http.get("/api/tasks")).status_code == 200
    assert (await house.http.post("/api/replays", json={})).status_code == 403
    assert (await house.http.post("/api/replays", json={}, headers=ORIGIN)).status_code == 422
    wrong = {"authorization": "Bearer wrong"}
    assert (await house.http.get("/api/tasks", headers=wrong)).status_code == 401


# ---------------------------------------------------------------- other sites

SITES = ["same-origin", "none", "same-site", "cross-site", None]
ORIGINS = {
    "http://receiver.test": True,
    "https://receiver.test": True,  # a proxy before us may have the TLS
    "http://receiver.test:81": False,
    "http://evil.example": False,
    "null": False,
    None: False,
}


@pytest.mark.parametrize("site", SITES)
@pytest.mark.parametrize("origin", ORIGINS)
def test_only_what_this_site_sends_changes_anything(site: str | None, origin: str | None) -> None:
    sent = {"host": "receiver.test"}
    sent |= {"sec-fetch-site": site} if site else {}
    sent |= {"origin": origin} if origin else {}
    passes = site in ("same-origin", "none") or (site is None and ORIGINS[origin])
    look = partial(Origins("http://receiver.test", ()).refuse_cross_site, "POST", Headers(sent))
    assert refusal(look) == (None if passes else 403)


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        ("192.168.1.7:8000", "http://192.168.1.7:8000"),
        ("localhost:8000", "http://localhost:8000"),
        ("[::1]:8000", "http://[::1]:8000"),
        ("internal:8000", "https://console.example"),
        ("console.example", "https://console.example"),
    ],
)
def test_a_form_on_plain_http_passes_by_its_origin(host: str, origin: str) -> None:
    headers = Headers({"host": host, "origin": origin})
    Origins("https://console.example", ()).refuse_cross_site("POST", headers)


@pytest.mark.parametrize(
    ("mode", "dest", "passes"),
    [("navigate", "document", True), ("navigate", "iframe", False), ("no-cors", "image", False), ("cors", "", False)],
)
async def test_another_site_may_link_to_a_page_and_load_nothing(
    house: House, mode: str, dest: str, passes: bool
) -> None:
    await sign_in(house)
    headers = {"sec-fetch-site": "cross-site", "sec-fetch-mode": mode, "sec-fetch-dest": dest}
    for path in ("/tasks", "/api/backup" if not passes else "/"):
        assert (await house.http.get(path, headers=headers)).status_code == (200 if passes else 403)


@pytest.mark.parametrize("method", ["POST", "DELETE"])
async def test_a_program_with_the_token_needs_none_of_these_headers(house: House, method: str) -> None:
    path = "/prune"
    assert (await house.api.request(method, path, json={"dry_run": True})).status_code in (200, 202)


@pytest.mark.parametrize(
    ("host", "known"),
    [
        ("receiver.test", True),
        ("RECEIVER.test:8000", True),
        ("localhost:8000", True),
        ("127.0.0.1:8000", True),
        ("[::1]:8000", True),
        ("10.1.2.3", True),
        ("studio.lan:8000", True),
        ("evil.example", False),
        ("receiver.test.evil.example", False),
        ("127.0.0.1.evil.example", False),
        ("", False),
        ("[", False),
    ],
)
def test_only_a_name_of_ours_or_an_address_reaches_the_console(host: str, known: bool) -> None:
    """A name that somebody makes point to this machine would let their page read ours."""
    look = partial(Origins("http://receiver.test", ["studio.lan"]).refuse_strange_host, Headers({"host": host}))
    assert refusal(look) == (None if known else 421)


async def test_under_a_strange_name_nobody_signs_in_and_programs_work(house: House) -> None:
    async with browser(house, "http://evil.example") as strange:
        assert (await strange.get("/sign-in")).status_code == 421
        assert (await strange.post("/sign-in", data={"token": ADMIN_TOKEN})).status_code == 421
        assert (await strange.get("/tasks")).status_code == 421
        assert (await strange.get("/healthz")).status_code == 200
        headers = {"authorization": f"Bearer {ADMIN_TOKEN}"}
        assert (await strange.get("/api/tasks", headers=headers)).status_code == 200


# ---------------------------------------------------------------- wrong tokens


async def test_after_some_wrong_tokens_an_address_waits_and_another_does_not(house: House) -> None:
    async with browser(house) as one, browser(house, address="192.0.2.2") as other:
        for left in (4, 3, 2, 1):
            answer = await one.post("/sign-in", data={"token": "wrong"})
            assert answer.status_code == 401
            assert f"{left} more tries" in answer.text
        assert (await one.post("/sign-in", data={"token": "wrong"})).status_code == 401
        held = await one.post("/sign-in", data={"token": ADMIN_TOKEN})
        assert (held.status_code, held.headers["retry-after"]) == (429, "1")
        assert (await other.post("/sign-in", data={"token": ADMIN_TOKEN})).status_code == 303
        house.clock.now += 1
        assert (await one.post("/sign-in", data={"token": ADMIN_TOKEN})).status_code == 303
        house.http.cookies.clear()
        assert (await one.post("/sign-in", data={"token": "wrong"})).status_code == 401  # it begins anew


def test_the_wait_grows_to_a_minute_and_is_forgotten_after_an_hour() -> None:
    throttle, now, waits = FormThrottle(), 0.0, list[float]()
    for _ in range(14):
        now += throttle.wait("a", now)
        throttle.failed("a", now)
        waits.append(throttle.wait("a", now))
    assert waits == [0, 0, 0, 0, 1, 2, 4, 8, 16, 32, 60, 60, 60, 60]
    assert throttle.failed("a", now + sessions.TRIES_FORGOTTEN + 1) == sessions.FREE_TRIES - 1


def test_a_clock_that_is_set_back_shuts_nobody_out() -> None:
    throttle = FormThrottle()
    for _ in range(20):
        throttle.failed("a", 1000.0)
    assert throttle.wait("a", 10.0) == 0


async def test_a_right_token_passes_however_many_wrong_ones_come_beside_it(house: House) -> None:
    statuses = []
    for _ in range(200):
        wrong = await house.http.get("/api/tasks", headers={"authorization": "Bearer wrong"})
        statuses.append(wrong.status_code)
    assert statuses == [401] * sessions.WRONG_A_MINUTE + [429] * (200 - sessions.WRONG_A_MINUTE)
    assert int(wrong.headers["retry-after"]) == 60
    assert (await house.api.get("/tasks")).status_code == 200
    house.clock.now += 60
    assert (await house.http.get("/api/tasks", headers={"authorization": "Bearer wrong"})).status_code == 401


def test_wrong_tokens_from_everywhere_take_no_more_memory() -> None:
    form, bearer = FormThrottle(), BearerThrottle()
    for number in range(sessions.ADDRESSES + 100):
        form.failed(str(number), 0.0)
        bearer.failed(str(number), 0.0)
    assert len(form.addresses) == len(bearer.addresses) == sessions.ADDRESSES


@pytest.mark.parametrize(
    ("client", "known"),
    [
        (("192.0.2.1", 1), "192.0.2.1"),
        (("2001:db8:1:2:3::4", 1), "2001:db8:1:2::/64"),
        (("::ffff:192.0.2.1", 1), "192.0.2.1"),
        (("unix", 0), "unix"),
        (None, ""),
    ],
)
def test_who_asks_is_told_by_the_network_and_not_by_headers(client: tuple[str, int] | None, known: str) -> None:
    assert address_of({"type": "http", "client": client, "headers": [(b"x-forwarded-for", b"10.0.0.1")]}) == known


# ---------------------------------------------------------------- those who only look


async def test_who_only_looks_sees_pages_without_buttons_and_changes_nothing(watched: House) -> None:
    task = await watched.submit()
    await watched.advance(30)
    assert (await sign_in(watched, VIEW_TOKEN)).status_code == 303
    for method, path, _ in CLOSED:
        path = path.replace("{task}", task).replace("{id}", "1").replace("{name}", "on-success")
        answer = await watched.http.request(method, path, headers=ORIGIN)
        if method == "POST" and path not in ("/sign-out", "/look"):
            assert answer.status_code == 403, path
        elif path == f"/tasks/{task}":
            assert "/reconcile" not in answer.text
            assert "on-success" in answer.text
        if path == "/sign-out":
            await sign_in(watched, VIEW_TOKEN)


async def test_the_view_token_reads_the_api_and_neither_changes_it_nor_takes_the_secrets(watched: House) -> None:
    headers = {"authorization": f"Bearer {VIEW_TOKEN}"}
    for each in (each for each in ENDPOINTS if each.path != "/stream"):
        answer = await watched.http.request(each.method, f"/api{in_path(each.path)}", headers=headers)
        refused = each.method != "GET" or each.path == "/backup"
        assert (answer.status_code == 403) == refused, each.path


# ---------------------------------------------------------------- headers


@pytest.mark.parametrize(
    ("path", "kept"),
    [*((path, "no-store") for path in ("/", "/sign-in", "/api/tasks", "/nothing")), ("/healthz", "")],
)
async def test_every_answer_has_the_headers_that_protect_a_browser(house: House, path: str, kept: str) -> None:
    await sign_in(house)
    headers = (await house.http.get(path)).headers
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert headers["referrer-policy"] == "same-origin"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "DENY"
    assert headers["cross-origin-opener-policy"] == headers["cross-origin-resource-policy"] == "same-origin"
    assert kept in headers["cache-control"]


async def test_what_stands_in_the_pages_is_never_run_by_them() -> None:
    """No code and no style within a page, and nothing that is not escaped."""
    templates = Path(__file__).parent.parent / "receiver" / "console" / "templates"
    for path in templates.iterdir():
        text = path.read_text()
        assert "style=" not in text, path
        assert "|safe" not in text.replace(" ", ""), path
        assert " on" + "click" not in text, path
        assert "<script>" not in text, path
    assert OPEN
