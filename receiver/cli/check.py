"""Looks at what the settings name: folders, programs and functions here, and the provider's site. Changes nothing.

`receiver check` prints all of it; `receiver serve` logs, when it starts, what does not hold it up and would be missed.
"""

import asyncio
import os
import shutil
from collections.abc import Awaitable, Callable, Iterator, Sequence
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

from msgspec import Struct

from receiver.actions import ActionFailed
from receiver.actions.python import load
from receiver.actions.settings import CommandDefinition, DownloadDefinition, HttpDefinition, PythonDefinition
from receiver.cli.connect import database_file
from receiver.cli.outcome import why_not_listening
from receiver.egress.addresses import is_near
from receiver.model.definitions import Definition
from receiver.model.errors import Failed, SettingsError
from receiver.runninghub import catalogue
from receiver.runninghub.client import ask_site, fingerprint, site_of
from receiver.runninghub.errors import ProviderError
from receiver.server.settings import MIB, Settings
from receiver.store import is_server, local_place
from receiver.store.ledger.submissions import open_by_site as open_at
from receiver.store.ledger.submissions import sites_of, told_elsewhere
from receiver.store.sqlite.file import open_to_others, private_files
from receiver.store.sqlite.offline import open_by_site, sites_of_key
from receiver.web.server import listen

SITE = "runninghub.base_url"


class Finding(Struct, frozen=True, kw_only=True):
    """One thing that was looked at. A `warning` is something to know that keeps nothing from working."""

    ok: bool
    what: str
    found: str
    warning: bool = False

    @property
    def verdict(self) -> str:
        return "problem" if not self.ok else "warning" if self.warning else "ok"


class _Wrong(Exception):
    """What is wrong with a thing, as a sentence."""


def examine(
    settings: Settings,
    directory: Path,
    problems: Sequence[str] = (),
    ask: Callable[[str], Awaitable[None]] = ask_site,
) -> list[Finding]:
    """Everything that a server in this directory would rely on, and the `problems` of the settings themselves.

    `ask` raises ProviderError for an unfit base URL.
    """
    return [
        *(Finding(ok=False, what="settings", found=problem) for problem in problems),
        *_database(settings, directory),
        _finding("host", partial(_address, settings.host)),
        *([_site(settings.base_url, ask)] if settings.api_key else []),
        *_elsewhere(settings, directory),
        *examine_running(settings, directory),
    ]


def examine_running(settings: Settings, directory: Path) -> Iterator[Finding]:
    """What a server may lack and run without, so that nobody notices before it is needed."""
    place = directory / local_place(settings.database)
    yield _finding("callbacks.disk_floor", partial(_room, place, settings.disk_floor))
    yield _given("public_url", settings.public_url, "no callback URL is sent, RunningHub is asked instead")
    key = settings.api_key and "given"
    yield _given("runninghub.api_key", key, "callbacks are taken, but nothing can be submitted")
    for each in settings.definitions:
        yield from _action(each, directory)


def _given(what: str, value: str | None, without: str) -> Finding:
    return Finding(ok=True, what=what, found=value or f"none: {without}", warning=value is None)


def _site(base_url: str, ask: Callable[[str], Awaitable[None]]) -> Finding:
    """Whether the provider's site is where the settings say."""

    async def asked() -> Finding:
        try:
            await ask(base_url)
        except ProviderError as error:
            moved = error.code == "moved"
            return Finding(ok=not moved, warning=not moved, what=SITE, found=f"{site_of(base_url)}: {error.meaning}")
        return Finding(ok=True, what=SITE, found=f"{site_of(base_url)} answers")

    return asyncio.run(asked())


def _database(settings: Settings, directory: Path) -> Iterator[Finding]:
    if is_server(settings.database):
        yield _finding("database", partial(_server, settings.database))
        return
    database = database_file(settings, directory)
    yield _finding("database", partial(_file, database))
    for each in _open_beside(database):
        yield Finding(ok=True, warning=True, what="database", found=each)


def _server(url: str) -> str:
    from receiver.store.postgres.offline import look

    try:
        return look(url)
    except (SettingsError, Failed) as error:
        raise _Wrong(str(error).removeprefix("database: ")) from error


def _elsewhere(settings: Settings, directory: Path) -> Iterator[Finding]:
    known, counts = _sites(settings, directory)
    for site, count in counts.items():
        if site != site_of(settings.base_url):
            found = told_elsewhere(site, count, asked=site in known)
            yield Finding(ok=True, warning=True, what=SITE, found=found)


def _sites(settings: Settings, directory: Path) -> tuple[list[str], dict[str, int]]:
    """The sites at which the key was used, and how many open tasks were sent to each."""
    key = fingerprint(settings.api_key) if settings.api_key else None
    if is_server(settings.database):
        from receiver.store.postgres.offline import read

        return read(settings.database, lambda tx: (sites_of(tx, key or ""), open_at(tx, but=""))) or ([], {})
    database = database_file(settings, directory)
    return sites_of_key(database, key) if key else [], open_by_site(database)


def _finding(what: str, look: Callable[[], str]) -> Finding:
    try:
        return Finding(ok=True, what=what, found=look())
    except (_Wrong, ActionFailed) as wrong:
        return Finding(ok=False, what=what, found=str(wrong))


def _file(path: Path) -> str:
    there = path.exists()
    if there and not (path.is_file() and os.access(path, os.R_OK | os.W_OK)):
        raise _Wrong(f"{path} is no file that can be read and written")
    found = str(path) if there else f"{path}, to be made"
    if there and (mode := open_to_others(path)):
        found += f", of mode {mode}: the server makes it 0600 when it starts"
    # SQLite puts its log beside it.
    return _folder(path.parent, found)


def _open_beside(database: Path) -> list[str]:
    """The files beside a database that others than its owner may read."""
    real = database.resolve()
    found = [(each, open_to_others(each)) for each in private_files(real) if each != real]
    return [f"{each}, of mode {mode}: the server makes it 0600 when it starts" for each, mode in found if mode]


def _room(database: Path, floor: int) -> str:
    free = shutil.disk_usage(_nearest(database.parent)).free
    found = f"{free // MIB} MiB free, the floor is {floor // MIB} MiB"
    if free < floor:
        raise _Wrong(found)
    return found


def _address(host: str) -> str:
    try:
        listen(host, 0).close()
    except OSError as error:
        raise _Wrong(f"{why_not_listening(error)}: {host}{whence(host)}") from error
    return host


def whence(host: str) -> str:
    """Where a host comes from that nobody may have meant."""
    return "; HOST in the environment says so (conda sets it): unset HOST" if os.environ.get("HOST") == host else ""


def _action(definition: Definition, directory: Path) -> list[Finding]:
    """One finding when all is well, else one for each problem."""
    looks = [partial(_target, definition.when.target), partial(_effect, definition, directory)]
    found = [_finding(f"action {definition.name}", look) for look in looks]
    return [each for each in found if not each.ok] or found[-1:]


def _effect(definition: Definition, directory: Path) -> str:
    match definition:
        case DownloadDefinition(directory=folder):
            return _folder(directory / folder, f"saves below {folder}")
        case CommandDefinition(command=(program, *_)):
            if (path := shutil.which(program)) is None:
                raise _Wrong(f"there is no program {program}")
            return f"runs {path}"
        case PythonDefinition(function=function):
            load(function)
            return f"calls {function}"
        case HttpDefinition(url=url):
            if not definition.allow_private and is_near(urlsplit(url).hostname or ""):
                raise _Wrong(f"{url} is not a public address; `allow_private = true` lets it be reached")
            return f"posts to {url}, {'signed' if definition.secret else 'unsigned'}"
    return f"is of kind {definition.kind}"


def _target(pattern: str | None) -> str:
    """Refuses a `when.target` that fits names of models only: tasks are kept under endpoints."""
    if pattern is None:
        return "any"
    named = [model for model in catalogue.models() if fnmatchcase(model.name, pattern)]
    if named and not any(fnmatchcase(model.endpoint, pattern) for model in catalogue.models()):
        fits = f"{pattern} fits names alone: {named[0].name} has the endpoint {named[0].endpoint}"
        raise _Wrong(f"when.target is an endpoint, and {fits}")
    return pattern


def _folder(folder: Path, found: str) -> str:
    nearest = _nearest(folder)
    if not nearest.is_dir():
        raise _Wrong(f"{nearest} is no directory")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise _Wrong(f"{nearest} cannot be written")
    return found


def _nearest(folder: Path) -> Path:
    """The folder itself, or what it would be made in."""
    folder = folder.absolute()
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return folder
