"""The action that saves a task's results as files below `directory`, by default as task id/name.

A download that breaks off is continued by the next attempt. It is given up, and leaves nothing, when what came is of
no use, when no attempt is left, or when none has touched it for as long as links live.
"""

import asyncio
import errno
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import msgspec

from receiver.actions import ActionFailed, Done, Work, cause
from receiver.actions.download.content import HEAD, data_bytes, is_data, what_is_wrong
from receiver.actions.download.folder import CHUNK, Kept, Outside, kept, open_folder
from receiver.actions.download.names import file_paths
from receiver.actions.download.partial import Part, Room, free_room, tidy, tidy_stale
from receiver.actions.download.ranges import PARTIAL, Origin, asking, is_whole, judge, link_identity, origin_of
from receiver.actions.settings import DownloadDefinition
from receiver.egress.answers import AGAIN, failure_class, wait_asked
from receiver.egress.client import Egress, EgressFailed, EgressRefused, Stream
from receiver.model import rules
from receiver.model.definitions import FailureClass
from receiver.model.records import Json, JsonObject, SavedFile

LONGEST_WAIT = 3600.0
TIDY_EVERY = 6 * 3600.0
"""Seconds between two looks for parts that nobody will continue: of tasks that were skipped, or ran out of time."""


class Useless(ActionFailed):
    """What came will not become the file: nothing of it is kept."""


class Downloader:
    """Saves every result it can, then fails with the first reason if any was not saved.

    A file that has its final name is complete and is not fetched again. `room` says how much a disk may take.
    """

    def __init__(self, egress: Egress, clock: Callable[[], float], *, room: Room = free_room) -> None:
        self.egress, self.clock, self.room = egress, clock, room
        self._tidied: dict[str, float] = {}

    async def __call__(self, work: Work) -> Done:
        definition = work.definition
        assert isinstance(definition, DownloadDefinition)
        await self._tidy(definition)
        saved: list[SavedFile] = []
        lines: list[Json] = []
        broken: list[Json] = []
        failures: list[ActionFailed] = []
        for index, path in file_paths(definition.files, work.results, work.body).items():
            one = _Save(self, work, definition, index)
            started = self.clock()
            try:
                file = await one(path)
            except ActionFailed as failure:
                failure.reason = f"result {index}: {failure.reason}"
                failures.append(failure)
                broken.append({"result": index, "error": failure.reason, **one.told})
                continue
            shown = (Path(definition.directory) / path).as_posix()
            saved.append(SavedFile(result=index, path=shown, sha256=file.sha256, size=file.size))
            seconds = round(max(0.0, self.clock() - started), 3)
            lines.append({**msgspec.structs.asdict(saved[-1]), "seconds": seconds, **one.told})
        if failures:
            raise _together(failures, {"files": lines, "broken": broken})
        return Done(detail={"files": lines}, files=tuple(saved))

    async def _tidy(self, definition: DownloadDefinition) -> None:
        now = self.clock()
        place = f"{definition.directory}/{definition.files}"
        if now - self._tidied.get(place, float("-inf")) < TIDY_EVERY:
            return
        self._tidied[place] = now
        depth = definition.files.count("/")
        with suppress(OSError):
            await asyncio.to_thread(tidy_stale, Path(definition.directory), depth, now - rules.LINKS_LIVE)


class _Save:
    """One result's way to its file; `told` is what the attempt should say of it."""

    def __init__(self, hands: Downloader, work: Work, definition: DownloadDefinition, index: int) -> None:
        self._egress, self._clock, self._room = hands.egress, hands.clock, hands.room
        self._definition = definition
        self._index, self._result = index, work.results[index]
        self._last = work.attempt >= definition.max_attempts
        self._tail = bytearray()
        """What came and is not written yet."""
        self._fresh: Origin | None = None
        """What the tail begins; nothing of it is written yet."""
        self.told: JsonObject = {}

    async def __call__(self, path: str) -> Kept:
        """The file at a path below the directory. Raises ActionFailed."""
        try:
            place, there = await self._place(path)
            if there is not None:
                await asyncio.to_thread(tidy, place)
            file = there or await self._fetch(place)
            self.told["fetched"] = there is None
            return file
        except (EgressRefused, EgressFailed) as error:
            permanent = isinstance(error, EgressRefused)
            raise ActionFailed(str(error), permanent=permanent, category=error.category) from error
        except OSError as error:
            full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            category = FailureClass.POSTPONED if full else FailureClass.FAILED
            raise ActionFailed(f"the file could not be written: {cause(error)}", category=category) from error

    async def _place(self, path: str) -> tuple[Path, Kept | None]:
        """Where the file belongs, its folder made, and what stands there."""
        *folders, name = path.split("/")

        def look() -> tuple[Path, Kept | None]:
            place = open_folder(self._definition.directory, folders) / name
            return place, kept(place)

        try:
            return await asyncio.to_thread(look)
        except Outside as error:
            raise ActionFailed(f"the folder {error} is a symbolic link to another place", permanent=True) from None
        except OSError as error:
            raise ActionFailed(f"the folder could not be made: {cause(error)}") from error

    async def _fetch(self, path: Path) -> Kept:
        part = Part(path, now=self._clock(), room=self._room)
        try:
            media_type = await self._fill(part)
            head = bytes((b"" if self._fresh else part.head) + self._tail[:HEAD])[:HEAD]
            # A text is what it is, whatever the provider calls it.
            if self._result.url and (wrong := what_is_wrong(self._result.type, path.name, media_type, head)):
                raise Useless(wrong)
            tail, fresh = self._take_tail()
            return await asyncio.to_thread(_finish, part, tail, fresh)
        except BaseException as error:
            with suppress(OSError):  # it must not hide the error, least of all a cancellation
                await self._give_up(part, error)
            raise

    async def _give_up(self, part: Part, error: BaseException) -> None:
        cancelled = isinstance(error, asyncio.CancelledError)
        useless = isinstance(error, Useless | EgressRefused) or (isinstance(error, ActionFailed) and error.permanent)
        if useless or (self._last and not cancelled):
            await asyncio.to_thread(part.discard)
            return
        size = await asyncio.to_thread(_put_down, part, *self._take_tail())
        if size:
            self.told["kept"] = size
            error.add_note(f"result {self._index}: {size} bytes of it, with which the next attempt begins")

    async def _fill(self, part: Part) -> str:
        """Gets all of the bytes into the part; what the server says that they are ("" when nobody says it)."""
        url = self._result.url
        if url and not is_data(url):
            link = link_identity(url)
            await asyncio.to_thread(part.open, link)
            return await self._draw(part, url, link)
        text = self._result.text or ""
        data = await asyncio.to_thread(data_bytes, url) if url else text.encode(errors="replace")
        await asyncio.to_thread(part.open)
        await self._begin(part, Origin(link="", validator=None, total=len(data)))
        self._tail += data
        return ""

    async def _draw(self, part: Part, url: str, link: str) -> str:
        allowed = self._definition.allow_private
        if (origin := part.origin) is not None:
            headers = asking(origin, part.size)
            async with self._egress.stream(url, allow_private=allowed, headers=headers) as stream:
                if stream.status in PARTIAL | {200} and await self._goes_on(part, origin, stream):
                    return stream.headers.get("content-type", "") if stream.status == 206 else ""
                if stream.status not in PARTIAL:
                    return await self._whole(part, stream, link)
        async with self._egress.stream(url, allow_private=allowed) as stream:
            return await self._whole(part, stream, link)

    async def _goes_on(self, part: Part, origin: Origin, stream: Stream) -> bool:
        """Whether the answer completed what is there; else why it must be begun anew is told."""
        total = judge(origin, part.size, stream.status, stream.headers, stream.length)
        if isinstance(total, str):
            self.told["begun_anew"] = f"{total}; {part.size} bytes were here"
            return False
        self.told["continued_at"] = part.size
        self._require_size(total, whole=True)
        if total > part.size:
            await asyncio.to_thread(part.reserve, total)
            await self._pour(part, stream, total)
        return True

    async def _whole(self, part: Part, stream: Stream, link: str) -> str:
        if not is_whole(stream.status, stream.headers):
            raise _refusal(stream, self._clock())
        await self._begin(part, origin_of(link, stream.headers, stream.length, self._clock()))
        await self._pour(part, stream, stream.length)
        return stream.headers.get("content-type", "")

    async def _begin(self, part: Part, origin: Origin) -> None:
        self._require_size(origin.total or 0, whole=True)
        self._fresh = origin
        if origin.total is None or origin.total > CHUNK:
            await self._write_tail(part)  # before it is fetched in vain, should there be no room

    async def _pour(self, part: Part, stream: Stream, total: int | None) -> None:
        """All that comes, in pieces large enough that a trip to a thread is cheap; `total` is what it must make.

        The last piece is left to whoever ends the file.
        """
        came = 0 if self._fresh else part.size
        try:
            async for chunk in stream:
                came += len(chunk)
                self._require_size(came)
                if total is not None and came > total:
                    raise Useless(f"more than the {total} bytes came that the file should have")
                self._tail += chunk
                if len(self._tail) >= CHUNK:
                    await self._write_tail(part)
        except EgressFailed as error:
            raise type(error)(f"{error}; {came} of {'?' if total is None else total} bytes came") from error
        if total is not None and came != total:
            raise ActionFailed(f"only {came} of {total} bytes came")

    async def _write_tail(self, part: Part) -> None:
        await asyncio.to_thread(_write, part, *self._take_tail())

    def _take_tail(self) -> tuple[bytearray, Origin | None]:
        """What is to be written, and what it begins. Before it is written, or a cancellation would write it twice."""
        taken = self._tail, self._fresh
        self._tail, self._fresh = bytearray(), None
        return taken

    def _require_size(self, size: int, *, whole: bool = False) -> None:
        most = self._definition.max_size
        if size > most:
            found = f"has {size} bytes, more" if whole else "is larger"
            remedy = f"raise `max_size` of {self._definition.name} and retry the action"
            raise ActionFailed(f"the file {found} than `max_size`, {most}; {remedy}", permanent=True)


def _write(part: Part, tail: bytearray, fresh: Origin | None) -> None:
    if fresh is not None:
        part.restart(fresh)
    part.write(tail)


def _finish(part: Part, tail: bytearray, fresh: Origin | None) -> Kept:
    """A small file is begun, written and ended in one trip to a thread."""
    _write(part, tail, fresh)
    return part.finish()


def _put_down(part: Part, tail: bytearray, fresh: Origin | None) -> int:
    """Leaves what can be continued. Returns how many bytes that are."""
    if fresh is not None:
        try:
            part.restart(fresh)
        except OSError:
            tail.clear()
    return part.put_down(bytes(tail))


def _refusal(stream: Stream, now: float) -> ActionFailed:
    """No status ends a download: a link that is refused now may work later, or there is another for it."""
    dead = 400 <= stream.status <= 499 and stream.status not in AGAIN
    wait = None if dead else wait_asked(stream.headers, now, longest=LONGEST_WAIT)
    reason = f"{stream.place} answered {stream.status}{': the link is dead' if dead else ''}"
    category = FailureClass.REFUSED if dead else failure_class(stream.status)
    return ActionFailed(reason, expired=dead, retry_after=wait, category=category)


def _together(failures: list[ActionFailed], detail: JsonObject) -> ActionFailed:
    """One failure for all: the first reason, and permanent only when no result is left to hope for."""
    more = f" (and {len(failures) - 1} more)" if len(failures) > 1 else ""
    return replace(
        failures[0],
        reason=failures[0].reason + more,
        permanent=all(failure.permanent for failure in failures),
        expired=any(failure.expired for failure in failures),
        retry_after=max((f.retry_after for f in failures if f.retry_after is not None), default=None),
        detail=detail,
    )
