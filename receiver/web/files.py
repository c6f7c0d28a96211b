"""A result file over HTTP: whole or in ranges, with its digest, and never anything beside what was saved."""

import asyncio
import base64
import mimetypes
import os
import stat
from collections.abc import Sequence
from pathlib import Path

from starlette.requests import Request
from starlette.responses import FileResponse, Response

from receiver.actions.settings import DownloadDefinition
from receiver.model.errors import Refused, not_found
from receiver.model.records import SavedFile, Task
from receiver.server.service import Service
from receiver.web.tasks import task_of

SHOWN_AS = ("image/", "video/", "audio/", "model/")
NEVER_SHOWN_AS = frozenset({"image/svg+xml"})
"""What a browser would run as a page."""
DATA = "application/octet-stream"


async def saved_file(service: Service, request: Request) -> Response:
    """The file of a result, as it was saved: no browser may take it for a page of ours."""
    task = await task_of(service, request)
    text = request.path_params["n"]
    if not (text.isascii() and text.isdigit() and len(text) < 9):
        raise not_found("result", text[:64])
    saved = await service.store.saved_files(task, int(text))
    if not saved:
        raise await _unsaved(service, task, int(text))
    folders = [each.directory for each in service.definitions if isinstance(each, DownloadDefinition)]
    for file in saved:
        place = await asyncio.to_thread(_place, file, folders)
        if place is not None:
            return _answer(file, place)
    raise Refused(404, "file_gone", f"{saved[0].path} was moved, changed or removed on the server since it was saved")


def _answer(file: SavedFile, place: Path) -> Response:
    digest = base64.b64encode(bytes.fromhex(file.sha256)).decode()
    headers = {
        "etag": f'"{file.sha256}"',
        "repr-digest": f"sha-256=:{digest}:",
        "x-content-type-options": "nosniff",
        "content-security-policy": "sandbox; default-src 'none'",
        "cache-control": "private",
    }
    return FileResponse(place, headers=headers, media_type=_media_type(place.name), filename=place.name)


def _media_type(name: str) -> str:
    guessed = mimetypes.guess_type(name)[0] or DATA
    harmless = guessed.startswith(SHOWN_AS) and guessed not in NEVER_SHOWN_AS
    return guessed if harmless or guessed == "text/plain" else DATA


def _place(file: SavedFile, folders: Sequence[str]) -> Path | None:
    """Where the file lies, if that is inside a folder that downloads are kept in, and it is as large as it was."""
    try:
        place = Path(file.path).resolve(strict=True)
        found = os.lstat(place)
    except OSError:
        return None
    inside = any(place.is_relative_to(Path(folder).resolve()) for folder in folders)
    return place if inside and stat.S_ISREG(found.st_mode) and found.st_size == file.size else None


async def _unsaved(service: Service, task: Task, result: int) -> Refused:
    """Why there is no file: no such result, or none that was saved."""
    event = await service.store.event(task.id)
    count = len(event.results) if event else 0
    if result >= count:
        return Refused(404, "not_found", f"there is no result {result}: the task is {task.state} and has {count}")
    return Refused(404, "not_saved", f"result {result} is not saved; `receiver task {task.id}` shows its actions")
