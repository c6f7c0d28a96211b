"""Owns the doors of what is made of nodes: workflows, AI apps and quick creations, and how to look at them."""

from collections.abc import Mapping
from typing import Any

from starlette.requests import Request as HttpRequest

from receiver.simulator import workflows
from receiver.simulator.account import RATES
from receiver.simulator.answers import Answer, Document, Family, Refused, envelope, to_bytes
from receiver.simulator.gate import Door, checked, is_text, json_object, v1, v2, webhook_url_of
from receiver.simulator.ids import chance_source
from receiver.simulator.intake import take
from receiver.simulator.orders import Dialect, Kind, Order
from receiver.simulator.provider import Provider
from receiver.simulator.showcase import app_shown, style_shown
from receiver.simulator.workflows import App, Workflow

BOOLEANS = {"true": True, "false": False, True: True, False: False}
"""The provider's own examples write these as texts."""
QUICK_NODE = ("nodeId", "nodeName", "fieldName", "fieldType", "fieldValue", "description")


async def create(provider: Provider, request: HttpRequest, body: bytes) -> Answer:
    """A workflow's id and what to change in it (pages "Start ComfyUI Task 1 - Basic" and "2 - Advanced")."""
    wanted = v1(provider, body, "workflowId")
    return await _run_workflow(provider, wanted.pop("workflowId"), wanted, Dialect.V1)


async def run_workflow(provider: Provider, request: HttpRequest, body: bytes) -> Answer:
    """The same with the id in the path, answered by a V2 task object."""
    return await _run_workflow(provider, request.path_params["target"], v2(body), Dialect.V2, nodes_needed=True)


async def app_run(provider: Provider, request: HttpRequest, body: bytes) -> Answer:
    """An app's id and the values of its nodes (page "Start AI App Task")."""
    wanted = v1(provider, body)
    return await _run_app(provider, _app_id(wanted.pop("webappId", None)), wanted, Dialect.V1)


async def run_app(provider: Provider, request: HttpRequest, body: bytes) -> Answer:
    """The same with the id in the path, answered by a V2 task object."""
    return await _run_app(provider, request.path_params["target"], v2(body), Dialect.V2)


async def workflow_json(provider: Provider, request: HttpRequest, body: bytes) -> Document:
    """A workflow's id in, its graph out as JSON text (page "Get Workflow JSON")."""
    wanted = v1(provider, body, "workflowId")
    graph = _workflow(provider, wanted["workflowId"]).graph
    return envelope({"prompt": to_bytes(graph).decode()}, msg="SUCCESS")


async def app_demo(provider: Provider, request: HttpRequest, body: bytes) -> Document:
    """What an app wants, for whoever is to call it (page "Get AI App API Call Example")."""
    given = checked(provider, dict(request.query_params), "webappId")
    return envelope(app_shown(_app(provider, given["webappId"]), provider.options.link_base))


async def quick_styles(provider: Provider, request: HttpRequest, body: bytes) -> Document:
    """The styles of an app's quick creation; nobody is asked for a key (page "Get Quick Create style data")."""
    wanted = json_object(body) or {}
    style_type = wanted.get("type")
    if type(style_type) is not int:
        raise Refused(301, "type must not be null")
    app = _app(provider, _app_id(wanted.get("webappId")))
    return envelope([style_shown(app, style) for style in app.styles if style.type == style_type])


async def quick_run(provider: Provider, request: HttpRequest, body: bytes) -> Answer:
    """An app by its quick create code; every key of every node counts (page "Start Quick Create Task")."""
    wanted = v1(provider, body, "quickCreateCode")
    app_id = _app_id(wanted.pop("webappId", None))
    for node in _node_list(wanted):
        missing = [name for name in QUICK_NODE if not isinstance(node, Mapping) or node.get(name) is None]
        if missing:
            raise Refused(301, f"nodeInfoList.{missing[0]} must not be blank")
    if wanted["quickCreateCode"] != _app(provider, app_id).quick_code:
        raise Refused(301, "quickCreateCode is unknown")
    return await _run_app(provider, app_id, wanted, Dialect.V1, Kind.QUICK)


async def _run_app(
    provider: Provider, app_id: str, wanted: Document, dialect: Dialect, kind: Kind = Kind.APP
) -> Answer:
    _check_machine(wanted)
    nodes = _node_list(wanted)
    app = _app(provider, app_id)
    _check_password(app.workflow, wanted)
    workflows.offered(app, nodes)
    return await _take(provider, kind, app_id, wanted, dialect, app.workflow, nodes)


async def _run_workflow(
    provider: Provider, workflow_id: str, wanted: Document, dialect: Dialect, *, nodes_needed: bool = False
) -> Answer:
    _check_machine(wanted)
    nodes, text = wanted.get("nodeInfoList"), wanted.get("workflow") or None
    if nodes_needed and nodes is None and text is None:
        raise Refused(301, "nodeInfoList must not be null")
    if text is None:
        workflow = _workflow(provider, workflow_id)
        _check_password(workflow, wanted)
    elif nodes:
        raise Refused(803)
    else:
        # With a graph of its own an order names any workflow: the id is not looked at.
        workflow, nodes = Workflow(workflow_id, workflows.read_graph(text)), []
    nodes = [] if nodes is None else nodes
    return await _take(provider, Kind.WORKFLOW, workflow_id, wanted, dialect, workflow, nodes)


async def _take(
    provider: Provider, kind: Kind, target: str, wanted: Document, dialect: Dialect, workflow: Workflow, nodes: object
) -> Answer:
    rng = chance_source(provider.options.seed, "seeds", len(provider.tasks.by_id))
    graph = workflows.with_nodes(workflow.graph, nodes, rng)
    order = Order(
        kind=kind,
        target=target,
        dialect=dialect,
        makes=workflows.makings(graph),
        webhook_url=webhook_url_of(wanted),
        params=wanted,
        graph=graph,
        coin_rate=provider.account.coin_rate(wanted.get("instanceType") or "default"),
        price=workflow.price,
        personal_queue=_boolean(wanted, "usePersonalQueue"),
    )
    return await take(provider, order)


def _workflow(provider: Provider, workflow_id: str) -> Workflow:
    workflow = provider.workflows.get(workflow_id)
    if workflow is None or not workflow.run_by_hand:
        raise Refused(380 if workflow is None else 810)
    return workflow


def _app(provider: Provider, app_id: str) -> App:
    if app_id not in provider.apps:
        raise Refused(901)
    return provider.apps[app_id]


def _check_machine(wanted: Mapping[str, Any]) -> None:
    """Refused when what all these orders may say of the machine is wrong."""
    if (wanted.get("instanceType") or "default") not in RATES:
        raise Refused(301, f"instanceType must be one of {', '.join(RATES)}")
    seconds = wanted.get("retainSeconds")
    if seconds is not None and not (type(seconds) is int and 10 <= seconds <= 180):
        raise Refused(301, "retainSeconds must be between 10 and 180")
    for name in ("usePersonalQueue", "addMetadata"):
        _boolean(wanted, name)


def _boolean(wanted: Mapping[str, Any], name: str) -> bool:
    value = wanted.get(name)
    if value is None:
        return False
    if not isinstance(value, str | bool) or value not in BOOLEANS:
        raise Refused(301, f"{name} must be a boolean")
    return BOOLEANS[value]


def _app_id(app_id: object) -> str:
    """An app's id, which may come as text or as a number."""
    if type(app_id) is int:
        return str(app_id)
    if not isinstance(app_id, str) or not is_text(app_id):
        raise Refused(301, "webappId must not be blank")
    return app_id


def _node_list(wanted: Mapping[str, Any]) -> list[Any]:
    nodes = wanted.get("nodeInfoList")
    if not isinstance(nodes, list):
        raise Refused(301, "nodeInfoList must not be null")
    return nodes


def _check_password(workflow: Workflow, wanted: Mapping[str, Any]) -> None:
    if workflow.password is not None and wanted.get("accessPassword") != workflow.password:
        raise Refused(301, "accessPassword is wrong")


DOORS = (
    Door("create", "/task/openapi/create", create, Family.V1),
    Door("run_workflow", "/openapi/v2/run/workflow/{target}", run_workflow, Family.V2),
    Door("workflow_json", "/api/openapi/getJsonApiFormat", workflow_json, Family.V1),
    Door("app_run", "/task/openapi/ai-app/run", app_run, Family.V1),
    Door("run_app", "/openapi/v2/run/ai-app/{target}", run_app, Family.V2),
    Door("app_demo", "/api/webapp/apiCallDemo", app_demo, Family.V1, "GET"),
    Door("quick_styles", "/api/fast/creation/model/params", quick_styles, Family.V1),
    Door("quick_run", "/task/openapi/quick-ai-app/run", quick_run, Family.V1),
)
