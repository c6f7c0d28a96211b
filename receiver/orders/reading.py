"""Reads an order for a task out of JSON, and says everything that is wrong with it at once."""

import hashlib
import re

import msgspec
from msgspec import Struct

from receiver.model.entries import NewTask
from receiver.model.errors import problems
from receiver.model.records import Api, Json, JsonObject, Kind
from receiver.orders.attachments import Named, Problems, References
from receiver.orders.references import changed, with_text_of_graph
from receiver.orders.repeats import TWICE, repeated_key
from receiver.runninghub import catalogue
from receiver.runninghub.bodies import GRAPH, body_problems, strange_fields
from receiver.runninghub.catalogue import Model
from receiver.runninghub.validation import validate

FIELDS = frozenset({"kind", "api", "target", "input", "labels", "validate"})
ENDPOINT = re.compile(r"/?[A-Za-z0-9._~-]+(/[A-Za-z0-9._~-]+)*/?")
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
"""What may not stand in anything that is looked for: nobody can see it, and NUL ends a text for some who compare."""
NO_CONTROL = "expected a text without control characters: it could not be found again"
NUMBER = re.compile(r"[0-9]{1,20}")
TARGET_LIMIT = 200
LABELS_LIMIT = 20
LABEL_LIMIT = 200
KEY_LIMIT = 255
RESERVED = frozenset({"query", "media", "run", "price-preview", "api-key", "queue", "resource"})
"""First segments of V2 endpoints that are no models."""
OURS: dict[Kind, tuple[str, ...]] = {
    Kind.MODEL: ("webhookUrl",),
    Kind.WORKFLOW: ("webhookUrl", "apiKey", "workflowId"),
    Kind.APP: ("webhookUrl", "apiKey", "webappId"),
    Kind.QUICK: ("webhookUrl", "apiKey", "webappId"),
}
"""What is filled in by us and may not stand in an input."""
FORMS: dict[Kind, tuple[Api, ...]] = {
    Kind.MODEL: (Api.V2,),
    Kind.WORKFLOW: (Api.V2, Api.V1),
    Kind.APP: (Api.V2, Api.V1),
    Kind.QUICK: (Api.V1,),
}
"""The forms a kind can be submitted in, the usual one first."""


class Order(Struct, frozen=True, kw_only=True):
    """An order that may be queued, and what its giver should know of it (None: nothing).

    While there is anything in `unknown` it may not: it names uploads that are too old, or that never were.
    """

    task: NewTask
    note: str | None
    unknown: Problems


def read_order(
    document: JsonObject,
    task_id: str,
    idempotency_key: str | None,
    *,
    again_of: str | None = None,
    named: Named | None = None,
) -> Order:
    """The order in a request. Raises Refused (422) with every problem and its path.

    A model is found by any name it is known by, and the input of any kind checked before money is spent; with
    `"validate": false` anything passes, for the provider moves faster than any catalogue. The task gets links for the
    uploads that are `named`; None: they are not judged, and stay as they are. An order is the same as another by the
    uploads it names, for links change from day to day. When nothing but uploads is wrong, that is for the caller to
    judge: an order that was taken already needs them no more.
    """
    found: Problems = [
        (name, f"there is no such field; there are {', '.join(sorted(FIELDS))}") for name in document.keys() - FIELDS
    ]
    kind = _kind(document.get("kind", Kind.MODEL), found)
    api = _api(document.get("api"), kind, found)
    checked = document.get("validate", True)
    if not isinstance(checked, bool):
        found.append(("validate", "expected true or false"))
        checked = True
    in_input: Problems = []
    body = _input(document.get("input", {}), kind, in_input, checked=checked)
    note, model = None, None
    if kind is Kind.MODEL:
        target, note, model = _model(document.get("target"), body, found, checked=checked)
    else:
        target = _id(document.get("target"), kind, found)
        strange = strange_fields(kind, body) if checked else []
        note = f"sent as they are, for we do not know these fields: {', '.join(strange)[:200]}" if strange else None
    references = References(kind, named, checked=checked)
    resolved = changed(kind, model, body, references.sent)
    found += in_input + references.found
    # What was taken once is not refused when it is sent again.
    labels = _labels(document.get("labels", {}), found, kept=again_of is not None)
    if idempotency_key is not None and not 0 < len(idempotency_key) <= KEY_LIMIT:
        found.append(("Idempotency-Key", f"expected 1 to {KEY_LIMIT} characters"))
    if found:
        raise problems(found + references.unknown)
    task = NewTask(
        id=task_id,
        kind=kind,
        api=api,
        target=target,
        input=resolved,
        labels=labels,
        digest=order_digest(kind, api, target, body, labels),
        idempotency_key=idempotency_key,
        again_of=again_of,
        uploads=references.used,
    )
    return Order(task=task, note=note, unknown=references.unknown)


def _kind(value: Json, found: Problems) -> Kind:
    if value in list(Kind):
        return Kind(str(value))
    found.append(("kind", f"expected one of {', '.join(Kind)}"))
    return Kind.MODEL


def _api(value: Json, kind: Kind, found: Problems) -> Api:
    forms = FORMS[kind]
    if value is None:
        return forms[0]
    if value in list(forms):
        return Api(str(value))
    found.append(("api", f"expected {' or '.join(forms)} for a {kind} task"))
    return forms[0]


def _id(value: Json, kind: Kind, found: Problems) -> str:
    """The id of a workflow or an app. It has more digits than a JavaScript number, so it must be a text."""
    if isinstance(value, str) and NUMBER.fullmatch(value):
        return value
    what = "a workflow" if kind is Kind.WORKFLOW else "an AI app"
    found.append(("target", f"expected the id of {what} as a text of digits, such as 1904136902449209346"))
    return ""


def _model(value: Json, body: JsonObject, found: Problems, *, checked: bool) -> tuple[str, str | None, Model | None]:
    """A model's endpoint without its prefix, so that it has one name in the ledger; what to know of it; its facts."""
    if not isinstance(value, str) or not 0 < len(value) <= TARGET_LIMIT:
        found.append(("target", "expected the name or the endpoint of a model"))
        return "", None, None
    try:
        known = catalogue.find(value)
    except catalogue.UnknownModel as unknown:
        if checked:
            found.append(("target", f"{unknown.message}; with validate false (--force) any endpoint passes"))
            return "", None, None
        return _endpoint(value, found), None, None
    if checked:
        found += [(f"input.{path}", message) for path, message in validate(known.model, body)]
    return known.model.endpoint, known.note, known.model


def _endpoint(value: str, found: Problems) -> str:
    """An endpoint that no catalogue has."""
    if not ENDPOINT.fullmatch(value):
        found.append(("target", "expected a model's endpoint, such as vidu/image-to-video-q3-pro"))
    target = catalogue.bare(value)
    segments = target.split("/")
    if segments[0] in RESERVED or {".", ".."} & set(segments):
        found.append(("target", f"{target} is not a model"))
    return target


def _input(value: Json, kind: Kind, found: Problems, *, checked: bool) -> JsonObject:
    if not isinstance(value, dict):
        found.append(("input", "expected an object"))
        return {}
    ours = [name for name in OURS[kind] if name in value]
    found.extend((f"input.{name}", "leave it out: it is filled in for every task") for name in ours)
    body = with_text_of_graph(value) if kind is Kind.WORKFLOW else value
    if kind is Kind.WORKFLOW and isinstance(graph := value.get(GRAPH), str):
        key = repeated_key(graph.encode(errors="replace"))
        found += [(f"input.{GRAPH}.{key[:100]}", TWICE)] if key is not None else []
    if checked and kind is not Kind.MODEL:
        theirs = {name: item for name, item in body.items() if name not in ours}
        found.extend((f"input.{path}", message) for path, message in body_problems(kind, theirs))
    return body


def _labels(value: Json, found: Problems, *, kept: bool) -> dict[str, str]:
    if not isinstance(value, dict):
        found.append(("labels", "expected an object of texts"))
        return {}
    if len(value) > LABELS_LIMIT:
        found.append(("labels", f"expected {LABELS_LIMIT} labels at the most, got {len(value)}"))
    labels: dict[str, str] = {}
    for name, text in value.items():
        if not isinstance(text, str) or len(text) > LABEL_LIMIT or not 0 < len(name) <= LABEL_LIMIT:
            found.append((f"labels.{name[:LABEL_LIMIT]}", f"expected a text of {LABEL_LIMIT} characters at the most"))
        elif not kept and CONTROL.search(name + text):
            found.append((f"labels.{name[:LABEL_LIMIT]}", NO_CONTROL))
        else:
            labels[name] = text
    return labels


def order_digest(kind: Kind, api: Api, target: str, body: JsonObject, labels: dict[str, str]) -> bytes:
    """What makes two orders the same: equal digests for equal orders, whatever the order of their keys."""
    return hashlib.sha256(msgspec.json.encode([kind, api, target, body, labels], order="deterministic")).digest()
