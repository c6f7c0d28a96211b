"""Owns the doors of what is made of nodes: workflows, AI apps and quick creations, and how to look at them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request as HttpRequest
from starlette.responses import Response
from starlette.routing import Route

from receiver.simulator import workflows
from receiver.simulator.account import RATES
from receiver.simulator.answers import Document, Family, Refused, envelope, to_bytes
from receiver.simulator.gate import Gate, is_text, json_object, v2, webhook_url_of
from receiver.simulator.ids import chance_source
from receiver.simulator.intake import Intake
from receiver.simulator.orders import Dialect, Graph, Kind, Order
from receiver.simulator.showcase import app_shown, style_shown
from receiver.simulator.workflows import Library, Workflow

BOOLEANS = {"true": True, "false": False, True: True, False: False}
"""The provider's own examples write these as texts."""
QUICK_NODE = ("nodeId", "nodeName", "fieldName", "fieldType", "fieldValue", "description")


@dataclass(frozen=True)
class RunDoors:
    """Workflows and apps come from the library."""

    gate: Gate
    intake: Intake
    library: Library

    def routes(self) -> list[Route]:
        route = self.gate.route
        return [
            route("create", "/task/openapi/create", self.create, Family.V1),
            route("run_workflow", "/openapi/v2/run/workflow/{target}", self.run_workflow, Family.V2),
            route("workflow_json", "/api/openapi/getJsonApiFormat", self.workflow_json, Family.V1),
            route("app_run", "/task/openapi/ai-app/run", self.app_run, Family.V1),
            route("run_app", "/openapi/v2/run/ai-app/{target}", self.run_app, Family.V2),
            route("app_demo", "/api/webapp/apiCallDemo", self.app_demo, Family.V1, method="GET"),
            route("quick_styles", "/api/fast/creation/model/params", self.quick_styles, Family.V1),
            route("quick_run", "/task/openapi/quick-ai-app/run", self.quick_run, Family.V1),
        ]

    async def create(self, request: HttpRequest, body: bytes) -> Response | Document:
        """A workflow's id and what to change in it (pages "Start ComfyUI Task 1 - Basic" and "2 - Advanced")."""
        wanted = self.gate.v1(body, "workflowId")
        return await self._run_workflow(wanted.pop("workflowId"), wanted, Dialect.V1)

    async def run_workflow(self, request: HttpRequest, body: bytes) -> Response | Document:
        """The same with the id in the path, answered by a V2 task object."""
        return await self._run_workflow(request.path_params["target"], v2(body), Dialect.V2, nodes_needed=True)

    async def app_run(self, request: HttpRequest, body: bytes) -> Response | Document:
        """An app's id and the values of its nodes (page "Start AI App Task")."""
        wanted = self.gate.v1(body)
        return await self._run_app(_app_id(wanted.pop("webappId", None)), wanted, Dialect.V1)

    async def run_app(self, request: HttpRequest, body: bytes) -> Response | Document:
        """The same with the id in the path, answered by a V2 task object."""
        return await self._run_app(request.path_params["target"], v2(body), Dialect.V2)

    async def workflow_json(self, request: HttpRequest, body: bytes) -> Document:
        """A workflow's id in, its graph out as JSON text (page "Get Workflow JSON")."""
        wanted = self.gate.v1(body, "workflowId")
        graph = self.library.workflow(wanted["workflowId"]).graph
        return envelope({"prompt": to_bytes(graph).decode()}, msg="SUCCESS")

    async def app_demo(self, request: HttpRequest, body: bytes) -> Document:
        """What an app wants, for whoever is to call it (page "Get AI App API Call Example")."""
        given = self.gate.checked(dict(request.query_params), "webappId")
        return envelope(app_shown(self.library.app(given["webappId"]), self.intake.options.link_base))

    async def quick_styles(self, request: HttpRequest, body: bytes) -> Document:
        """The styles of an app's quick creation; nobody is asked for a key (page "Get Quick Create style data")."""
        wanted = json_object(body) or {}
        style_type = wanted.get("type")
        if not isinstance(style_type, int) or isinstance(style_type, bool):
            raise Refused(301, "type must not be null")
        app = self.library.app(_app_id(wanted.get("webappId")))
        return envelope([style_shown(app, style) for style in app.styles if style.type == style_type])

    async def quick_run(self, request: HttpRequest, body: bytes) -> Response | Document:
        """An app by its quick create code; every key of every node counts (page "Start Quick Create Task")."""
        wanted = self.gate.v1(body, "quickCreateCode")
        app_id = _app_id(wanted.pop("webappId", None))
        for node in _node_list(wanted):
            missing = [name for name in QUICK_NODE if not isinstance(node, Mapping) or node.get(name) is None]
            if missing:
                raise Refused(301, f"nodeInfoList.{missing[0]} must not be blank")
        if wanted["quickCreateCode"] != self.library.app(app_id).quick_code:
            raise Refused(301, "quickCreateCode is unknown")
        return await self._run_app(app_id, wanted, Dialect.V1, Kind.QUICK)

    async def _run_app(
        self, app_id: str, wanted: Document, dialect: Dialect, kind: Kind = Kind.APP
    ) -> Response | Document:
        _check_machine(wanted)
        nodes = _node_list(wanted)
        app = self.library.app(app_id)
        _check_password(app.workflow, wanted)
        workflows.offered(app, nodes)
        graph = self._with_nodes(app.workflow.graph, nodes)
        return await self._take(kind, app_id, wanted, dialect, graph, app.workflow.price)

    async def _run_workflow(
        self, workflow_id: str, wanted: Document, dialect: Dialect, *, nodes_needed: bool = False
    ) -> Response | Document:
        _check_machine(wanted)
        nodes, text = wanted.get("nodeInfoList"), wanted.get("workflow") or None
        if nodes_needed and nodes is None and text is None:
            raise Refused(301, "nodeInfoList must not be null")
        if text is not None:
            if nodes:
                raise Refused(803)
            # With a graph of its own an order names any workflow: the id is not looked at.
            workflow, nodes = Workflow(workflow_id, workflows.read_graph(text)), []
        else:
            workflow = self.library.workflow(workflow_id)
            _check_password(workflow, wanted)
        graph = self._with_nodes(workflow.graph, nodes if nodes is not None else [])
        return await self._take(Kind.WORKFLOW, workflow_id, wanted, dialect, graph, workflow.price)

    async def _take(
        self, kind: Kind, target: str, wanted: Document, dialect: Dialect, graph: Graph, price: str | None
    ) -> Response | Document:
        order = Order(
            kind=kind,
            target=target,
            dialect=dialect,
            makes=workflows.makings(graph),
            webhook_url=webhook_url_of(wanted),
            params=wanted,
            graph=graph,
            coin_rate=self.intake.account.coin_rate(wanted.get("instanceType") or "default"),
            price=price,
            personal_queue=_boolean(wanted, "usePersonalQueue"),
        )
        return await self.intake.take(order)

    def _with_nodes(self, graph: Graph, nodes: object) -> Graph:
        rng = chance_source(self.intake.options.seed, "seeds", len(self.intake.tasks.by_id))
        return workflows.with_nodes(graph, nodes, rng)


def _check_machine(wanted: Mapping[str, Any]) -> None:
    """Refused when what all these orders may say of the machine is wrong."""
    if (wanted.get("instanceType") or "default") not in RATES:
        raise Refused(301, f"instanceType must be one of {', '.join(RATES)}")
    seconds = wanted.get("retainSeconds")
    whole = isinstance(seconds, int) and not isinstance(seconds, bool)
    if seconds is not None and not (whole and (seconds == 0 or 10 <= seconds <= 180)):
        raise Refused(301, "retainSeconds must be between 10 and 180")
    for name in ("usePersonalQueue", "addMetadata", "randomSeed"):
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
    if isinstance(app_id, int) and not isinstance(app_id, bool):
        return str(app_id)
    if not isinstance(app_id, str) or not is_text(app_id):
        raise Refused(301, "webappId must not be blank")
    return app_id


def _node_list(wanted: Mapping[str, Any]) -> Iterable[Any]:
    nodes = wanted.get("nodeInfoList")
    if not isinstance(nodes, list):
        raise Refused(301, "nodeInfoList must not be null")
    return nodes


def _check_password(workflow: Workflow, wanted: Mapping[str, Any]) -> None:
    if workflow.password is not None and wanted.get("accessPassword") != workflow.password:
        raise Refused(301, "accessPassword is wrong")
