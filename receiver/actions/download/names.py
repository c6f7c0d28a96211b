"""Where a result file goes on disk: a stranger's URL and a template in, harmless and distinct paths out. Pure."""

import hashlib
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from urllib.parse import unquote, urlsplit

from receiver.actions.download.content import is_data
from receiver.model import templates
from receiver.model.records import Json, JsonObject, Result

PLACES = ("task", "name", "index", "ext", "date", "kind", "target", "provider_task_id", "node", "label.X")
"""What a template of `files` may name."""
MAX_CHARACTERS = 120
MAX_BYTES = 200

_FORBIDDEN = frozenset('/\\<>:"|?*')
_EDGES = " .-~"
_SUFFIX = re.compile(r"\.[A-Za-z0-9]{1,10}\Z")
_TYPE = re.compile(r"[A-Za-z0-9]{1,10}\Z")
_SUBTYPES = {
    "plain": "txt",
    "jpeg": "jpg",
    "mpeg": "mp3",
    "x-wav": "wav",
    "quicktime": "mov",
    "svg+xml": "svg",
    "gltf-binary": "glb",
}
_FAMILIES = frozenset({"image", "video", "audio", "file", "text", "model", "string"})
_RESERVED = frozenset(
    {"CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$"}
    | {f"{device}{digit}" for device in ("COM", "LPT") for digit in "0123456789¹²³"}
)


def template_problem(template: str) -> str | None:
    """What is wrong with a template of `files`, as what was expected; None when it can be filled for every result."""
    try:
        named = templates.places(template)
    except templates.LoneBrace as error:
        return f"expected a template; it has {error}"
    strange = next((name for name in named if name not in PLACES and not name.startswith("label.")), None)
    strange = "label." if "label." in named else strange
    if strange is not None:
        return f"there is no {{{strange}}}; expected {', '.join(f'{{{place}}}' for place in PLACES)}"
    if "task" not in named or not {"name", "index"} & set(named):
        return "expected {task}, and {name} or {index}, or files would take each other's place"
    parts = templates.fill(template, lambda _: "x").split("/")
    if any(not part or _harmless(part) != part for part in parts):
        return "expected names with / between them; one is empty, or no name that every file system takes"
    return None


def file_paths(template: str, results: Sequence[Result], body: JsonObject) -> dict[int, str]:
    """A path below the directory for each result that has something to save, by a template without a problem.

    `body` is the event document. The same event always gets the same paths. Whatever a value contains, it is part of
    one name in the path; a value that is missing is `_`.
    """
    shared = _values(body)
    paths: dict[int, str] = {}
    for index, name in file_names(results).items():
        ending, node = _ending(name)[1:] or "bin", results[index].node_id or ""
        paths[index] = _filled(template, {**shared, "name": name, "index": str(index), "ext": ending, "node": node})
    return _distinct(paths, _cut)


def _values(body: JsonObject) -> dict[str, str]:
    task = body.get("task")
    known: Mapping[str, Json] = task if isinstance(task, dict) else {}
    labels = known.get("labels")
    told = {
        "task": known.get("id"),
        "date": str(body.get("time") or "")[:10],
        **{name: known.get(name) for name in ("kind", "target", "provider_task_id")},
        **{f"label.{name}": value for name, value in (labels if isinstance(labels, dict) else {}).items()},
    }
    return {name: str(value) for name, value in told.items() if value is not None}


def _filled(template: str, values: Mapping[str, str]) -> str:
    path = templates.fill(template, lambda name: safe_name(values.get(name, "")))
    return "/".join(_cut(_harmless(part)) for part in path.split("/"))


def _distinct(paths: Mapping[int, str], cut: Callable[[str], str]) -> dict[int, str]:
    """The paths, each once: those that clash, or else all, have their index before their file name."""
    parted = {index: path.rpartition("/") for index, path in paths.items()}
    prefixed = {i: folder + slash + cut(f"{i}-{name}") for i, (folder, slash, name) in parted.items()}
    some = {**paths, **{index: prefixed[index] for index in _clashing(paths)}}
    return prefixed if _clashing(some) else some


def _cut(name: str) -> str:
    """The name within its limits. One that was cut carries a mark of the whole, or two could become one."""
    if shortened(name) == name:
        return name
    mark = hashlib.sha256(name.encode()).hexdigest()[:12]
    return shortened(name, f"-{mark}{_ending(name)}")


def _ending(name: str) -> str:
    """What follows the last dot, with the dot; empty when that is no file's ending."""
    found = _SUFFIX.search(name)
    return found.group() if found else ""


def file_names(results: Sequence[Result]) -> dict[int, str]:
    """A name for each result that has something to save. The same results always get the same names."""
    names = {i: _name(i, result) for i, result in enumerate(results) if result.url or result.text is not None}
    return _distinct(names, shortened)


def safe_name(text: str, fallback: str = "_") -> str:
    """`text` as a name that is no path, shows what it is, and is legal on every common file system."""
    return shortened(_harmless(text)) or fallback


def _harmless(text: str) -> str:
    text = unicodedata.normalize("NFC", text)
    kept = (character for character in text if unicodedata.category(character)[0] != "C")
    name = "".join("_" if c in _FORBIDDEN or unicodedata.category(c) in {"Zl", "Zp"} else c for c in kept)
    name = name.lstrip(_EDGES).rstrip(" .")
    if name.split(".")[0].rstrip().upper() in _RESERVED:
        name = f"_{name}"
    return name


def shortened(name: str, end: str | None = None) -> str:
    """The name cut to its limits in characters and bytes. What follows the last dot stays, or becomes `end`."""
    old = _ending(name)
    suffix = old if end is None else end
    stem = name[: len(name) - len(old)][: MAX_CHARACTERS - len(suffix)]
    while len(stem.encode()) > MAX_BYTES - len(suffix):
        stem = stem[:-1]
    return stem.rstrip(" .") + suffix


def _name(index: int, result: Result) -> str:
    if not result.url:
        return f"{index}.txt"
    name = ("" if is_data(result.url) else safe_name(_last_segment(result.url), "")) or str(index)
    return name if _ending(name) else shortened(name + _suffix_of(result))


def _last_segment(url: str) -> str:
    try:
        path = urlsplit(url).path
    except ValueError:
        return ""
    return unquote(path.rstrip("/").rsplit("/", 1)[-1], errors="replace")


def _suffix_of(result: Result) -> str:
    kind = (result.type or "").strip().lower().removeprefix(".")
    if not kind and result.url and is_data(result.url):
        kind = result.url[5:100].split(",")[0].split(";")[0].strip().lower()
    if "/" in kind:
        subtype = kind.partition("/")[2]
        kind = _SUBTYPES.get(subtype, subtype)
    return f".{kind}" if _TYPE.match(kind) and kind not in _FAMILIES else ""


def _clashing(names: Mapping[int, str]) -> set[int]:
    """Indexes whose names are one on a file system that ignores case."""
    counts = Counter(name.casefold() for name in names.values())
    return {i for i, name in names.items() if counts[name.casefold()] > 1}
