"""Reads a multipart form as it arrives: fields are kept, the file is handed on in pieces, nothing else is held."""

import re
from collections.abc import AsyncIterable, AsyncIterator, Callable
from dataclasses import dataclass, field

HEAD_LIMIT = 16 * 1024
FIELD_LIMIT = 64 * 1024
BOUNDARY = re.compile(r'multipart/form-data\s*;.*?boundary="?([^";,]{1,70})', re.IGNORECASE)
NAME = re.compile(rb'content-disposition:[^\r\n]*?[; ]name="([^"\r\n]*)"', re.IGNORECASE)
FILENAME = re.compile(rb'content-disposition:[^\r\n]*?[; ]filename="([^"\r\n]*)"', re.IGNORECASE)


class BadForm(Exception):
    """The body is no multipart form, or ends too early."""


@dataclass
class Form:
    """The fields by name, and the names under which the files came."""

    fields: dict[str, str] = field(default_factory=dict)
    filenames: dict[str, str] = field(default_factory=dict)


async def read_form(content_type: str, body: AsyncIterable[bytes], take: Callable[[str, bytes], None]) -> Form:
    """Reads the whole body. `take(name, piece)` gets each file's bytes, in pieces. Raises BadForm."""
    found = BOUNDARY.match(content_type)
    if found is None:
        raise BadForm("Content-Type is not multipart/form-data with a boundary")
    delimiter = b"\r\n--" + found.group(1).encode()
    source = _Source(body)
    form = Form()
    await source.text(delimiter, HEAD_LIMIT)
    while await source.text(b"\r\n", HEAD_LIMIT, ends=(b"--",)) != b"--":
        head = await source.text(b"\r\n\r\n", HEAD_LIMIT)
        named = NAME.search(head)
        if named is None:
            raise BadForm("a part without a name")
        name = named.group(1).decode(errors="replace")
        file = FILENAME.search(head)
        if file is None:
            form.fields[name] = (await source.text(delimiter, FIELD_LIMIT)).decode(errors="replace")
            continue
        form.filenames[name] = file.group(1).decode(errors="replace")
        async for piece in source.until(delimiter):
            take(name, piece)
    await drain(body)
    return form


async def drain(body: AsyncIterable[bytes]) -> None:
    """Reads to the end and forgets: who does not read a request to its end cuts its sender off."""
    async for _ in body:
        pass


class _Source:
    def __init__(self, body: AsyncIterable[bytes]) -> None:
        self._body = aiter(body)
        # The first delimiter may stand at the very beginning, without the line break before it.
        self._held = bytearray(b"\r\n")

    async def until(self, mark: bytes) -> AsyncIterator[bytes]:
        """The bytes before the next mark, which is taken too."""
        while (at := self._held.find(mark)) < 0:
            sure = len(self._held) - len(mark) + 1
            if sure > 0:
                yield bytes(self._held[:sure])
                del self._held[:sure]
            await self._more()
        yield bytes(self._held[:at])
        del self._held[: at + len(mark)]

    async def text(self, mark: bytes, limit: int, *, ends: tuple[bytes, ...] = ()) -> bytes:
        """The same as one piece of at most `limit` bytes; one of `ends` right here is taken instead."""
        while any(len(self._held) < len(end) for end in ends):
            await self._more()
        for end in ends:
            if self._held.startswith(end):
                return end
        whole = bytearray()
        async for piece in self.until(mark):
            whole += piece
            if len(whole) > limit:
                raise BadForm("a part's head or a field is too long")
        return bytes(whole)

    async def _more(self) -> None:
        try:
            self._held += await anext(self._body)
        except StopAsyncIteration:
            raise BadForm("the body ends within a part") from None
