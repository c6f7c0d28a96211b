"""Bodies that were packed for the way, unpacked in bounded pieces: a few bytes may stand for gigabytes. Pure."""

import re
import zlib
from collections.abc import AsyncGenerator, AsyncIterator

PIECE = 1 << 16
"""Bytes that are unpacked at once."""
HEAD = 512
"""Bytes in which a packing shows, or that there is none."""
MOST_LAYERS = 4
_EITHER = 32 + zlib.MAX_WBITS
"""zlib tells gzip and zlib apart by their first bytes."""
_BARE = -zlib.MAX_WBITS
_OURS = frozenset({"gzip", "x-gzip", "deflate"})
_PACKINGS = _OURS | {"br", "zstd", "compress", "x-compress", "dcb", "dcz", "exi", "pack200-gzip", "bzip2", "xz", "lzma"}
_FILE = re.compile(
    rb"\x89PNG|\xff\xd8\xff|GIF8|RIFF|BM|II\*\0|MM\0\*|.{4}ftyp|\x1aE\xdf\xa3|FLV|ID3|\xff[\xfa\xfb\xf3\xf2]|OggS|fLaC|"
    rb"FORM|glTF|Kaydara FBX|BLENDER|PK\x03\x04|8BPS",
    re.DOTALL,
)
"""How media files begin; nothing that is packed begins so."""


class Unpackable(Exception):
    """The bytes end too early, or are packed in a way nobody asked for; it names the packing."""


def packings(header: str) -> list[str]:
    """What a Content-Encoding says to unpack, in that order; names that pack nothing (aws-chunked, utf-8) are not."""
    return [name for word in reversed(header.split(",")) if (name := word.strip().lower()) in _PACKINGS]


async def unpacked(parts: AsyncIterator[bytes], header: str) -> AsyncGenerator[bytes, None]:
    """The bytes behind a Content-Encoding; as they are, when they are not packed as it says. Raises Unpackable."""
    layers = packings(header)
    if len(layers) > MOST_LAYERS:
        raise Unpackable(f"{len(layers)} layers")
    for layer in layers:
        parts = _without(parts, layer)
    async for part in parts:
        yield part


async def _without(parts: AsyncIterator[bytes], packing: str) -> AsyncIterator[bytes]:
    head = b""
    async for part in parts:
        head += part
        if len(head) >= HEAD:
            break
    bits = _window(head, packing)
    rest = _again(head, parts)
    async for part in rest if bits is None else _inflated(rest, packing, bits):
        yield part


async def _again(head: bytes, parts: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield head
    async for part in parts:
        yield part


async def _inflated(parts: AsyncIterator[bytes], packing: str, bits: int) -> AsyncIterator[bytes]:
    unpacker = zlib.decompressobj(bits)
    async for part in parts:
        while part:  # what the unpacker still holds comes with the trailer, which every packed body ends with
            if unpacker.eof:
                unpacker = zlib.decompressobj(bits)
            try:
                piece = unpacker.decompress(part, PIECE)
            except zlib.error as error:
                raise Unpackable(packing) from error
            part = unpacker.unused_data if unpacker.eof else unpacker.unconsumed_tail
            if piece:
                yield piece
    if not unpacker.eof:
        raise Unpackable(f"{packing} that ends too early")


def _window(head: bytes, packing: str) -> int | None:
    """How zlib is to read what begins so; None when it is not packed, whatever was said."""
    if not head or _FILE.match(head):
        return None
    if packing not in _OURS:
        raise Unpackable(packing)
    if head[:2] == b"\x1f\x8b" or (head[0] & 15 == 8 and int.from_bytes(head[:2]) % 31 == 0):
        return _EITHER
    try:
        zlib.decompressobj(_BARE).decompress(head, PIECE)
    except zlib.error:
        return None
    return _BARE if packing == "deflate" else None
