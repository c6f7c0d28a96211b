"""A task is named by any beginning of its id that no other has, and lists say which beginning that is."""

from collections import Counter

import pytest
from house import House

from receiver.model import rules

pytestmark = pytest.mark.story

SPOKEN = ["", "/status", "/outputs", "/webhook"]
DONE = ["reconcile", "resend", "submit-again"]


async def test_tasks_of_one_millisecond_are_told_apart_by_a_few_characters(house: House) -> None:
    made = [await house.submit() for _ in range(20)]
    page = (await house.api.get("/tasks")).json()
    short = page["short"]
    assert short.keys() == set(made)
    assert all(whole.startswith(beginning) for whole, beginning in short.items())
    assert Counter(sum(whole.startswith(each) for whole in made) for each in short.values()) == {1: 20}
    assert max(map(len, short.values())) <= 24


async def test_what_is_shown_stays_unique_when_later_tasks_come(house: House) -> None:
    first = await house.submit()
    short = (await house.api.get("/tasks")).json()["short"][first]
    assert len(short) == rules.ID_SHOWN
    for _ in range(5):
        house.clock.now += 0.002
        await house.submit()
    assert (await house.api.get(f"/tasks/{short}")).json()["id"] == first


async def test_every_route_of_a_task_takes_a_beginning_of_its_id(house: House) -> None:
    whole = await house.submit()
    await house.advance(30)
    begins = whole[: rules.ID_TYPED]
    for path in SPOKEN:
        assert (await house.api.get(f"/tasks/{begins.upper()}{path}")).status_code == 200
    for verb in DONE:
        assert (await house.api.post(f"/tasks/{whole[:13]}/{verb}")).is_success
    assert (await house.api.post(f"/tasks/{whole[:30]}/cancel")).json()["error"]["code"] != "not_found"
    assert (await house.api.get(f"/tasks/{whole[:3]}")).status_code == 404
    assert (await house.api.get(f"/tasks/{whole}0")).status_code == 404
    assert (await house.api.get("/tasks/%25")).status_code == 404


@pytest.mark.parametrize("name", ["deliveries", "events", "actions"])
async def test_every_list_is_narrowed_by_a_beginning_of_a_task_s_id_and_shows_one(house: House, name: str) -> None:
    wanted, house.clock.now = await house.submit(), house.clock.now + 3600
    await house.submit()
    await house.advance(30)
    page = (await house.api.get(f"/{name}", params={"task": wanted[:13]})).json()
    assert [each["task"] for each in page["items"]] == [wanted]
    assert page["short"] == {wanted: wanted[:13]}
    assert (await house.api.get(f"/{name}", params={"task": "0000"})).json()["items"] == []


async def test_a_beginning_that_several_ids_have_is_refused_with_those_tasks(house: House) -> None:
    made = [await house.submit() for _ in range(rules.IDS_TOLD + 2)]
    for answer in (await house.api.get(f"/tasks/{made[0][:8]}"), await house.api.get(f"/actions?task={made[0][:8]}")):
        error = answer.json()["error"]
        assert (answer.status_code, error["code"]) == (409, "ambiguous_id")
        assert f"more than {rules.IDS_TOLD} tasks" in error["message"]
        assert {each["path"] for each in error["details"]} < set(made)
        assert len(error["details"]) == rules.IDS_TOLD
        assert error["details"][0]["message"].startswith("queued, ")


async def test_a_search_finds_the_beginnings_of_ids_and_of_the_names_of_labels(house: House) -> None:
    async def order(**labels: str) -> str:
        house.clock.now += 3600
        answer = await house.api.post("/tasks", json={"target": "alpha/one", "labels": labels, "validate": False})
        return str(answer.json()["id"])

    async def found(**query: str) -> list[str]:
        return [each["id"] for each in (await house.api.get("/tasks", params=query)).json()["items"]]

    first, second = await order(Project="north"), await order(client="project-x")
    assert await found(q="proj") == [second, first]
    assert await found(q="PROJECT-") == [second]
    assert await found(q=first[:13]) == [first]
    assert await found(q=first[:13], label="client=project-x") == []
    many = [await order(batch=str(number)) for number in range(60)]
    assert await found(q="batc", limit="100") == many[::-1]
    assert await found(q=first[:4], limit="100") == [*many[::-1], second, first]


async def test_a_target_may_have_wildcards(house: House) -> None:
    async def order(target: str) -> str:
        return str((await house.api.post("/tasks", json={"target": target, "validate": False})).json()["id"])

    async def found(target: str, **more: str) -> set[str]:
        answer = await house.api.get("/tasks", params={"target": target, "limit": "200", **more})
        return {each["id"] for each in answer.json()["items"]}

    one, two, other = await order("alpha/one"), await order("alpha/two"), await order("beta_1/one")
    assert await found("alpha/*") == {one, two}
    assert await found("*/one") == {one, other}
    assert await found("Alpha/?wo") == {two}
    assert await found("*_1/*") == {other}
    assert await found("alpha/*", q="alpha/o") == {one}
    assert await found("alpha") == await found("a_pha/*") == await found("alpha/*", state="failed") == set()
    many = {await order(f"many/m-{number}") for number in range(60)}
    assert await found("many/*") == many
    assert await found("*") == many | {one, two, other}
