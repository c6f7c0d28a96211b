"""No secret leaves: a whole run with planted sentinels, then a search of everything that can be read."""

import asyncio
import io
import logging
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from house import MODEL, ON_END, TLS, House, open_house

from receiver.actions import ActionFailed, Done, Work
from receiver.console import create_app
from receiver.model.definitions import ActionKind
from receiver.model.records import Purpose
from receiver.server.logs import configure_logging, redact_logs
from receiver.server.service import Service
from receiver.server.settings import load_settings
from receiver.simulator import Fault, Options, Simulator, asgi_deliver
from receiver.simulator.workflows import ANIMATED

pytestmark = pytest.mark.story

API_KEY = "sentinel-api-key-sentinel-api-key"
ADMIN = "sentinel-admin-token"
SIGNING = "sentinel-signing-secret"
OLD_SIGNING = "sentinel-old-signing-secret"
HOOK_SECRET = "c2VudGluZWwtaG9vay1zZWNyZXQ="
HEADER = "sentinel-header-value"
TOML = f"""
[[actions]]
name = "tell"
kind = "http"
url = "https://example.com/hook"
secret = "{HOOK_SECRET}"
headers = {{ Authorization = "{HEADER}" }}
max_attempts = 1
on = ["succeeded", "failed"]
"""
LISTS = ["tasks", "deliveries", "events", "actions", "definitions", "alerts"]


@pytest.fixture
async def log() -> AsyncIterator[io.StringIO]:
    stream = io.StringIO()
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    configure_logging(stream, logging.DEBUG)
    yield stream
    root.handlers[:] = before
    root.setLevel(level)


async def leak(work: Work) -> Done:
    """An action that says everything it should not."""
    said = f"{API_KEY} {ADMIN} {HOOK_SECRET} {HEADER} {work.body['task']}"
    if work.attempt % 2:
        raise ActionFailed(said, detail={"headers": {"authorization": HEADER}, "said": said})
    raise RuntimeError(said)


async def test_no_planted_secret_is_in_a_log_line_a_row_or_an_answer(tmp_path: Path, log: io.StringIO) -> None:
    (tmp_path / "receiver.toml").write_text(TOML)
    environment = {
        "RECEIVER_DATABASE": f"sqlite:///{tmp_path / 'receiver.db'}",
        "RECEIVER_PUBLIC_URL": "http://receiver.test",
        "RECEIVER_ADMIN_TOKEN": ADMIN,
        "RECEIVER_SECRETS": f"{SIGNING},{OLD_SIGNING}",
        "RUNNINGHUB_API_KEY": API_KEY,
        "RUNNINGHUB_BASE_URL": "http://simulator.test",
        "RUNNINGHUB_MAX_IN_FLIGHT": "50",
    }
    loop = asyncio.get_running_loop()
    simulator = Simulator(
        Options(task_seconds=0.02, retry_seconds=(0.01, 0.01, 0.01)),
        clock=loop.time,
        deliver=lambda *sent: deliver(*sent),
    )
    service = Service(
        load_settings(environment, tmp_path),
        transport=simulator.transport(),
        read_wait=0.0,
        perform=dict.fromkeys(ActionKind, leak),
        tls=TLS,
    )
    await service.start()
    redact_logs(service.redact)
    app = create_app(service)
    deliver = asgi_deliver(app)
    headers = {"Authorization": f"Bearer {ADMIN}"}
    answers: list[str] = []
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app), base_url="http://receiver.test", headers=headers
    ) as http:
        for fault in [*Fault, None]:
            if fault is not Fault.LATE:
                simulator.plan_next(*([fault] if fault else []), seconds=0.05)
                await http.post("/api/tasks", json={"target": MODEL, "input": {"prompt": "x"}, "validate": False})
        tokens = set()
        async with asyncio.timeout(10):
            while simulator.count("submit") < len(Fault) or simulator.next_due() is not None:
                if not await simulator.tick():
                    await asyncio.wait_for(asyncio.to_thread(lambda: None), 1)
        simulator.outage("query", "500")
        simulator.outage("detail", "refused")
        items = (await http.get("/api/tasks")).json()["items"]
        for task in items:
            tokens |= {service.links.token(task["id"], purpose) for purpose in Purpose}
            for verb in ("reconcile", "resend", "cancel"):
                answers.append((await http.post(f"/api/tasks/{task['id']}/{verb}")).text)
            simulator.heal()
        for path in [*LISTS, *(f"tasks/{task['id']}" for task in items)]:
            answers.append((await http.get(f"/api/{path}")).text)
        answers.append((await http.post("/api/tasks", json={"target": 1})).text)
        answers.append((await http.get("/api/tasks", headers={"Authorization": "Bearer wrong"})).text)
        for token in list(tokens)[:3]:
            answers.append((await http.post(f"/callbacks/{token}x", content=b"{}")).text)
        answers.append((await http.get("/readyz")).text)
    logging.getLogger("uvicorn.error").error("POST http://receiver.test/callbacks/%s", next(iter(tokens)))
    await service.close()
    assert len(items) == len(Fault)

    signatures = {token.rpartition(".")[2] for token in tokens}
    sentinels = {API_KEY, ADMIN, SIGNING, OLD_SIGNING, HOOK_SECRET, HEADER, *signatures}
    places = {"log": log.getvalue(), "database": dump(tmp_path / "receiver.db"), "answers": "\n".join(answers)}
    assert all(len(text) > 1000 for text in places.values())
    found = [(place, sentinel) for place, text in places.items() for sentinel in sentinels if sentinel in text]
    assert found == []


def dump(database: Path) -> str:
    """Every row of every table, but the secrets' own and the raw bytes that strangers sent."""
    connection = sqlite3.connect(database)
    names = [row[0] for row in connection.execute("select name from sqlite_master where type = 'table'")]
    rows = [
        repr(row)
        for name in names
        if name not in ("secrets", "sqlite_sequence")
        for row in connection.execute(f"select * from {name}")
    ]
    connection.close()
    return "\n".join(rows)


async def test_the_password_of_a_workflow_opens_it_and_is_not_shown(house: House) -> None:
    order = {"kind": "workflow", "target": ANIMATED.id, "input": {"accessPassword": ANIMATED.password}}
    answer = await house.api.post("/tasks", json=order)
    assert answer.status_code == 202, answer.text
    await house.advance(30)
    shown = await house.api.get(f"/tasks/{answer.json()['id']}")
    listed = await house.api.get("/tasks")
    assert shown.json()["state"] == "succeeded"
    assert shown.json()["input"]["accessPassword"] == "[secret]"
    assert str(ANIMATED.password) not in answer.text + shown.text + listed.text


async def test_what_follows_bearer_is_masked_wherever_a_program_says_it(tmp_path: Path) -> None:
    toml = ON_END + '[[actions]]\nname = "hook"\nkind = "http"\nurl = "http://h.test/"\non = ["failed"]\n'
    toml += 'headers = { Authorization = "Bearer 7f3a9c51d2" }\n'

    async def tell(_: Work) -> Done:
        raise ActionFailed("it printed 7f3a9c51d2 alone", permanent=True)

    async with open_house(tmp_path, toml) as house:
        house.effect = tell
        task_id = await house.submit()
        await house.advance(30)
        assert (await house.task(task_id)).actions[0].reason == "it printed [secret] alone"
