"""The ledger's file: what is opened, what is refused, whether it is still there; copies of it, and putting one back."""

import asyncio
import fcntl
import os
import shutil
import sqlite3
import stat
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from ledgers import end_tasks
from sqlite_utils import Database
from uuid_utils import uuid7

from receiver.cli.check import examine
from receiver.model.entries import NewTask
from receiver.model.errors import DatabaseInUse, Failed, SettingsError, StoreUnavailable
from receiver.model.records import Kind
from receiver.server.settings import Settings
from receiver.store import open_store
from receiver.store.ledger.transaction import Transaction
from receiver.store.sqlite.copies import restore
from receiver.store.sqlite.database import Readers, connect
from receiver.store.sqlite.engine import SqliteEngine
from receiver.store.sqlite.file import make_ready, refuse_place
from receiver.store.sqlite.log import changes_nothing
from receiver.store.sqlite.migrations import migrations
from receiver.store.sqlite.store import SqliteStore

AT = datetime(2026, 11, 25, 1, 2, 3, 456, UTC)
NOBODY = 65534
MIB = 1024 * 1024
AGE = 10.0
"""Seconds after which everything is looked at again."""


class Ticks:
    """A monotonic clock that a test moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Watched:
    """An open store, and the clock by which it looks at its file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.ticks = Ticks()
        self.store = SqliteStore(path, monotonic=self.ticks)

    async def refusal(self) -> str | None:
        """Why a write is refused a while later; None when it is not."""
        self.ticks.now += AGE
        try:
            await self.store.secret(f"at {self.ticks.now}")
            found = None
        except StoreUnavailable as problem:
            found = problem.reason if problem.retry_after > 0 else "no time to try again"
        assert self.store.problem() == found
        return found


@pytest.fixture
async def watched(tmp_path: Path) -> AsyncIterator[Watched]:
    watched = Watched(tmp_path / "receiver.db")
    await watched.store.open()
    yield watched
    await watched.store.close()


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def log(path: Path) -> Path:
    return path.with_name(path.name + "-wal")


def secrets(path: Path) -> set[str]:
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as connection:
        return {name for (name,) in connection.execute("select name from secrets")}


def names(directory: Path) -> set[str]:
    return {each.name for each in directory.iterdir()}


async def filled(path: Path, *given: str) -> None:
    """Opens a database, makes secrets in it, and closes it."""
    store = open_store(f"sqlite:///{path}")
    await store.open()
    for name in given:
        await store.secret(name)
    await store.close()


async def refused(path: Path, why: str) -> None:
    with pytest.raises(SettingsError, match=why):
        await open_store(f"sqlite:///{path}").open()


@contextmanager
def as_nobody(directory: Path) -> Iterator[None]:
    """Without the rights of root, which may do anything."""
    if os.geteuid() != 0:
        yield
        return
    os.chown(directory, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, 0)
    try:
        yield
    finally:
        os.setresuid(0, 0, 0)


@pytest.fixture
def public_path() -> Iterator[Path]:
    """A directory that everybody can come to."""
    with tempfile.TemporaryDirectory() as directory:
        yield Path(directory)


# ---------------------------------------------------------------- the file that was opened is the file that is there


def removed(path: Path) -> None:
    path.unlink()


def moved(path: Path) -> None:
    path.rename(path.with_name("away.db"))


def replaced(path: Path) -> None:
    moved(path)
    shutil.copy(path.with_name("away.db"), path)


@pytest.mark.parametrize("happens", [removed, moved, replaced])
async def test_nothing_is_promised_when_the_file_is_gone(watched: Watched, happens: Callable[[Path], None]) -> None:
    assert await watched.refusal() is None
    happens(watched.path)
    assert await watched.refusal() == "database_gone"
    assert await watched.refusal() == "database_gone"


async def test_readiness_says_that_the_file_is_gone_before_anybody_writes(watched: Watched) -> None:
    moved(watched.path)
    watched.ticks.now += AGE
    assert watched.store.problem() == "database_gone"


@pytest.mark.parametrize("happens", [moved, replaced])
async def test_the_right_file_heals_what_its_absence_broke(watched: Watched, happens: Callable[[Path], None]) -> None:
    happens(watched.path)
    assert await watched.refusal() == "database_gone"
    watched.path.with_name("away.db").rename(watched.path)
    assert await watched.refusal() is None


async def test_a_link_that_leads_elsewhere_is_no_longer_the_file(tmp_path: Path) -> None:
    await filled(tmp_path / "one.db")
    await filled(tmp_path / "other.db")
    link = tmp_path / "link.db"
    link.symlink_to("one.db")
    watched = Watched(link)
    await watched.store.open()
    assert await watched.refusal() is None
    link.unlink()
    link.symlink_to("other.db")
    assert await watched.refusal() == "database_gone"
    await watched.store.close()


async def test_a_log_that_was_removed_is_saved_in_the_database(watched: Watched, tmp_path: Path) -> None:
    await watched.store.secret("in the log alone")
    log(watched.path).unlink()
    assert await watched.refusal() == "log_gone"
    # As after a SIGKILL: what the file holds without its log.
    shutil.copy(watched.path, tmp_path / "killed.db")
    assert "in the log alone" in secrets(tmp_path / "killed.db")


# ---------------------------------------------------------------- one owner


async def test_the_lock_belongs_to_the_file_whatever_it_is_called(watched: Watched, tmp_path: Path) -> None:
    (tmp_path / "link.db").symlink_to(watched.path)
    (tmp_path / "folder").symlink_to(tmp_path)
    for other in (tmp_path / "link.db", tmp_path / "folder" / "receiver.db"):
        with pytest.raises(DatabaseInUse):
            await open_store(f"sqlite:///{other}").open(patience=0.0)


async def test_a_second_name_of_the_same_file_is_refused(tmp_path: Path) -> None:
    await filled(tmp_path / "receiver.db")
    os.link(tmp_path / "receiver.db", tmp_path / "other.db")
    await refused(tmp_path / "other.db", "second name")


async def test_a_lost_lock_is_taken_again(watched: Watched) -> None:
    lock = watched.path.with_name("receiver.db.lock")
    lock.unlink()
    assert await watched.refusal() is None
    with pytest.raises(DatabaseInUse):
        await open_store(f"sqlite:///{watched.path}").open(patience=0.0)


async def test_a_lock_that_somebody_else_took_stops_all_writes_until_it_is_free(watched: Watched) -> None:
    lock = watched.path.with_name("receiver.db.lock")
    lock.unlink()
    with lock.open("w") as taken:
        fcntl.flock(taken, fcntl.LOCK_EX)
        assert await watched.refusal() == "lock_gone"
    assert await watched.refusal() is None


# ---------------------------------------------------------------- another program writes


async def test_another_writer_makes_the_storage_locked_and_it_heals_when_that_one_ends(tmp_path: Path) -> None:
    def soon(path: Path) -> sqlite3.Connection:
        connection = connect(path)
        connection.execute("pragma busy_timeout = 10")
        return connection

    engine = SqliteEngine(lambda: soon(tmp_path / "receiver.db"))
    engine.connect()
    with closing(sqlite3.connect(tmp_path / "receiver.db", isolation_level=None)) as other:
        other.execute("begin immediate")
        with pytest.raises(sqlite3.OperationalError) as busy:
            engine.begin()
        assert engine.storage_failure(busy.value) == "locked"
        assert engine.probe() == "locked"
        other.execute("rollback")
        assert engine.probe() is None
    engine.close()


async def test_a_reader_tells_a_failure_of_the_storage_as_such(tmp_path: Path) -> None:
    readers = Readers(tmp_path / "nothing.db")
    with pytest.raises(StoreUnavailable, match="cannot open"):
        await readers.run(lambda tx: tx.value("select 1 as value"))
    readers.close()


# ---------------------------------------------------------------- backups


def grow(size: int) -> Callable[[Transaction], int]:
    return lambda tx: tx.change("insert into facts (name, value) values ('ballast', zeroblob(?))", size)


async def test_reads_wait_for_no_backup_and_one_is_made_at_a_time(watched: Watched, tmp_path: Path) -> None:
    await watched.store.write(grow(100 * MIB))
    backups = [asyncio.create_task(watched.store.backup()) for _ in range(3)]
    await asyncio.sleep(0)
    await watched.store.counters()
    assert not any(each.done() for each in backups)
    assert len(list(tmp_path.glob(".receiver.db.backup-*"))) <= 1
    for file in await asyncio.gather(*backups):
        file.close()
    assert list(tmp_path.glob(".receiver.db.backup-*")) == []


async def test_a_backup_is_of_one_moment_and_ends_while_others_write(watched: Watched, tmp_path: Path) -> None:
    await watched.store.write(grow(30 * MIB))
    done = asyncio.Event()

    async def write() -> int:
        count = 0
        while not done.is_set():
            await watched.store.secret(f"s{count}")
            count += 1
        return count

    writing = asyncio.create_task(write())
    with await watched.store.backup() as file:
        (tmp_path / "copy.db").write_bytes(file.read())
    done.set()
    assert await writing > len(secrets(tmp_path / "copy.db"))
    with closing(sqlite3.connect(tmp_path / "copy.db")) as copy:
        assert copy.execute("pragma integrity_check").fetchone() == ("ok",)
        assert copy.execute("pragma journal_mode").fetchone() == ("delete",)


async def test_a_backup_that_does_not_fit_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "receiver.db"
    await filled(path)
    with path.open("r+b") as file:
        # A terabyte of pages that take no room on the disk: their number stands at byte 28, their size is 4096.
        file.truncate(2**40)
        file.seek(28)
        file.write((2**40 // 4096).to_bytes(4))
    store = SqliteStore(path, disk_floor=MIB)
    await store.open()
    assert store.problem() is None
    with pytest.raises(StoreUnavailable, match="a copy of 1048576 MiB does not fit") as refusal:
        await store.backup()
    assert refusal.value.reason == "disk_low"
    assert list(tmp_path.glob(".receiver.db.backup-*")) == []
    await store.close()


async def test_what_a_killed_backup_left_is_removed_at_the_next_start(tmp_path: Path) -> None:
    for name in (".receiver.db.backup-x1", ".other.db.backup-x2"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "receiver.db").write_bytes(b"half a copy")
    await filled(tmp_path / "receiver.db")
    assert not (tmp_path / ".receiver.db.backup-x1").exists()
    assert (tmp_path / ".other.db.backup-x2").exists()


# ---------------------------------------------------------------- what is opened


async def test_a_file_that_others_can_read_is_made_private_with_its_log(tmp_path: Path) -> None:
    path = tmp_path / "receiver.db"
    live = tmp_path / "live.db"
    await filled(live)
    with closing(sqlite3.connect(live)) as connection:
        connection.execute("insert into secrets (name, value) values ('x', 'y')")
        connection.commit()
        for end in ("", "-wal"):
            shutil.copyfile(f"{live}{end}", f"{path}{end}")
            Path(f"{path}{end}").chmod(0o644)
    store = open_store(f"sqlite:///{path}")
    await store.open()
    assert [mode(Path(f"{path}{end}")) for end in ("", "-wal", "-shm")] == [0o600] * 3
    await store.close()
    assert secrets(path) == {"x"}


def test_the_check_of_the_settings_says_that_others_can_read_the_database(tmp_path: Path) -> None:
    (tmp_path / "receiver.db").touch()
    (tmp_path / "receiver.db").chmod(0o644)
    found = next(each for each in examine(Settings(), tmp_path) if each.what == "database")
    assert (found.ok, "of mode 0644: the server makes it 0600" in found.found) == (True, True)


COMPANIONS = (".lock", ".replaced-20261125T010203.000456Z", ".replaced-20261125T010203.000456Z-wal")


async def test_all_that_stands_beside_a_database_is_made_private_but_what_a_link_leads_to(tmp_path: Path) -> None:
    path, foreign = tmp_path / "receiver.db", tmp_path / "foreign"
    for each in (foreign, *(tmp_path / f"receiver.db{end}" for end in COMPANIONS)):
        each.touch()
        each.chmod(0o644)
    (tmp_path / "receiver.db.replaced-by-a-link").symlink_to(foreign)
    (tmp_path / "receiver.db.replaced-by-a-directory").mkdir()
    told = [each.found for each in examine(Settings(), tmp_path) if "of mode" in each.found]
    assert [each.partition(", ")[0] for each in told] == [f"{path}{end}" for end in COMPANIONS]
    assert all("of mode 0644: the server makes it 0600" in each for each in told)
    await filled(path, "first")
    assert {mode(Path(f"{path}{end}")) for end in COMPANIONS} == {0o600}
    assert mode(foreign) == 0o644
    assert [each.found for each in examine(Settings(), tmp_path) if "of mode" in each.found] == []


async def test_what_a_backup_replaces_is_kept_private(tmp_path: Path) -> None:
    path, backup = tmp_path / "receiver.db", tmp_path / "backup.db"
    await filled(tmp_path / "live.db", "first")
    await backed_up(tmp_path / "live.db", backup)
    await crashed(tmp_path / "live.db", path)
    path.chmod(0o644)
    log(path).chmod(0o644)
    assert [mode(each) for each in restore(backup, path, AT)] == [0o600, 0o600]


def test_a_file_that_cannot_be_made_private_is_refused_with_the_remedy(public_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("a file of somebody else's is made by root alone")
    path = public_path / "receiver.db"
    path.touch()
    path.chmod(0o666)
    with as_nobody(public_path), pytest.raises(SettingsError, match=f"mode 0666 .*`chmod 600 {path}`"):
        make_ready(path)


def test_a_directory_that_cannot_be_written_is_named(public_path: Path) -> None:
    path = public_path / "receiver.db"
    path.touch()
    with as_nobody(public_path):
        public_path.chmod(0o500)
        with pytest.raises(SettingsError, match=f"the directory {public_path} cannot be written"):
            refuse_place(path)
        public_path.chmod(0o700)


async def test_a_directory_is_no_database(tmp_path: Path) -> None:
    await refused(tmp_path, "is a directory")


@pytest.mark.parametrize("journal", ["wal", "delete"])
async def test_a_database_of_another_program_is_refused_and_not_touched(tmp_path: Path, journal: str) -> None:
    path = tmp_path / "theirs.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"pragma journal_mode = {journal}")
        connection.execute("create table tasks (title text)")
    path.chmod(0o664)
    before = path.read_bytes()
    await refused(path, "belongs to another program")
    assert (path.read_bytes(), mode(path)) == (before, 0o664)
    assert names(tmp_path) <= {"theirs.db", "theirs.db.lock"}


# ---------------------------------------------------------------- a log that is left over


async def crashed(path: Path, target: Path) -> None:
    """Leaves at `target` what a killed server leaves: a file, and a log that holds what came last."""
    store = open_store(f"sqlite:///{path}")
    await store.open()
    await store.secret("last")
    for end in ("-wal", ""):
        shutil.copyfile(f"{path}{end}", f"{target}{end}")
    await store.close()


async def backed_up(path: Path, target: Path) -> None:
    store = open_store(f"sqlite:///{path}")
    await store.open()
    with await store.backup() as file:
        target.write_bytes(file.read())
    await store.close()


async def test_a_log_that_belongs_is_replayed(tmp_path: Path) -> None:
    await crashed(tmp_path / "live.db", tmp_path / "receiver.db")
    await filled(tmp_path / "receiver.db", "next")
    assert secrets(tmp_path / "receiver.db") == {"last", "next"}


def test_a_log_whose_content_stands_in_its_file_already_needs_no_look_at_the_whole_file(tmp_path: Path) -> None:
    """As a killed server leaves it after a checkpoint, which makes the file younger than its log."""
    live, looked = tmp_path / "live.db", tmp_path / "looked.db"

    def replayed() -> bool:
        for end in ("-wal", ""):
            shutil.copyfile(f"{live}{end}", f"{looked}{end}")
        return changes_nothing(looked, log(looked))

    with closing(sqlite3.connect(live, isolation_level=None)) as connection:
        connection.execute("pragma journal_mode = wal")
        connection.execute("create table t (x)")
        connection.executemany("insert into t values (randomblob(900))", [()] * 500)
        assert not replayed()
        connection.execute("pragma wal_checkpoint(passive)")
        assert replayed()
        old = live.read_bytes()
        connection.execute("delete from t where rowid % 2")
        assert not replayed()
        connection.execute("pragma wal_checkpoint(passive)")
        assert replayed()
        looked.write_bytes(old)
        assert not changes_nothing(looked, log(looked))
        shutil.copyfile(live, looked)
        with log(looked).open("r+b") as file:
            file.write(b"no log")
        assert not changes_nothing(looked, log(looked))


async def test_a_backup_copied_over_a_database_is_not_opened_with_the_log_of_that(tmp_path: Path) -> None:
    path = tmp_path / "receiver.db"
    await filled(tmp_path / "live.db", "first")
    await backed_up(tmp_path / "live.db", tmp_path / "backup.db")
    await crashed(tmp_path / "live.db", path)
    shutil.copyfile(tmp_path / "backup.db", path)
    before = (path.read_bytes(), log(path).read_bytes())
    await refused(path, "is not the log of .*receiver restore")
    assert (path.read_bytes(), log(path).read_bytes()) == before
    log(path).unlink()
    await filled(path)
    assert secrets(path) == {"first"}


async def test_any_other_copy_put_over_a_database_is_checked_with_its_log_before_it_is_opened(tmp_path: Path) -> None:
    """Not a backup of ours, which would be known for one."""
    path, live = tmp_path / "receiver.db", tmp_path / "live.db"
    await filled(live, "first")
    old = live.read_bytes()
    store = open_store(f"sqlite:///{live}")
    await store.open()
    await store.write(grow(MIB))
    with closing(sqlite3.connect(live)) as other:
        other.execute("pragma wal_checkpoint(restart)")
    await asyncio.gather(*(store.secret(f"{number}" * 50) for number in range(200)))
    shutil.copyfile(log(live), log(path))
    await store.close()
    path.write_bytes(old)
    before = log(path).read_bytes()
    await refused(path, "is not the log of .*receiver restore")
    assert (path.read_bytes(), log(path).read_bytes()) == (old, before)


@pytest.mark.parametrize("empty", [True, False])
async def test_a_log_without_its_database_is_not_thrown_away(tmp_path: Path, empty: bool) -> None:
    path = tmp_path / "receiver.db"
    await crashed(tmp_path / "live.db", path)
    path.unlink()
    if empty:
        path.touch()
    await refused(path, "without its database")
    assert log(path).stat().st_size > 0


# ---------------------------------------------------------------- restoring


async def test_a_restored_backup_is_served_and_what_it_replaced_is_kept_whole(tmp_path: Path) -> None:
    path, backup = tmp_path / "receiver.db", tmp_path / "backup.db"
    await filled(tmp_path / "live.db", "first")
    await backed_up(tmp_path / "live.db", backup)
    await crashed(tmp_path / "live.db", path)
    before = backup.read_bytes()
    kept = restore(backup, path, AT)
    assert [each.name for each in kept] == [
        "receiver.db.replaced-20261125T010203.000456Z",
        "receiver.db.replaced-20261125T010203.000456Z-wal",
    ]
    assert (backup.read_bytes(), mode(path)) == (before, 0o600)
    assert secrets(kept[0]) == {"first", "last"}
    await filled(path, "next")
    assert secrets(path) == {"first", "next"}


async def test_a_backup_is_restored_to_a_machine_that_has_no_database_and_through_a_link(tmp_path: Path) -> None:
    await filled(tmp_path / "live.db", "first")
    await backed_up(tmp_path / "live.db", tmp_path / "backup.db")
    real = tmp_path / "new" / "receiver.db"
    assert restore(tmp_path / "backup.db", real, AT) == []
    (tmp_path / "link.db").symlink_to(real)
    (kept,) = restore(tmp_path / "backup.db", tmp_path / "link.db", AT)
    assert kept.parent == real.parent
    assert (tmp_path / "link.db").is_symlink()
    await filled(tmp_path / "link.db")
    assert secrets(real) == {"first"}


async def test_a_copy_with_a_log_of_its_own_is_restored_with_what_is_in_that(tmp_path: Path) -> None:
    await filled(tmp_path / "receiver.db")
    await crashed(tmp_path / "live.db", tmp_path / "backup.db")
    restore(tmp_path / "backup.db", tmp_path / "receiver.db", AT)
    assert secrets(tmp_path / "receiver.db") == {"last"}


async def test_a_ledger_with_a_row_in_many_tables_is_sound_to_sqlite_and_is_restored(tmp_path: Path) -> None:
    """SQLite's own check once took labels for damage."""
    path, backup = tmp_path / "receiver.db", tmp_path / "backup.db"
    labels = {"project": "shop", "shot": "1"}
    order = NewTask(id=str(uuid7()), kind=Kind.MODEL, target="a/b", input={}, labels=labels, digest=b"d")
    store = open_store(f"sqlite:///{path}")
    await store.open()
    await store.add_task(order, 1.0)
    await end_tasks(store, 3, [], 2.0)
    with await store.backup() as file:
        backup.write_bytes(file.read())
    await store.close()
    with closing(sqlite3.connect(backup)) as connection:
        assert connection.execute("pragma integrity_check").fetchall() == [("ok",)]
    assert len(restore(backup, path, AT)) == 1


def garbage(path: Path) -> None:
    path.write_bytes(b"no database, but long enough to be looked at" * 100)


def empty(path: Path) -> None:
    path.write_bytes(b"")


def damaged(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[4096:-4096] = os.urandom(len(content) - 8192)
    path.write_bytes(content)


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 3 * 4096)


def theirs(path: Path) -> None:
    path.unlink()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("create table tasks (title text)")


def newer(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        row = {"migration_set": migrations.name, "name": "m999_of_tomorrow", "applied_at": "2031"}
        Database(connection).table(migrations.migrations_table).insert(row)
        connection.commit()


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (garbage, "cannot be read as a database"),
        (empty, "is no backup of a receiver"),
        (damaged, "."),
        (cut, "."),
        (theirs, "is no backup of a receiver"),
        (newer, "newer version.*m999_of_tomorrow"),
    ],
)
async def test_what_is_no_sound_backup_replaces_nothing(
    tmp_path: Path, spoil: Callable[[Path], None], why: str
) -> None:
    path, backup = tmp_path / "receiver.db", tmp_path / "elsewhere" / "backup.db"
    backup.parent.mkdir()
    await filled(path, "kept")
    await backed_up(path, backup)
    spoil(backup)
    before = (path.read_bytes(), names(tmp_path))
    with pytest.raises(Failed, match=why):
        restore(backup, path, AT)
    assert (path.read_bytes(), names(tmp_path)) == before
    assert names(backup.parent) == {"backup.db"}


async def test_a_database_is_not_restored_from_itself_nor_while_it_is_served(watched: Watched, tmp_path: Path) -> None:
    await backed_up(tmp_path / "other.db", tmp_path / "backup.db")
    with pytest.raises(DatabaseInUse):
        restore(tmp_path / "backup.db", watched.path, AT)
    with pytest.raises(Failed, match="is the database itself"):
        restore(tmp_path / "other.db", tmp_path / "other.db", AT)


async def test_a_restore_that_was_cut_off_is_never_taken_for_a_new_database(tmp_path: Path) -> None:
    path = tmp_path / "receiver.db"
    await backed_up(tmp_path / "live.db", tmp_path / "backup.db")
    path.with_name("receiver.db-restoring").write_bytes(b"the copy, before it took the place")
    await refused(path, "`receiver restore` again")
    restore(tmp_path / "backup.db", path, AT)
    await filled(path)
