"""Owns what is ordered: the four kinds of task, the two dialects, what a task is to make and what it will cost."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, TypeAlias

Graph: TypeAlias = Mapping[str, Mapping[str, Any]]
"""A ComfyUI graph in its API form: nodes by id, each with `class_type` and `inputs`."""

TEXT = "txt"
"""The extension of a result that is a text: V2 tells the text itself, V1 links a file that holds it."""
LOOSE_NODE = "2"
"""The node a result is said to come from when there is no graph to look at."""


class Kind(StrEnum):
    """What a task runs."""

    MODEL = "model"
    WORKFLOW = "workflow"
    APP = "app"
    QUICK = "quick"


class Dialect(StrEnum):
    """How the answer to the order and the callback at its end are worded."""

    V1 = "v1"
    V2 = "v2"


@dataclass(frozen=True)
class Making:
    """One result to come: its file extension and the node it comes from."""

    extension: str
    node_id: str = LOOSE_NODE


@dataclass(frozen=True, kw_only=True)
class Order:
    """What was asked for. `params` is the request's body without key and webhook URL."""

    kind: Kind
    target: str
    """A model's path, a workflow's id or an app's id."""
    dialect: Dialect
    makes: tuple[Making, ...]
    params: Mapping[str, Any] = field(default_factory=dict)
    webhook_url: str | None = None
    graph: Graph | None = None
    """The graph as it will run, None for a model."""
    coin_rate: float = 0.0
    """RH coins per second of running."""
    price: str | None = None
    """Money for a third party's model, as text; None when there is none in it."""
    personal_queue: bool = False
    """Whether to wait for a machine of one's own instead of being refused."""

    @property
    def prompt_tips(self) -> str:
        """What ComfyUI says of the graph, as the JSON text it comes in."""
        if self.graph is None:
            return ""
        nodes = [making.node_id for making in self.makes]
        return json.dumps({"result": True, "error": None, "outputs_to_execute": nodes, "node_errors": {}})
