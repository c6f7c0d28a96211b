"""Owns the workflows and AI apps the provider knows: what is ordered of them, and why an order does not fit."""

import json
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from random import Random
from typing import Any

from receiver.simulator.answers import Refused
from receiver.simulator.orders import TEXT, Graph, Making

MAKERS = {
    "SaveImage": "png",
    "PreviewImage": "png",
    "SaveVideo": "mp4",
    "VHS_VideoCombine": "mp4",
    "SaveAudio": "mp3",
    "ShowText": TEXT,
    "SaveText": TEXT,
}
"""What the nodes make that a graph is run for."""
SEEDS = ("seed", "noise_seed")
"""Inputs that are drawn anew for each run, unless the order sets them."""


@dataclass(frozen=True)
class Workflow:
    """A workflow that somebody saved."""

    id: str
    graph: Graph
    password: str | None = None
    """What an order must name as `accessPassword`, None for nothing."""
    run_by_hand: bool = True
    """Whether it ever ran in the web pages; without that the API does not run it either."""
    price: str | None = None
    """What the third parties' models in it cost, as text; None when it has none."""


@dataclass(frozen=True)
class AppNode:
    """One input of an app which its caller may set."""

    node_id: str
    field: str
    type: str = "STRING"
    description: str = ""
    options: tuple[str, ...] = ()


@dataclass(frozen=True)
class Style:
    """One choice of a quick creation: the extra models which go with it."""

    id: str
    type: int
    name: str
    key: str
    trigger: str = ""


@dataclass(frozen=True)
class App:
    """A published workflow. `nodes` are the inputs that it offers."""

    id: str
    name: str
    workflow: Workflow
    nodes: tuple[AppNode, ...]
    quick_code: str | None = None
    """The code under which it can be created quickly, None for not at all."""
    styles: tuple[Style, ...] = ()


def read_graph(text: object) -> Graph:
    """A whole graph that came as JSON text. Refused 433 says what is wrong with it."""
    try:
        graph = json.loads(text) if isinstance(text, str) else None
    except (ValueError, RecursionError):
        graph = None
    if not isinstance(graph, dict) or not graph:
        raise Refused(433, "Cannot parse the workflow: expected a JSON object of nodes")
    for node_id, node in graph.items():
        fits = isinstance(node, dict) and isinstance(node.get("class_type"), str)
        if not fits or not isinstance(node.get("inputs"), dict):
            raise Refused(433, f"invalid_prompt: Cannot execute because node '#{node_id}' has no class_type or inputs")
        for name, value in node["inputs"].items():
            if isinstance(value, list) and (len(value) != 2 or value[0] not in graph):
                raise Refused(
                    433, f"bad_linked_input: node '#{node_id}', input '{name}' links to a node that is missing"
                )
    return graph


def with_nodes(graph: Graph, nodes: object, rng: Random) -> Graph:
    """The graph as it will run: the nodes' values put in, the other seeds drawn. Refused 803 for a node not in it."""
    wanted = _node_values(nodes)
    made: dict[str, Any] = deepcopy(dict(graph))
    for (node_id, name), value in wanted.items():
        if node_id not in made or name not in made[node_id]["inputs"]:
            raise Refused(803)
        made[node_id]["inputs"][name] = value
    for node_id, node in made.items():
        for name in SEEDS:
            drawn = isinstance(node["inputs"].get(name), int) and (node_id, name) not in wanted
            if drawn:
                node["inputs"][name] = rng.getrandbits(48)
    return made


def makings(graph: Graph) -> tuple[Making, ...]:
    """What a graph will make, in the order of its nodes. Refused 433 when that is nothing."""
    found = [
        Making(MAKERS[name], node_id)
        for node_id, node in graph.items()
        if (name := node["class_type"].partition("|")[0]) in MAKERS
    ]
    if not found:
        raise Refused(433, "prompt_no_outputs: Prompt has no outputs")
    return tuple(found)


def offered(app: App, nodes: object) -> None:
    """Refused 803 when a node is set which the app does not offer."""
    offers = {(node.node_id, node.field) for node in app.nodes}
    if not _node_values(nodes).keys() <= offers:
        raise Refused(803)


def _node_values(nodes: object) -> dict[tuple[str, str], Any]:
    if not isinstance(nodes, list):
        raise Refused(803)
    values = {}
    for node in nodes:
        if not isinstance(node, dict) or node.get("fieldValue") is None:
            raise Refused(803)
        node_id, name = node.get("nodeId"), node.get("fieldName")
        if not isinstance(node_id, str | int) or not isinstance(name, str):
            raise Refused(803)
        values[str(node_id), name] = node["fieldValue"]
    return values


def _node(kind: str, title: str, **inputs: object) -> Mapping[str, Any]:
    return {"inputs": inputs, "class_type": kind, "_meta": {"title": title}}


EULER = {"seed": 156680208700286, "steps": 20, "cfg": 8, "sampler_name": "euler", "scheduler": "normal", "denoise": 1}
TEXT_TO_IMAGE = Workflow(
    "1904136902449209346",
    {
        "3": _node(
            "KSampler", "KSampler", **EULER, model=["4", 0], positive=["6", 0], negative=["7", 0], latent_image=["5", 0]
        ),
        "4": _node("CheckpointLoaderSimple", "Load Checkpoint", ckpt_name="sdxl.safetensors"),
        "5": _node("EmptyLatentImage", "Empty Latent Image", width=512, height=512, batch_size=1),
        "6": _node("CLIPTextEncode", "Prompt", text="a lighthouse at night", clip=["4", 1]),
        "7": _node("CLIPTextEncode", "What to avoid", text="text, watermark", clip=["4", 1]),
        "8": _node("VAEDecode", "VAE Decode", samples=["3", 0], vae=["4", 2]),
        "9": _node("SaveImage", "Save Image", filename_prefix="ComfyUI", images=["8", 0]),
    },
)
"""Built in: one picture from a text."""

ANIMATED = Workflow(
    "1904136902449209347",
    {
        "39": _node("LoadImage", "Load Image", image="example.png"),
        "52": _node("RHImageToVideo", "Image To Video", prompt="slowly turning", seconds="5", image=["39", 0]),
        "60": _node("SaveVideo", "Save Video", filename_prefix="video/ComfyUI", video=["52", 0]),
        "61": _node("ShowText|pysssss", "Show Text", text="", source=["52", 1]),
    },
    password="open sesame",
    price="0.14",
)
"""Built in: a video and a text from a picture, by a third party's model; it asks for a password."""

PICTURE_APP = App(
    "1877265245566922801",
    "A picture from a text",
    TEXT_TO_IMAGE,
    (AppNode("6", "text", description="what to paint"), AppNode("5", "width", "INT"), AppNode("5", "height", "INT")),
    quick_code="002",
    styles=(
        Style("1", 2, "Watercolour", "watercolour", "watercolour painting"),
        Style("2", 2, "Ink", "ink", "ink drawing"),
    ),
)
VIDEO_APP = App(
    "1877265245566922802",
    "A video from a picture",
    replace(ANIMATED, password=None),
    (
        AppNode("39", "image", "IMAGE", "the picture"),
        AppNode("52", "prompt", description="how it moves"),
        AppNode("52", "seconds", "LIST", "how long", ("5", "10")),
    ),
)
LOCKED_APP = App("1877265245566922803", "The same behind a password", ANIMATED, VIDEO_APP.nodes)

WORKFLOWS: Sequence[Workflow] = (TEXT_TO_IMAGE, ANIMATED)
APPS: Sequence[App] = (PICTURE_APP, VIDEO_APP, LOCKED_APP)
