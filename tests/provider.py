"""A simulated RunningHub by itself: its clock, a client of it, and a receiver whose answers are given beforehand."""

from collections.abc import Mapping
from typing import Any

import httpx

from receiver.simulator import DeliveryAnswer, Options, Simulator

START = 1_769_000_000.0
MODEL = "/openapi/v2/rhart-video-v3.1-pro-official/reference-to-video"
HOOK = "https://us.test/callbacks/token"
URL = "http://simulator.test"
KEY = {"Authorization": "Bearer key"}

SUBMIT_KEYS = ["taskId", "status", "errorCode", "errorMessage", "results", "clientId", "promptTips"]
QUERY_KEYS = [
    *SUBMIT_KEYS[:4],
    "failedReason",
    "usage",
    "results",
    "clientId",
    "promptTips",
]
EVENT_KEYS = [*SUBMIT_KEYS, "failedReason", "usage", "parentTaskId", "taskUsageList"]
DETAIL_KEYS = [
    "id",
    "userApiKey",
    "taskId",
    "webhookUrl",
    "eventData",
    "callbackStatus",
    "callbackResponse",
    "retryCount",
    "createTime",
    "updateTime",
]


class Clock:
    """A clock that only a test moves."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> float:
        return self.now


class Provider:
    """A simulator, its clock, a client of it, and a receiver whose answers are given beforehand."""

    def __init__(self, **options: Any) -> None:
        self.clock = Clock()
        self.answers: list[DeliveryAnswer] = []
        self.headers: list[Mapping[str, str]] = []
        self.sim = Simulator(Options(base_url=URL, **options), clock=self.clock, deliver=self.deliver)
        self.http = httpx.AsyncClient(transport=self.sim.transport(), base_url=URL)

    async def deliver(self, url: str, body: bytes, headers: Mapping[str, str]) -> DeliveryAnswer:
        self.headers.append(headers)
        return self.answers.pop(0) if self.answers else DeliveryAnswer(200, '{"ok":true}')

    async def submit(self, url: str | None = HOOK, path: str = MODEL) -> dict[str, Any]:
        body = {"prompt": "a cat", **({"webhookUrl": url} if url else {})}
        return document_of(await self.http.post(path, json=body, headers=KEY))

    async def submit_and_end(self) -> str:
        task_id: str = (await self.submit())["taskId"]
        await self.pass_time(5)
        return task_id

    async def pass_time(self, seconds: float) -> None:
        self.clock.now += seconds
        await self.sim.tick()

    async def query(self, task_id: object) -> dict[str, Any]:
        return document_of(await self.http.post("/openapi/v2/query", json={"taskId": task_id}, headers=KEY))

    async def v1(self, path: str, **body: object) -> dict[str, Any]:
        return document_of(await self.http.post(f"/task/openapi/{path}", json={"apiKey": "key", **body}))

    async def detail(self, task_id: str) -> dict[str, Any]:
        answer = await self.v1("getWebhookDetail", taskId=task_id)
        assert answer["code"] == 0
        data: dict[str, Any] = answer["data"]
        return data


def document_of(response: httpx.Response) -> dict[str, Any]:
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/json"
    document: dict[str, Any] = response.json()
    return document
