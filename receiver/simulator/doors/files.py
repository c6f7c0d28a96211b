"""Owns the doors of the storage: result files and uploads, whole or in parts, to whoever has their link."""

from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from dataclasses import dataclass

from starlette.requests import Request as Asked
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from receiver.simulator.answers import Family, Refused
from receiver.simulator.doors.uploads import storage_error
from receiver.simulator.files import BLOCK, Files, content_type, requested_range
from receiver.simulator.gate import Gate
from receiver.simulator.uploads import Upload, Uploads


@dataclass(frozen=True)
class FileDoors:
    """Nobody is asked for a key, as with the provider's storage."""

    gate: Gate
    files: Files
    uploads: Uploads

    def routes(self) -> list[Route]:
        route = self.gate.route
        return [
            route("inputs", "/files/input/{name:path}", self.uploaded, Family.MEDIA, method="GET"),
            route("files", "/files/{user}/output/{name}", self.result, Family.MEDIA, method="GET"),
        ]

    async def result(self, asked: Asked, body: bytes) -> Response:
        """A result file."""
        stored = self.files.find("/files/{user}/output/{name}".format(**asked.path_params), self.gate.clock())
        if stored is None:
            return storage_error(404, "NoSuchKey")
        return _ranged(asked, stored.read, stored.size, stored.etag, stored.content_type)

    async def uploaded(self, asked: Asked, body: bytes) -> Response:
        """An upload, by a link whose signature and time are right."""
        given = asked.query_params
        path = f"/files/input/{asked.path_params['name']}"
        try:
            upload = self.uploads.find(
                path, given.get("q-sign-time", ""), given.get("q-signature", ""), self.gate.clock()
            )
        except Refused:
            return storage_error(403, "AccessDenied")
        if upload is None:
            return storage_error(404, "NoSuchKey")
        return _ranged(asked, _reader(upload), upload.size, f'"{upload.sha256[:32]}"', content_type(upload.name))


def _reader(upload: Upload) -> Callable[[int, int], Iterator[bytes]]:
    def read(start: int, stop: int) -> Iterator[bytes]:
        return (upload.content[at : min(stop, at + BLOCK)] for at in range(start, stop, BLOCK))

    return read


def _ranged(asked: Asked, read: Callable[[int, int], Iterator[bytes]], size: int, etag: str, kind: str) -> Response:
    headers = {"ETag": etag, "Accept-Ranges": "bytes"}
    # A resumed download of another file than before gets the whole of the new one.
    same = asked.headers.get("if-range", etag) == etag
    try:
        part = requested_range(asked.headers.get("range") if same else None, size)
    except ValueError:
        return Response(status_code=416, headers={**headers, "Content-Range": f"bytes */{size}"})
    start, stop = part or (0, size)
    headers["Content-Length"] = str(stop - start)
    if part:
        headers["Content-Range"] = f"bytes {start}-{stop - 1}/{size}"
    blocks: Iterable[bytes] = read(start, stop) if asked.method == "GET" else ()
    return StreamingResponse(_flow(blocks), 206 if part else 200, headers, media_type=kind)


async def _flow(blocks: Iterable[bytes]) -> AsyncIterator[bytes]:
    # A plain iterator would be moved to a thread per block, which costs more than making the block.
    for block in blocks:
        yield block
