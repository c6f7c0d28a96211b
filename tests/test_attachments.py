"""Uploads inside orders: whatever waits, or is sent again, goes out with links that are alive, or does not go out."""

import hashlib
import json
from pathlib import Path

import pytest
from house import INPUT, MODEL, House, open_house
from hypothesis import given, settings
from hypothesis import strategies as st
from offering import beginning

from receiver.model.records import JsonObject, Kind
from receiver.model.rules import UPLOAD_KEPT, UPLOAD_REMEMBERED
from receiver.orders.references import Change, Spot, changed, spots
from receiver.runninghub import catalogue

PICTURE = beginning(".png") + bytes(range(256)) * 20
ID = f"upload:{hashlib.sha256(PICTURE).hexdigest()[:32]}"
UNKNOWN = "upload:" + "0" * 32
WORKFLOW = "1904136902449209346"
GRAPH = {
    "3": {"inputs": {"seed": 18446744073709551615, "cfg": 1.0, "model": ["4", 0]}, "class_type": "KSampler"},
    "9": {"inputs": {"image": ID, "more": [ID, {"mask": ID}]}, "class_type": ID},
    "note": ID,
}


async def upload(house: House, content: bytes = PICTURE, name: str = "one.png", status: int = 201) -> str:
    """The link of an upload, made now."""
    answer = await house.api.post("/uploads", params={"name": name}, content=content)
    assert answer.status_code == status, answer.text
    return str(answer.json()["download_url"])


async def ordered(house: House, *images: str, key: str | None = None) -> JsonObject:
    headers = {"Idempotency-Key": key} if key else {}
    order = {"target": MODEL, "input": {**INPUT, "imageUrls": list(images)}}
    answer = await house.api.post("/tasks", json=order, headers=headers)
    assert answer.status_code in (200, 202), answer.text
    document: JsonObject = answer.json()
    return document


def sent(house: House) -> list[list[str]]:
    """The images of each order that reached the provider."""
    return [request.document["imageUrls"] for request in house.simulator.requests if request.route == "submit"]


async def images_of(house: House, task_id: object) -> object:
    return (await house.task(str(task_id))).input["imageUrls"]


# ---------------------------------------------------------------- a task that waits


@pytest.mark.story
async def test_a_task_that_waited_for_a_day_is_sent_with_todays_link_and_keeps_what_was_sent(house: House) -> None:
    old = await upload(house)
    task = await ordered(house, "https://example.com/two.jpg", ID, key="k")
    house.clock.now += UPLOAD_KEPT
    new = await upload(house)
    assert new != old
    await house.settle()
    assert sent(house) == [["https://example.com/two.jpg", new]]
    assert await images_of(house, task["id"]) == ["https://example.com/two.jpg", new]
    assert (task["uploads"], (await house.task(str(task["id"]))).uploads) == ({ID: old}, {ID: new})
    again = await ordered(house, "https://example.com/two.jpg", ID, key="k")
    assert again["id"] == task["id"]


@pytest.mark.story
async def test_a_task_whose_upload_died_while_it_waited_is_rejected_before_the_provider_is_asked(house: House) -> None:
    await upload(house)
    task_id = str((await ordered(house, ID))["id"])
    house.clock.now += UPLOAD_KEPT
    await house.settle()
    task = await house.task(task_id)
    assert (task.state, sent(house)) == ("rejected", [])
    assert task.error is not None
    assert (task.error.code, task.error.name) == ("upload_too_old", "UPLOAD_TOO_OLD")
    for part in ("input.imageUrls[0]", "one.png", ID, "upload the file again", "submit it again"):
        assert part in task.error.message
    assert house.effects_of(task_id) == ["on-failure"]

    new = await upload(house)
    answer = await house.api.post(f"/tasks/{task_id}/submit-again")
    assert (answer.status_code, answer.json()["again_of"]) == (202, task_id)
    await house.settle()
    assert sent(house) == [[new]]


@pytest.mark.story
async def test_a_link_that_is_alive_is_sent_as_it_is(house: House) -> None:
    link = await upload(house)
    task_id = (await ordered(house, ID))["id"]
    house.clock.now += UPLOAD_KEPT - 1
    await house.settle()
    assert sent(house) == [[link]]
    assert await images_of(house, task_id) == [link]


@pytest.mark.story
async def test_one_dead_upload_does_not_hold_up_the_tasks_behind_it(house: House) -> None:
    await upload(house)
    dead = str((await ordered(house, ID))["id"])
    fine = await house.submit()
    house.clock.now += UPLOAD_KEPT
    await house.advance(60)
    assert [(await house.task(each)).state for each in (dead, fine)] == ["rejected", "succeeded"]


# ---------------------------------------------------------------- a task that is sent again


@pytest.mark.story
async def test_a_task_is_sent_again_with_todays_link_and_so_is_the_one_after_it(house: House) -> None:
    await upload(house)
    task_id = (await ordered(house, ID))["id"]
    await house.advance(60)
    for number in (2, 3):
        house.clock.now += UPLOAD_KEPT
        link = await upload(house)
        answer = await house.api.post(f"/tasks/{task_id}/submit-again")
        assert answer.status_code == 202, answer.text
        assert answer.json()["input"]["imageUrls"] == [link]
        task_id = answer.json()["id"]
        await house.advance(60)
        assert sent(house)[number - 1] == [link]


@pytest.mark.story
async def test_sending_again_is_refused_while_a_file_is_gone_and_the_file_is_named(house: House) -> None:
    await upload(house)
    other = await upload(house, PICTURE + b"!", "two.png")
    task_id = (await ordered(house, other, ID))["id"]
    await house.advance(60)
    house.clock.now += UPLOAD_KEPT
    answer = await house.api.post(f"/tasks/{task_id}/submit-again")
    assert answer.status_code == 422
    (problem,) = answer.json()["error"]["details"]
    assert problem["path"] == "input.imageUrls[1]"
    for part in ("one.png", ID, "upload the file again", "same bytes get the same id", "then submit the task again"):
        assert part in problem["message"]
    assert len((await house.api.get("/tasks")).json()["items"]) == 1
    await upload(house)
    assert (await house.api.post(f"/tasks/{task_id}/submit-again")).status_code == 202


@pytest.mark.story
async def test_a_task_of_which_no_upload_is_known_is_sent_again_as_it_is(house: House) -> None:
    task_id = await house.submit()
    await house.advance(60)
    house.clock.now += UPLOAD_REMEMBERED
    again = (await house.api.post(f"/tasks/{task_id}/submit-again")).json()
    assert again["input"] == INPUT


# ---------------------------------------------------------------- the same order


@pytest.mark.story
async def test_an_order_that_was_taken_is_the_same_task_though_its_upload_is_dead_by_now(house: House) -> None:
    await upload(house)
    task_id = (await ordered(house, ID, key="k"))["id"]
    house.clock.now += UPLOAD_KEPT
    assert (await ordered(house, ID, key="k"))["id"] == task_id
    order = {"target": MODEL, "input": {**INPUT, "imageUrls": [ID, ID]}}
    answers = [
        (await house.api.post("/tasks", json=order, headers={"Idempotency-Key": key})).status_code for key in ("k", "l")
    ]
    assert answers == [409, 422]
    assert len((await house.api.get("/tasks")).json()["items"]) == 1


@pytest.mark.story
async def test_what_is_no_id_of_an_upload_is_wrong_in_itself_whatever_was_taken_before(house: House) -> None:
    await upload(house)
    await ordered(house, ID, key="k")
    for image in ("upload:mine", ID + "0", ID.upper().replace("UPLOAD", "upload")):
        order = {"target": MODEL, "input": {**INPUT, "imageUrls": [image]}}
        answer = await house.api.post("/tasks", json=order, headers={"Idempotency-Key": "k"})
        assert answer.status_code == 422, image
        assert "expected an upload's id, upload: and 32 hexadecimal digits" in answer.text


@pytest.mark.story
async def test_a_preview_of_an_order_with_a_dead_upload_is_refused_like_the_order(house: House) -> None:
    await upload(house)
    house.clock.now += UPLOAD_KEPT
    order = {"target": MODEL, "input": {**INPUT, "imageUrls": [ID]}}
    preview, task = [await house.api.post(path, json=order) for path in ("/previews", "/tasks")]
    assert (preview.status_code, preview.json()) == (422, task.json())


# ---------------------------------------------------------------- sites


@pytest.mark.story
async def test_an_upload_counts_only_on_the_site_that_has_it(tmp_path: Path) -> None:
    async with open_house(tmp_path) as house:
        await upload(house)
        waiting = str((await ordered(house, ID))["id"])
        await house.reopen(RUNNINGHUB_BASE_URL="http://other-site.test/")
        order = {"target": MODEL, "input": {**INPUT, "imageUrls": [ID]}}
        refused = await house.api.post("/tasks", json=order)
        assert refused.status_code == 422
        message = refused.json()["error"]["details"][0]["message"]
        assert "one.png" in message
        assert "uploaded to http://simulator.test, but tasks go to http://other-site.test now" in message
        await house.settle()
        assert (await house.task(waiting)).state == "rejected"
        await upload(house, status=201)
        await upload(house, status=200)
        assert (await house.api.post("/tasks", json=order)).status_code == 202


# ---------------------------------------------------------------- forgetting


@pytest.mark.story
async def test_an_upload_is_remembered_for_a_month_so_that_messages_can_name_its_file(house: House) -> None:
    await upload(house)
    order = {"target": MODEL, "input": {**INPUT, "imageUrls": [ID]}}
    house.clock.now += UPLOAD_REMEMBERED
    await house.service.housekeep()
    assert "one.png" in (await house.api.post("/tasks", json=order)).text
    house.clock.now += 1
    await house.service.housekeep()
    message = (await house.api.post("/tasks", json=order)).json()["error"]["details"][0]["message"]
    assert message.startswith(f"there is no upload {ID}, or it is too old; upload the file again")
    assert await house.store.uploads([ID]) == {}


# ---------------------------------------------------------------- where files may be named


def test_a_model_names_files_where_it_takes_them_and_where_nobody_knows_it() -> None:
    known = catalogue.find(MODEL).model
    input: JsonObject = {"prompt": ID, "imageUrls": [ID, 7, [ID]], "later": ID, "more": {"a": ID}}
    assert [spot.path for spot in spots(Kind.MODEL, known, input)] == ["input.imageUrls[0]", "input.later"]
    assert [spot.path for spot in spots(Kind.MODEL, None, input)] == [
        "input.prompt",
        "input.imageUrls[0]",
        "input.later",
    ]


@pytest.mark.parametrize("kind", [Kind.WORKFLOW, Kind.APP, Kind.QUICK])
def test_nodes_name_files_in_their_values_and_only_a_workflow_has_a_graph(kind: Kind) -> None:
    nodes: JsonObject = {"nodeId": ID, "fieldName": "image", "fieldValue": ID}
    input: JsonObject = {"nodeInfoList": [7, {"fieldValue": 7}, nodes], "workflow": json.dumps(GRAPH), "other": ID}
    of_graph = [f"input.workflow.9.inputs.{place}" for place in ("image", "more[0]", "more[1].mask")]
    found = [spot.path for spot in spots(kind, None, input) if spot.text == ID]
    assert found == ["input.nodeInfoList[2].fieldValue", *(of_graph if kind is Kind.WORKFLOW else [])]


# ---------------------------------------------------------------- whole workflows


async def workflow(house: House, graph: object, status: int = 202) -> JsonObject:
    order = {"kind": "workflow", "target": WORKFLOW, "input": {"workflow": graph}}
    answer = await house.api.post("/tasks", json=order)
    assert answer.status_code == status, answer.text
    document: JsonObject = answer.json()
    return document


@pytest.mark.story
async def test_uploads_in_the_inputs_of_a_whole_workflow_become_file_names(house: House) -> None:
    await upload(house)
    file_name = (await house.store.uploads([ID]))[ID].file_name
    task = await workflow(house, json.dumps(GRAPH, indent=2))
    given = task["input"]
    assert isinstance(given, dict)
    resolved = json.loads(str(given["workflow"]))
    assert resolved["9"] == {"inputs": {"image": file_name, "more": [file_name, {"mask": file_name}]}, "class_type": ID}
    assert (resolved["3"], resolved["note"]) == (GRAPH["3"], ID)


@pytest.mark.story
async def test_unknown_uploads_in_a_whole_workflow_are_problems_with_their_paths(house: House) -> None:
    graph = {"9": {"inputs": {"image": UNKNOWN, "more": ["a", UNKNOWN]}}, "10": {"inputs": {"text": f"see {UNKNOWN}"}}}
    refused = (await workflow(house, json.dumps(graph), 422))["error"]
    assert isinstance(refused, dict)
    details = refused["details"]
    assert isinstance(details, list)
    assert [each["path"] for each in details if isinstance(each, dict)] == [
        "input.workflow.9.inputs.image",
        "input.workflow.9.inputs.more[1]",
    ]


@pytest.mark.story
async def test_a_whole_workflow_is_sent_again_with_todays_file_name(house: House) -> None:
    film = b"\0\0\0\x20ftypisom"
    digest = hashlib.sha256(film).hexdigest()
    await upload(house, film, "one.mp4")
    task = await workflow(house, json.dumps(GRAPH).replace(ID, f"upload:{digest[:32]}"))
    await house.advance(60)
    house.clock.now += UPLOAD_KEPT
    refused = await house.api.post(f"/tasks/{task['id']}/submit-again")
    assert "input.workflow.9.inputs.image" in refused.text
    await upload(house, film, "one.mov")
    again = await house.api.post(f"/tasks/{task['id']}/submit-again")
    inputs = json.loads(again.json()["input"]["workflow"])["9"]["inputs"]
    name = f"openapi/{digest}.mov"
    assert inputs == {"image": name, "more": [name, {"mask": name}]}


def with_graph_texts(graph: str, change: Change) -> str:
    return str(changed(Kind.WORKFLOW, None, {"workflow": graph}, change)["workflow"])


def test_a_graph_that_names_no_upload_stays_as_it_is_to_the_letter() -> None:
    for graph in (json.dumps(GRAPH, indent=3), "not JSON", "[1]", "", '{"3": 1, "4": {"inputs": "x"}}', "[" * 100_000):
        assert with_graph_texts(graph, lambda spot: spot.text) == graph


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@settings(max_examples=50)
@given(st.dictionaries(st.text(), st.fixed_dictionaries({"inputs": st.dictionaries(st.text(), JSON, max_size=3)})))
def test_nothing_but_the_texts_that_change_changes_in_a_graph(graph: dict[str, JsonObject]) -> None:
    text = json.dumps({**graph, "upload": {"inputs": {"image": ID}, "title": ID}})
    seen = []

    def change(spot: Spot) -> str:
        seen.append(spot.path)
        return "name" if spot.text == ID else spot.text

    expected = {**graph, "upload": {"inputs": {"image": "name"}, "title": ID}}
    assert json.loads(with_graph_texts(text, change)) == expected
    assert "input.workflow.upload.inputs.image" in seen
