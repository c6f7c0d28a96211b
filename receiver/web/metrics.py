"""GET /metrics: how the server stands and what it has done, in the format of Prometheus.

Everything comes from counts that are kept and from what the server measures of itself, gathered every few seconds at
the most, however many ask. No label holds what came from outside, so there are as many series as settings allow.
"""

import asyncio
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from receiver import __version__
from receiver.actions.settings import DownloadDefinition
from receiver.model import tallies
from receiver.model.entries import Figures, Storing
from receiver.model.measures import Histogram
from receiver.model.records import End, Kind, MissCause, Purpose
from receiver.model.rules import METRICS_KEPT
from receiver.model.tallies import MICRO, Tally
from receiver.server.service import Service

Labels = Sequence[str]
Values = Iterable[tuple[Labels, float]]


class Stand(NamedTuple):
    """What a snapshot is made of."""

    service: Service
    figures: Figures
    storing: Storing
    free: Mapping[str, int]
    now: float


class Snapshot(Collector):
    """What was gathered at one time."""

    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = list(families)

    def collect(self) -> Iterable[Metric]:
        return self._families


class Metrics:
    """The door of the metrics. What it tells is at most `METRICS_KEPT` seconds old by the clock of the service."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._gathering = asyncio.Lock()
        self._gathered_at = float("-inf")
        self._snapshot = Snapshot(())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        response = await self._answer(Request(scope))
        await response(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        async with self._gathering:
            now = self._service.clock()
            if not 0 <= now - self._gathered_at < METRICS_KEPT:
                self._snapshot = Snapshot(families_of(await _stand(self._service, now)))
                self._gathered_at = now
        encode, content_type = choose_encoder(request.headers.get("accept", ""))
        return Response(encode(self._snapshot), headers={"content-type": content_type, "cache-control": "no-store"})


async def _stand(service: Service, now: float) -> Stand:
    free = await asyncio.to_thread(_free_bytes, service)
    return Stand(service, await service.store.figures(), service.store.storing(), free, now)


def _free_bytes(service: Service) -> dict[str, int]:
    """By place; files may be saved to a disk of their own. A folder that is made later is on the disk of its parent."""
    downloads = [each for each in service.definitions if isinstance(each, DownloadDefinition)]
    places = {"database": service.scratch}
    if downloads:
        places["results"] = Path(downloads[0].directory).absolute()
    return {place: shutil.disk_usage(_there(folder)).free for place, folder in places.items()}


def _there(folder: Path) -> Path:
    return folder if folder.exists() or folder == folder.parent else _there(folder.parent)


def families_of(stand: Stand) -> Iterator[Metric]:
    for part in (_store, _callbacks, _tasks, _actions, _provider, _server):
        yield from part(stand)


def _store(stand: Stand) -> Iterator[Metric]:
    versions = [__version__, stand.storing.version]
    yield gauge("build_info", "The running version.", ("version", "database"), [(versions, 1)])
    writable = stand.service.store.problem() is None
    yield gauge("store_writable", "1 when the database can be written.", (), [((), writable)])
    sizes = [] if stand.storing.size is None else [((), stand.storing.size)]
    yield gauge("store_size_bytes", "Bytes of the database and its log.", (), sizes)
    free = [((place,), size) for place, size in stand.free.items()]
    yield gauge("disk_free_bytes", "Free bytes on the disk of a place.", ("place",), free)
    commits = [((), stand.storing.commits)]
    yield histogram("store_commit_seconds", "Seconds from a transaction's beginning until it is on disk.", (), commits)
    writes = [((), stand.storing.writes)]
    yield histogram("store_batch_writes", "Writes that were committed together.", (), writes)
    yield gauge("store_queue", "Writes that wait for a transaction.", (), [((), stand.storing.waiting)])


def _callbacks(stand: Stand) -> Iterator[Metric]:
    counters, meter = stand.figures.counters, stand.service.meter
    for what, told in (("received", "Different callbacks kept."), ("repeated", "Callbacks whose bytes were known.")):
        name = f"callbacks_{what}"
        again = counters.get(f"{name}.{Purpose.RESEND}", 0)
        by_purpose = [((Purpose.SUBMIT,), counters.get(name, 0) - again), ((Purpose.RESEND,), again)]
        yield counter(name, told, ("purpose",), by_purpose)
    yield counter(
        "callbacks_late", "Missed callbacks that came after all.", (), [((), counters.get("callbacks_late", 0))]
    )
    missed = [((cause,), counters.get(f"callbacks_missed.{cause}", 0)) for cause in MissCause]
    yield counter("callbacks_missed", "Callbacks that did not come, by the reason.", ("cause",), missed)
    refused = [((reason,), count) for reason, count in meter.refused.items()]
    yield counter("callbacks_refused", "Callbacks that were not taken as they should be.", ("reason",), refused)
    taken = "Seconds from a callback's last byte until it is on disk."
    yield histogram("callback_commit_seconds", taken, (), [((), meter.taken)])
    late = "Seconds from when a task's end was known until its callback came; 0 when the callback told it."
    yield tallied("callback_delay_seconds", late, (), stand.figures.tallies, {(): tallies.DELAY})
    lag = "Seconds from a task's first callback until its end was recorded, by how the end was learned."
    sources = {each.name.split(".")[1] for each in stand.figures.tallies if each.name.startswith(f"{tallies.LAG}.")}
    measures: dict[tuple[str, ...], str] = {(source,): f"{tallies.LAG}.{source}" for source in sorted(sources)}
    yield tallied("event_lag_seconds", lag, ("source",), stand.figures.tallies, measures)


def _tasks(stand: Stand) -> Iterator[Metric]:
    figures = stand.figures
    submitted = [((kind,), figures.counters.get(f"tasks_submitted.{kind}", 0)) for kind in Kind]
    yield counter("tasks_submitted", "Tasks that RunningHub took.", ("kind",), submitted)
    n = {(each.kind, each.name): each.n for each in figures.tallies}
    ended = [((kind, end), n.get((kind, end), 0)) for kind in Kind for end in End]
    yield counter("tasks_ended", "Tasks that ended, by how.", ("kind", "end"), ended)
    states = [((state,), count) for state, count in figures.tasks.items()]
    yield gauge("tasks", "Tasks that have not ended, by state.", ("state",), states)
    oldest = [((state,), max(0.0, stand.now - at)) for state, at in figures.oldest_tasks.items()]
    yield gauge("task_oldest_seconds", "Age of the oldest task in a state.", ("state",), oldest)
    for measure, told in ((tallies.WAIT, "did not run before they ended"), (tallies.RUN, "ran")):
        by_kind = {(kind,): [each for each in figures.tallies if each.kind == kind] for kind in Kind}
        values = [(kind, _as_histogram(some, measure)) for kind, some in by_kind.items()]
        yield histogram(f"task_{measure}_seconds", f"Seconds for which tasks {told}.", ("kind",), values)
    micro = {(each.kind, each.name): each.micro for each in figures.tallies}
    for name, told in ((tallies.COINS, "Coins"), (tallies.MONEY, "Money, in the account's currency,")):
        spent = [((kind,), micro.get((kind, name), 0) / MICRO) for kind in Kind]
        yield counter(f"spent_{name}", f"{told} that ended tasks took, as far as RunningHub says it.", ("kind",), spent)
    left = [((unit,), amount) for unit, amount in stand.service.meter.balance.items()]
    yield gauge("balance", "What was left when the account was last asked about.", ("unit",), left)


def _actions(stand: Stand) -> Iterator[Metric]:
    figures = stand.figures
    yield gauge("actions", "Actions that are not over, and dead ones.", ("name", "state"), figures.actions.items())
    due = [((name,), max(0.0, stand.now - at)) for name, at in figures.oldest_due.items()]
    yield gauge("action_oldest_due_seconds", "For how long the oldest action has been due.", ("name",), due)
    broken = [((name,), value) for name, value in figures.broken.items()]
    yield gauge("breaker_open", "1 when the target of a definition is unwell.", ("name",), broken)
    paused = [((name,), value) for name, value in figures.paused.items()]
    yield gauge("definition_paused", "1 when a definition is paused.", ("name",), paused)
    parts = [
        (name.split(".", 3)[1:], count) for name, count in figures.counters.items() if name.startswith("action_tries.")
    ]
    tries = [((name, outcome, category), count) for (outcome, category, name), count in parts]
    yield counter("action_tries", "Tries of actions that ended.", ("name", "outcome", "category"), tries)
    seconds = [((name,), each) for name, each in stand.service.meter.try_seconds.items()]
    yield histogram("action_try_seconds", "Seconds that a try took.", ("name",), seconds)


def _provider(stand: Stand) -> Iterator[Metric]:
    meter = stand.service.meter
    asked = "Requests to RunningHub, by what came of them."
    yield counter("provider_requests", asked, ("operation", "outcome"), meter.asked.items())
    seconds = [((operation,), each) for operation, each in meter.asked_seconds.items()]
    yield histogram("provider_request_seconds", "Seconds until an answer began.", ("operation",), seconds)
    answered: Values = [] if meter.answered_at is None else [((), meter.answered_at)]
    yield gauge("provider_last_answer_timestamp_seconds", "When RunningHub answered last.", (), answered)
    yield gauge("provider_in_flight", "Requests that wait for an answer.", (), [((), meter.asking)])


def _server(stand: Stand) -> Iterator[Metric]:
    meter = stand.service.meter
    alerts = [((kind,), count) for kind, count in stand.figures.alerts.items()]
    yield gauge("alerts_open", "Open alerts.", ("kind",), alerts)
    yield gauge("stream_readers", "Readers of the stream of changes.", (), [((), len(stand.service.stream.readers))])
    turns = [((loop,), at) for loop, at in stand.service.turns().items()]
    yield gauge("loop_last_turn_timestamp_seconds", "When a loop last looked for something to do.", ("loop",), turns)
    requests = [((route, method, str(status)), count) for (route, method, status), count in meter.requests.items()]
    yield counter("http_requests", "Requests, by the route they came to.", ("route", "method", "status"), requests)
    seconds = [((route,), each) for route, each in meter.request_seconds.items()]
    yield histogram("http_request_seconds", "Seconds until an answer began.", ("route",), seconds)


# ---------------------------------------------------------------- families


def gauge(name: str, told: str, labels: Labels, values: Values) -> Metric:
    family = GaugeMetricFamily(f"receiver_{name}", told, labels=labels)
    for given, value in values:
        family.add_metric(given, value)
    return family


def counter(name: str, told: str, labels: Labels, values: Values) -> Metric:
    family = CounterMetricFamily(f"receiver_{name}", told, labels=labels)
    for given, value in values:
        family.add_metric(given, value)
    return family


def histogram(name: str, told: str, labels: Labels, values: Iterable[tuple[Labels, Histogram]]) -> Metric:
    family = HistogramMetricFamily(f"receiver_{name}", told, labels=labels)
    for given, each in values:
        below = accumulate(each.counts)
        bounds = [*(repr(bound) for bound in each.bounds), "+Inf"]
        family.add_metric(given, list(zip(bounds, below, strict=True)), each.sum)
    return family


def tallied(
    name: str, told: str, labels: Labels, some: Sequence[Tally], measures: Mapping[tuple[str, ...], str]
) -> Metric:
    """A histogram out of the tallies of all time, for which every kind of task counts alike."""
    return histogram(name, told, labels, [(given, _as_histogram(some, each)) for given, each in measures.items()])


def _as_histogram(some: Sequence[Tally], measure: str) -> Histogram:
    found = Histogram(tallies.BUCKETS)
    found.counts = tallies.counts_by_bucket(some, measure)
    found.sum = sum(each.micro for each in some if each.name.rpartition(".")[0] == measure) / MICRO
    return found
