"""The console's pages and forms over the whole program: what they show, what they do, in both languages."""

import re
from pathlib import Path

import msgspec
import pytest
from house import ADMIN_TOKEN, API_KEY, INPUT, SECRET, House, open_house
from stage import HOSTILE, TOML, furnish

from receiver.console import show, tasks, words
from receiver.console.lists import safe
from receiver.console.page import environment
from receiver.console.static import FOLDER, NAMES
from receiver.model.records import AlertKind
from receiver.model.remedies import remedy
from receiver.simulator import Fault

ORIGIN = {"origin": "http://receiver.test"}
CONSOLE = Path(__file__).parent.parent / "receiver" / "console"


async def sign_in(house: House) -> None:
    answer = await house.http.post("/sign-in", data={"token": ADMIN_TOKEN}, headers=ORIGIN)
    assert answer.status_code == 303


@pytest.fixture
async def desk(house: House) -> House:
    """A house at whose console somebody sits."""
    await sign_in(house)
    return house


async def seen(house: House, path: str, status: int = 200) -> str:
    answer = await house.http.get(path)
    assert answer.status_code == status, answer.text
    return answer.text


async def pressed(house: House, path: str, **fields: str) -> str:
    """The page that a form leads to."""
    answer = await house.http.post(path, data=fields, headers=ORIGIN)
    assert answer.status_code == 303, answer.text
    return await seen(house, answer.headers["location"])


# ---------------------------------------------------------------- what pages show


async def test_the_overview_says_what_needs_somebody_and_what_to_press(desk: House) -> None:
    assert "Nothing needs you" in await seen(desk, "/")
    desk.url_works = False
    await desk.submit()
    await desk.advance(900)
    page = await seen(desk, "/")
    assert "Callbacks do not arrive" in page
    assert 'href="/deliveries"' in page
    assert re.search(r'action="/alerts/\d+/acknowledge"', page)


async def test_an_empty_console_teaches_how_to_begin(desk: House) -> None:
    assert "curl http://receiver.test/api/tasks" in await seen(desk, "/tasks")
    assert "told to call http://receiver.test" in await seen(desk, "/deliveries")
    await desk.reopen(RECEIVER_PUBLIC_URL="", RECEIVER_HOSTS="receiver.test")
    await sign_in(desk)
    assert "RECEIVER_PUBLIC_URL=" in await seen(desk, "/deliveries")


async def test_a_task_is_shown_with_its_answer_first_and_all_that_happened(desk: House) -> None:
    task = await desk.submit()
    await desk.advance(30)
    page = await seen(desk, f"/tasks/{task[:13]}")
    assert page.index("succeeded") < page.index("Why so") < page.index("What happened")
    for part in ("callback, confirmed", "on-success", "Use the first image", "taken as", "/deliveries/1/body"):
        assert part in page, part
    assert "Use the first image" not in await seen(desk, "/deliveries/1/body")


async def test_a_list_keeps_its_filters_in_the_address_and_says_how_to_drop_them(desk: House) -> None:
    ended = await desk.submit()
    await desk.settle()
    failed = await desk.submit(Fault.FAILED)
    await desk.advance(60)
    page = await seen(desk, "/tasks?state=failed&target=&q=&label=")
    assert f"row-{failed}" in page
    assert f"row-{ended}" not in page
    assert 'class="chip" href="/tasks"' in page
    assert "No task is like this" in await seen(desk, "/tasks?state=lost")


@pytest.mark.parametrize("path", ["/tasks", "/actions", "/deliveries", "/alerts"])
async def test_a_wrong_filter_is_said_with_its_field_and_not_dropped(desk: House, path: str) -> None:
    page = await seen(desk, f"{path}?state=strange&since=yesterday", 422)
    assert 'href="#f-state"' in page
    assert 'href="#f-since"' in page
    assert "expected any of" in page
    assert "there is no such filter" in await seen(desk, f"{path}?colour=red", 422)


async def test_older_pages_are_a_link_away_and_nothing_is_shown_twice(desk: House) -> None:
    made = {await desk.submit() for _ in range(7)}
    found: list[str] = []
    path: str | None = "/tasks?limit=3"
    while path:
        page = await seen(desk, path)
        found += re.findall(r'id="row-([0-9a-f-]{36})"', page)
        older = re.search(r'<a href="([^"]+)" rel="next">', page)
        path = older[1].replace("&amp;", "&") if older else None
    assert len(found) == 7
    assert set(found) == made
    assert 'rel="prev"' in page


async def test_a_list_goes_out_as_csv_and_no_cell_is_a_formula(desk: House) -> None:
    document = {"target": "x/y", "input": INPUT, "labels": {"=cmd": "|calc"}, "validate": False}
    await desk.api.post("/tasks", json=document)
    for _ in range(3):
        await desk.submit()
    answer = await desk.http.get("/tasks.csv?limit=2&state=queued")
    assert answer.headers["content-type"].startswith("text/csv")
    lines = answer.text.splitlines()
    assert lines[0].startswith("id,state,kind,target,labels")
    assert len(lines) == 5
    assert "'=cmd=|calc" in answer.text
    assert (await desk.http.get("/tasks.csv?state=strange")).status_code == 422


@pytest.mark.parametrize(
    ("cell", "written"),
    [("=1+1", "'=1+1"), ("-5", "-5"), ("+1.5", "+1.5"), ("@x", "'@x"), ("plain", "plain"), ("-a", "'-a")],
)
def test_a_cell_is_a_formula_nowhere(cell: str, written: str) -> None:
    assert safe(cell) == written


async def test_settings_are_shown_with_where_they_come_from_and_without_secrets(desk: House) -> None:
    page = await seen(desk, "/settings")
    assert "RUNNINGHUB_MAX_IN_FLIGHT" in page
    assert "default" in page
    assert "admin_token is short" in page
    for secret in (ADMIN_TOKEN, API_KEY, SECRET):
        assert secret not in page


async def test_what_is_not_there_is_said_on_a_page(desk: House) -> None:
    assert "there is no task nothing" in await seen(desk, "/tasks/nothing", 404)
    assert "To the overview" in await seen(desk, "/nowhere", 404)
    assert (await desk.http.get("/tasks/nothing")).headers["content-type"].startswith("text/html")
    assert (await desk.http.get("/api/tasks/nothing")).headers["content-type"] == "application/json"
    assert (await desk.http.delete("/tasks", headers=ORIGIN)).status_code == 405


# ---------------------------------------------------------------- what forms do


async def test_a_dead_action_is_read_retried_and_skipped_from_its_page(tmp_path: Path) -> None:
    async with open_house(tmp_path, TOML.replace("{folder}", str(tmp_path / "results"))) as house:
        await furnish(house, tmp_path / "results")
        await sign_in(house)
        dead = re.findall(r'href="/actions/(\d+)"', await seen(house, "/actions?state=dead&name=tell-the-shop"))[0]
        page = await seen(house, f"/actions/{dead}")
        assert "database is locked" in page
        assert "try 2" not in page
        assert "Owed again" in await pressed(house, f"/actions/{dead}/retry")
        assert (await house.http.post(f"/actions/{dead}/retry", headers=ORIGIN)).status_code == 409
        assert "Skipped" in await pressed(house, f"/actions/{dead}/skip")
        assert "Owed again" in await pressed(house, f"/actions/{dead}/retry")
        assert "Paused" in await pressed(house, "/definitions/tell-the-shop/pause")
        assert "Resumed" in await pressed(house, "/definitions/tell-the-shop/resume")


async def test_a_task_is_asked_about_resent_and_cancelled(desk: House) -> None:
    task = await desk.submit()
    await desk.settle()
    assert "Ask RunningHub now" in await seen(desk, f"/tasks/{task}")
    assert "RunningHub was asked" in await pressed(desk, f"/tasks/{task}/reconcile")
    assert "may be billed" in await seen(desk, f"/tasks/{task}/cancel")
    assert "Cancelled, as far as" in await pressed(desk, f"/tasks/{task}/cancel")
    await desk.advance(60)
    assert "Nothing runs twice" in await seen(desk, f"/tasks/{task}/resend")


async def test_submitting_again_shows_the_price_and_two_presses_are_one_order(desk: House) -> None:
    task = await desk.submit()
    await desk.advance(30)
    page = await seen(desk, f"/tasks/{task}/submit-again")
    assert "Price" in page
    key = re.search(r'name="key" value="([^"]+)"', page)
    assert key is not None
    path = f"/tasks/{task}/submit-again"
    first = await desk.http.post(path, data={"key": key[1]}, headers=ORIGIN)
    second = await desk.http.post(path, data={"key": key[1]}, headers=ORIGIN)
    assert first.headers["location"].endswith("?done=ordered")
    assert second.headers["location"].partition("?")[0] == first.headers["location"].partition("?")[0]
    assert "nothing was ordered twice" in await seen(desk, second.headers["location"])
    assert len((await desk.api.get("/tasks")).json()["items"]) == 2


def hidden(page: str) -> dict[str, str]:
    """The fields of the form that confirms a replay."""
    form = page[page.index('class="confirm"') :]
    return dict(re.findall(r'type="hidden" name="([^"]+)" value="([^"]*)"', form))


async def test_a_replay_is_counted_frozen_and_confirmed(desk: House) -> None:
    for _ in range(3):
        await desk.submit()
    await desk.advance(30)
    query = "preview=1&mode=retry&action_state=done&name=on-success"
    page = await seen(desk, f"/replays/new?{query}")
    assert "This is about 3" in page
    assert len(re.findall(r'href="/actions/\d+"', page)) == 3
    fields = hidden(page)
    assert fields["expected"] == "3"
    assert fields["until"]
    await desk.submit()  # what comes later is not meant
    await desk.advance(30)
    assert "The replay has begun" in await pressed(desk, "/replays", **fields)
    (begun,) = (await desk.api.get("/replays")).json()["items"]
    assert begun["matched"] == 3


async def test_a_replay_of_which_the_count_has_changed_is_counted_again_and_not_begun(desk: House) -> None:
    task = await desk.submit()
    await desk.submit()
    await desk.advance(30)
    fields = hidden(await seen(desk, "/replays/new?preview=1&mode=retry&action_state=done"))
    action = (await desk.api.get(f"/actions?task={task}")).json()["items"][0]["id"]
    await desk.api.post(f"/actions/{action}/retry")
    answer = await desk.http.post("/replays", data=fields, headers=ORIGIN)
    assert answer.status_code == 409
    assert "nothing was done" in answer.text
    assert "This is about 1" in answer.text
    assert (await desk.api.get("/replays")).json()["items"][0]["matched"] == 1  # the action's own


async def test_a_replay_after_which_others_act_twice_is_typed_first(desk: House) -> None:
    await desk.submit()
    await desk.advance(30)
    fields = hidden(await seen(desk, "/replays/new?preview=1&mode=again"))
    assert (await desk.http.post("/replays", data=fields, headers=ORIGIN)).status_code == 409
    assert (await desk.api.get("/replays")).json()["items"] == []
    assert "has begun" in await pressed(desk, "/replays", **fields, typed=fields["expected"])


async def test_a_replay_is_cancelled_and_resumed_on_its_page(desk: House) -> None:
    for _ in range(3):
        await desk.submit()
    await desk.advance(30)
    query = "preview=1&mode=retry&action_state=done&rate=0.01"
    page = await seen(desk, f"/replays/new?{query}")
    assert "about 5 m" in page
    await pressed(desk, "/replays", **hidden(page))
    assert "Cancelled. What had not begun" in await pressed(desk, "/replays/1/cancel")
    assert "The replay goes on" in await pressed(desk, "/replays/1/resume")
    assert "1 retry" in await seen(desk, "/replays")


@pytest.mark.parametrize("query", ["rate=fast", "rate=nan", "name=nobody", "since=yesterday", "task=zzzz"])
async def test_a_replay_that_cannot_be_is_explained_with_its_field(desk: House, query: str) -> None:
    page = await seen(desk, f"/replays/new?preview=1&{query}", 422)
    assert f'href="#f-{query.partition("=")[0]}"' in page


async def test_an_alert_is_acknowledged_and_closed(desk: House) -> None:
    desk.url_works = False
    await desk.submit()
    await desk.advance(900)
    found = re.search(r'action="(/alerts/\d+)/acknowledge"', await seen(desk, "/alerts"))
    assert found is not None
    page = await pressed(desk, f"{found[1]}/acknowledge")
    assert "stays open" in page
    assert "acknowledged" in page
    assert "Closed." in await pressed(desk, f"{found[1]}/close")
    assert await desk.alerts() == []


async def test_what_is_done_on_a_page_is_kept_with_its_session(desk: House) -> None:
    task = await desk.submit()
    await desk.settle()
    await pressed(desk, f"/tasks/{task}/reconcile")
    await pressed(desk, "/definitions/on-success/pause")
    await desk.http.post("/sign-out", data={"everywhere": "1"}, headers=ORIGIN)
    deeds = (await desk.api.get("/audit")).json()["items"]
    done = [(deed["verb"], deed["object"], deed["door"]) for deed in deeds if deed["door"] == "page"]
    assert done[::-1] == [
        ("reconcile", f"tasks/{task}", "page"),
        ("pause", "definitions/on-success", "page"),
        ("sign out everywhere", "", "page"),
    ]
    assert len({deed["session"] for deed in deeds if deed["door"] == "page"}) == 1
    await sign_in(desk)
    assert "on-success" in await seen(desk, "/settings")


async def test_a_form_that_is_too_large_or_no_form_is_refused(desk: House) -> None:
    large = await desk.http.post("/look", content=b"x" * 70_000, headers=ORIGIN)
    assert large.status_code == 413
    assert (await desk.http.post("/look", content=b"\xff=\xff", headers=ORIGIN)).status_code == 422
    many = await desk.http.post("/look", content=b"&".join(b"a=%d" % n for n in range(200)), headers=ORIGIN)
    assert many.status_code == 422


# ---------------------------------------------------------------- hostile texts and large ones


async def test_hostile_texts_are_shown_and_never_run(tmp_path: Path) -> None:
    async with open_house(tmp_path, TOML.replace("{folder}", str(tmp_path / "results"))) as house:
        made = await furnish(house, tmp_path / "results")
        await sign_in(house)
        pages = [*(f"/tasks/{task}" for task in made.values()), "/", "/tasks", "/actions", "/actions/2", "/alerts"]
        pages += ["/deliveries", *(f"/deliveries/{n}/body" for n in range(1, 4))]
        for path in pages:
            await plain(house, path)
        for path in ("/tasks", "/actions", "/deliveries", "/alerts", "/replays", "/replays/new"):
            await plain(house, f"{path}?q={HOSTILE}&name={HOSTILE}&preview=1&label={HOSTILE}", (200, 422))
        await plain(house, f"/tasks/{HOSTILE}", (404,))
        await plain(house, f"/sign-in?next=/{HOSTILE}", (303,))


async def plain(house: House, path: str, statuses: tuple[int, ...] = (200,)) -> None:
    answer = await house.http.get(path)
    assert answer.status_code in statuses, (path, answer.text)
    assert "<script>alert" not in answer.text, path
    assert "<img src=x" not in answer.text, path
    assert "49" not in re.findall(r"{{.*?}}|'49", answer.text), path
    for secret in (ADMIN_TOKEN, API_KEY, SECRET):
        assert secret not in answer.text, path
    assert not re.search(r"callbacks/[A-Za-z0-9_-]{20}", answer.text), path


async def test_of_a_large_text_only_the_beginning_is_shown(desk: House) -> None:
    document = {"target": "x/y", "input": {"prompt": "long " * 40_000}, "validate": False}
    task = (await desk.api.post("/tasks", json=document)).json()["id"]
    page = await seen(desk, f"/tasks/{task}")
    assert len(page) < 1_000_000
    assert "more are not shown" in page


def test_only_web_addresses_become_links() -> None:
    assert show.is_web("https://files.example/a.png")
    assert not any(show.is_web(url) for url in ("javascript:alert(1)", "data:text/html,x", "//x", None))


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.04, "0.0 s"),
        (9.96, "10.0 s"),
        (59, "59 s"),
        (60, "1 m"),
        (151, "2 m 31 s"),
        (3600, "1 h"),
        (90061, "1 d 1 h"),
    ],
)
def test_a_duration_is_told_in_its_two_largest_units(seconds: float, text: str) -> None:
    assert show.span(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KB"), (14_889_779, "14.2 MB"), (2**40, "1024.0 GB")]
)
def test_a_size_is_told_for_people(count: int, text: str) -> None:
    assert show.size(count) == text


# ---------------------------------------------------------------- languages, themes, files


def texts() -> set[str]:
    """Every text that the pages have translated."""
    made = environment(lambda text: text)
    found = set(words.SPOKEN) | {name for name, _ in tasks.PRESETS}
    for path in (CONSOLE / "templates").iterdir():
        for _, _, message in made.extract_translations(path.read_text()):  # type: ignore[attr-defined]
            found.add(message if isinstance(message, str) else message[0])
    return found


def test_every_text_is_there_in_chinese_and_no_other() -> None:
    chinese = words.chinese()
    assert texts() - chinese.keys() == set()
    assert chinese.keys() - texts() == set()


def test_a_translation_has_the_places_of_its_text() -> None:
    for english, chinese in words.chinese().items():
        assert sorted(re.findall(r"%\(\w+\)s", english)) == sorted(re.findall(r"%\(\w+\)s", chinese)), english


def test_a_command_in_a_remedy_keeps_its_subject_in_every_language() -> None:
    chinese = words.chinese()
    told = words.translated(remedy(AlertKind.TASK_LOST, "01a2"), chinese.__getitem__)
    assert told.endswith("receiver reconcile 01a2 或 receiver resend 01a2")
    assert words.translated(remedy(AlertKind.MOVED, "x"), chinese.__getitem__).startswith("请把")


@pytest.mark.parametrize(
    ("cookie", "accepted", "language"),
    [
        (None, "", "en"),
        (None, "zh-CN,zh;q=0.9,en;q=0.8", "zh"),
        (None, "fr-FR,en;q=0.5", "en"),
        (None, "de", "en"),
        ("en", "zh-CN", "en"),
        ("xx", "zh", "zh"),
    ],
)
def test_the_language_is_chosen_by_the_reader_and_else_by_the_browser(
    cookie: str | None, accepted: str, language: str
) -> None:
    assert words.language_of(cookie, accepted) == language


async def test_language_and_theme_are_kept_in_the_browser(desk: House) -> None:
    assert 'lang="en"' in await seen(desk, "/")
    answer = await desk.http.post("/look", data={"language": "zh", "next": "/tasks?state=lost"}, headers=ORIGIN)
    assert answer.headers["location"] == "/tasks?state=lost"
    page = await pressed(desk, "/look", theme="dark", next="/")
    assert 'lang="zh-Hans"' in page
    assert 'data-theme="dark"' in page
    assert "没有需要处理的事" in page
    assert 'data-theme="dark"' in await pressed(desk, "/look", theme="<script>", next="//evil")


async def test_the_files_of_the_pages_may_be_kept_for_ever_and_are_packed(house: House) -> None:
    for name, path in NAMES.items():
        packed = await house.http.get(path)
        assert packed.headers["cache-control"] == "public, max-age=31536000, immutable"
        assert packed.headers["content-encoding"] == "gzip"
        plain = await house.http.get(path, headers={"accept-encoding": "identity"})
        assert plain.content == packed.content == (FOLDER / name).read_bytes()
    assert (await house.http.get("/static/app.py")).status_code == 404
    assert (await house.http.get("/static/console.css")).status_code == 404


def test_style_and_script_stay_small() -> None:
    assert len((FOLDER / "console.css").read_text().splitlines()) <= 700
    assert len((FOLDER / "console.js").read_text().splitlines()) <= 350


def test_documents_are_shown_with_their_numbers_as_they_are() -> None:
    assert msgspec.json.decode(show.pretty({"id": 2102038470458290176})) == {"id": 2102038470458290176}
