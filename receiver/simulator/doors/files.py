"""Owns the doors of the storage: result files and uploads, whole or in parts, to whoever has their link."""

from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass

from starlette.requests import Request as HttpRequest
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from receiver.simulator.answers import Family, StorageRefused
from receiver.simulator.files import Files, StoredFile, requested_range
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
            route("inputs", "/files/input/{name:path}", self.uploaded, Family.STORAGE, method="GET"),
            route("files", "/files/{user}/output/{name}", self.result, Family.STORAGE, method="GET"),
        ]

    async def result(self, request: HttpRequest, body: bytes) -> Response:
        """A result file."""
        path = "/files/{user}/output/{name}".format(**request.path_params)
        return _file_answer(request, self.files.find(path, self.gate.clock()))

    async def uploaded(self, request: HttpRequest, body: bytes) -> Response:
        """An upload, by a link whose signature and time are right."""
        path = f"/files/input/{request.path_params['name']}"
        return _file_answer(request, self.uploads.find(path, request.query_params, self.gate.clock()))


def _file_answer(request: HttpRequest, stored: StoredFile | Upload | None) -> Response:
    if stored is None:
        raise StorageRefused(404, "NoSuchKey")
    headers = {"ETag": stored.etag, "Accept-Ranges": "bytes"}
    # A resumed download of another file than before gets the whole of the new one.
    same = request.headers.get("if-range", stored.etag) == stored.etag
    try:
        part = requested_range(request.headers.get("range") if same else None, stored.size)
    except ValueError:
        return Response(status_code=416, headers={**headers, "Content-Range": f"bytes */{stored.size}"})
    start, stop = part or (0, stored.size)
    headers["Content-Length"] = str(stop - start)
    if part:
        headers["Content-Range"] = f"bytes {start}-{stop - 1}/{stored.size}"
    blocks: Iterable[bytes] = stored.read(start, stop) if request.method == "GET" else ()
    return StreamingResponse(_chunks(blocks), 206 if part else 200, headers, media_type=stored.content_type)


async def _chunks(blocks: Iterable[bytes]) -> AsyncIterator[bytes]:
    # A plain iterator would be moved to a thread per block, which costs more than making the block.
    for block in blocks:
        yield block
