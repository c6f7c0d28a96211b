"""Where a running server leaves its address for the command line: a file beside its database, for its owner alone."""

import os
import stat
from contextlib import suppress
from pathlib import Path
from secrets import token_hex
from urllib.parse import urlsplit

import msgspec

from receiver.egress.addresses import is_here
from receiver.model.announcement import Announcement
from receiver.model.errors import Failed

LONGEST = 4096
"""Bytes of the file that are read; it has about two hundred."""
OTHERS = 0o077
"""What the mode of the file must not allow to anybody but its owner."""


class NotAnnounced(Failed):
    """No server has left its address here, or what is here cannot be trusted."""


def address_file(database: Path) -> Path:
    """The file that holds the address of the server that owns a database, whatever name the database is given by."""
    real = database.resolve()
    return real.with_name(real.name + ".server")


def announce(file: Path, url: str, now: float) -> Announcement:
    """Leaves a server's address, with a new key. Whatever is there is replaced; a link is not followed."""
    made = Announcement(url=url, key=token_hex(32), pid=os.getpid(), since=now)
    new = file.with_name(file.name + ".new")
    new.unlink(missing_ok=True)
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as opened:
        opened.write(msgspec.json.encode(made))
    new.replace(file)
    return made


def withdraw(file: Path) -> None:
    """The server has ended."""
    with suppress(FileNotFoundError):
        file.unlink()


def announced(file: Path) -> Announcement:
    """What a server has left. Raises NotAnnounced, which says what is wrong and what to do."""
    try:
        found = msgspec.json.decode(_content(file), type=Announcement)
        host = urlsplit(found.url).hostname or ""
    except FileNotFoundError:
        raise NotAnnounced(f"no server has left its address in {file}") from None
    except OSError as error:
        raise NotAnnounced(f"{file} cannot be read: {error.strerror}; set RECEIVER_URL instead") from error
    except (msgspec.DecodeError, UnicodeError, ValueError):
        raise NotAnnounced(f"{file} holds no address that this version reads: start the server again") from None
    if not found.url.startswith("http://") or not is_here(host):
        raise NotAnnounced(f"{file} names a server elsewhere: if that is meant, set RECEIVER_URL")
    return found


def _content(file: Path) -> bytes:
    """The bytes of a file that is really one, and whose owner alone can have written and read it."""
    descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as opened:
        is_what = os.fstat(descriptor)
        if not stat.S_ISREG(is_what.st_mode):
            raise NotAnnounced(f"{file} is no file: remove it, and start the server again")
        if is_what.st_uid not in _trusted(file):
            raise NotAnnounced(f"{file} belongs to another user: if that user's server is meant, set RECEIVER_URL")
        if mode := stat.S_IMODE(is_what.st_mode) & OTHERS:
            raise NotAnnounced(f"{file} is open to other users ({mode:03o}): start the server again, it makes it 0600")
        return opened.read(LONGEST)


def _trusted(file: Path) -> set[int]:
    """Whose file is believed: one's own, and for root that of the user who owns the database."""
    user = os.geteuid()
    if user:
        return {user}
    database = file.with_name(file.name.removesuffix(".server"))
    return {user, database.stat().st_uid} if database.exists() else {user}
