"""Reads an order for a task out of JSON, and says everything that is wrong with it at once."""

import re

from receiver.records import JsonObject, Kind, NewTask
from receiver.submit import order_digest
from receiver.web.answers import problems

FIELDS = frozenset({"kind", "target", "input", "labels"})
TARGET = re.compile(r"/?[A-Za-z0-9._~-]+(/[A-Za-z0-9._~-]+)*/?")
TARGET_LIMIT = 200
LABELS_LIMIT = 20
LABEL_LIMIT = 200
KEY_LIMIT = 255
RESERVED = frozenset({"query", "media", "run", "price-preview", "api-key", "queue", "resource"})
"""First segments of V2 endpoints that are no models."""


def read_order(document: JsonObject, task_id: str, idempotency_key: str | None, again_of: str | None = None) -> NewTask:
    """The order in a request. Raises Refused (422) with every problem and its path."""
    found: list[tuple[str, str]] = [
        (name, f"there is no such field; there are {', '.join(sorted(FIELDS))}") for name in document.keys() - FIELDS
    ]
    if document.get("kind", "model") != Kind.MODEL:
        found.append(("kind", "expected model"))
    target = _target(document.get("target"), found)
    body = document.get("input", {})
    if not isinstance(body, dict):
        found.append(("input", "expected an object of the model's parameters"))
        body = {}
    if "webhookUrl" in body:
        found.append(("input.webhookUrl", "leave it out: every task gets a signed callback URL of its own"))
    labels = _labels(document.get("labels", {}), found)
    if idempotency_key is not None and not 0 < len(idempotency_key) <= KEY_LIMIT:
        found.append(("Idempotency-Key", f"expected 1 to {KEY_LIMIT} characters"))
    if found:
        raise problems(found)
    return NewTask(
        id=task_id,
        kind=Kind.MODEL,
        target=target,
        input=body,
        labels=labels,
        digest=order_digest(Kind.MODEL, target, body, labels),
        idempotency_key=idempotency_key,
        again_of=again_of,
    )


def _target(value: object, found: list[tuple[str, str]]) -> str:
    """A model's endpoint without its prefix, so that one model has one name in the ledger."""
    if not isinstance(value, str) or len(value) > TARGET_LIMIT or not TARGET.fullmatch(value):
        expected = "expected a model's endpoint, such as rhart-video-v3.1-pro-official/reference-to-video"
        found.append(("target", expected))
        return ""
    target = value.strip("/").removeprefix("openapi/v2/")
    segments = target.split("/")
    if segments[0] in RESERVED or {".", ".."} & set(segments):
        found.append(("target", f"{target} is not a model"))
    return target


def _labels(value: object, found: list[tuple[str, str]]) -> dict[str, str]:
    if not isinstance(value, dict):
        found.append(("labels", "expected an object of texts"))
        return {}
    if len(value) > LABELS_LIMIT:
        found.append(("labels", f"expected {LABELS_LIMIT} labels at the most, got {len(value)}"))
    labels: dict[str, str] = {}
    for name, text in value.items():
        if not isinstance(text, str) or len(text) > LABEL_LIMIT or not 0 < len(name) <= LABEL_LIMIT:
            found.append((f"labels.{name[:LABEL_LIMIT]}", f"expected a text of {LABEL_LIMIT} characters at the most"))
        else:
            labels[name] = text
    return labels
