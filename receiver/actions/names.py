"""Which name a result file gets on disk: a stranger's URL in, harmless and distinct names out. Pure."""

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from urllib.parse import unquote, urlsplit

from receiver.records import Result

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


def file_names(results: Sequence[Result]) -> dict[int, str]:
    """A name for each result that has something to save. The same results always get the same names."""
    names = {i: _name(i, result) for i, result in enumerate(results) if result.url or result.text is not None}
    clashing = _clashing(names)
    prefixed = {i: shortened(f"{i}-{name}") if i in clashing else name for i, name in names.items()}
    if _clashing(prefixed):
        return {i: shortened(f"{i}-{name}") for i, name in names.items()}
    return prefixed


def safe_name(text: str, fallback: str = "_") -> str:
    """`text` as a name that is no path, shows what it is, and is legal on every common file system."""
    text = unicodedata.normalize("NFC", text)
    kept = (character for character in text if unicodedata.category(character)[0] != "C")
    name = "".join("_" if c in _FORBIDDEN or unicodedata.category(c) in {"Zl", "Zp"} else c for c in kept)
    name = name.lstrip(_EDGES).rstrip(" .")
    if name.split(".")[0].rstrip().upper() in _RESERVED:
        name = f"_{name}"
    return shortened(name) or fallback


def shortened(name: str) -> str:
    """The name cut to its limits in characters and bytes; what follows the last dot stays."""
    found = _SUFFIX.search(name)
    suffix = found.group() if found else ""
    stem = name[: len(name) - len(suffix)][: MAX_CHARACTERS - len(suffix)]
    while len(stem.encode()) > MAX_BYTES - len(suffix):
        stem = stem[:-1]
    return stem.rstrip(" .") + suffix


def _name(index: int, result: Result) -> str:
    if not result.url:
        return f"{index}.txt"
    name = "" if result.url[:5].lower() == "data:" else safe_name(_last_segment(result.url), "")
    name = name or str(index)
    return name if _SUFFIX.search(name) else shortened(name + _suffix_of(result))


def _last_segment(url: str) -> str:
    try:
        path = urlsplit(url).path
    except ValueError:
        return ""
    return unquote(path.rstrip("/").rsplit("/", 1)[-1], errors="replace")


def _suffix_of(result: Result) -> str:
    kind = (result.type or "").strip().lower().removeprefix(".")
    if not kind and result.url and result.url[:5].lower() == "data:":
        kind = result.url[5:100].split(",")[0].split(";")[0].strip().lower()
    if "/" in kind:
        subtype = kind.partition("/")[2]
        kind = _SUBTYPES.get(subtype, subtype)
    return f".{kind}" if _TYPE.match(kind) and kind not in _FAMILIES else ""


def _clashing(names: dict[int, str]) -> set[int]:
    """Indexes whose names are one on a file system that ignores case."""
    counts = Counter(name.casefold() for name in names.values())
    return {i for i, name in names.items() if counts[name.casefold()] > 1}
