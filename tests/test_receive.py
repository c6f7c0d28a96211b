"""The public door: whatever a stranger sends ends in accept or one kind of refusal, and strangers leave no trace."""

import json
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from house import House, open_house
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from itsdangerous import URLSafeSerializer

from receiver.model.links import Links
from receiver.model.records import Purpose

pytestmark = pytest.mark.story

ALLOWED = {200, 202, 404, 405, 413}
DEEP = 200_000

GOOD = b'{"eventData":{"taskId":"1","status":"SUCCESS","results":[{"url":"u"}]},"event":"TASK_END","taskId":"1"}'

BODIES: list[tuple[str, bytes, int]] = [
    ("a plain callback", GOOD, 200),
    ("nothing", b"", 202),
    ("white space", b" \r\n\t ", 202),
    ("a NUL byte", b"\x00", 202),
    ("NUL bytes around a callback", b"\x00" + GOOD, 202),
    ("a BOM before a callback", b"\xef\xbb\xbf" + GOOD, 202),
    ("UTF-16", GOOD.decode().encode("utf-16"), 202),
    ("bad UTF-8", b'{"status":"\xff\xfe"}', 202),
    ("a truncated UTF-8 sequence", b'{"status":"\xe4\xb8', 202),
    ("an overlong UTF-8 sequence", b'{"status":"\xc0\xaf"}', 202),
    ("a lone high surrogate", b'{"status":"SUCCESS","x":"\\ud800"}', 202),
    ("a lone low surrogate", b'{"status":"SUCCESS","x":"\\udc00"}', 202),
    ("a lone surrogate within eventData", b'{"eventData":"{\\"status\\":\\"\\\\ud800\\"}"}', 202),
    ("an escaped NUL in a text", b'{"status":"SUC\\u0000CESS"}', 200),
    ("an escaped NUL in an id", b'{"status":"SUCCESS","taskId":"1\\u00002"}', 200),
    ("deep arrays", b"[" * DEEP, 202),
    ("deep closed arrays", b"[" * DEEP + b"]" * DEEP, 202),
    ("deep objects", b'{"a":' * DEEP, 202),
    ("deep objects below a status", b'{"status":"SUCCESS","a":' * 5_000, 202),
    ("deep, but readable", b'{"status":"SUCCESS","a":' + b"[" * 500 + b"]" * 500 + b"}", 200),
    ("deep text in eventData", b'{"eventData":"' + b"[" * DEEP + b'"}', 202),
    ("a huge integer as id", b'{"status":"SUCCESS","taskId":' + b"9" * 400 + b"}", 200),
    ("an integer beyond all limits", b'{"status":"SUCCESS","taskId":' + b"9" * 50_000 + b"}", 202),
    ("a float as id", b'{"status":"SUCCESS","taskId":2052287938007814145.0}', 200),
    ("a negative id", b'{"status":"SUCCESS","taskId":-1}', 200),
    ("an id beyond 64 bits", b'{"status":"SUCCESS","taskId":18446744073709551616}', 200),
    ("an infinite number", b'{"status":"SUCCESS","x":1e999}', 202),
    ("NaN", b'{"status":"SUCCESS","x":NaN}', 202),
    ("Infinity", b'{"status":"SUCCESS","x":Infinity}', 202),
    ("a long id", b'{"status":"SUCCESS","taskId":"' + b"1" * 5_000 + b'"}', 200),
    ("duplicate keys", b'{"status":"FAILED","status":"SUCCESS"}', 200),
    ("two documents", GOOD + GOOD, 202),
    ("a trailing comma", b'{"status":"SUCCESS",}', 202),
    ("a comment", b'{"status":"SUCCESS"/**/}', 202),
    ("single quotes", b"{'status':'SUCCESS'}", 202),
    ("a text", b'"SUCCESS"', 202),
    ("a number", b"42", 202),
    ("null", b"null", 202),
    ("true", b"true", 202),
    ("an array of callbacks", b"[" + GOOD + b"]", 202),
    ("an empty object", b"{}", 202),
    ("only an event", b'{"event":"TASK_END"}', 202),
    ("eventData null", b'{"eventData":null,"taskId":"1"}', 202),
    ("eventData a number", b'{"eventData":5}', 202),
    ("eventData an array", b'{"eventData":[]}', 202),
    ("eventData true", b'{"eventData":true}', 202),
    ("eventData an empty text", b'{"eventData":""}', 202),
    ("eventData a text of a number", b'{"eventData":"5"}', 202),
    ("eventData a text of a text", b'{"eventData":"\\"x\\""}', 202),
    ("eventData junk in a text", b'{"eventData":"{oops"}', 202),
    ("a status that is a number", b'{"eventData":{"status":1}}', 202),
    ("a status that is an object", b'{"eventData":{"status":{}}}', 202),
    ("a status nobody knows", b'{"eventData":{"status":"PENDING"}}', 200),
    ("results that are a text", b'{"status":"SUCCESS","results":"x"}', 200),
    ("results of numbers", b'{"status":"SUCCESS","results":[1,2,null,[],{}]}', 200),
    ("a url that is an object", b'{"status":"SUCCESS","results":[{"url":{},"text":[]}]}', 200),
    ("usage that is a text", b'{"status":"SUCCESS","usage":"free"}', 200),
    ("usage of objects", b'{"status":"SUCCESS","usage":{"consumeCoins":{}}}', 200),
    ("failedReason that is a number", b'{"status":"FAILED","failedReason":7}', 200),
    ("an error code that is an array", b'{"status":"FAILED","errorCode":[]}', 200),
    ("a V1 code that is an object", b'{"eventData":{"code":{},"data":[]}}', 202),
    ("V1 data that is a text", b'{"eventData":{"code":0,"data":"x"}}', 200),
    ("markup", b'{"status":"FAILED","errorMessage":"<script>alert(1)</script>"}', 200),
    ("SQL", b'{"status":"FAILED","errorMessage":"\'); drop table tasks; --"}', 200),
    ("a megabyte of text", b'{"status":"FAILED","errorMessage":"' + b"x" * 1_000_000 + b'"}', 200),
    ("a form", b"taskId=1&status=SUCCESS", 202),
    ("XML", b"<?xml version='1.0'?><status>SUCCESS</status>", 202),
    ("gzip", b"\x1f\x8b\x08\x00" + b"\x00" * 20, 202),
    ("random bytes", bytes(range(256)), 202),
    ("one byte over the limit", b"x" * (4 * 1024 * 1024 + 1), 413),
    ("exactly the limit", b"x" * (4 * 1024 * 1024), 202),
]


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize(("body", "expected"), [row[1:] for row in BODIES], ids=[row[0] for row in BODIES])
async def test_a_hostile_body_is_kept_and_answered(shared_house: House, body: bytes, expected: int) -> None:
    house = shared_house
    task_id = await house.submit()
    answer = await house.http.post(house.callback_path(task_id), content=body)
    assert answer.status_code == expected
    task = await house.task(task_id)
    assert len(task.deliveries) == 1
    assert task.deliveries[0].readable == (expected == 200)
    raw = (await house.api.get(f"/deliveries/{task.deliveries[0].id}/body")).content
    assert raw == (body[: 64 * 1024] if expected == 413 else body)
    again = await house.http.post(house.callback_path(task_id), content=body)
    assert again.status_code == expected
    assert (await house.task(task_id)).deliveries[0].count == 2


TOKENS: list[tuple[str, str]] = [
    ("empty payload and signature", "."),
    ("no signature", "WyJhIiwic3VibWl0Il0"),
    ("a dot at the end", "WyJhIiwic3VibWl0Il0."),
    ("many dots", "a.b.c.d.e"),
    ("a wrong signature", "WyJhIiwic3VibWl0Il0." + "A" * 43),
    ("a compressed bomb without a signature", ".eJ" + "A" * 400 + ".x"),
    ("very long", "A" * 60_000),
    ("percent signs", "%25%25%25"),
    ("an encoded slash", "a%2Fb"),
    ("dot dot", "..%2F..%2Fetc%2Fpasswd"),
    ("an encoded NUL", "%00"),
    ("an encoded new line", "a%0d%0ab"),
    ("bad UTF-8", "%ff%fe"),
    ("Chinese", "%E4%B8%AD%E6%96%87"),
    ("spaces", "%20%20"),
    ("a quote", "%22%27"),
    ("markup", "%3Cscript%3E"),
    ("a UUID", "01936c1e-0000-7000-8000-000000000000"),
    ("a JWT", "eyJhbGciOiJub25lIn0.eyJhIjoxfQ."),
]


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("token", [row[1] for row in TOKENS], ids=[row[0] for row in TOKENS])
async def test_a_strange_token_is_answered_404_and_leaves_no_trace(shared_house: House, token: str) -> None:
    before = await shared_house.totals()
    answer = await shared_house.http.post(f"/callbacks/{token}", content=GOOD)
    assert answer.status_code == 404
    assert answer.json()["error"]["code"] == "not_found"
    assert await shared_house.totals() == before


async def test_a_forged_token_is_answered_404_and_leaves_no_trace(house: House) -> None:
    task_id = await house.submit()
    forgeries = [
        Links(["some other secret of sixteen"], "http://receiver.test").token(task_id, Purpose.SUBMIT),
        house.service.links.token("01936c1e-0000-7000-8000-000000000000", Purpose.SUBMIT),
        str(URLSafeSerializer("first-signing-secret-of-the-tests", salt="other").dumps([task_id, "submit"])),
    ]
    for token in forgeries:
        assert (await house.http.post(f"/callbacks/{token}", content=GOOD)).status_code == 404
    assert (await house.task(task_id)).deliveries == []
    assert (await house.totals()) == {}


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW"])
async def test_another_method_is_answered_405(shared_house: House, method: str) -> None:
    task_id = await shared_house.submit()
    answer = await shared_house.http.request(method, shared_house.callback_path(task_id))
    assert answer.status_code == 405
    assert answer.headers["allow"] == "POST"
    assert (await shared_house.task(task_id)).deliveries == []


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("path", ["/callbacks", "/callbacks/", "/callbacks/a/b", "/Callbacks/a", "/callbacks//"])
async def test_a_path_beside_the_door_is_answered_404(shared_house: House, path: str) -> None:
    assert (await shared_house.http.post(path, content=GOOD)).status_code == 404


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize(
    "content_type",
    ["text/plain", "application/xml", "multipart/form-data", "application/json; charset=utf-7", "\xff", ""],
)
async def test_the_content_type_does_not_matter(shared_house: House, content_type: str) -> None:
    task_id = await shared_house.submit()
    headers = {b"content-type": content_type.encode("latin-1")}
    answer = await shared_house.http.post(shared_house.callback_path(task_id), content=GOOD, headers=headers)
    assert answer.status_code == 200


@pytest.mark.parametrize("written", ["/{}", "//{}", "{}/", "/{}//"])
async def test_a_slash_too_many_in_a_callback_url_does_not_matter(house: House, written: str) -> None:
    task_id = await house.submit()
    url = f"http://receiver.test{written.format(house.callback_path(task_id))}"
    answer = await house.http.post(url, content=GOOD)
    assert answer.status_code == 200
    assert len((await house.task(task_id)).deliveries) == 1


VALUES = 20_000
COSTLY: list[tuple[str, bytes, int]] = [
    ("as many values as allowed", b'{"status":"SUCCESS","results":[' + b"{}," * (VALUES // 2 - 2) + b"{}]}", 200),
    ("many empty objects", b'{"status":"SUCCESS","results":[' + b"{}," * VALUES + b"{}]}", 202),
    ("many numbers", b'{"status":"SUCCESS","results":[' + b"1," * VALUES + b"1]}", 202),
    ("many arrays in arrays", b'{"status":"SUCCESS","results":[' + (b"[" * 50 + b"]" * 50 + b",") * 500 + b"1]}", 202),
    ("many fields", b'{"status":"SUCCESS"' + b"".join(b',"%d":1' % number for number in range(VALUES)) + b"}", 202),
    ("many texts", b'{"status":"SUCCESS","results":[' + b'"","",' * VALUES + b'""]}', 202),
    ("many values in eventData's text", json.dumps({"eventData": '{"status":[' + "1," * VALUES + "1]}"}).encode(), 202),
    ("the same with every comma escaped", b'{"eventData":"[' + rb"1\u002c" * VALUES + b'1]"}', 202),
    ("commas in a text", b'{"status":"FAILED","errorMessage":"' + b"a, [b], {c}, " * VALUES + b'"}', 200),
    (
        "a text of JSON",
        json.dumps({"status": "FAILED", "errorMessage": '{"a": [1, 2], "b\\": {}}' * VALUES}).encode(),
        200,
    ),
]


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize(("body", "expected"), [row[1:] for row in COSTLY], ids=[row[0] for row in COSTLY])
async def test_a_body_with_too_many_values_is_kept_as_one_that_cannot_be_read(
    shared_house: House, body: bytes, expected: int
) -> None:
    task_id = await shared_house.submit()
    answer = await shared_house.http.post(shared_house.callback_path(task_id), content=body)
    assert answer.status_code == expected
    (delivery,) = (await shared_house.task(task_id)).deliveries
    assert delivery.problem == (None if expected == 200 else "more than 20000 values")


async def test_a_body_that_never_ends_is_refused_after_the_limit(house: House) -> None:
    task_id = await house.submit()
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while True:
            sent += 65536
            yield b"x" * 65536

    request = house.http.build_request("POST", house.callback_path(task_id), content=endless())
    answer = await house.http.send(request)
    assert answer.status_code == 413
    assert sent < 6 * 1024 * 1024


async def test_a_stranger_is_answered_before_the_body_is_read(house: House) -> None:
    async def unread() -> AsyncIterator[bytes]:
        raise AssertionError("the body was read")
        yield b""

    answer = await house.http.send(house.http.build_request("POST", "/callbacks/nobody", content=unread()))
    assert answer.status_code == 404


async def test_without_room_on_the_disk_nothing_is_acknowledged(tmp_path: Path) -> None:
    async with open_house(tmp_path, "[callbacks]\ndisk_floor = 0\n") as house:
        task_id = await house.submit()
        path = house.callback_path(task_id)
        await house.close()
        (tmp_path / "receiver.toml").write_text(f"[callbacks]\ndisk_floor = {2**60}\n")
        await house.open()
        answer = await house.http.post(path, content=GOOD)
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "60")
        ready = await house.http.get("/readyz")
        assert (ready.status_code, ready.json()["reasons"]) == (503, ["disk_low"])
        assert (await house.task(task_id)).deliveries == []
        refused = await house.api.post("/tasks", json={"target": "a/b", "validate": False})
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "disk_low")


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=8,
)


@pytest.fixture
async def door(tmp_path: Path) -> AsyncIterator[tuple[httpx.AsyncClient, str]]:
    async with open_house(tmp_path) as house:
        task_id = await house.submit()
        yield house.http, house.callback_path(task_id)


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=st.binary(max_size=500) | JSON_VALUES.map(lambda value: json.dumps({"eventData": value}).encode()))
async def test_any_bytes_end_in_accept_or_refusal(door: tuple[httpx.AsyncClient, str], body: bytes) -> None:
    http, path = door
    assert (await http.post(path, content=body)).status_code in ALLOWED


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(token=st.text(min_size=1, max_size=200), method=st.sampled_from(["POST", "GET", "PUT"]))
async def test_any_token_and_method_end_in_refusal(
    door: tuple[httpx.AsyncClient, str], token: str, method: str
) -> None:
    http, _ = door
    quoted = "".join(f"%{byte:02x}" for byte in token.encode("utf-8", "surrogatepass"))
    assert (await http.request(method, f"/callbacks/{quoted}", content=GOOD)).status_code in {404, 405}
