"""Reads SQLite's write-ahead log by itself, before SQLite opens the database and replays it."""

import os
import struct
from pathlib import Path
from typing import BinaryIO

HEADER = struct.Struct(">8I")
"""Magic number, version, size of a page, sequence number, two salts, two checksums, as SQLite documents them."""
FRAME = struct.Struct(">6I")
"""Number of the page, pages of the database after a commit (else 0), two salts, two checksums."""
MAGIC = 0x377F0682


def changes_nothing(path: Path, log: Path) -> bool:
    """Whether all that a log would bring into the file stands there already, as after a checkpoint.

    Then it does not matter whose log it is. Checksums are not looked at: a frame too many makes this False at the most.
    """
    with path.open("rb") as file, log.open("rb") as frames:
        header = frames.read(HEADER.size)
        if len(header) < HEADER.size:
            return True
        magic, _, page, _, *salts, _, _ = HEADER.unpack(header)
        if magic & ~1 != MAGIC or not 512 <= page <= 65536:
            return False
        size, newest = _committed(frames, page, salts)
        if not newest:
            return True
        return os.fstat(file.fileno()).st_size == size * page and all(
            number > size or _read(file, (number - 1) * page, page) == _read(frames, place, page)
            for number, place in newest.items()
        )


def _committed(frames: BinaryIO, page: int, salts: list[int]) -> tuple[int, dict[int, int]]:
    """How many pages the database has by the last commit, and where the newest content of each page stands."""
    place, size = HEADER.size, 0
    newest: dict[int, int] = {}
    since: dict[int, int] = {}
    length = os.fstat(frames.fileno()).st_size
    while place + FRAME.size + page <= length:
        number, pages, *others = FRAME.unpack(_read(frames, place, FRAME.size))
        if others[:2] != salts:
            break
        since[number] = place + FRAME.size
        if pages:
            size = pages
            newest.update(since)
            since.clear()
        place += FRAME.size + page
    return size, newest


def _read(file: BinaryIO, place: int, size: int) -> bytes:
    file.seek(place)
    return file.read(size)
