"""Owns how an app and its quick create styles are shown to those who are to call them."""

import json

from receiver.simulator.answers import Document
from receiver.simulator.workflows import App, AppNode, Style

COUNTS = ("likeCount", "downloadCount", "useCount", "pv", "collectCount")


def app_shown(app: App, base_url: str) -> Document:
    """What there is to know of an app before its call; numbers are texts."""
    nodes = [_node_shown(app, node) for node in app.nodes]
    cover = f"{base_url}/covers/{app.id}.png"
    return {
        "curl": _curl(app, nodes, base_url),
        "webappName": app.name,
        "statisticsInfo": dict.fromkeys(COUNTS, "0"),
        "nodeInfoList": nodes,
        "covers": [
            {
                "id": app.id,
                "objName": f"covers/{app.id}.png",
                "url": cover,
                "thumbnailUri": cover,
                "imageWidth": "512",
                "imageHeight": "512",
            }
        ],
        "tags": [{"id": "1", "name": "示例", "nameEn": "Example", "labels": None}],
        "accessEncrypted": app.workflow.password is not None,
    }


def style_shown(app: App, style: Style) -> Document:
    """One style, in the provider's own spelling of LoRA."""
    return {
        "id": style.id,
        "type": style.type,
        "webappId": app.id,
        "modelCategory": "style",
        "modelName": style.name,
        "modelKey": style.key,
        "modelPreviewUrl": "",
        "content": style.name,
        "modelTrigger": style.trigger,
        "modelLoar1FileName": f"{style.key}.safetensors",
        "modelLoar1Weight": "0.8",
        "modelLoar2FileName": None,
        "modelLoar2Weight": None,
    }


def _node_shown(app: App, node: AppNode) -> Document:
    inside = app.workflow.graph[node.node_id]
    return {
        "nodeId": node.node_id,
        "nodeName": inside["class_type"],
        "fieldName": node.field,
        "fieldValue": str(inside["inputs"][node.field]),
        "fieldData": json.dumps([list(node.options)]) if node.options else "",
        "fieldType": node.type,
        "description": node.description,
        "descriptionEn": node.description,
    }


def _curl(app: App, nodes: list[Document], base_url: str) -> str:
    body = json.dumps({"webappId": app.id, "apiKey": "********", "nodeInfoList": nodes})
    url = f"{base_url}/task/openapi/ai-app/run"
    return f"curl --location --request POST '{url}' --header 'Content-Type: application/json' --data-raw '{body}'"
