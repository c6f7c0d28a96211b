"""How a task of each kind is submitted: its path and body, in the provider's V1 or V2 form. Pure.

V1 takes the key in the body, V2 in the header alone. Quick create exists only in V1, models only in V2.
"""

from msgspec import Struct

from receiver.model.records import Api, JsonObject, Kind


class SubmitRequest(Struct, frozen=True):
    """A POST that orders a task. `v1` says in which envelope the answer comes, and that the key goes into the body."""

    path: str
    body: JsonObject
    v1: bool = False


def submit_request(kind: Kind, api: Api, target: str, body: JsonObject, callback_url: str | None) -> SubmitRequest:
    """The request for a task: `target` is a model's endpoint, or the id of a workflow or an app.

    Pages "Standard Model API", "Start ComfyUI Task 2 - Advanced", "Start AI App Task" and "Initiate Quick Create Task".
    """
    callback: JsonObject = {"webhookUrl": callback_url} if callback_url else {}
    with_nodes: JsonObject = {"nodeInfoList": [], **body, **callback}
    match kind, api:
        case Kind.MODEL, _:
            return SubmitRequest(f"/openapi/v2/{target}", {**body, **callback})
        case Kind.WORKFLOW, Api.V2:
            return SubmitRequest(f"/openapi/v2/run/workflow/{target}", with_nodes)
        case Kind.APP, Api.V2:
            return SubmitRequest(f"/openapi/v2/run/ai-app/{target}", with_nodes)
        case Kind.WORKFLOW, _:
            return SubmitRequest("/task/openapi/create", {"workflowId": target, **body, **callback}, v1=True)
        case Kind.APP, _:
            return SubmitRequest("/task/openapi/ai-app/run", {"webappId": target, **with_nodes}, v1=True)
        case _:
            return SubmitRequest("/task/openapi/quick-ai-app/run", {"webappId": target, **with_nodes}, v1=True)
