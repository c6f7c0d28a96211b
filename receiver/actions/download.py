"""The action that saves a task's results as files: `directory`/task id/name."""

import asyncio
import base64
import binascii
from collections.abc import AsyncIterable, AsyncIterator, Callable
from pathlib import Path
from urllib.parse import unquote_to_bytes

from receiver.actions import ActionFailed, Done, Work
from receiver.actions.answers import is_worth_retrying, wait_asked
from receiver.actions.egress import Egress, EgressFailed, EgressRefused, Stream
from receiver.actions.folder import CHUNK, SPARE, Kept, Outside, Part, kept, open_folder
from receiver.actions.names import file_names, safe_name
from receiver.records import Json, JsonObject, Result, SavedFile

EXPIRED = frozenset({403, 404, 410})
LONGEST_WAIT = 3600.0


class Downloader:
    """Saves every result it can, then fails with the first reason if any was not saved.

    A file that has its final name is complete and is not fetched again. `spare` bytes of the disk are left free.
    """

    def __init__(self, egress: Egress, clock: Callable[[], float], *, spare: int = SPARE) -> None:
        self._egress = egress
        self._clock = clock
        self._spare = spare

    async def __call__(self, work: Work) -> Done:
        folder = await self._folder(work)
        shown = Path(work.definition.directory) / folder.name
        saved: list[SavedFile] = []
        lines: list[Json] = []
        failures: list[ActionFailed] = []
        for index, name in file_names(work.results).items():
            started = self._clock()
            try:
                file, fetched = await self._save(work, index, folder / name)
            except ActionFailed as failure:
                failures.append(failure)
                continue
            saved.append(SavedFile(result=index, path=(shown / name).as_posix(), sha256=file.sha256, size=file.size))
            lines.append(_line(saved[-1], fetched=fetched, seconds=self._clock() - started))
        if failures:
            raise _together(failures, {"files": lines})
        return Done(detail={"files": lines}, files=tuple(saved))

    async def _folder(self, work: Work) -> Path:
        try:
            return await asyncio.to_thread(open_folder, work.definition.directory, safe_name(work.task_id))
        except Outside:
            raise ActionFailed("the task's folder is a symbolic link to another place", permanent=True) from None
        except OSError as error:
            raise ActionFailed(f"the folder could not be made: {_cause(error)}") from error

    async def _save(self, work: Work, index: int, path: Path) -> tuple[Kept, bool]:
        """The file, and whether it had to be fetched."""
        try:
            there = await asyncio.to_thread(kept, path)
            if there is not None:
                return there, False
            return await self._fetch(work, work.results[index], path), True
        except ActionFailed as failure:
            raise _about(index, failure) from failure.__cause__
        except EgressRefused as error:
            raise ActionFailed(f"result {index}: {error}", permanent=True) from error
        except EgressFailed as error:
            raise ActionFailed(f"result {index}: {error}") from error
        except OSError as error:
            raise ActionFailed(f"result {index}: the file could not be written: {_cause(error)}") from error

    async def _fetch(self, work: Work, result: Result, path: Path) -> Kept:
        if not result.url:
            return await self._write(path, _one((result.text or "").encode(errors="replace")), None)
        if result.url[:5].lower() == "data:":
            return await self._write(path, _one(data_bytes(result.url)), None)
        async with self._egress.stream(result.url, allow_private=work.definition.allow_private) as stream:
            if stream.status != 200:
                raise _refusal(stream, self._clock())
            return await self._write(path, stream, stream.length)

    async def _write(self, path: Path, chunks: AsyncIterable[bytes], length: int | None) -> Kept:
        part = Part(path, spare=self._spare)
        try:
            await asyncio.to_thread(part.open, length)
            async for block in _blocks(chunks):
                await asyncio.to_thread(part.write, block)
            if length is not None and part.size != length:
                raise ActionFailed(f"{part.size} of {length} bytes came")
            return await asyncio.to_thread(part.finish)
        finally:
            await asyncio.to_thread(part.abandon)


def data_bytes(url: str) -> bytes:
    """The bytes inside a data: URL."""
    head, comma, data = url.partition(",")
    if not comma:
        raise ActionFailed("the data URL has no data", permanent=True)
    raw = unquote_to_bytes(data)
    if not head.lower().endswith(";base64"):
        return raw
    try:
        return base64.b64decode(b"".join(raw.split()), validate=True)
    except binascii.Error:
        raise ActionFailed("the data URL is not base64", permanent=True) from None


def _refusal(stream: Stream, now: float) -> ActionFailed:
    reason = f"{stream.place} answered {stream.status}"
    if stream.status in EXPIRED:
        return ActionFailed(f"{reason}: the link is dead", expired=True)
    if is_worth_retrying(stream.status):
        return ActionFailed(reason, retry_after=wait_asked(stream.headers, now, longest=LONGEST_WAIT))
    return ActionFailed(reason, permanent=True)


def _about(index: int, failure: ActionFailed) -> ActionFailed:
    return ActionFailed(
        f"result {index}: {failure.reason}",
        permanent=failure.permanent,
        retry_after=failure.retry_after,
        expired=failure.expired,
    )


def _together(failures: list[ActionFailed], detail: JsonObject) -> ActionFailed:
    """One failure for all: the first reason, and permanent only when no result is left to hope for."""
    more = f" (and {len(failures) - 1} more)" if len(failures) > 1 else ""
    return ActionFailed(
        failures[0].reason + more,
        permanent=all(failure.permanent for failure in failures),
        expired=any(failure.expired for failure in failures),
        retry_after=max((f.retry_after for f in failures if f.retry_after is not None), default=None),
        detail={**detail, "failures": [failure.reason for failure in failures]},
    )


def _line(file: SavedFile, *, fetched: bool, seconds: float) -> JsonObject:
    return {
        "result": file.result,
        "path": file.path,
        "sha256": file.sha256,
        "size": file.size,
        "seconds": round(max(0.0, seconds), 3),
        "fetched": fetched,
    }


def _cause(error: OSError) -> str:
    return error.strerror or type(error).__name__


async def _one(data: bytes) -> AsyncIterator[bytes]:
    yield data


async def _blocks(chunks: AsyncIterable[bytes]) -> AsyncIterator[bytes]:
    """The same bytes in pieces large enough that a trip to a thread is cheap."""
    block = bytearray()
    async for chunk in chunks:
        block += chunk
        if len(block) >= CHUNK:
            yield bytes(block)
            block.clear()
    if block:
        yield bytes(block)
