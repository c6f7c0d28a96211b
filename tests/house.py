"""The whole program in one process, on a clock that a test moves: real store, real doors, a simulated provider."""

import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import msgspec

from receiver.actions import Done, Work
from receiver.console import create_app
from receiver.model.definitions import ActionKind
from receiver.model.records import JsonObject, Purpose
from receiver.model.views import DeliveryPage, TaskDetail
from receiver.server.service import Service
from receiver.server.settings import load_settings, sources
from receiver.simulator import DeliveryAnswer, Fault, Options, Simulator, asgi_deliver
from receiver.store import open_store

START = 1_790_000_000.0
ADMIN_TOKEN = "admin-token-for-tests"
API_KEY = "0123456789abcdef0123456789abcdef"
SECRET = "first-signing-secret-of-the-tests"
MODEL = "rhart-video-v3.1-pro-official/reference-to-video"
INPUT: JsonObject = {
    "prompt": "Use the first image as the background.",
    "imageUrls": ["https://example.com/one.jpg"],
    "resolution": "1080p",
    "generateAudio": False,
}
TLS = ssl.create_default_context()
ON_END = """
[[actions]]
name = "on-success"
kind = "python"
function = "effects:success"
[[actions]]
name = "on-failure"
kind = "python"
function = "effects:failure"
on = ["failed", "rejected", "cancelled"]
"""


class Clock:
    def __init__(self, now: float = START) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


Effect = Callable[[Work], Awaitable[Done]]


async def no_effect(_: Work) -> Done:
    return Done(detail={})


class House:
    """`door_open` False is a server that is down: callbacks find nobody, loops do not turn.

    `skew` is how far the server's own clock is ahead of the true one, which the provider has.
    `url_works` False is a public URL at which callbacks find nobody, although the server works.
    """

    def __init__(self, directory: Path, toml: str, environment: Mapping[str, str], **options: object) -> None:
        self.clock = Clock()
        self.door_open = True
        self.url_works = True
        self.skew = 0.0
        self.effects: list[Work] = []
        self.effect: Effect = no_effect
        (directory / "receiver.toml").write_text(toml)
        self._given = {
            "RECEIVER_DATABASE": f"sqlite:///{directory / 'receiver.db'}",
            "RECEIVER_PUBLIC_URL": "http://receiver.test",
            "RECEIVER_ADMIN_TOKEN": ADMIN_TOKEN,
            "RECEIVER_SECRETS": SECRET,
            "RUNNINGHUB_API_KEY": API_KEY,
            "RUNNINGHUB_BASE_URL": "http://simulator.test",
            "RUNNINGHUB_MAX_IN_FLIGHT": "100",
            **environment,
        }
        self._directory = directory
        told = Options(api_key=API_KEY, base_url="http://simulator.test", **options)  # type: ignore[arg-type]
        self.simulator = Simulator(told, clock=self.clock, deliver=self._deliver)

    async def open(self) -> None:
        database = self._directory / "receiver.db"
        if not database.exists():
            database.write_bytes(await _fresh_database(self._directory))
        settings = load_settings({name: value for name, value in self._given.items() if value}, self._directory)
        self.service = Service(
            settings,
            clock=self.wall,
            jitter=lambda: 0.5,
            transport=self.simulator.transport(),
            read_wait=0.0,
            perform=dict.fromkeys(ActionKind, self._perform),
            tls=TLS,
        )
        await self.service.start(loops=False)
        self.store = self.service.store
        self.app = create_app(self.service, sources(self._given, self._directory))
        self._posted = asgi_deliver(self.app)
        self.http = httpx.AsyncClient(transport=httpx.ASGITransport(self.app), base_url="http://receiver.test")
        self.api = httpx.AsyncClient(
            transport=httpx.ASGITransport(self.app),
            base_url="http://receiver.test/api",
            headers={"Authorization": f"Bearer {ADMIN_TOKEN}"},
        )

    def wall(self) -> float:
        """What the server's own clock says."""
        return self.clock.now + self.skew

    async def close(self) -> None:
        await self.api.aclose()
        await self.http.aclose()
        await self.service.close()

    async def reopen(self, **environment: str) -> None:
        """The server ends and starts again, perhaps otherwise configured."""
        await self.close()
        self._given |= environment
        await self.open()

    async def _deliver(self, url: str, body: bytes, headers: Mapping[str, str]) -> DeliveryAnswer:
        if not (self.door_open and self.url_works):
            return DeliveryAnswer(None, "Connection refused")
        return await self._posted(url, body, headers)

    async def _perform(self, work: Work) -> Done:
        self.effects.append(work)
        return await self.effect(work)

    # ------------------------------------------------------------ time

    async def settle(self) -> None:
        """Everything that is due now, by whomever, until nothing is."""
        if self.door_open:
            await self.service.housekeep()
        while await self._turn():
            pass

    async def _turn(self) -> bool:
        moved = await self.simulator.tick()
        if not self.door_open:
            return moved
        service = self.service
        moved = await service.submit_next() is not None or moved
        moved = await service.reconcile_next() is not None or moved
        for definition in service.definitions:
            moved = await service.dispatch_next(definition) is not None or moved
        return moved

    async def advance(self, seconds: float) -> None:
        """Lets time pass, from one thing that is due to the next."""
        until = self.clock.now + seconds
        await self.settle()
        while (due := await self._next_due()) is not None and due <= until:
            self.clock.now = max(due, self.clock.now + 0.001)
            await self.settle()
        self.clock.now = max(self.clock.now, until)
        await self.settle()

    async def _next_due(self) -> float | None:
        times = [self.simulator.next_due()]
        if self.door_open:
            now = self.wall()
            own = [await self.store.next_check_at()]
            own.append(await self.store.queue_resumes_at(now, self.service.settings.max_in_flight))
            own += [await self.store.next_action_at(each.name, now) for each in self.service.definitions]
            times += [None if time is None else time - self.skew for time in own]
        return min((time for time in times if time is not None and time > self.clock.now), default=None)

    # ------------------------------------------------------------ as a user

    async def submit(self, *faults: Fault, **options: object) -> str:
        """Orders a task and returns its id; it is sent at the next turn."""
        if faults or options:
            self.simulator.plan_next(*faults, **options)
        answer = await self.api.post("/tasks", json={"target": MODEL, "input": INPUT})
        assert answer.status_code == 202, answer.text
        task_id: str = answer.json()["id"]
        return task_id

    async def task(self, task_id: str) -> TaskDetail:
        answer = await self.api.get(f"/tasks/{task_id}")
        assert answer.status_code == 200, answer.text
        return msgspec.json.decode(answer.content, type=TaskDetail)

    async def totals(self) -> dict[str, int]:
        answer = await self.api.get("/deliveries")
        return msgspec.json.decode(answer.content, type=DeliveryPage).totals

    async def alerts(self) -> list[str]:
        """The kinds of the alerts that are open."""
        answer = await self.api.get("/alerts?state=open")
        return [alert["kind"] for alert in answer.json()["items"]]

    def callback_path(self, task_id: str, purpose: Purpose = Purpose.SUBMIT) -> str:
        return f"/callbacks/{self.service.links.token(task_id, purpose)}"

    def effects_of(self, task_id: str) -> list[str]:
        """The names of the definitions whose effect was had for a task, in order."""
        return [work.definition.name for work in self.effects if work.task_id == task_id]


_fresh: list[bytes] = []


async def _fresh_database(directory: Path) -> bytes:
    """A migrated database without a row, made once: making it takes half of a house's opening."""
    if not _fresh:
        store = open_store(f"sqlite:///{directory / 'fresh.db'}")
        await store.open()
        await store.close()
        _fresh.append((directory / "fresh.db").read_bytes())
    return _fresh[0]


@asynccontextmanager
async def open_house(
    directory: Path, toml: str = ON_END, environment: Mapping[str, str] = {}, **options: object
) -> AsyncIterator[House]:
    house = House(directory, toml, environment, **options)
    await house.open()
    try:
        yield house
    finally:
        await house.close()
