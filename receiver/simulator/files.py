"""Owns the result files: their links, their bytes and how long they live. Bytes come from the seed, not from a disk."""

import hashlib
import mimetypes
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

from receiver.simulator.ids import chance_source, hex_id
from receiver.simulator.options import Options

BLOCK = 65536


@dataclass(frozen=True)
class StoredFile:
    """A published file of `size` bytes. `dead` files are gone before their time."""

    path: str
    size: int
    published_at: float
    dead: bool
    seed: int
    text: bytes | None = None
    """What it holds when that is not made from the seed."""

    @property
    def content_type(self) -> str:
        return content_type(self.path)

    @property
    def etag(self) -> str:
        """A strong entity tag, with its quotes."""
        return f'"{hashlib.sha256(f"{self.seed}:{self.path}:{self.size}".encode()).hexdigest()[:32]}"'

    def read(self, start: int, stop: int) -> Iterator[bytes]:
        """The bytes from `start` up to but not including `stop`, in blocks; only those blocks are made."""
        if self.text is not None:
            yield self.text[start:stop]
            return
        for number in range(start // BLOCK, -(-stop // BLOCK)):
            at = number * BLOCK
            block = chance_source(self.seed, self.path, number).randbytes(min(BLOCK, self.size - at))
            yield block[max(0, start - at) : stop - at]


class Files:
    """The files of one user, each of the size and the lifetime that the options say."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._user = hex_id(chance_source(options.seed, "user"))
        self._published: dict[str, StoredFile] = {}

    def link(self, name: str, extension: str) -> str:
        """The URL a file of that name will have; it answers 404 until published."""
        return f"{self._options.link_base}/files/{self._user}/output/{name}.{extension}"

    def publish(self, link: str, now: float, *, dead: bool, text: str | None = None) -> None:
        """Puts the link's file up at `now`, or for a dead one only its name."""
        path = _path(link)
        content = None if text is None else text.encode()
        size = self._options.file_size if content is None else len(content)
        self._published[path] = StoredFile(path, size, now, dead, self._options.seed, content)

    def find(self, path: str, now: float) -> StoredFile | None:
        """The file at `/files/...`, or None when there is none, or not any more."""
        stored = self._published.get(path)
        if stored is None or stored.dead or now >= stored.published_at + self._options.link_seconds:
            return None
        return stored


def content_type(name: str) -> str:
    """The media type that a file's extension stands for."""
    if name.endswith(".glb"):
        return "model/gltf-binary"
    return mimetypes.guess_type(name)[0] or "application/octet-stream"


def requested_range(header: str | None, size: int) -> tuple[int, int] | None:
    """The first byte and the byte after the last of a single-range `Range` header, None for the whole file.

    ValueError when the range lies outside. Several ranges or other units are ignored, as the standard allows.
    """
    unit, _, wanted = (header or "").partition("=")
    first, dash, last = wanted.strip().partition("-")
    if unit.strip().lower() != "bytes" or not dash or not _digits(first) or not _digits(last) or not (first or last):
        return None
    if not first:
        start, stop = max(0, size - int(last)), size
    else:
        start, stop = int(first), min(size, int(last) + 1) if last else size
    if start >= size or stop <= start:
        raise ValueError("the range lies outside the file")
    return start, stop


def _digits(text: str) -> bool:
    return len(text) <= 18 and (not text or (text.isascii() and text.isdigit()))


def _path(link: str) -> str:
    # The base URL may have a path of its own; the route has not.
    path = urlsplit(link).path
    return path[path.index("/files/") :]
