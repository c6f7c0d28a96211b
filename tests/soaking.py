"""The soak: a real server, a real provider and all that can be done to them, then calm, and an account of every order.

Three lanes of acts run side by side, each act for a few seconds: what befalls the server (kills, stops, a full disk, a
limit of its files, somebody else's lock, a wrong clock), the provider (outages, drips, odd answers) and the target of
an action. In the first half the server is killed; in the second one process lives, whose memory is looked at. Its
clock runs fast throughout, so that hours of its patience pass in minutes. Meanwhile orders come, callbacks are watched,
and `/readyz` is compared with what was just done. Nothing is asserted: what is wrong is gathered.
"""

import asyncio
import hashlib
import json
import os
import random
import shutil
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager, asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from accounting import Account, Report
from hook import Hook
from servers import ADMIN_TOKEN, API_KEY, MODEL, SECRET, indiscretions, is_sound, kept, rows
from soaked_server import FAST, FASTER, Acts, SoakedServer, free_port, small_disk

from receiver.model.links import Links
from receiver.model.records import Purpose
from receiver.simulator import Fault, Options, Plan, Simulator
from receiver.simulator import create_app as create_provider
from receiver.simulator.outages import ActiveOutage, Outage

CALM_PATIENCE = 60.0
"""Seconds after the storm in which every order must be accounted for: eight hours by the server's clock."""
ORDERS_A_SECOND = 4.0
FILE_SIZE = 4096
MEMORY_GROWTH = 24.0
"""MiB by which the process may grow in the second half: caches fill, and an allocator gives little back."""
ROUTES = ("*", "*", "submit", "query", "detail", "resend", "files")
ROUTES_OF = {Outage.QUEUE_FULL: ("submit",), Outage.CODED: ("files",), Outage.OTHER_TASK: ("query", "detail", "*")}
"""Where an outage is played, when it means nothing elsewhere."""
CODES = ("500", "1003", "1011", "415")
ADMIN = {"authorization": f"Bearer {ADMIN_TOKEN}"}
FAULTS: dict[str, Any] = {
    "drop": 0.05,
    "unsent": 0.05,
    "duplicate": 0.1,
    "late": 0.05,
    "before_answer": 0.05,
    "junk": 0.05,
    "fail": 0.1,
    "no_results": 0.03,
    "false_claim": 0.03,
    "answer_lost": 0.04,
    "link_away": 0.05,
}
EARLY = Plan(frozenset({Fault.EARLY_CLAIM}), seconds=10)
"""One in thirty, for so short that it is over with the storm."""


class Soak:
    """One run in a directory of its own, perhaps on a `small_disk`."""

    def __init__(self, directory: Path, seed: int, seconds: float, *, small_disk: bool) -> None:
        self.seconds = seconds
        self.report = Report(seed, seconds)
        lanes = ("orders", "server", "provider", "target", "rest")
        self.rng = {lane: random.Random(f"{seed} {lane}") for lane in lanes}
        self.provider_port, self.hook_port = free_port(), free_port()
        places = [f"http://127.0.0.1:{port}" for port in (self.provider_port, self.hook_port)]
        self.server = SoakedServer(directory, self.rng["server"], *places, small_disk=small_disk)
        self.links = Links([SECRET], self.server.url)
        self.hook = Hook()
        self.orders: dict[str, float] = {}
        self.promised: set[tuple[str, bytes]] = set()
        self.began = time.monotonic()

    # ------------------------------------------------------------ the whole of it

    async def run(self) -> Report:
        options = Options(
            api_key=API_KEY, port=self.provider_port, seed=self.report.seed, task_seconds=1.0, max_in_flight=60,
            file_size=FILE_SIZE, retry_seconds=(1, 2, 4), late_seconds=5.0, away_seconds=5.0, **FAULTS,
        )  # fmt: skip
        app = create_provider(options)
        self.simulator: Simulator = app.state.simulator
        self.account = Account(self.server.database, self.links, self.simulator, self.hook)
        async with serving(app, self.provider_port), serving(self.hook, self.hook_port), self._client():
            self.server.clock.set(time.time(), FAST)
            self.server.write_settings(with_note=True)
            await self.server.start()
            watching = [asyncio.create_task(each()) for each in (self._watch_readiness, self._watch_memory)]
            await self._storm()
            await self._calm()
            for each in watching:
                each.cancel()
            await asyncio.gather(*watching, return_exceptions=True)
            await self.server.stop()
        self._judge()
        return self.report

    @asynccontextmanager
    async def _client(self) -> AsyncIterator[None]:
        limits = httpx.Limits(max_keepalive_connections=0)
        async with httpx.AsyncClient(base_url=self.server.url, limits=limits, timeout=10, trust_env=False) as self.http:
            yield

    async def _storm(self) -> None:
        half = self.began + self.seconds / 2
        end = self.began + self.seconds
        async with asyncio.TaskGroup() as group:
            group.create_task(self._lane("server", end, lambda: self.server.acts(mortal=time.monotonic() < half)))
            group.create_task(self._lane("provider", end, self._provider_acts))
            group.create_task(self._lane("target", end, self._target_acts))
            group.create_task(self._order_until(end))
            group.create_task(self._intrude_until(end))

    async def _lane(self, lane: str, end: float, acts: Callable[[], Acts]) -> None:
        """One act after the other, every one of them before any comes again."""
        rng, left = self.rng[lane], list[str]()
        while time.monotonic() < end:
            possible = acts()
            left = [each for each in left if each in possible] or rng.sample(sorted(possible), len(possible))
            # What is possible in the first half alone comes first, so that a short run has it too.
            name = next((each for each in left if each in SoakedServer.MORTAL), left[-1])
            left.remove(name)
            self.report.acts[name] += 1
            await possible[name]()
            await asyncio.sleep(rng.uniform(0.2, 1.0))

    def length(self, lane: str) -> float:
        """How long an act goes on, in seconds."""
        return self.rng[lane].uniform(1.0, 3.0)

    async def _calm(self) -> None:
        """All is well, and time passes quickly: what is due is looked for when anybody does anything."""
        self.simulator.heal()
        self.server.clock.set(time.time(), FASTER)
        until = time.monotonic() + CALM_PATIENCE
        while (left := self.account.unaccounted(self.orders)) and time.monotonic() < until:
            self.report.counts["the_last_of_it"] = dict(list(left.items())[:3])
            await self.http.post("/api/definitions/keep/resume", headers=ADMIN)
            await asyncio.sleep(1)
        self.report.unaccounted = left
        self.report.counts["seconds_until_all_was_accounted_for"] = round(CALM_PATIENCE - (until - time.monotonic()), 1)

    # ------------------------------------------------------------ the provider and the target

    def _provider_acts(self) -> Acts:
        return {f"outage_{kind}": partial(self._outage, kind) for kind in Outage}

    def _target_acts(self) -> Acts:
        return {
            f"target_{mood}": lambda mood=mood: self._meanwhile(self.hook.as_told(mood), "target")  # type: ignore[misc]
            for mood in Hook.MOODS
        }

    async def _meanwhile(self, told: AbstractContextManager[None], lane: str) -> None:
        with told:
            await asyncio.sleep(self.length(lane))

    async def _outage(self, kind: Outage) -> None:
        rng = self.rng["provider"]
        route, code, seconds = rng.choice(ROUTES_OF.get(kind, ROUTES)), rng.choice(CODES), rng.uniform(1.0, 10.0)
        self.simulator.begin_outage(ActiveOutage(kind, route, code=code, seconds=seconds))
        await asyncio.sleep(self.length("provider"))
        self.simulator.heal()

    # ------------------------------------------------------------ orders and strangers

    async def _order_until(self, end: float) -> None:
        rng, number = self.rng["orders"], 0
        async with asyncio.TaskGroup() as group:
            while time.monotonic() < end:
                number += 1
                if number % 30 == 0:
                    self.simulator.add_plan(EARLY)
                group.create_task(self._order(number, cancel=rng.random() < 0.03))
                await asyncio.sleep(rng.expovariate(ORDERS_A_SECOND))

    async def _order(self, number: int, *, cancel: bool) -> None:
        """Says the same order under the same key until it is taken, as a careful client does."""
        body = {"kind": "model", "target": MODEL, "input": INPUT, "labels": {"number": str(number)}}
        headers = {**ADMIN, "idempotency-key": f"soak-{self.report.seed}-{number}"}
        until = time.monotonic() + self.seconds + 60
        while time.monotonic() < until:
            with suppress(httpx.HTTPError):
                answer = await self.http.post("/api/tasks", json=body, headers=headers)
                if answer.status_code in (200, 202):
                    task_id = answer.json()["id"]
                    self.orders[task_id] = time.monotonic()
                    break
                if answer.status_code != 503:
                    self.report.wrong.append(f"an order was answered {answer.status_code}: {answer.text[:200]}")
                    return
            await asyncio.sleep(0.5)
        else:
            self.report.wrong.append(f"order {number} was never taken")
            return
        if cancel:
            await asyncio.sleep(0.3)
            with suppress(httpx.HTTPError):
                await self.http.post(f"/api/tasks/{task_id}/cancel", headers=ADMIN)

    async def _intrude_until(self, end: float) -> None:
        """A stranger with leaked URLs, who sends junk and claims ends. What is answered 200 is promised."""
        rng, number = self.rng["rest"], 0
        while time.monotonic() < end:
            await asyncio.sleep(rng.uniform(0.05, 0.3))
            if not self.orders:
                continue
            number += 1
            task_id = rng.choice(list(self.orders))
            provider_id = rng.choice(list(self.simulator.tasks) or ["1"])
            outcome = {"taskId": provider_id, "status": rng.choice(("SUCCESS", "FAILED")), "results": None}
            claim = {"event": "TASK_END", "taskId": provider_id, "eventData": outcome, "number": number}
            body = rng.choice((b"junk %d" % number, b"\xff" * 50, json.dumps(claim).encode()))
            path = f"/callbacks/{self.links.token(task_id, Purpose.SUBMIT)}"
            with suppress(httpx.HTTPError):
                answer = await self.http.post(path, content=body)
                self._note_answer(task_id, body, answer.status_code, answer.text)

    def _note_answer(self, task_id: str, body: bytes, status: int, text: str) -> None:
        if status == 200:
            self.promised.add((task_id, hashlib.sha256(body).digest()))
        elif status == 503:
            with suppress(ValueError, KeyError):
                self.server.refused.append((time.monotonic(), json.loads(text)["error"]["code"]))
        elif status != 202:
            self.report.wrong.append(f"a callback of {task_id} was answered {status}: {text[:200]}")

    # ------------------------------------------------------------ watching

    async def _watch_readiness(self) -> None:
        while True:
            begun = time.monotonic()
            try:
                answer = await self.http.get("/readyz")
                told = "ready" if answer.status_code == 200 else " ".join(answer.json()["reasons"])
            except httpx.TimeoutException:
                told = "nothing in ten seconds"
            except httpx.HTTPError:
                told = "gone"
            self.server.ready.note(begun, told)
            await asyncio.sleep(0.1)

    async def _watch_memory(self) -> None:
        while True:
            pid = self.server.newest.pid
            with suppress(OSError, IndexError):
                pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
                since = round(time.monotonic() - self.began, 1)
                self.report.memory.append((since, pid, round(pages * os.sysconf("SC_PAGE_SIZE") / 2**20, 1)))
            await asyncio.sleep(1)

    def _judge(self) -> None:
        """What can be said when all is over."""
        wrong, counts = self.report.wrong, self.report.counts
        promised = self.promised | self.account.promised_to_the_provider()
        if lost := promised - kept(self.server.database):
            wrong.append(f"{len(lost)} callbacks were answered 200 and are not kept, such as one of {min(lost)[0]}")
        if not is_sound(self.server.database):
            wrong.append("the database is damaged")
        wrong += self.server.ready.wrong
        wrong += [line for server in self.server.lives for line in indiscretions(server)][:20]
        wrong += self.account.unsaved()
        for at, reason in self.server.refused:
            if reason != "too_many_bodies" and not any(begun <= at <= end for begun, end in self.server.broken):
                wrong.append(f"a callback was refused ({reason}) while all was well")
        states = Counter(str(each[0]) for each in rows(self.server.database, "select state from tasks"))
        sql = "select name || ' ' || state, count(*) from actions group by 1"
        counts |= {
            "orders": len(self.orders),
            "tasks": states,
            "actions": {str(name): number for name, number in rows(self.server.database, sql)},
            "promised": len(promised),
            "refused": Counter(reason for _, reason in self.server.refused),
            "readyz": self.server.ready.said,
            "asked": Counter(each.route for each in self.simulator.requests),
            "server_lives": len(self.server.lives),
            "memory_growth_mib": self._growth(),
        }

    def _growth(self) -> float:
        """MiB by which the last process grew, after it had a fifth of its life to grow warm."""
        life = [mib for _, pid, mib in self.report.memory if pid == self.server.newest.pid]
        few = max(1, len(life) // 5)
        growth = max(life[-few:]) - max(life[few : 2 * few] or life[:few]) if life else 0.0
        if growth > MEMORY_GROWTH:
            self.report.wrong.append(f"the server grew by {growth:.0f} MiB")
        return round(growth, 1)


INPUT = {
    "prompt": "a soak",
    "imageUrls": ["https://example.com/one.jpg"],
    "resolution": "1080p",
    "generateAudio": False,
}


@asynccontextmanager
async def serving(app: Any, port: int) -> AsyncIterator[None]:
    """An ASGI app on a port of this machine, in this process."""
    server = uvicorn.Server(
        uvicorn.Config(app, port=port, log_level="critical", access_log=False, timeout_graceful_shutdown=1)
    )
    server.install_signal_handlers = lambda: None  # type: ignore[attr-defined]
    running = asyncio.create_task(server.serve())
    while not server.started:  # noqa: ASYNC110 - nobody tells us
        await asyncio.sleep(0.02)
    try:
        yield
    finally:
        server.should_exit = True
        await running


async def soak(home: Path, *, seed: int, seconds: float, keep: Path | None = None) -> Report:
    """A soak in an empty directory; everything that was wrong stands in its report.

    `keep` is where the ledger and the server's output are copied to, for whoever looks into it.
    """
    with small_disk(home, seconds) as (directory, why_not):
        run = Soak(directory, seed, seconds, small_disk=why_not is None)
        if why_not is not None:
            run.report.skipped["disk_full"] = why_not
        report = await run.run()
        if keep is not None:
            shutil.copytree(directory, keep, dirs_exist_ok=True, ignore=shutil.ignore_patterns("results"))
            (keep / "server.log").write_text("\n".join(server.out + server.err for server in run.server.lives))
        return report
