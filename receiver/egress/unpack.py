"""Bodies that were packed for the way, unpacked in bounded pieces: a few bytes may stand for gigabytes. Pure."""

import zlib
from collections.abc import AsyncIterator

PIECE = 1 << 16
"""Bytes that are unpacked at once."""
_EITHER = 32 + zlib.MAX_WBITS
"""zlib tells gzip and zlib apart by their first bytes."""


class Unpackable(Exception):
    """The bytes are not what `Content-Encoding` says, end too early, or are packed in a way nobody asked for."""


async def unpacked(parts: AsyncIterator[bytes], encoding: str) -> AsyncIterator[bytes]:
    """The bytes behind `gzip` or `deflate`. Raises Unpackable, for any other encoding at once."""
    if encoding not in ("gzip", "x-gzip", "deflate"):
        raise Unpackable(encoding)
    unpacker = zlib.decompressobj(_EITHER)
    async for part in parts:
        while part:  # what the unpacker still holds comes with the trailer, which every packed body ends with
            if unpacker.eof:
                unpacker = zlib.decompressobj(_EITHER)
            try:
                piece = unpacker.decompress(part, PIECE)
            except zlib.error as error:
                raise Unpackable(encoding) from error
            part = unpacker.unused_data if unpacker.eof else unpacker.unconsumed_tail
            if piece:
                yield piece
    if not unpacker.eof:
        raise Unpackable(f"{encoding} ends too early")
