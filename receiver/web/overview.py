"""How the server stands, in one answer: what waits, what is wrong, and what to do about it."""

from collections import Counter

from starlette.requests import Request
from starlette.responses import Response

from receiver import __version__
from receiver.model.records import ActionState, Filter, TaskState, rfc3339
from receiver.model.remedies import GIVE_KEY, remedy, unready
from receiver.model.views import OverviewView, WrongView
from receiver.server.service import Service
from receiver.web.answers import answer

WAITING = (TaskState.QUEUED, TaskState.SUBMITTING, TaskState.SUBMITTED, TaskState.IN_DOUBT, TaskState.LOST)
COUNTED = 10_000
"""Tasks of one state that are counted: more of them is as much to know, and a page must be quick."""
UNENDED = (ActionState.OWED, ActionState.RUNNING, ActionState.DEAD)
LISTED = 50


async def overview(service: Service, _: Request) -> Response:
    return answer(await standing(service))


async def standing(service: Service) -> OverviewView:
    """How the server stands."""
    store = service.store
    actions: Counter[str] = Counter()
    for definition in await store.definition_states():
        actions.update({state: definition.counts.get(state, 0) for state in UNENDED})
    alerts = await store.alerts(Filter(state=("open",), limit=LISTED))
    reasons = service.problems()
    wrong = [WrongView(alert=None, kind="unready", message=reason, remedy=unready(reason)) for reason in reasons]
    if not service.provider.has_key:
        wrong.append(WrongView(alert=None, kind="no_api_key", message="nothing can be submitted", remedy=GIVE_KEY))
    for alert in alerts.items:
        todo = remedy(alert.kind, alert.subject)
        wrong.append(WrongView(alert=alert.id, kind=alert.kind, message=alert.message, remedy=todo))
    return OverviewView(
        ready=not reasons,
        version=__version__,
        public_url=service.settings.public_url,
        tasks=await store.count_tasks(WAITING, COUNTED),
        counted_to=COUNTED,
        actions=dict(actions),
        submits_again_at=rfc3339(await _paused_until(service)),
        wrong=wrong,
        more_wrong=alerts.next is not None,
    )


async def _paused_until(service: Service) -> float | None:
    until = await service.store.queue_resumes_at(service.clock(), service.settings.policy.max_in_flight)
    return until if until is not None and until > service.clock() else None
