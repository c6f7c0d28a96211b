"""Owns the result files: their links, their bytes and how long they live. Bytes come from the seed, not from a disk."""

import hashlib
import mimetypes
import re
from collections.abc import Iterator
from dataclasses import dataclass

from receiver.simulator.ids import chance_source, hex_id
from receiver.simulator.options import Options

BLOCK = 65536
RANGE = re.compile(r"\s*bytes\s*=\s*(\d{0,18})-(\d{0,18})\s*", re.ASCII | re.IGNORECASE)


@dataclass
class StoredFile:
    """A file of `size` bytes, which is there from `since` until `until`, in seconds since 1970."""

    name: str
    size: int
    until: float
    digest: str
    """The SHA-256 of its bytes, or of what they are made from."""
    content: bytes | None = None
    """Its bytes, None when they are made from the seed."""
    seed: int = 0
    since: float = 0.0

    @property
    def content_type(self) -> str:
        """The media type that the file's extension stands for."""
        guessed = "model/gltf-binary" if self.name.endswith(".glb") else mimetypes.guess_type(self.name)[0]
        return guessed or "application/octet-stream"

    @property
    def etag(self) -> str:
        """A strong entity tag, with its quotes."""
        return f'"{self.digest[:32]}"'

    def read(self, start: int, stop: int) -> Iterator[bytes]:
        """The bytes from `start` up to but not including `stop`, in blocks; only those blocks are made."""
        if self.content is not None:
            yield self.content[start:stop]
            return
        for number in range(start // BLOCK, -(-stop // BLOCK)):
            at = number * BLOCK
            block = chance_source(self.seed, self.name, number).randbytes(min(BLOCK, self.size - at))
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

    def publish(self, link: str, now: float, *, dead: bool, text: str | None = None, away: float = 0.0) -> None:
        """Puts the link's file up at `now`, to be had `away` seconds later; for a dead one only its name."""
        # The base URL may have a path of its own; the route has not.
        path = link.removeprefix(self._options.link_base)
        content, seed = None if text is None else text.encode(), self._options.seed
        size = self._options.file_size if content is None else len(content)
        until = now if dead else now + self._options.link_seconds
        digest = hashlib.sha256(f"{seed}:{path}:{size}".encode()).hexdigest()
        self._published[path] = StoredFile(path, size, until, digest, content, seed, now + away)

    def find(self, path: str, now: float) -> StoredFile | None:
        """The file at `/files/...`, or None when there is none, or not any more."""
        stored = self._published.get(path)
        return stored if stored is not None and now < stored.until else None


def requested_range(header: str | None, size: int) -> tuple[int, int] | None:
    """The first byte and the byte after the last of a single-range `Range` header, None for the whole file.

    ValueError when the range lies outside. Several ranges or other units are ignored, as the standard allows.
    """
    found = RANGE.fullmatch(header or "")
    first, last = found.groups() if found else ("", "")
    if not first and not last:
        return None
    start = int(first) if first else max(0, size - int(last))
    stop = min(size, int(last) + 1) if first and last else size
    if stop <= start:
        raise ValueError("the range lies outside the file")
    return start, stop
