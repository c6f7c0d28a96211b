"""What a link that holds its data holds; whether what came is what was ordered, or a page that says why not. Pure.

Files of a known type are not held to its magic numbers: the provider's types are loose (a .png may hold WebP). What
is told apart is a file from the page of a storage or a proxy that stands in its place.
"""

import base64
import re
from urllib.parse import unquote_to_bytes

from receiver.actions import ActionFailed

HEAD = 512
"""Bytes of a file's beginning that are looked at."""
MEDIA = frozenset(
    (
        *("png", "jpg", "jpeg", "jpe", "webp", "gif", "bmp", "tif", "tiff", "avif", "heic", "exr", "psd", "ico"),
        *("mp4", "m4v", "mov", "webm", "mkv", "avi", "mpg", "mpeg", "ts", "flv"),
        *("mp3", "wav", "flac", "ogg", "oga", "opus", "m4a", "aac", "aiff"),
        *("glb", "fbx", "obj", "stl", "ply", "usdz", "blend", "zip", "safetensors"),
    )
)
"""Endings of files that are never empty and never a page."""
FAMILIES = frozenset({"image", "video", "audio"})
VAGUE = FAMILIES | {"", "file", "model"}
"""Types that leave it to the name what kind of file it is."""
_PAGE_TYPES = (("html", "HTML"), ("xhtml+xml", "HTML"), ("xml", "XML"), ("json", "JSON"))
_FORMS = (
    ("HTML", re.compile(rb"<(!doctype html|html|head|body|title|h1|script|meta)\b", re.IGNORECASE)),
    ("XML", re.compile(rb"<(\?xml|!--|error|[a-z])", re.IGNORECASE)),
    ("JSON", re.compile(rb'\{\s*"|\{\s*\}|\[\s*[\[{"\]]')),
)
_CONTROL = re.compile(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f\x7f]")


def what_is_wrong(kind: str | None, name: str, media_type: str, head: bytes) -> str | None:
    """Why a file cannot be what the provider said it is, as a sentence; None when it may be.

    `kind` is the result's type as the provider told it, `name` the file's name, `media_type` the answer's
    Content-Type ("" when there is none), `head` the first HEAD bytes, or all there are.
    """
    expected = _expected((kind or "").strip().lower().removeprefix("."), name.lower())
    if expected is None:
        return None
    if not head:
        return f"an empty file came in place of the {expected}"
    form = _page(media_type.partition(";")[0].strip().lower(), head)
    return f"a page ({form}) came in place of the {expected}" if form else None


def is_data(url: str) -> bool:
    """Whether a link is no address, but holds its data."""
    return url[:5].lower() == "data:"


def data_bytes(url: str) -> bytes:
    """The bytes inside a data: URL."""
    head, comma, data = url.partition(",")
    if not comma:
        raise ActionFailed("the data URL has no data", permanent=True)
    raw = unquote_to_bytes(data)
    if not head.lower().endswith(";base64"):
        return raw
    try:
        return base64.b64decode(b"".join(raw.split()), validate=True)
    except ValueError:
        raise ActionFailed("the data URL is not base64", permanent=True) from None


def _expected(told: str, name: str) -> str | None:
    """The ending or family of a file that is media; None for what may be text, or anything."""
    family, slash, subtype = told.partition("/")
    exact = subtype if slash else told
    if exact in MEDIA:
        return exact
    if not slash and family not in VAGUE:
        return None
    stem, _, ending = name.rpartition(".")
    if stem:
        return ending if ending in MEDIA else None
    return family if family in FAMILIES else None


def _page(media_type: str, head: bytes) -> str | None:
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if media_type == "image/svg+xml" or not _is_text(start):
        return None
    told = next((form for ending, form in _PAGE_TYPES if media_type.endswith(ending)), None)
    return told or next((form for form, pattern in _FORMS if pattern.match(start)), None)


def _is_text(head: bytes) -> bool:
    """Whether the bytes are UTF-8 without control characters, but for a last character that may be cut."""
    try:
        head.decode()
    except UnicodeDecodeError as error:
        if error.start < len(head) - 3:
            return False
    return _CONTROL.search(head) is None
