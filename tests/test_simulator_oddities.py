"""Each odd way in which a provider answers can be played by its name, and looks as it did when it was seen."""

import asyncio
import gzip
import json

import httpx
import pytest
from house import API_KEY, TLS
from provider import HOOK, KEY, MODEL, URL, Clock, Provider, document_of
from starlette.types import Message, Receive, Scope, Send

from receiver.model.records import Api, Kind
from receiver.runninghub.client import RunningHub
from receiver.runninghub.errors import ProviderError
from receiver.runninghub.requests import submit_request
from receiver.simulator import DeliveryAnswer, Fault, Options, Simulator
from receiver.simulator.oddities import CODINGS, ODDITIES, about_another, spoiled
from receiver.simulator.outages import Outage

QUERY = "/openapi/v2/query"


@pytest.fixture
def provider() -> Provider:
    return Provider()


def client_of(provider: Provider) -> RunningHub:
    """Our own client of the provider, over the simulator's transport."""
    http = httpx.AsyncClient(transport=provider.sim.transport(), verify=TLS)
    return RunningHub(http, URL, API_KEY, attempts=1, read_wait=0.0)


async def test_every_kind_of_odd_bytes_comes_in_turn_and_our_client_reads_them_all(provider: Provider) -> None:
    task_id = await provider.submit_and_end()
    provider.sim.outage("query", "odd")
    bodies = set()
    for _ in ODDITIES:
        reply = await client_of(provider).query(task_id)
        assert (reply.content.task_id, reply.content.status) == (task_id, "SUCCESS")
        bodies.add(reply.raw)
    assert len(bodies) == len(ODDITIES)
    assert sum(b"nobodyNeeds" in each for each in bodies) == len(ODDITIES) - 2


async def test_a_question_about_one_task_may_be_answered_about_another(provider: Provider) -> None:
    first, second = await provider.submit_and_end(), await provider.submit_and_end()
    provider.sim.outage("query", "other_task", times=2)
    assert (await provider.query(first))["taskId"] == second
    with pytest.raises(ProviderError, match="another task"):
        await client_of(provider).query(second)
    assert (await provider.query(first))["taskId"] == first


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"{}", b"1", b"[" * 100_000])
def test_a_question_about_no_task_stays_as_it_is(body: bytes) -> None:
    assert about_another(body, {"1": None}) == body


def test_without_another_task_the_question_stays_about_the_same() -> None:
    assert json.loads(about_another(b'{"taskId":"1"}', {"1": None})) == {"taskId": "1"}


async def test_a_provider_that_moved_says_where_to_with_every_status_of_a_redirect(provider: Provider) -> None:
    provider.sim.outage("submit", "redirect")
    answers = [await provider.http.post(MODEL, json={}, headers=KEY) for _ in range(4)]
    assert {each.status_code for each in answers} == {301, 302, 307, 308}
    assert {each.headers["location"] for each in answers} == {f"https://www.runninghub.example{MODEL}"}
    assert provider.sim.tasks == {}
    with pytest.raises(ProviderError, match=r"set runninghub\.base_url to https://www\.runninghub\.example"):
        await client_of(provider).submit(submit_request(Kind.MODEL, Api.V2, "a/b", {"prompt": "x"}, HOOK))


@pytest.mark.parametrize(("kind", "api"), [(Kind.MODEL, Api.V2), (Kind.WORKFLOW, Api.V2), (Kind.WORKFLOW, Api.V1)])
async def test_a_full_queue_may_be_told_by_name_alone(provider: Provider, kind: Kind, api: Api) -> None:
    sent = submit_request(kind, api, "1", {"prompt": "x"}, HOOK)
    provider.sim.outage("*", "queue_full")
    with pytest.raises(ProviderError) as refused:
        await client_of(provider).submit(sent)
    assert refused.value.code == "421"
    assert b"421" not in (refused.value.answer or b"")
    assert provider.sim.tasks == {}


async def test_half_an_answer_is_a_broken_connection_and_the_work_was_done(provider: Provider) -> None:
    provider.sim.outage("submit", "torn", times=1)
    with pytest.raises(httpx.RemoteProtocolError):
        await provider.submit()
    assert len(provider.sim.tasks) == 1


async def test_an_answer_that_drips_comes_too_late_for_whoever_waits_in_process(provider: Provider) -> None:
    provider.sim.outage("submit", "drip", times=1)
    with pytest.raises(httpx.ReadTimeout):
        await provider.submit()
    assert len(provider.sim.tasks) == 1


async def test_an_answer_drips_byte_by_byte_until_the_outage_is_healed() -> None:
    pauses: list[float] = []

    async def pause(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 7:
            simulator.heal()
        await asyncio.sleep(0)

    async def deliver(url: str, body: bytes, headers: object) -> DeliveryAnswer:
        return DeliveryAnswer(200, "")

    simulator = Simulator(Options(base_url=URL), clock=Clock(), deliver=deliver, pause=pause)
    simulator.outage("query", "drip")
    async with httpx.AsyncClient(transport=httpx.ASGITransport(simulator), base_url=URL) as http:
        answer = await http.post(QUERY, json={"taskId": "1"}, headers=KEY)
    assert document_of(answer)["errorCode"] == "1004"
    assert len(pauses) == 7


async def test_half_of_an_answer_promises_the_whole_of_it_on_a_socket() -> None:
    said = []

    async def whole(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 206, "headers": [(b"ETag", b'"x"')]})
        await send({"type": "http.response.body", "body": b"0123456789"})

    async def send(message: Message) -> None:
        said.append(message)

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    await spoiled(Outage.TORN, whole, 0, None, lambda: True)({"type": "http", "extensions": {}}, receive, send)
    assert said == [
        {"type": "http.response.start", "status": 206, "headers": [(b"etag", b'"x"'), (b"content-length", b"10")]},
        {"type": "http.response.body", "body": b"01234", "more_body": True},
    ]


async def test_a_result_file_comes_under_odd_codings_in_turn(provider: Provider) -> None:
    task_id = await provider.submit_and_end()
    link = (await provider.query(task_id))["results"][0]["url"]
    whole = (await provider.http.get(link)).content
    provider.sim.outage("files", "coded")
    seen = set()
    for _ in CODINGS:
        async with provider.http.stream("GET", link) as answer:
            raw = b"".join([part async for part in answer.aiter_raw()])
        seen.add((answer.headers["content-encoding"], "as it is" if raw == whole else "packed"))
        assert whole in (raw, gzip.decompress(raw) if raw != whole else raw)
    assert seen == {("aws-chunked", "as it is"), ("gzip", "as it is"), ("gzip", "packed")}


async def test_a_link_may_be_away_for_a_while(provider: Provider) -> None:
    provider.sim.plan_next(Fault.LINK_AWAY, away=60)
    task_id = await provider.submit_and_end()
    link = (await provider.query(task_id))["results"][0]["url"]
    answer = await provider.http.get(link)
    assert (answer.status_code, "SlowDown" in answer.text) == (503, True)
    await provider.pass_time(60)
    assert (await provider.http.get(link)).status_code == 200
