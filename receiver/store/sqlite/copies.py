"""Copies of the whole database: a backup of it, and a backup put in its place."""

import os
import shutil
import sqlite3
import tempfile
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import IO

from sqlite_utils import Database

from receiver.model.errors import Failed, StoreUnavailable
from receiver.store.sqlite.database import Lock
from receiver.store.sqlite.file import (
    BACKING_UP,
    COMPANIONS,
    PRIVATE,
    REPLACED,
    RESTORING,
    beside,
    fault,
    look_inside,
    refuse_place,
)
from receiver.store.sqlite.migrations import migrations

MIB = 1024 * 1024
STEP = 2048
"""Pages that are copied between two looks at the disk."""


def back_up(connection: sqlite3.Connection, path: Path, floor: int) -> IO[bytes]:
    """The database at `path`, copied into a file that has no name any more.

    Raises StoreUnavailable before the disk has less than `floor` bytes left.
    """
    with tempfile.TemporaryDirectory(prefix=BACKING_UP.format(path.name), dir=path.parent) as directory:
        copy = Path(directory) / path.name
        _copy(connection, copy, floor)
        return copy.open("rb")


def restore(backup: Path, database: Path, at: datetime) -> list[Path]:
    """Puts a copy of a backup in the place of the database. What it replaces is kept beside it, under these names.

    Raises DatabaseInUse while a server runs, and Failed for what is no sound backup of ours; then nothing is changed.
    """
    path = database.resolve()
    refuse_place(path)
    lock = Lock(path)
    lock.seize()
    copy = beside(path, RESTORING)
    try:
        copy.unlink(missing_ok=True)
        _copy_checked(backup, copy, path)
        if os.geteuid() == 0:
            # The server may be another user.
            owner = (path if path.exists() else path.parent).stat()
            for each in (copy, lock.path):
                os.chown(each, owner.st_uid, owner.st_gid)
        return _put_in_place(copy, path, at)
    finally:
        lock.release()


def _copy(source: sqlite3.Connection, target: Path, floor: int) -> None:
    os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    copy = sqlite3.connect(target, isolation_level=None)
    # A moment is held: else every write meanwhile would begin the copy anew, and it would never be whole under load.
    source.execute("begin")
    try:
        (pages,) = source.execute("pragma page_count").fetchone()
        (page,) = source.execute("pragma page_size").fetchone()
        _refuse_below(floor, target, pages * page)
        source.backup(copy, pages=STEP, progress=lambda *_: _refuse_below(floor, target, 0), sleep=0)
        # One file without a log, and known by that from a file that is served.
        copy.execute("pragma journal_mode = delete")
    finally:
        copy.close()
        source.execute("rollback")


def _refuse_below(floor: int, target: Path, size: int) -> None:
    free = shutil.disk_usage(target.parent).free
    if free - size < floor:
        message = (
            f"a copy of {size // MIB} MiB does not fit: {free // MIB} MiB are free, {floor // MIB} MiB must stay so"
        )
        raise StoreUnavailable("disk_low", message, retry_after=60)


def _copy_checked(backup: Path, copy: Path, path: Path) -> None:
    """Leaves no copy of what is no backup."""
    try:
        if path.exists() and backup.samefile(path):
            raise Failed(f"{backup} is the database itself")
        with look_inside(backup) as connection:
            applied = {each.name for each in migrations.applied(Database(connection))}
            if not applied:
                raise Failed(f"{backup} is no backup of a receiver")
            if newer := applied - {each.name for each in migrations.pending(Database(memory=True))}:
                raise Failed(f"{backup} was made by a newer version, which has {', '.join(sorted(newer))}")
            _copy(connection, copy, 0)
        if problem := fault(copy):
            raise Failed(f"{backup} is damaged: {problem}")
    except BaseException as error:
        copy.unlink(missing_ok=True)
        if isinstance(error, sqlite3.Error):
            raise Failed(f"{backup} cannot be read as a database: {error}") from error
        raise


def _put_in_place(copy: Path, path: Path, at: datetime) -> list[Path]:
    """Where what was there is kept. Should this be cut off, the copy tells the next start that it was."""
    replaced = beside(path, f"{REPLACED}{at:%Y%m%dT%H%M%S.%f}Z")
    there = [end for end in ("", *COMPANIONS) if beside(path, end).exists()]
    kept = [beside(path, end).rename(beside(replaced, end)) for end in there]
    for each in kept:
        with suppress(OSError):
            each.chmod(PRIVATE)
    copy.rename(path)
    directory = os.open(path.parent, os.O_RDONLY)
    os.fsync(directory)
    os.close(directory)
    return kept
