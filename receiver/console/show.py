"""How values look on a page: times, sizes, durations, JSON. Everything is escaped."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from urllib.parse import urlencode, urlsplit

import msgspec
from markupsafe import Markup, escape

NOTHING = "\N{EN DASH}"
"""Stands where there is no value, or none is known."""
SHOWN_BYTES = 64 * 1024
"""Bytes of a document that a page shows: more of them freeze a browser."""
BEGINNING = 16 * 1024
"""Bytes of a larger one that it shows."""
SAID = re.compile(r"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d)")
"""A time in a sentence."""
PICTURES = (".png", ".jpg", ".jpeg", ".gif", ".webp", ".avif")
VIDEOS = (".mp4", ".webm", ".mov")
SOUNDS = (".mp3", ".wav", ".ogg", ".flac", ".m4a")


def when(time: str | None) -> Markup:
    """A time of the API. The script makes it local."""
    if not time:
        return Markup(NOTHING)
    text = f"{time[5:10]} {time[11:19]}Z"
    return Markup('<time datetime="{}" title="{}">{}</time>').format(time, time, text)


def timed(text: str) -> Markup:
    """A sentence of the command line, in which times are UTC, with its times as on all pages."""
    parts = SAID.split(text)
    pairs = zip(parts[::2], [*(f"{said.replace(' ', 'T')}Z" for said in parts[1::2]), ""], strict=True)
    return Markup("").join(escape(before) + (when(time) if time else "") for before, time in pairs)


def moment(time: str) -> float:
    return datetime.fromisoformat(time).astimezone(UTC).timestamp()


def span(seconds: float | None) -> str:
    """A duration in its two largest units."""
    if seconds is None:
        return NOTHING
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = int(seconds)
    for size, unit, small, part in ((86400, "d", 3600, "h"), (3600, "h", 60, "m"), (60, "m", 1, "s")):
        if whole >= size:
            rest = whole % size // small
            return f"{whole // size} {unit} {rest} {part}" if rest else f"{whole // size} {unit}"
    return f"{whole} s"


def between(start: str | None, end: str | None) -> str:
    return span(moment(end) - moment(start)) if start and end else NOTHING


def size(count: int) -> str:
    """Bytes for people."""
    if count < 1024:
        return f"{count} B"
    for power, unit in ((2, "KB"), (3, "MB")):
        if count < 1024**power:
            return f"{count / 1024 ** (power - 1):.1f} {unit}"
    return f"{count / 1024**3:.1f} GB"


def pretty(value: object) -> str:
    """JSON for reading. Numbers stay as they are: no script reads them."""
    return msgspec.json.format(msgspec.json.encode(value), indent=2).decode()


def cut(text: str) -> tuple[str, int]:
    """What a page shows of a long text, and how many bytes are left out."""
    content = text.encode()
    if len(content) <= SHOWN_BYTES:
        return text, 0
    return content[:BEGINNING].decode(errors="ignore"), len(content) - BEGINNING


def form_of(name: str | None) -> str:
    """How a result is shown: as image, video or audio, or only named."""
    path = urlsplit(name or "").path.lower() if name else ""
    for kind, endings in (("image", PICTURES), ("video", VIDEOS), ("audio", SOUNDS)):
        if path.endswith(endings):
            return kind
    return "file"


def is_web(url: str | None) -> bool:
    """Whether an address may be a link: nothing else than http and https ever is."""
    return url is not None and url.lower().startswith(("https://", "http://"))


def address(path: str, values: Mapping[str, object]) -> str:
    """A path with a query; what is empty is left out, a list is repeated."""
    query = urlencode({name: value for name, value in values.items() if value not in (None, "", [])}, doseq=True)
    return f"{path}?{query}" if query else path


def labels(given: Mapping[str, str]) -> Markup:
    """Labels of a task, each as a link to the tasks that have it."""
    link = Markup('<a class="label" href="{}">{}={}</a>')
    links = (link.format(address("/tasks", {"label": f"{name}:{value}"}), name, value) for name, value in given.items())
    return Markup(" ").join(links)


def breakable(text: str) -> Markup:
    """A long name that may be broken behind its slashes."""
    return Markup(str(escape(text)).replace("/", "/<wbr>"))
