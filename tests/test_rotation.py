"""The secret that signs callback URLs is replaced, and no callback in flight is lost; those that are refused count."""

import io
import logging
from pathlib import Path

import pytest
from house import SECRET, House, open_house

from receiver.model.links import Links
from receiver.model.records import Purpose
from receiver.model.rules import SECRET_KEPT
from receiver.server.logs import configure_logging

pytestmark = pytest.mark.story
MADE = {"RECEIVER_SECRETS": ""}
BODY = b'{"event":"TASK_END","taskId":"1","eventData":"{}"}'


async def status(house: House, path: str) -> int:
    return (await house.http.post(path, content=BODY)).status_code


async def test_a_rotated_secret_is_accepted_for_a_day_and_the_new_one_signs(tmp_path: Path) -> None:
    async with open_house(tmp_path, environment=MADE) as house:
        task = await house.submit()
        paths = [house.callback_path(task)]
        for _ in range(2):
            answer = await house.api.post("/secrets/rotate")
            assert answer.status_code == 200, answer.text
            paths.append(house.callback_path(task))
        assert len(set(paths)) == 3
        await house.reopen()
        house.clock.now += SECRET_KEPT - 20
        await house.service.housekeep()
        assert [await status(house, path) for path in paths] == [202, 202, 202]
        assert house.callback_path(task) == paths[-1]
        house.clock.now += 30
        await house.service.housekeep()
        assert [await status(house, path) for path in paths] == [404, 404, 202]


async def test_the_made_secret_is_accepted_for_a_day_beside_given_ones(tmp_path: Path) -> None:
    async with open_house(tmp_path, environment=MADE) as house:
        task = await house.submit()
        made = house.callback_path(task)
        await house.reopen(RECEIVER_SECRETS=SECRET)
        given = house.callback_path(task)
        assert Links([SECRET], None).read(given.rpartition("/")[2]) is not None
        house.clock.now += SECRET_KEPT - 20
        await house.reopen()
        assert [await status(house, path) for path in (made, given)] == [202, 202]
        house.clock.now += 30
        await house.service.housekeep()
        assert [await status(house, path) for path in (made, given)] == [404, 202]
        await house.reopen(RECEIVER_SECRETS="")
        assert house.callback_path(task) == made
        assert await status(house, made) in (200, 202)


async def test_given_secrets_are_rotated_where_they_are_given(house: House) -> None:
    answer = await house.api.post("/secrets/rotate")
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "secrets_given")
    assert "RECEIVER_SECRETS" in answer.json()["error"]["message"]


async def test_every_callback_that_is_refused_is_counted_and_logged_without_its_token(house: House) -> None:
    configure_logging(stream := io.StringIO())
    try:
        task = await house.submit()
        lost = Links(["a secret that was thrown away"], "http://receiver.test").token(task, Purpose.SUBMIT)
        for _ in range(3):
            assert await status(house, f"/callbacks/{lost}") == 404
        assert await status(house, "/callbacks/nobody") == 404
        assert stream.getvalue().count("callbacks refused") == 1
        await house.service.housekeep()
    finally:
        logging.getLogger().handlers.clear()
    assert (await house.totals())["callbacks_refused"] == 4
    said = [line for line in stream.getvalue().splitlines() if "callbacks refused" in line]
    assert len(said) == 2
    assert lost not in stream.getvalue()
