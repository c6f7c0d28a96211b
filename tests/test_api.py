"""The JSON API: authentication, lists paged by key, one form of error, health, and the backup."""

import sqlite3
from collections.abc import Collection
from pathlib import Path

import httpx
import msgspec
import pytest
import structlog
from house import ADMIN_TOKEN, INPUT, MODEL, House, open_house

from receiver.simulator import Fault
from receiver.web.routes import ENDPOINTS

pytestmark = pytest.mark.story

LISTS = ["tasks", "deliveries", "events", "actions", "alerts", "definitions"]


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("path", [*LISTS, "tasks/x", "replays/1", "backup", "nothing"])
@pytest.mark.parametrize("header", [None, "Bearer wrong", "Bearer ", "Basic YTpi", ADMIN_TOKEN, f"bearer{ADMIN_TOKEN}"])
async def test_without_the_admin_token_nothing_is_shown(shared_house: House, path: str, header: str | None) -> None:
    answer = await shared_house.http.get(f"/api/{path}", headers={"Authorization": header} if header else {})
    assert answer.status_code == 401
    assert answer.json()["error"]["code"] == "unauthorized"
    assert ADMIN_TOKEN not in answer.text


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER", "bearer "])
async def test_how_the_word_bearer_is_written_does_not_matter(shared_house: House, scheme: str) -> None:
    answer = await shared_house.http.get("/api/tasks", headers={"Authorization": f"{scheme} {ADMIN_TOKEN}"})
    assert answer.status_code == 200


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("path", ["/healthz", "/healthz/", "//healthz"])
async def test_whoever_asks_whether_somebody_is_there_is_answered(shared_house: House, method: str, path: str) -> None:
    assert (await shared_house.http.request(method, f"http://receiver.test{path}")).status_code == 200


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("path", ["", "/", "//"])
async def test_whoever_opens_the_address_alone_comes_to_where_one_signs_in(shared_house: House, path: str) -> None:
    answer = await shared_house.http.get(f"http://receiver.test{path}", follow_redirects=True)
    assert (answer.status_code, answer.url.path) == (200, "/sign-in")


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("path", ["//api/tasks", "/api/tasks/", "/api//tasks"])
async def test_a_slash_too_many_in_an_address_of_the_api_does_not_matter(shared_house: House, path: str) -> None:
    headers = {"Authorization": f"Bearer {ADMIN_TOKEN}"}
    assert (await shared_house.http.get(f"http://receiver.test{path}", headers=headers)).status_code == 200
    assert (await shared_house.http.get(f"http://receiver.test{path}")).status_code == 401


@pytest.mark.parametrize("name", ["tasks", "deliveries", "events", "actions"])
async def test_every_list_is_paged_by_key_without_loss_or_repetition(house: House, name: str) -> None:
    made = [await house.submit() for _ in range(7)]
    await house.advance(30)
    seen: list[str | int] = []
    cursor: str | None = None
    while True:
        more: dict[str, str] = {"cursor": cursor} if cursor else {}
        page = (await house.api.get(f"/{name}", params={"limit": "3", **more})).json()
        assert len(page["items"]) <= 3
        seen += [item["id"] for item in page["items"]]
        cursor = page["next"]
        if cursor is None:
            break
    assert len(seen) == len(set(map(str, seen))) == 7
    newest_first = made[::-1] if name == "tasks" else sorted(seen, reverse=True)
    assert name == "events" or seen == newest_first


async def test_tasks_are_found_by_state_label_target_prefix_and_id(house: House) -> None:
    async def order(target: str, **labels: str) -> str:
        answer = await house.api.post("/tasks", json={"target": target, "labels": labels, "validate": False})
        task_id: str = answer.json()["id"]
        return task_id

    first = await order("alpha/one", project="x_1", owner="ann")
    second = await order("alpha/two", project="x%2")
    third = await order("beta/one")
    await house.settle()

    async def found(**query: str) -> set[str]:
        answer = await house.api.get("/tasks", params=query)
        assert answer.status_code == 200, answer.text
        return {item["id"] for item in answer.json()["items"]}

    assert await found(q="alpha") == {first, second}
    assert await found(q="x_") == {first}
    assert await found(q="x%") == {second}
    assert await found(q=third) == {third}
    assert await found(q=str((await house.task(third)).provider_task_id)) == {third}
    assert await found(label="owner:ann") == await found(label="owner=ann") == {first}
    assert await found(target="beta/one") == {third}
    assert await found(state="submitted,failed") == {first, second, third}
    assert await found(state="failed") == set()
    assert await found(until="2020-01-01T00:00:00Z") == set()
    assert await found(since="2020-01-01T00:00:00Z", kind="model") == {first, second, third}
    fourth = await house.submit()
    by_name = "google/veo3.1-pro/reference-to-video-official-stable"
    assert await found(target=MODEL) == await found(target=by_name) == {fourth}


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize(
    ("name", "state"), [("tasks", "owed"), ("events", "lost"), ("actions", "failed"), ("alerts", "dead")]
)
async def test_a_state_that_a_list_does_not_know_is_refused_with_those_it_knows(
    shared_house: House, name: str, state: str
) -> None:
    answer = await shared_house.api.get(f"/{name}?state={state}")
    assert answer.status_code == 422
    assert answer.json()["error"]["message"].startswith("state: expected any of ")


async def test_cancelling_a_replay_that_is_done_leaves_it_done(house: House) -> None:
    made = (await house.api.post("/replays", json={"mode": "retry", "all": True})).json()
    assert made["state"] == "done"
    cancelled = await house.api.delete(f"/replays/{made['id']}")
    assert (cancelled.status_code, cancelled.json()["state"]) == (200, "done")
    shown = (await house.api.get(f"/replays/{made['id']}")).json()
    assert (shown["state"], shown["finished_at"]) == ("done", made["finished_at"])


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize(
    ("query", "path"),
    [
        ("limit=0", "limit"),
        ("limit=501", "limit"),
        ("limit=ten", "limit"),
        (f"cursor={'9' * 201}", "cursor"),
        ("since=tomorrow", "since"),
        ("until=9999999999999999", "until"),
        ("label=loose", "label"),
        ("state=nope", "state"),
        ("state=failed,done", "state"),
        ("kind=video", "kind"),
    ],
)
async def test_a_bad_query_is_refused_with_its_path(shared_house: House, query: str, path: str) -> None:
    answer = await shared_house.api.get(f"/tasks?{query}")
    assert answer.status_code == 422
    assert answer.json()["error"]["details"][0]["path"] == path


async def test_a_page_is_gone_back_from_and_takes_one_cursor(house: House) -> None:
    made = [await house.submit() for _ in range(5)]
    first = (await house.api.get("/tasks?limit=2")).json()
    assert "prev" not in first
    second = (await house.api.get("/tasks", params={"limit": "2", "after": first["next"]})).json()
    back = (await house.api.get("/tasks", params={"limit": "2", "before": second["prev"]})).json()
    assert [each["id"] for each in back["items"]] == [each["id"] for each in first["items"]] == made[:2:-1]
    both = await house.api.get("/tasks", params={"after": first["next"], "before": second["prev"]})
    assert both.status_code == 422
    assert "one side of one cursor" in both.text


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("cursor", ["-1", "99999999999999999999"])
async def test_a_text_that_is_no_cursor_is_refused(shared_house: House, cursor: str) -> None:
    answer = await shared_house.api.get(f"/tasks?cursor={cursor}")
    assert answer.status_code == 422
    assert answer.json()["error"]["details"][0]["path"] == "cursor"


@pytest.mark.asyncio(loop_scope="module")
async def test_all_that_is_wrong_with_a_query_is_said_at_once(shared_house: House) -> None:
    answer = await shared_house.api.get("/tasks?state=nope&since=tomorrow&limit=0")
    assert [each["path"] for each in answer.json()["error"]["details"]] == ["state", "since", "limit"]


EVERY_FILTER = {name for each in ENDPOINTS for name in each.filters or ()} | {"lable", "id"}


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize(
    ("path", "known"),
    [(each.path, each.filters) for each in ENDPOINTS if each.filters is not None],
    ids=[each.path for each in ENDPOINTS if each.filters is not None],
)
async def test_a_filter_that_a_list_has_not_is_refused_with_those_it_has(
    shared_house: House, path: str, known: Collection[str]
) -> None:
    """Also one that is given nothing, and beside one that the list has."""
    for name in sorted(EVERY_FILTER - set(known)):
        for query in (f"{name}=", *(f"{each}=&{name}=x" for each in known)):
            answer = await shared_house.api.get(f"{path}?{query}")
            error = answer.json()["error"]
            assert (answer.status_code, error["code"]) == (400, "unknown_filter")
            assert [each["path"] for each in error["details"]] == [name]
            assert all(each in error["message"] for each in (name, *known))
    for name in () if path == "/stream" else known:  # the stream has no end
        assert (await shared_house.api.get(f"{path}?{name}=")).status_code != 400


async def test_every_row_of_the_table_says_what_is_answered_and_taken(house: House) -> None:
    task_id = await house.submit()
    await house.advance(10)
    assert (await house.api.post("/replays", json={"filter": {"task": task_id}})).status_code == 202
    numbers = {"task": task_id, "id": "1", "name": MODEL}
    rows = [each for each in ENDPOINTS if each.method == "GET" and each.gives is not bytes and "apps" not in each.path]
    for each in rows:
        path = each.path.replace(":path", "").format(**numbers)
        answer = await house.api.get(path)
        if answer.status_code != 404:
            assert answer.status_code == 200, answer.text
            read = msgspec.json.decode(answer.content, type=each.gives)
            assert msgspec.json.encode(read) == answer.content
    for each in ENDPOINTS:
        if isinstance(each.body, type) and issubclass(each.body, msgspec.Struct):
            refused = (await house.api.request(each.method, each.path, json={"strange": 1, "target": MODEL})).json()
            assert "strange" in refused["error"]["details"][0]["path"]
            named = dict.fromkeys(each.body.__struct_fields__)
            refused = (await house.api.request(each.method, each.path, json=named)).json()
            assert "there is no such field" not in refused["error"]["message"]


async def test_a_replay_says_what_it_was_about(house: House) -> None:
    about = {"task": await house.submit(), "since": "2020-01-01"}
    dry = (await house.api.post("/replays", json={"filter": about, "dry_run": True})).json()
    made = (await house.api.post("/replays", json={"filter": about})).json()
    shown = (await house.api.get(f"/replays/{made['id']}")).json()
    assert dry["filter"] == made["filter"] == shown["filter"] == about


async def test_a_fault_of_ours_is_told_in_one_form_and_logged_once(house: House) -> None:
    task_id = await house.submit()
    del house.service.reconciler
    network = httpx.ASGITransport(house.app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=network, base_url="http://receiver.test", headers=house.api.headers) as http:
        with structlog.testing.capture_logs() as logs:
            answer = await http.post(f"/api/tasks/{task_id}/cancel")
    assert (answer.status_code, answer.json()["error"]["code"]) == (500, "internal")
    assert [each["event"] for each in logs] == ["request"]


def test_every_list_has_the_filters_that_it_is_known_for() -> None:
    paged = {"since", "until", "limit", "cursor", "after", "before"}
    assert {each.path: set(each.filters) for each in ENDPOINTS if each.filters is not None} == {
        "/tasks": {"state", "kind", "target", "label", "q", *paged},
        "/deliveries": {"state", "task", *paged},
        "/events": {"state", "task", "label", *paged},
        "/actions": {"state", "name", "task", "label", *paged},
        "/alerts": {"state", "kind", *paged},
        "/audit": {"verb", *paged},
        "/replays": paged,
        "/definitions": set(),
        "/models": {"q"},
        "/stream": {"kind", "task", "last_event_id"},
    }


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nothing", 404, "not_found"),
        ("GET", "/tasks/nobody", 404, "not_found"),
        ("POST", "/tasks/nobody/reconcile", 404, "not_found"),
        ("POST", "/tasks/nobody/cancel", 404, "not_found"),
        ("POST", "/tasks/nobody/submit-again", 404, "not_found"),
        ("GET", "/actions/0", 404, "not_found"),
        ("GET", "/actions/x", 404, "not_found"),
        ("POST", "/actions/99999999999999999999/retry", 404, "not_found"),
        ("POST", "/actions/7/skip", 404, "not_found"),
        ("POST", "/definitions/nobody/pause", 404, "not_found"),
        ("GET", "/replays/9", 404, "not_found"),
        ("DELETE", "/replays/9", 404, "not_found"),
        ("GET", "/deliveries/9/body", 404, "not_found"),
        ("DELETE", "/tasks", 405, "method_not_allowed"),
    ],
)
async def test_what_does_not_exist_is_refused_in_one_form(
    shared_house: House, method: str, path: str, status: int, code: str
) -> None:
    answer = await shared_house.api.request(method, path)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)


@pytest.mark.asyncio(loop_scope="module")
async def test_whoever_takes_a_wrong_way_is_told_the_right_one(shared_house: House) -> None:
    nowhere = (await shared_house.api.get("/nothing")).json()["error"]["message"]
    assert nowhere == "there is no such route; `receiver docs api` lists them"
    refused = await shared_house.api.delete("/tasks")
    assert refused.json()["error"]["message"] == "this route takes GET, HEAD, POST, not DELETE"
    assert refused.headers["allow"] == "GET, HEAD, POST"


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize(
    ("body", "status"), [(b"{", 400), (b"[]", 400), (b"\xff", 400), (b"[" * 100_000, 400), (b"x" * 9_000_000, 413)]
)
async def test_a_body_that_is_no_json_object_is_refused(shared_house: House, body: bytes, status: int) -> None:
    assert (await shared_house.api.post("/tasks", content=body)).status_code == status


async def test_a_task_shows_its_whole_story_in_order(house: House) -> None:
    task_id = await house.submit(Fault.LOST_CALLBACK)
    await house.advance(60)
    task = await house.task(task_id)
    told = [moment.what for moment in task.timeline]
    assert told[:2] == ["queued", "submit"]
    assert set(told) == {
        "queued",
        "submit",
        "query",
        "task succeeded",
        "detail",
        "callback missed",
        "resend",
        "delivery",
        "action on-success",
    }
    assert [moment.at for moment in task.timeline] == sorted(moment.at for moment in task.timeline)


async def test_a_raw_body_is_data_and_never_a_page(house: House) -> None:
    task_id = await house.submit()
    await house.settle()
    await house.http.post(house.callback_path(task_id), content=b"<script>alert(1)</script>")
    delivery = (await house.task(task_id)).deliveries[0]
    answer = await house.api.get(f"/deliveries/{delivery.id}/body")
    assert answer.content == b"<script>alert(1)</script>"
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["content-disposition"] == "attachment"


@pytest.mark.asyncio(loop_scope="module")
async def test_health_says_live_and_ready(shared_house: House) -> None:
    assert (await shared_house.http.get("/healthz")).json() == {"status": "ok"}
    assert (await shared_house.http.get("/readyz")).json() == {"status": "ready", "reasons": []}


async def test_a_backup_is_a_whole_database_with_its_secrets(tmp_path: Path) -> None:
    async with open_house(tmp_path, environment={"RECEIVER_SECRETS": ""}) as house:
        task_id = await house.submit()
        await house.advance(10)
        answer = await house.api.get("/backup")
        assert answer.status_code == 200
        assert int(answer.headers["content-length"]) == len(answer.content)
        copy = tmp_path / "copy.db"
        copy.write_bytes(answer.content)
        with sqlite3.connect(copy) as connection:
            assert connection.execute("pragma integrity_check").fetchone() == ("ok",)
            assert connection.execute("select id, state from tasks").fetchall() == [(task_id, "succeeded")]
            assert connection.execute("select name from secrets").fetchall() == [("link_secret",)]
        connection.close()
        assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".backup")] == []
        old = house.callback_path(task_id)
        await house.close()
        for path in tmp_path.glob("receiver.db*"):
            path.unlink()
        copy.rename(tmp_path / "receiver.db")
        await house.open()
        assert (await house.http.post(old, content=b"{}")).status_code == 202


@pytest.mark.asyncio(loop_scope="module")
async def test_an_order_may_name_the_whole_endpoint(shared_house: House) -> None:
    answer = await shared_house.api.post("/tasks", json={"target": f"/openapi/v2/{MODEL}", "input": INPUT})
    assert answer.json()["target"] == MODEL


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize(
    ("value", "path"),
    [
        (b"[" * 40 + b"]" * 40, "input.x" + "[0]" * 30),
        (b"123456789012345678901234567890", "input.x"),
        (b'{"y":[1,-99999999999999999999]}', "input.x.y[1]"),
    ],
)
async def test_an_order_that_could_not_be_kept_as_it_is_is_refused_and_not_changed(
    shared_house: House, value: bytes, path: str
) -> None:
    order = b'{"target":"a/b","validate":false,"input":{"x":' + value + b"}}"
    answer = await shared_house.api.post("/tasks", content=order)
    assert answer.status_code == 422
    assert answer.json()["error"]["details"][0]["path"] == path


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize(
    ("route", "body", "key"),
    [
        ("tasks", b'{"target":"a/b","target":"c/d","input":{}}', "target"),
        ("tasks", b'{"target":"a/b","validate":false,"input":{"prompt":"x","pr\\u006fmpt":"y"}}', "prompt"),
        ("tasks", b'\xef\xbb\xbf{"target":"a/b","validate":false,"input":{"x":[1,{"y":1,"y":1}]}}', "y"),
        ("previews", b'{"target":"a/b","labels":{"a":"1","a":"2"}}', "a"),
        ("replays", b'{"dry_run":true,"dry_run":false}', "dry_run"),
        (
            "tasks",
            b'{"kind":"workflow","target":"1","input":{"workflow":"{\\"3\\":{},\\"3\\":{}}"}}',
            "input.workflow.3",
        ),
    ],
)
async def test_a_key_that_stands_twice_in_one_object_is_refused_by_its_name(
    shared_house: House, route: str, body: bytes, key: str
) -> None:
    answer = await shared_house.api.post(f"/{route}", content=body)
    assert answer.status_code == 422
    told = {each["path"]: each["message"] for each in answer.json()["error"]["details"]}
    assert told[key] == "the key stands twice in one object: write it once"


@pytest.mark.asyncio(loop_scope="module")
async def test_the_same_key_may_stand_in_several_objects(shared_house: House) -> None:
    body = b'{"target":"a/b","validate":false,"input":{"x":[{"y":1},{"y":{"y":1}}],"target":1}}'
    assert (await shared_house.api.post("/previews", content=body)).status_code == 200


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("sign", ["\x00", "\t", "\n", "\x1b", "\x7f", "\x9b"])
async def test_what_is_filtered_by_has_no_control_characters(shared_house: House, sign: str) -> None:
    text = f"nor{sign}th"
    order = {"target": MODEL, "input": INPUT, "labels": {"project": text, text: "x", "fine": "né 1"}}
    answers = {
        ("labels.project", f"labels.{text}"): await shared_house.api.post("/tasks", json=order),
        ("label",): await shared_house.api.get("/tasks", params={"label": f"project:{text}"}),
        ("q",): await shared_house.api.get("/tasks", params={"q": text}),
        ("task",): await shared_house.api.get("/deliveries", params={"task": text}),
        ("name",): await shared_house.api.get("/actions", params={"name": text}),
        ("filter.name", "filter.task"): await shared_house.api.post(
            "/replays", json={"dry_run": True, "filter": {"name": text, "task": text}}
        ),
    }
    for paths, answer in answers.items():
        assert answer.status_code == 422
        told = {each["path"]: each["message"] for each in answer.json()["error"]["details"]}
        assert tuple(told) == paths
        assert all("without control characters" in message for message in told.values())
