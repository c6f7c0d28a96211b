"""Opens the hands from the settings, runs the loops, closes in reverse."""

import asyncio
import random
import secrets
import ssl
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit
from weakref import WeakValueDictionary

import httpx
import structlog

from receiver.actions import Done, Performer, Work
from receiver.actions.child import end_left_behind
from receiver.actions.download.partial import free_room
from receiver.actions.kinds import performers
from receiver.dispatch import Worker, dispatch
from receiver.egress.client import Egress
from receiver.housekeep import housekeep
from receiver.model import rules
from receiver.model.announcement import Announcement
from receiver.model.definitions import ActionKind, Definition
from receiver.model.entries import Abandoned
from receiver.model.errors import Refused, StoreUnavailable
from receiver.model.links import Links
from receiver.model.measures import Meter
from receiver.model.records import AlertKind, Line
from receiver.model.redaction import Redactor
from receiver.orders.exchange import Asker
from receiver.reconcile import Reconciler
from receiver.replay import go_on_with_any
from receiver.runninghub.client import RunningHub, fingerprint, open_http, transport_of
from receiver.runninghub.measured import MeasuredTransport
from receiver.runninghub.resources import Resources
from receiver.server.address import address_file
from receiver.server.loop import Loop
from receiver.server.outcomes import teller
from receiver.server.pruner import Pruner
from receiver.server.refusals import Refusals
from receiver.server.settings import Settings
from receiver.server.stream import Stream
from receiver.store import Store, described, local_place, open_store, password_of
from receiver.submit import submit_next

log = structlog.get_logger()

ADMIN_TOKEN = "admin_token"
WORKERS = 4
"""Of those who submit, and of those who reconcile."""
RECONCILER, REPLAYER, HOUSEKEEPER, PRUNER, TALLIER = "reconcile", "replay", "housekeep", "prune", "tally"
HOUSEKEEPING = 10.0
"""Seconds between two rounds of housekeeping."""
TALLY_REST = 0.1
"""Seconds between two slices of old events that are tallied: a million of them take ten minutes."""
STOP_PATIENCE = 6.0
"""Seconds for what is in hand when the server stops; ending a command may take two more, and ten are allowed."""


class Service:
    """Everything a running server consists of, but its doors. `start` it, use it, `close` it.

    `transport` replaces the network to the provider, `read_wait` is the first pause between two reads of it (seconds),
    `perform` replaces what has the effects of actions, `tls` saves making another context (it takes 50 ms), `node` is
    the name under which it holds submissions and actions.
    """

    store: Store
    links: Links
    redact: Redactor
    asker: Asker
    reconciler: Reconciler
    admin_token: str

    def __init__(
        self,
        settings: Settings,
        *,
        clock: Callable[[], float] = time.time,
        jitter: Callable[[], float] = random.random,
        transport: httpx.AsyncBaseTransport | None = None,
        read_wait: float = 0.5,
        perform: Mapping[ActionKind, Performer] | None = None,
        tls: ssl.SSLContext | None = None,
        node: str = rules.NODE,
    ) -> None:
        self.settings = settings
        self.clock = clock
        self.node = node
        self.definitions = settings.definitions
        self.store = open_store(settings.database, disk_floor=settings.disk_floor)
        self.store.listen(teller())
        self.stream = Stream(secrets.token_hex(4))
        self.store.listen(self.stream.publish)
        self.database = described(settings.database)
        """Where the ledger is, for people."""
        place = local_place(settings.database)
        self.scratch = place.parent
        """The directory for files that are in hand: beside the database, where there is room."""
        self.address_file = address_file(place)
        """The file in which the command line finds the URL of this server."""
        self.announced: Announcement | None = None
        self._jitter = jitter
        tls = tls or httpx.create_ssl_context()
        self.meter = Meter()
        self._http = open_http(MeasuredTransport(transport or transport_of(tls), self.meter, clock), tls)
        self.provider = RunningHub(self._http, settings.base_url, settings.api_key, read_wait=read_wait)
        self._egress = Egress([host_and_port(settings.base_url)], tls=tls)
        self.resources = Resources(self._http, settings.base_url, settings.api_key, self._egress, read_wait=read_wait)
        hands = perform or performers(self._egress, clock=clock, room=self.room)
        self._performers = {kind: self._measured(each) for kind, each in hands.items()}
        self._loops: list[Loop] = []
        self._workers: list[Worker] = []
        self._stopping = False
        self._housekeeping_at = 0.0
        self._tally_at = 0.0
        self._refused: dict[str, tuple[int, float]] = {}
        self._in_hand: set[int] = set()
        self._sending: set[str] = set()
        self.refusals = Refusals(clock)
        self.pruner = Pruner(self.store, settings.keep, clock)
        self.uploading: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        """Held while a file is brought to the provider, by its SHA-256: the same bytes go once."""

    async def start(self, *, loops: bool = True) -> None:
        """Opens the store and begins to work; without `loops` every step is for the caller to make.

        Raises DatabaseInUse, and sqlite3.Error for a file that is no database.
        """
        await self.store.open(waiting=lambda why: log.warning("open", message=why))
        self.admin_token = self.settings.admin_token or await self.store.secret(ADMIN_TOKEN)
        await self.store.begin_signing(self.clock(), given=bool(self.settings.secrets))
        self._secrets = await self._all_secrets()
        self.links = Links(self._secrets, self.settings.public_url)
        known = [
            self.settings.api_key,
            self.admin_token,
            self.settings.view_token,
            password_of(self.settings.database),
            *self._secrets,
            *secrets_of(self.definitions),
        ]
        self.redact = Redactor(known)
        self.asker = Asker(self.provider, self.store, self.redact, self.clock)
        self.reconciler = Reconciler(
            self.store, self.asker, self.links, self.definitions, self.settings.policy, self.clock
        )
        now = self.clock()
        if self.settings.api_key:
            key = fingerprint(self.settings.api_key)
            self.provider.sites = self.resources.sites = await self.store.use_key(key, self.provider.site, now)
        await self.store.sync_definitions(self.definitions, now)
        await self.store.bound_times(now, self.settings.patience)
        await self.store.doubt_interrupted(now, node=self.node)
        await self.store.look_at_unreadable(now)
        # What this node held it has no workers for any more. Only a program may have outlived them: one that is known
        # is ended, and another may run until its lease does.
        await asyncio.gather(*map(end_left_behind, await self.store.left_programs(self.node)))
        mine = Abandoned(self.node, [each.name for each in self.definitions if each.kind is not ActionKind.COMMAND])
        budgets = {each.name: each.max_attempts for each in self.definitions}
        await self.store.free_expired_leases(now, budgets, abandoned=mine)
        if loops:
            self._start_loops()

    async def hold(self, patience: float = STOP_PATIENCE) -> None:
        """Begins nothing new, waits `patience` seconds for what is in hand, then gives it back."""
        self._stopping = True
        self.stream.close()
        self.pruner.stop()
        for loop in self._loops:
            loop.stop()
        until = time.monotonic() + patience
        await asyncio.gather(*(loop.ended(until - time.monotonic()) for loop in self._loops))
        await asyncio.gather(*(worker.give_back() for worker in self._workers))

    async def close(self) -> None:
        """Closes everything, last of all the store. May follow a `hold`, and may be called without one."""
        await self.hold(patience=0.0)
        await self.pruner.close()
        with suppress(StoreUnavailable):
            await self.refusals.write_down(self.store)
        await self._egress.aclose()
        await self._http.aclose()
        await self.store.close()

    def room(self, folder: Path) -> int:
        """Bytes that files may still take on the disk of a folder."""
        return free_room(folder, self.scratch, self.settings.disk_floor)

    async def rotate_secret(self) -> float:
        """Another secret signs callback URLs. Until when the old one is accepted. Raises Refused (409)."""
        if self.settings.secrets:
            remedy = "put a new one first in RECEIVER_SECRETS, keep the old one behind it for a day, and restart"
            raise Refused(409, "secrets_given", f"the signing secrets stand in the settings: {remedy}")
        now = self.clock()
        await self.store.rotate_signing(now)
        await self._look_at_secrets()
        return now + rules.SECRET_KEPT

    def turns(self) -> dict[str, float]:
        """When each loop last looked whether there is anything to do."""
        return {loop.name: loop.turned_at for loop in self._loops if loop.turned_at is not None}

    def problems(self) -> list[str]:
        """Reason codes for why this server is not ready; empty when it is."""
        if self._stopping:
            return ["stopping"]
        store = self.store.problem()
        return ([store] if store else []) + [f"loop_dead:{loop.name}" for loop in self._loops if not loop.alive]

    # ------------------------------------------------------------ one step each

    async def submit_next(self) -> Line | None:
        return await submit_next(
            self.store,
            self.asker,
            self.links,
            self.definitions,
            self.settings.policy,
            self.clock,
            node=self.node,
            in_hand=self._sending,
        )

    async def reconcile_next(self) -> Line | None:
        return await self.reconciler.step()

    async def dispatch_next(self, definition: Definition, worker: Worker | None = None) -> Line | None:
        return await dispatch(
            self.store,
            self._performers,
            definition,
            self.redact,
            self.clock,
            self._jitter,
            in_hand=self._in_hand,
            node=self.node,
            worker=worker,
        )

    def _measured(self, perform: Performer) -> Performer:
        async def measured(work: Work) -> Done:
            begun = time.monotonic()
            try:
                return await perform(work)
            finally:
                self.meter.try_seconds[work.definition.name].note(time.monotonic() - begun)

        return measured

    async def replay_next(self) -> Line | None:
        return await go_on_with_any(self.store, self.definitions, self.clock())

    async def housekeep(self) -> Line | None:
        self._housekeeping_at = self.clock() + HOUSEKEEPING
        found = await housekeep(
            self.store,
            self.definitions,
            self.settings.policy,
            self.clock(),
            self._in_hand,
            sending=self._sending,
            site=self.provider.site,
            sites=self.provider.sites,
        )
        await self._tell_refusals()
        if found:
            self.wake()
        await self._look_at_secrets()
        await self.refusals.write_down(self.store)
        await self._look_at_disk()
        return None

    async def _all_secrets(self) -> list[str]:
        return [*self.settings.secrets, *await self.store.signing_secrets(self.clock())]

    async def _look_at_secrets(self) -> None:
        """One may have been made, or have been accepted for long enough."""
        if (secrets := await self._all_secrets()) != self._secrets:
            self._secrets = secrets
            self.links.accept(secrets)
            self.redact.learn(secrets)

    async def _look_at_disk(self) -> None:
        """Files wait for room, which only somebody else can make."""
        now, floor = self.clock(), self.settings.disk_floor
        if await asyncio.to_thread(self.room, self.scratch) >= 0:
            await self.store.clear_alert(AlertKind.DISK_LOW, "files", now)
            return
        message = f"the disk is nearly full: files are neither saved nor uploaded; below {floor} bytes nothing is taken"
        await self.store.raise_alert(AlertKind.DISK_LOW, "files", message, now)

    def wake(self, only: str | None = None) -> None:
        """There may be something to do: one loop looks, or every one but those that keep their own time."""
        for loop in self._loops:
            if loop.name == only or (only is None and loop.name not in (HOUSEKEEPER, PRUNER, TALLIER)):
                loop.wake()

    def _step_made(self) -> None:
        """The same after a step of a loop: no task and no action begins a replay."""
        for loop in self._loops:
            if loop.name not in (REPLAYER, HOUSEKEEPER, PRUNER, TALLIER):
                loop.wake()

    # ------------------------------------------------------------ loops

    def _start_loops(self) -> None:
        made, clock = self._step_made, self.clock
        self._loops = [
            Loop("submit", self.submit_next, self._submit_due, clock, workers=WORKERS, after=made),
            Loop(RECONCILER, self.reconcile_next, self.store.next_check_at, clock, workers=WORKERS, after=made),
            Loop(REPLAYER, self.replay_next, self._replay_due, self.clock, after=self.wake),
            Loop(HOUSEKEEPER, self.housekeep, self.housekeeping_due, self.clock),
            Loop(TALLIER, self.tally_next, self._tally_due, self.clock),
            Loop(PRUNER, self.pruner.step, self.pruner.due, self.clock),
            *(self._dispatcher(definition) for definition in self.definitions),
        ]
        for loop in self._loops:
            loop.start()

    def _dispatcher(self, definition: Definition) -> Loop:
        """A definition's own workers, so that a backlog of one never holds up another."""
        name = definition.name

        async def due() -> float | None:
            return await self.store.next_action_at(name, self.clock())

        waited_for = any(name in other.after for other in self.definitions)
        after = self._step_made if waited_for or definition.kind == "download" else None
        workers = [Worker(lambda: not self._stopping) for _ in range(definition.concurrency)]
        self._workers += workers
        steps = [partial(self.dispatch_next, definition, worker) for worker in workers]
        return Loop(f"dispatch:{name}", steps[0], due, self.clock, workers=len(steps), steps=steps, after=after)

    async def _replay_due(self) -> float | None:
        return None if await self.store.search() is None else self.clock()

    async def tally_next(self) -> None:
        """A slice of what ended before there were tallies, and then a rest, so that callbacks hardly meet it."""
        await self.store.tally_older()
        self._tally_at = self.clock() + TALLY_REST

    async def _tally_due(self) -> float | None:
        return None if await self.store.is_tallied() else min(self._tally_at, self.clock() + TALLY_REST)

    async def _submit_due(self) -> float | None:
        has_key, most = self.provider.has_key, self.settings.max_in_flight
        site = self.provider.site
        return await self.store.queue_resumes_at(self.clock(), most, site) if has_key else None

    async def _tell_refusals(self) -> None:
        """An alert about writes that were refused; there is room for it only when the storage is well again."""
        now = self.clock()
        for reason, count in self.store.refused().items():
            told, at = self._refused.get(reason, (0, now))
            if count > told:
                message = f"{count - told} writes were refused: {reason.replace('_', ' ')}"
                await self.store.raise_alert(AlertKind.STORE_REFUSED, reason, message, now)
                self._refused[reason] = count, now
            elif now - at > rules.REFUSALS_TOLD:
                await self.store.clear_alert(AlertKind.STORE_REFUSED, reason, now)

    async def housekeeping_due(self) -> float:
        """When the next round is, in seconds since 1970."""
        # Further off than one round is only what a clock left behind that was set back.
        now = self.clock()
        return self._housekeeping_at if self._housekeeping_at <= now + HOUSEKEEPING else now


def host_and_port(url: str) -> tuple[str, int | None]:
    """Where the provider is, which results may be fetched from wherever it is."""
    parts = urlsplit(url)
    return parts.hostname or "", parts.port


def secrets_of(definitions: tuple[Definition, ...]) -> list[str]:
    """What the definitions hold that must not be read."""
    return [secret for each in definitions for secret in each.secrets()]
