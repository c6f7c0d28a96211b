"""Pruning over HTTP: begun, looked at, stopped; and what it ever removed."""

import asyncio

from starlette.requests import Request
from starlette.responses import Response

from receiver.model.entries import Old, Pruned
from receiver.model.records import rfc3339
from receiver.model.views import PrunedView, PruneView
from receiver.server.service import Service
from receiver.web.answers import answer, read_object
from receiver.web.filters import read_prune

PATIENCE = 5.0
"""Seconds after which a run that goes on is answered with how far it is."""


async def begin(service: Service, request: Request) -> Response:
    run = await service.pruner.begin(dry_run=read_prune(await read_object(request)).dry_run)
    await asyncio.wait({run}, timeout=PATIENCE)
    return answer(await _view(service), 200 if run.done() else 202)


async def show(service: Service, _: Request) -> Response:
    return answer(await _view(service))


async def stop(service: Service, _: Request) -> Response:
    """What was removed is removed; what was not is kept until the next run."""
    service.pruner.stop()
    return answer(await _view(service))


async def _view(service: Service) -> PruneView:
    pruner, ever = service.pruner, await service.store.pruned()
    run = pruner.pruning
    gone = run.gone if run else {}
    return PruneView(
        state=pruner.state,
        dry_run=run is not None and run.dry_run,
        began_at=rfc3339(run.began_at) if run else None,
        ended_at=rfc3339(pruner.ended_at),
        problem=pruner.problem,
        items=[_row(kind, days, gone, ever) for kind, days in _days(service, ever).items()],
    )


def _days(service: Service, ever: dict[str, Pruned]) -> dict[str, float]:
    """Kinds that were pruned once and are kept for ever now are shown as well."""
    return {**service.pruner.days, **{kind: 0.0 for kind in ever if kind not in service.pruner.days}}


def _row(kind: str, days: float, gone: dict[str, Old], ever: dict[str, Pruned]) -> PrunedView:
    _, rows, size = gone.get(kind, Old(0, 0, 0))
    total = ever.get(kind, Pruned())
    return PrunedView(
        kind=kind,
        days=days,
        rows=rows,
        bytes=size,
        rows_ever=total.removed,
        bytes_ever=total.bytes,
        first_at=rfc3339(total.since),
    )
