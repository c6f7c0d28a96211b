"""Owns the doors of the storage: result files and uploads, whole or in parts, to whoever has their link."""

from collections.abc import AsyncIterator, Iterable

from starlette.requests import Request as HttpRequest
from starlette.responses import Response, StreamingResponse

from receiver.simulator.answers import Family, StorageRefused
from receiver.simulator.files import StoredFile, requested_range
from receiver.simulator.gate import Door
from receiver.simulator.provider import Provider


async def result(provider: Provider, request: HttpRequest, body: bytes) -> Response:
    """A result file."""
    path = "/files/{user}/output/{name}".format(**request.path_params)
    now = provider.clock()
    stored = provider.files.find(path, now)
    if stored is not None and now < stored.since:
        raise StorageRefused(503, "SlowDown")
    return _file_answer(request, stored)


async def uploaded(provider: Provider, request: HttpRequest, body: bytes) -> Response:
    """An upload, by a link whose signature and time are right."""
    path = f"/files/input/{request.path_params['name']}"
    return _file_answer(request, provider.uploads.find(path, request.query_params, provider.clock()))


def _file_answer(request: HttpRequest, stored: StoredFile | None) -> Response:
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


DOORS = (
    Door("inputs", "/files/input/{name:path}", uploaded, Family.STORAGE, "GET"),
    Door("files", "/files/{user}/output/{name}", result, Family.STORAGE, "GET"),
)
"""Nobody is asked for a key, as with the provider's storage."""
